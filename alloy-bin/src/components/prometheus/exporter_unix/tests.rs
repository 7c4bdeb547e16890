//! The block: which collectors run, and errors that say what to do. That a counter does not go back.

use super::*;

fn decode(body: &str) -> Result<Arguments, String> {
    use crate::config::{Scope, decode_block};
    use crate::syntax::{Sources, ast::Statement, parse};
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", format!("prometheus.exporter.unix \"x\" {{\n{body}\n}}\n"));
    let (file, _) = parse(&sources, id);
    let Statement::Block(block) = &file.statements[0] else { panic!("a block") };
    decode_block(block, &Scope::default()).map_err(|errors| errors.render(&sources))
}

#[test]
fn the_lists_choose_collectors_as_alloy_does() {
    let all = decode("").expect("nothing must be set").collectors.len();
    assert!(all > 30, "{all}");
    let check = |body: &str, expected: &[&str]| {
        let arguments = decode(body).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(arguments.collectors.iter().map(|collector| collector.name).collect::<Vec<_>>(), expected);
    };
    check(r#"set_collectors = ["uname", "cpu"]"#, &["cpu", "uname"]);
    check(r#"set_collectors = ["systemd"]"#, &["systemd"]);
    let more = decode(r#"enable_collectors = ["systemd"]"#).expect("it is here").collectors.len();
    assert_eq!(more, all + 1, "by choice");
    check("set_collectors = [\"uname\"]\nenable_collectors = [\"stat\"]", &["stat", "uname"]);
    check("set_collectors = [\"uname\", \"cpu\"]\ndisable_collectors = [\"cpu\"]", &["uname"]);
    check(
        "set_collectors = [\"uname\"]\nenable_collectors = [\"cpu\"]\ndisable_collectors = [\"cpu\"]",
        &["cpu", "uname"],
    );
    let fewer = decode(r#"disable_collectors = ["mdadm", "nfs", "systemd"]"#)
        .expect("what is not here is not missed");
    assert_eq!(fewer.collectors.len(), all - 1);
}

#[test]
fn errors_say_what_to_do() {
    let check = |body: &str, expected: &str| {
        let error = decode(body).err().unwrap_or_else(|| panic!("{body} is taken"));
        assert!(error.contains(expected), "{body}: {error}");
    };
    check(r#"enable_collectors = ["perf"]"#, "--collector.disable-defaults --collector.perf");
    check(r#"set_collectors = ["cpu", "xfs"]"#, "\"xfs\" is not here");
    check(r#"disable_collectors = ["mdadn"]"#, "did you mean \"mdadm\"?");
    check("include_exporter_metrics = true", "prometheus.exporter.self");
    check("perf { }", "not supported here");
    check(
        "netdev {\ndevice_include = \"a\"\ndevice_exclude = \"b\"\n}",
        "either device_include or device_exclude",
    );
    check("vmstat {\nfields = \"(\"\n}", "is not a regular expression");
    check("filesystem {\nmount_timeout = \"0s\"\n}", "must be longer than nothing");
}

/// The kernel's idle time goes back a little now and then; after a hot plug it begins anew.
#[test]
fn processor_times_go_back_for_a_new_processor_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = decode(r#"set_collectors = ["cpu"]"#).unwrap();
    arguments.procfs_path = folder.path().to_owned();
    arguments.sysfs_path = folder.path().to_owned();
    let host = Host::new(arguments);
    let idle = |ticks: u32| {
        std::fs::write(folder.path().join("stat"), format!("cpu0 1 2 3 {ticks} 0 0 0 0 0 0\n")).unwrap();
        let page = host.page();
        let line = page.lines().find(|line| line.contains("mode=\"idle\"")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(idle(1000), 10.0);
    assert_eq!(idle(900), 10.0);
    assert_eq!(idle(1100), 11.0);
    assert_eq!(idle(500), 5.0);
}

/// One file cannot be read as it should: what the collector has found before it stays, the others go on, and it is said.
#[test]
fn a_collector_that_fails_costs_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = decode(r#"set_collectors = ["entropy", "loadavg", "mdadm"]"#).unwrap();
    arguments.procfs_path = folder.path().to_owned();
    std::fs::create_dir_all(folder.path().join("sys/kernel/random")).unwrap();
    std::fs::write(folder.path().join("sys/kernel/random/entropy_avail"), "256\n").unwrap();
    std::fs::write(folder.path().join("sys/kernel/random/poolsize"), "many\n").unwrap();
    std::fs::write(folder.path().join("loadavg"), "1 2 3 4/5 6\n").unwrap();
    let page = Host::new(arguments).page();
    for line in [
        "node_entropy_available_bits 256",
        "node_load15 3",
        "node_scrape_collector_success{collector=\"entropy\"} 0",
        "node_scrape_collector_success{collector=\"loadavg\"} 1",
        "node_scrape_collector_success{collector=\"mdadm\"} 0",
    ] {
        assert!(page.lines().any(|other| other == line), "{line} is missing\n{page}");
    }
}
