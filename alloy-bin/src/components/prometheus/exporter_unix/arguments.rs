//! The block `prometheus.exporter.unix`, with Alloy's names and defaults.

use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;

use super::collectors::{self, Collector};
use crate::config::{Body, Decode};
use crate::outbox;
use crate::relabel::go_regex;

const MOUNT_POINTS_EXCLUDE: &str = "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+)($|/)";
const FS_TYPES_EXCLUDE: &str = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|\
                                mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$";
const DISKS_EXCLUDE: &str = r"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$";
const NETSTAT_FIELDS: &str = "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|\
                              TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)|\
                              Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
                              Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$";
const UNITS_EXCLUDE: &str = r".+\.(automount|device|mount|scope|slice)";
const VMSTAT_FIELDS: &str = "^(oom_kill|pgpg|pswp|pg.*fault).*";

/// The decoded block.
pub struct Arguments {
    /// Where the kernel's files are: in a container, where the host's are mounted.
    pub procfs_path: PathBuf,
    /// As `procfs_path`.
    pub sysfs_path: PathBuf,
    /// The host's file systems.
    pub rootfs_path: PathBuf,
    /// What udev knows of disks.
    pub udev_data_path: PathBuf,
    /// What runs.
    pub collectors: Vec<&'static Collector>,
    /// Whose entries are not counted.
    pub arp: Filter,
    /// What is shown of processors beside their times.
    pub cpu: Cpu,
    /// Disks left out.
    pub disk: Filter,
    /// File systems left out, and how long one may take to answer.
    pub filesystem: Filesystem,
    /// Chips left out.
    pub hwmon: Filter,
    /// What is shown of `/sys/class/net`.
    pub netclass: Netclass,
    /// What is shown of `/proc/net/dev`.
    pub netdev: Netdev,
    /// The fields of `/proc/net/{netstat,snmp,snmp6}`.
    pub netstat: Filter,
    /// Power supplies left out.
    pub powersupply: Filter,
    /// What is shown of systemd's units.
    pub systemd: Systemd,
    /// Tapes left out.
    pub tapestats: Filter,
    /// A folder or a glob of folders with `*.prom` files.
    pub textfile_directory: Option<String>,
    /// The fields of `/proc/vmstat`.
    pub vmstat: Filter,
}

/// What is shown of things that have names.
#[derive(Default)]
pub struct Filter {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

/// See [`Arguments`].
pub struct Cpu {
    pub guest: bool,
    pub info: bool,
    pub bugs_include: Option<Regex>,
    pub flags_include: Option<Regex>,
}

/// See [`Arguments`].
pub struct Filesystem {
    pub fs_types: Filter,
    pub mount_points: Filter,
    pub mount_timeout: Duration,
}

/// See [`Arguments`].
pub struct Netclass {
    pub devices: Filter,
    pub ignore_invalid_speed: bool,
}

/// See [`Arguments`].
pub struct Systemd {
    pub enable_restarts: bool,
    pub start_time: bool,
    pub task_metrics: bool,
    pub units: Filter,
}

/// See [`Arguments`].
pub struct Netdev {
    pub devices: Filter,
    pub address_info: bool,
}

impl Filter {
    pub fn shows(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(name))
    }

    /// One of the two may be set; with `include`, the default of `exclude` is forgotten.
    fn decode(body: &mut Body<'_>, include: &str, exclude: &str, default: &str) -> Self {
        let filter = Filter {
            include: pattern(body, include, ""),
            exclude: pattern(body, exclude, if body.has(include) { "" } else { default }),
        };
        if filter.include.is_some() && filter.exclude.is_some() {
            body.error_at(exclude, format!("either {include} or {exclude}"));
        }
        filter
    }

    fn only_included(body: &mut Body<'_>, name: &str, default: &str) -> Self {
        Filter { include: pattern(body, name, default), exclude: None }
    }

    fn all_but(body: &mut Body<'_>, name: &str, default: &str) -> Self {
        Filter { include: None, exclude: pattern(body, name, default) }
    }
}

/// As [`pattern`], for whole names.
fn whole(body: &mut Body<'_>, name: &str, default: &str) -> Option<Regex> {
    let pattern = pattern(body, name, default)?;
    Regex::new(&format!("^(?:{pattern})$")).ok()
}

