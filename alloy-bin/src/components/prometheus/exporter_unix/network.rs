//! Network devices, protocols, sockets and connections.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;

use super::host::{
    Host, Metric, figure, folders, gauge, hex, malformed, named, nothing, parse, properties, read, required,
    text,
};
use crate::telemetry::Page;

pub(super) fn arp(host: &Host, page: &mut Page) -> io::Result<()> {
    let mut entries: BTreeMap<&str, u32> = BTreeMap::new();
    let file = read(&host.proc("net/arp"))?;
    for device in file.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(5)) {
        *entries.entry(device).or_default() += 1;
    }
    for (device, count) in entries.iter().filter(|(device, _)| host.arguments.arp.shows(device)) {
        gauge("node_arp_entries", "ARP entries by device").put(
            page,
            &[("device", device)],
            f64::from(*count),
        );
    }
    Ok(())
}

pub(super) fn bonding(host: &Host, page: &mut Page) -> io::Result<()> {
    let net = host.sys("class/net");
    for master in read(&net.join("bonding_masters"))?.split_ascii_whitespace() {
        let folder = net.join(master);
        let slaves = read(&folder.join("bonding/slaves"))?;
        let is_up = |slave: &&str| {
            // Older kernels say `slave_`.
            let status =
                |prefix: &str| text(&folder.join(format!("{prefix}_{slave}/bonding_slave/mii_status")));
            status("lower").or_else(|_| status("slave")).is_ok_and(|status| status == "up")
        };
        let slaves = slaves.split_ascii_whitespace();
        let labels = [("master", master)];
        let all = gauge("node_bonding_slaves", "Number of configured slaves per bonding interface.");
        all.put(page, &labels, slaves.clone().count() as f64);
        let active = gauge("node_bonding_active", "Number of active slaves per bonding interface.");
        active.put(page, &labels, slaves.filter(is_up).count() as f64);
    }
    Ok(())
}

pub(super) fn conntrack(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [(usize, Metric); 8] = [
        (2, gauge("node_nf_conntrack_stat_found", "Number of searched entries which were successful.")),
        (4, gauge("node_nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked.")),
        (5, gauge("node_nf_conntrack_stat_ignore", "Number of packets seen which are already connected to a conntrack entry.")),
        (8, gauge("node_nf_conntrack_stat_insert", "Number of entries inserted into the list.")),
        (9, gauge("node_nf_conntrack_stat_insert_failed", "Number of entries for which list insertion was attempted but failed.")),
        (10, gauge("node_nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure.")),
        (11, gauge("node_nf_conntrack_stat_early_drop", "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.")),
        (16, gauge("node_nf_conntrack_stat_search_restart", "Number of conntrack table lookups which had to be restarted due to hashtable resizes.")),
    ];
    let entries = required(&host.proc("sys/net/netfilter/nf_conntrack_count"))?;
    gauge("node_nf_conntrack_entries", "Number of currently allocated flow entries for connection tracking.")
        .put(page, &[], entries);
    let limit = required(&host.proc("sys/net/netfilter/nf_conntrack_max"))?;
    gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.").put(
        page,
        &[],
        limit,
    );
    let file = read(&host.proc("net/stat/nf_conntrack"))?;
    let mut sums = [0.0; TABLE.len()];
    for line in file.lines().skip(1) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        for (sum, (column, _)) in sums.iter_mut().zip(TABLE) {
            *sum += hex(fields.get(column).ok_or_else(|| malformed(line))?)?;
        }
    }
    for (sum, (_, metric)) in sums.into_iter().zip(TABLE) {
        metric.put(page, &[], sum);
    }
    Ok(())
}

