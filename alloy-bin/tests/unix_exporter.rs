//! `prometheus.exporter.unix` beside a real node_exporter: of the same made-up machine both must show the same page, and of this
//! machine too. Without Debian's `prometheus-node-exporter` (or a `node_exporter` in the path) only what the made-up machine is
//! known to have is looked for, and the test says so.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloy_bin::formats::{Item, Statement, TextFormat, parse_text};
use alloy_bin::testing::process::{Flags, Process, Start, free_addresses, get};

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// Collectors that are not here, and what says how long it took or is made by the exporter of itself.
const APART: &[&str] = &[
    "go_",
    "node_exporter_build_info",
    "node_scrape_collector_",
    "process_",
    "promhttp_",
    "node_time_seconds",
    "node_textfile_mtime_seconds",
    "node_bcache_",
    "node_btrfs_",
    "node_infiniband_",
    "node_ipvs_",
    "node_nfs_",
    "node_nfsd_",
    "node_systemd_",
    "node_xfs_",
];

/// What node_exporter 1.5 has not, and newer ones have; and what it has by netlink, which knows of this machine only.
const NEWER: &[&str] = &[
    "node_cpu_scaling_governor",
    "node_pressure_irq_stalled_seconds_total",
    "node_network_receive_nohandler_total",
];

/// A family's help and type.
type Families = BTreeMap<String, (String, String)>;
/// A series' name and labels, empty ones left out, and its value.
type Series = BTreeMap<(String, BTreeMap<String, String>), f64>;

fn read(page: &str) -> (Families, Series) {
    let (mut families, mut series) = (Families::new(), Series::new());
    let is_apart = |name: &str| APART.iter().any(|prefix| name.starts_with(prefix));
    parse_text(page.as_bytes(), TextFormat::Prometheus, &mut |item| match item {
        Item::Metadata(name, _) if is_apart(name) => {}
        Item::Metadata(name, Statement::Help(help)) => {
            families.entry(name.to_owned()).or_default().0 = help.into_owned()
        }
        Item::Metadata(name, Statement::Type(kind)) => {
            families.entry(name.to_owned()).or_default().1 = format!("{kind:?}")
        }
        Item::Metadata(..) => {}
        Item::Series(one) if is_apart(one.name) => {}
        Item::Series(one) => {
            let labels = one.labels.iter().filter(|(_, value)| !value.is_empty());
            let labels = labels.map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let before = series.insert((one.name.to_owned(), labels), one.value);
            assert!(before.is_none(), "twice on the page: {}", one.text);
        }
    })
    .unwrap_or_else(|error| panic!("{error}\n{page}"));
    (families, series)
}

/// What ours lacks, what it has too much, and what is not as it should be.
fn differences(theirs: &str, ours: &str, is_same: impl Fn(&str, f64, f64) -> bool) -> Vec<String> {
    let ((their_families, their_series), (our_families, our_series)) = (read(theirs), read(ours));
    assert!(their_series.len() > 100, "an empty page proves nothing\n{theirs}");
    let mut found = Vec::new();
    for (name, family) in &their_families {
        match our_families.get(name) {
            Some(ours) if ours == family => {}
            ours => found.push(format!("{name}: {family:?}, ours {ours:?}")),
        }
    }
    for (key, value) in &their_series {
        match our_series.get(key) {
            Some(ours) if is_same(&key.0, *value, *ours) => {}
            ours => found.push(format!("{key:?}: {value}, ours {ours:?}")),
        }
    }
    let is_newer = |name: &str| NEWER.contains(&name) && !their_families.contains_key(name);
    let more = our_series.keys().filter(|key| !their_series.contains_key(key) && !is_newer(&key.0));
    found.extend(more.map(|key| format!("{key:?} is ours alone")));
    found
}