/// A regular expression in Go's syntax, not anchored. An empty one is none.
fn pattern(body: &mut Body<'_>, name: &str, default: &str) -> Option<Regex> {
    let text = body.optional(name, default.to_owned());
    match go_regex(&text) {
        Ok(regex) => (!text.is_empty()).then_some(regex),
        Err(error) => {
            body.error_at(name, error);
            None
        }
    }
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let mut path = |name: &str, default: &str| PathBuf::from(body.optional(name, default.to_owned()));
        let procfs_path = path("procfs_path", "/proc");
        let sysfs_path = path("sysfs_path", "/sys");
        let rootfs_path = path("rootfs_path", "/");
        let udev_data_path = path("udev_data_path", "/run/udev/data");
        let own = "the agent's own metrics are what prometheus.exporter.self is for; leave it out";
        outbox::only(body, "include_exporter_metrics", false, own);
        body.unsupported(&["bcache", "ethtool", "ipvs", "ntp", "perf", "runit", "supervisord", "sysctl"]);
        Arguments {
            procfs_path,
            sysfs_path,
            rootfs_path,
            udev_data_path,
            collectors: collectors::decode(body),
            arp: body.block_or_empty("arp", |body| {
                let netlink = "netlink is not asked here: /proc/net/arp has the entries; leave it out";
                outbox::only(body, "netlink", false, netlink);
                Filter::decode(body, "device_include", "device_exclude", "")
            }),
            cpu: body.block_or_empty("cpu", |body| {
                let bugs_include = pattern(body, "bugs_include", "");
                let flags_include = pattern(body, "flags_include", "");
                let info = body.optional("info", false) || bugs_include.is_some() || flags_include.is_some();
                Cpu { guest: body.optional("guest", false), info, bugs_include, flags_include }
            }),
            disk: body.block_or_empty("disk", |body| {
                Filter::decode(body, "device_include", "device_exclude", DISKS_EXCLUDE)
            }),
            filesystem: body.block_or_empty("filesystem", |body| {
                let mount_timeout = body.optional("mount_timeout", Duration::from_secs(5));
                if mount_timeout.is_zero() {
                    body.error_at("mount_timeout", "must be longer than nothing");
                }
                Filesystem {
                    fs_types: Filter::all_but(body, "fs_types_exclude", FS_TYPES_EXCLUDE),
                    mount_points: Filter::all_but(body, "mount_points_exclude", MOUNT_POINTS_EXCLUDE),
                    mount_timeout,
                }
            }),
            hwmon: body
                .block_or_empty("hwmon", |body| Filter::decode(body, "chip_include", "chip_exclude", "")),
            netclass: body.block_or_empty("netclass", |body| Netclass {
                devices: Filter::all_but(body, "ignored_devices", "^$"),
                ignore_invalid_speed: body.optional("ignore_invalid_speed_device", false),
            }),
            netdev: body.block_or_empty("netdev", |body| Netdev {
                devices: Filter::decode(body, "device_include", "device_exclude", ""),
                address_info: body.optional("address_info", false),
            }),
            netstat: body
                .block_or_empty("netstat", |body| Filter::only_included(body, "fields", NETSTAT_FIELDS)),
            powersupply: body
                .block_or_empty("powersupply", |body| Filter::all_but(body, "ignored_supplies", "^$")),
            systemd: body.block_or_empty("systemd", |body| Systemd {
                enable_restarts: body.optional("enable_restarts", false),
                start_time: body.optional("start_time", false),
                task_metrics: body.optional("task_metrics", false),
                units: Filter {
                    include: whole(body, "unit_include", ".+"),
                    exclude: whole(body, "unit_exclude", UNITS_EXCLUDE),
                },
            }),
            tapestats: body
                .block_or_empty("tapestats", |body| Filter::all_but(body, "ignored_devices", "^$")),
            textfile_directory: body.block_or_empty("textfile", |body| {
                Some(body.optional("directory", String::new())).filter(|directory| !directory.is_empty())
            }),
            vmstat: body
                .block_or_empty("vmstat", |body| Filter::only_included(body, "fields", VMSTAT_FIELDS)),
        }
    }
}