pub(super) fn netclass(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const TABLE: [(&str, &str, f64); 16] = [
        ("addr_assign_type", "address_assign_type", 1.0),
        ("carrier", "carrier", 1.0),
        ("carrier_changes", "carrier_changes_total", 1.0),
        ("carrier_up_count", "carrier_up_changes_total", 1.0),
        ("carrier_down_count", "carrier_down_changes_total", 1.0),
        ("dev_id", "device_id", 1.0),
        ("dormant", "dormant", 1.0),
        ("flags", "flags", 1.0),
        ("ifindex", "iface_id", 1.0),
        ("iflink", "iface_link", 1.0),
        ("link_mode", "iface_link_mode", 1.0),
        ("mtu", "mtu_bytes", 1.0),
        ("name_assign_type", "name_assign_type", 1.0),
        ("netdev_group", "net_dev_group", 1.0),
        ("tx_queue_len", "transmit_queue_length", 1.0),
        ("type", "protocol_type", 1.0),
    ];
    // Megabits; -1 if there is none.
    const SPEED: [(&str, &str, f64); 1] = [("speed", "speed_bytes", 125_000.0)];
    const TEXTS: [&str; 5] = ["address", "broadcast", "duplex", "operstate", "ifalias"];
    let options = &host.arguments.netclass;
    let up = gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
    let info = gauge("node_network_info", "Non-numeric data from /sys/class/net/<iface>, value is always 1.");
    for (device, folder) in folders(&host.sys("class/net"), "")? {
        if !options.devices.shows(&device) {
            continue;
        }
        let mut texts =
            BTreeMap::from(TEXTS.map(|name| (name, text(&folder.join(name)).unwrap_or_default())));
        texts.insert("device", device.clone());
        let labels = [("device", device.as_str())];
        up.put(page, &labels, f64::from(texts["operstate"] == "up"));
        info.put(page, &texts.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>(), 1.0);
        let family =
            ("node_network_", (|name| format!("Network device property: {name}")) as fn(&str) -> String);
        properties(page, &folder, &labels, family, &TABLE);
        if !options.ignore_invalid_speed || figure(&folder.join("speed")).is_some_and(|speed| speed >= 0.0) {
            properties(page, &folder, &labels, family, &SPEED);
        }
    }
    Ok(())
}

pub(super) fn netdev(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const COLUMNS: [&str; 16] = [
        "receive_bytes", "receive_packets", "receive_errs", "receive_drop",
        "receive_fifo", "receive_frame", "receive_compressed", "receive_multicast",
        "transmit_bytes", "transmit_packets", "transmit_errs", "transmit_drop",
        "transmit_fifo", "transmit_colls", "transmit_carrier", "transmit_compressed",
    ];
    let options = &host.arguments.netdev;
    let mut put = |device: &str, name: &str, value: f64| {
        let help = format!("Network device statistic {name}.");
        named(page, "counter", &format!("node_network_{name}_total"), help, &[("device", device)], value);
    };
    for line in read(&host.proc("net/dev"))?.lines().skip(2) {
        let (device, figures) = line.rsplit_once(':').ok_or_else(|| malformed(line))?;
        let device = device.trim();
        if !options.devices.shows(device) {
            continue;
        }
        for (name, value) in COLUMNS.iter().zip(figures.split_ascii_whitespace()) {
            put(device, name, parse(value)?);
        }
        // The one figure that only netlink and this file have.
        if let Some(value) = figure(&host.sys("class/net").join(device).join("statistics/rx_nohandler")) {
            put(device, "receive_nohandler", value);
        }
    }
    if options.address_info { addresses(page) } else { Ok(()) }
}

fn addresses(page: &mut Page) -> io::Result<()> {
    let info = gauge("node_network_address_info", "node network address by device");
    for interface in nix::ifaddrs::getifaddrs()? {
        let (Some(address), Some(mask)) = (interface.address, interface.netmask) else { continue };
        let (address, bits) =
            if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
                (IpAddr::V4(address.ip()), mask.ip().to_bits().count_ones())
            } else if let (Some(address), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6()) {
                (IpAddr::V6(address.ip()), mask.ip().to_bits().count_ones())
            } else {
                continue;
            };
        let is_local = address.is_loopback()
            || match address {
                IpAddr::V4(address) => address.is_link_local(),
                IpAddr::V6(address) => address.is_unicast_link_local(),
            };
        let labels = [
            ("device", interface.interface_name.as_str()),
            ("address", &address.to_string()),
            ("netmask", &bits.to_string()),
            ("scope", if is_local { "link-local" } else { "global" }),
        ];
        info.put(page, &labels, 1.0);
    }
    Ok(())
}

