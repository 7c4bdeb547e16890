//! The collectors by name, with node_exporter's names and defaults.

use std::io;

use super::host::Host;
use super::{
    disks, filesystem, hardware, hwmon, kernel, memory, network, processors, systemd, textfile, zfs,
};
use crate::config::{Body, did_you_mean};
use crate::telemetry::Page;

/// Something that writes figures onto the page. "Not found": the machine has nothing of the kind.
pub struct Collector {
    pub(super) name: &'static str,
    pub(super) collect: fn(&Host, &mut Page) -> io::Result<()>,
}

/// Those that run unless the configuration says otherwise.
const COLLECTORS: &[Collector] = &[
    Collector { name: "arp", collect: network::arp },
    Collector { name: "bonding", collect: network::bonding },
    Collector { name: "conntrack", collect: network::conntrack },
    Collector { name: "cpu", collect: processors::cpu },
    Collector { name: "cpufreq", collect: processors::cpufreq },
    Collector { name: "diskstats", collect: disks::diskstats },
    Collector { name: "dmi", collect: hardware::dmi },
    Collector { name: "edac", collect: memory::edac },
    Collector { name: "entropy", collect: kernel::entropy },
    Collector { name: "fibrechannel", collect: disks::fibrechannel },
    Collector { name: "filefd", collect: kernel::filefd },
    Collector { name: "filesystem", collect: filesystem::filesystem },
    Collector { name: "hwmon", collect: hwmon::hwmon },
    Collector { name: "loadavg", collect: processors::loadavg },
    Collector { name: "mdadm", collect: disks::mdadm },
    Collector { name: "meminfo", collect: memory::meminfo },
    Collector { name: "netclass", collect: network::netclass },
    Collector { name: "netdev", collect: network::netdev },
    Collector { name: "netstat", collect: network::netstat },
    Collector { name: "nvme", collect: disks::nvme },
    Collector { name: "os", collect: kernel::os },
    Collector { name: "powersupplyclass", collect: hardware::powersupplyclass },
    Collector { name: "pressure", collect: processors::pressure },
    Collector { name: "rapl", collect: hardware::rapl },
    Collector { name: "schedstat", collect: processors::schedstat },
    Collector { name: "selinux", collect: kernel::selinux },
    Collector { name: "sockstat", collect: network::sockstat },
    Collector { name: "softnet", collect: processors::softnet },
    Collector { name: "stat", collect: processors::stat },
    Collector { name: "tapestats", collect: disks::tapestats },
    Collector { name: "textfile", collect: textfile::textfile },
    Collector { name: "thermal_zone", collect: hardware::thermal_zone },
    Collector { name: "time", collect: kernel::time },
    Collector { name: "timex", collect: kernel::timex },
    Collector { name: "udp_queues", collect: network::udp_queues },
    Collector { name: "uname", collect: kernel::uname },
    Collector { name: "vmstat", collect: memory::vmstat },
    Collector { name: "zfs", collect: zfs::zfs },
];

/// Those that run only if the configuration says so, as there.
const BY_CHOICE: &[Collector] = &[Collector { name: "systemd", collect: systemd::systemd }];

/// Those that node_exporter has beside them, on Linux or elsewhere.
const ELSEWHERE: &str = "bcache boottime btrfs buddyinfo cgroups devstat drbd drm ethtool exec infiniband interrupts ipvs \
     kernel_hung ksmd lnstat logind meminfo_numa mountstats netisr network_route nfs nfsd ntp pcidevice perf processes qdisc \
     runit slabinfo softirqs supervisord swap sysctl tcpstat thermal watchdog wifi xfrm xfs zoneinfo";

/// What the lists of the block leave: `set_collectors`, and `enable_collectors`, without `disable_collectors`. As with Alloy,
/// what is in both of the last two runs.
pub(super) fn decode(body: &mut Body<'_>) -> Vec<&'static Collector> {
    let set = names(body, "set_collectors", Unknown::Refused);
    let enabled = names(body, "enable_collectors", Unknown::Refused);
    let disabled = names(body, "disable_collectors", Unknown::Fine);
    let runs = |name: &str, by_default: bool| {
        let is_in = |list: &[String]| list.iter().any(|other| other == name);
        is_in(&enabled) || (by_default && set.is_empty() || is_in(&set)) && !is_in(&disabled)
    };
    let all = COLLECTORS.iter().map(|collector| (collector, true));
    let all = all.chain(BY_CHOICE.iter().map(|collector| (collector, false)));
    all.filter(|(collector, by_default)| runs(collector.name, *by_default))
        .map(|(collector, _)| collector)
        .collect()
}

/// What a collector is that is only elsewhere.
#[derive(PartialEq)]
enum Unknown {
    /// Nobody shall believe that it runs.
    Refused,
    /// It is not there, as it was wanted.
    Fine,
}

fn names(body: &mut Body<'_>, list: &str, unknown: Unknown) -> Vec<String> {
    let names: Vec<String> = body.optional(list, Vec::new());
    for name in &names {
        let is_here = COLLECTORS.iter().chain(BY_CHOICE).any(|collector| collector.name == name);
        let is_elsewhere = ELSEWHERE.split_ascii_whitespace().any(|other| other == name);
        if !is_here && !is_elsewhere {
            let known = COLLECTORS.iter().chain(BY_CHOICE).map(|collector| collector.name);
            let hint = did_you_mean(name, known.chain(ELSEWHERE.split_ascii_whitespace()));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            body.error_at(list, format!("there is no collector {name:?}{hint}"));
        } else if !is_here && unknown == Unknown::Refused {
            body.error_at(
                list,
                format!(
                    "the collector {name:?} is not here; leave it out, or scrape a node_exporter that runs it alone: \
                     --collector.disable-defaults --collector.{name}"
                ),
            );
        }
    }
    names
}