fn nearly(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

struct NodeExporter {
    program: Child,
    address: SocketAddr,
}

impl NodeExporter {
    /// `None`: there is none on this machine.
    fn start(arguments: &[String]) -> Option<Self> {
        let address = free_addresses(1).expect("a free port")[0];
        let program = ["prometheus-node-exporter", "node_exporter"].into_iter().find_map(|name| {
            let mut command = Command::new(name);
            command.arg(format!("--web.listen-address={address}")).args(arguments);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        })?;
        Some(NodeExporter { program, address })
    }

    fn page(&self) -> String {
        patiently(|| get(self.address, "/metrics"))
    }
}

impl Drop for NodeExporter {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn patiently(mut ask: impl FnMut() -> anyhow::Result<String>) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(page) if !page.is_empty() => return page,
            answer => assert!(Instant::now() < deadline, "{answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn agent(folder: &Path, block: &str) -> Process {
    let config = folder.join("main.alloy");
    std::fs::write(&config, format!("prometheus.exporter.unix \"here\" {{\n{block}\n}}\n"))
        .expect("a writable folder");
    let address = free_addresses(1).expect("a free port")[0];
    let flags = Flags { config, folder: folder.to_owned(), name: "agent", address, join: &[] };
    Process::start(Start::new(env!("CARGO_BIN_EXE_alloy").into(), &flags)).expect("it starts")
}

fn page_of(agent: &Process) -> String {
    patiently(|| agent.get("/api/v0/component/prometheus.exporter.unix.here/metrics"))
}

/// Writes the files of `fixtures/unix.tree`: `== path`, then what is in it; `== path -> target` is a link.
fn plant(root: &Path) {
    for file in include_str!("fixtures/unix.tree").split("== ").skip(1) {
        let (head, text) = file.split_once('\n').expect("a line with the path");
        let (path, target) =
            head.split_once(" -> ").map_or((head, None), |(path, target)| (path, Some(target)));
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        match target {
            Some(target) => std::os::unix::fs::symlink(target, path).expect("a link"),
            None => std::fs::write(path, text).expect("a file"),
        }
    }
}

#[test]
fn a_made_up_machine_looks_the_same_to_both() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("host");
    plant(&root);
    let at = |name: &str| root.join(name).display().to_string();
    let block = format!(
        r#"
        procfs_path    = "{proc}"
        sysfs_path     = "{sys}"
        rootfs_path    = "{root}"
        udev_data_path = "{udev}"
        disable_collectors = ["filesystem", "uname", "timex", "selinux"]
        cpu {{
          guest         = true
          flags_include = "^(aes|avx.?)$"
          bugs_include  = "^mds$"
        }}
        netclass {{
          ignore_invalid_speed_device = true
        }}
        textfile {{
          directory = "{textfile}"
        }}"#,
        proc = at("proc"),
        sys = at("sys"),
        root = root.display(),
        udev = at("udev"),
        textfile = at("textfile"),
    );
    let agent = agent(folder.path(), &block);
    let ours = page_of(&agent);
    for line in [
        "node_cpu_seconds_total{cpu=\"1\",mode=\"idle\"} 202",
        "node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"} 55",
        "node_hwmon_fan_rpm{chip=\"nct6779\",sensor=\"fan2\"} 1098",
        "node_thermal_zone_temp{zone=\"0\",type=\"x86_pkg_temp\"} 49.925",
        "node_md_disks{device=\"md0\",state=\"failed\"} 1",
        "node_md_blocks_synced{device=\"md1\"} 16775552",
        "node_md_state{device=\"md4\",state=\"resync\"} 1",
        "node_bonding_active{master=\"bond0\"} 1",
        "node_network_receive_bytes_total{device=\"eth0\"} 68210035552",
        "node_textfile_scrape_error 1",
        "request_seconds_bucket{le=\"+Inf\"} 3",
        "node_zfs_zpool_state{zpool=\"tank\",state=\"degraded\"} 1",
        "node_udp_queues{queue=\"rx\",ip=\"v4\"} 32",
    ] {
        assert!(ours.lines().any(|other| other == line), "{line} is missing\n{ours}");
    }
    assert!(!ours.contains("left_out"), "{ours}");

    let arguments = [
        format!("--path.procfs={}", at("proc")),
        format!("--path.sysfs={}", at("sys")),
        format!("--path.rootfs={}", root.display()),
        format!("--path.udev.data={}", at("udev")),
        format!("--collector.textfile.directory={}", at("textfile")),
        "--collector.cpu.guest".to_owned(),
        "--collector.cpu.info.flags-include=^(aes|avx.?)$".to_owned(),
        "--collector.cpu.info.bugs-include=^mds$".to_owned(),
        "--collector.netclass.ignore-invalid-speed".to_owned(),
        "--no-collector.netdev.netlink".to_owned(),
        "--collector.netdev.device-exclude=^$".to_owned(),
        "--no-collector.filesystem".to_owned(),
        "--no-collector.uname".to_owned(),
        "--no-collector.timex".to_owned(),
        "--no-collector.selinux".to_owned(),
    ];
    let Some(node_exporter) = NodeExporter::start(&arguments) else {
        return eprintln!("SKIPPED: no node_exporter here to compare with");
    };
    let theirs = node_exporter.page();
    let found = differences(&theirs, &ours, |_, theirs, ours| nearly(theirs, ours));
    assert!(found.is_empty(), "{}\n", found.join("\n"));
    same_lints(&theirs, &ours);
}