pub(super) fn netstat(host: &Host, page: &mut Page) -> io::Result<()> {
    let mut put = |protocol: &str, name: &str, value: &str| {
        let key = format!("{protocol}_{name}");
        if host.arguments.netstat.shows(&key) {
            let help = format!("Statistic {protocol}{name}.");
            named(page, "untyped", &format!("node_netstat_{key}"), help, &[], parse(value)?);
        }
        io::Result::Ok(())
    };
    for file in ["net/netstat", "net/snmp"] {
        let file = read(&host.proc(file))?;
        let mut lines = file.lines();
        // A line with names, and one with figures.
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (protocol, names) = names.split_once(": ").ok_or_else(|| malformed(names))?;
            let (_, values) = values.split_once(": ").ok_or_else(|| malformed(values))?;
            for (name, value) in names.split(' ').zip(values.split(' ')) {
                put(protocol, name, value)?;
            }
        }
    }
    // `Ip6InReceives  0`: there is none without IPv6.
    for line in read(&host.proc("net/snmp6")).unwrap_or_default().lines() {
        let mut fields = line.split_ascii_whitespace();
        if let (Some(name), Some(value)) = (fields.next(), fields.next())
            && let Some((protocol, name)) = name.split_once('6')
        {
            put(&format!("{protocol}6"), name, value)?;
        }
    }
    Ok(())
}

pub(super) fn sockstat(host: &Host, page: &mut Page) -> io::Result<()> {
    let page_bytes = rustix::param::page_size() as f64;
    for file in ["net/sockstat", "net/sockstat6"] {
        for line in optional(&host.proc(file))?.unwrap_or_default().lines() {
            let (protocol, pairs) = line.split_once(':').ok_or_else(|| malformed(line))?;
            let fields: Vec<&str> = pairs.split_ascii_whitespace().collect();
            for pair in fields.chunks_exact(2) {
                let (state, value) = (pair[0], parse::<f64>(pair[1])?);
                if protocol == "sockets" {
                    gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.").put(
                        page,
                        &[],
                        value,
                    );
                    continue;
                }
                let mut put = |state: &str, value: f64| {
                    let name = format!("node_sockstat_{protocol}_{state}");
                    let help = format!("Number of {protocol} sockets in state {state}.");
                    named(page, "gauge", &name, help, &[], value);
                };
                put(state, value);
                if state == "mem" {
                    put("mem_bytes", value * page_bytes);
                }
            }
        }
    }
    Ok(())
}

pub(super) fn udp_queues(host: &Host, page: &mut Page) -> io::Result<()> {
    let queues =
        gauge("node_udp_queues", "Number of allocated memory in the kernel for UDP datagrams in bytes.");
    let mut is_there = false;
    for (file, ip) in [("net/udp", "v4"), ("net/udp6", "v6")] {
        let Some(file) = optional(&host.proc(file))? else { continue };
        is_there = true;
        let (mut sent, mut received) = (0.0, 0.0);
        for line in file.lines().skip(1) {
            let both = line.split_ascii_whitespace().nth(4).and_then(|field| field.split_once(':'));
            let (tx, rx) = both.ok_or_else(|| malformed(line))?;
            sent += hex(tx)?;
            received += hex(rx)?;
        }
        queues.put(page, &[("queue", "tx"), ("ip", ip)], sent);
        queues.put(page, &[("queue", "rx"), ("ip", ip)], received);
    }
    if is_there { Ok(()) } else { Err(nothing()) }
}

/// The text of a file that a kernel without IPv4 or IPv6 has not.
fn optional(path: &Path) -> io::Result<Option<String>> {
    match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}