/// Figures that only grow must lie between two answers of the other; those that stand still must be the same. What comes and goes
/// between the three answers is looked at again.
#[test]
fn this_machine_looks_the_same_to_both() {
    let fs_types = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|\
                    overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$";
    let arguments = [
        "--collector.cpu.guest".to_owned(),
        "--collector.netdev.device-exclude=^$".to_owned(),
        "--collector.netdev.address-info".to_owned(),
        "--collector.filesystem.mount-points-exclude=^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+)($|/)".to_owned(),
        format!("--collector.filesystem.fs-types-exclude={fs_types}"),
        r"--collector.diskstats.device-exclude=^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$".to_owned(),
    ];
    let Some(node_exporter) = NodeExporter::start(&arguments) else {
        return eprintln!("SKIPPED: no node_exporter here to compare with");
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let agent = agent(folder.path(), "cpu {\nguest = true\n}\nnetdev {\naddress_info = true\n}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = node_exporter.page();
        let ours = page_of(&agent);
        let after = node_exporter.page();
        let (_, later) = read(&after);
        let (families, earlier) = read(&before);
        let grows =
            |name: &str| families.get(name).is_some_and(|(_, kind)| kind == "Counter" || kind == "Unknown");
        let moved: Vec<_> = earlier
            .iter()
            .filter(|(key, value)| later.get(*key).is_none_or(|later| !nearly(**value, *later)))
            .collect();
        let mut found = differences(&before, &ours, |name, theirs, ours| {
            // Whether something moves is a question of its family: two of its series may move at different times.
            let is_moving = moved.iter().any(|((other, _), _)| other == name);
            nearly(theirs, ours) || is_moving && (!grows(name) || ours > theirs)
        });
        let (_, mine) = read(&ours);
        found.extend(mine.iter().filter_map(|(key, value)| {
            let later = later.get(key)?;
            (grows(&key.0) && *value > *later && !nearly(*value, *later))
                .then(|| format!("{key:?}: {value} after {later}"))
        }));
        if found.is_empty() {
            same_lints(&before, &ours);
            return;
        }
        assert!(Instant::now() < deadline, "{}\n", found.join("\n"));
    }
}

/// What promtool finds wrong with node_exporter's names it finds wrong with ours, and nothing else.
fn same_lints(theirs: &str, ours: &str) {
    let lint = |page: &str| {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        promtool.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("it reads");
        let output = promtool.wait_with_output().expect("it ends");
        Some(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (Some(theirs), Some(ours)) = (lint(theirs), lint(ours)) else {
        return eprintln!("SKIPPED: no promtool here");
    };
    let more: Vec<&str> = ours.lines().filter(|line| !theirs.lines().any(|other| other == *line)).collect();
    assert!(more.is_empty(), "{more:?}");
}
