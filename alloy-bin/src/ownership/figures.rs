//! What is said of the cluster in `/metrics`: Alloy's names where it has them, ours beside them.

use alloy_cluster::{HandoverStats, Phase, Stats};

use super::intents::IntentStats;
use super::service::Ownership;
use crate::telemetry::{Collect, Page};

impl Collect for Ownership {
    fn collect(&self, page: &mut Page) {
        let membership = self.membership();
        let view = membership.view();
        let me = view.member(membership.me());
        for phase in [Phase::Joining, Phase::Active, Phase::Leaving] {
            let state = [("state", Ownership::state_name(phase))];
            let count = view.members().iter().filter(|member| member.phase == phase).count();
            page.gauge("cluster_node_peers", "Members by state, this node included.", &state, count as f64);
            let mine = me.is_some_and(|me| me.phase == phase);
            page.gauge("cluster_node_info", "This node's state.", &state, f64::from(u8::from(mine)));
        }
        page.gauge(
            "cluster_node_gossip_alive_peers",
            "Members that are alive.",
            &[],
            view.members().len() as f64,
        );
        page.gauge(
            "cluster_node_configuration_drift",
            "Members that run another configuration than this node.",
            &[],
            self.configuration_drift() as f64,
        );
        page.counter("alloy_cluster_view_changes_total", "Changes of this node's view.", &[], view.epoch());
        let is_active = me.is_some_and(|me| me.phase == Phase::Active);
        let help = "Whether this node takes its share: there are as many members as it waits for.";
        page.gauge("cluster_ready_for_traffic", help, &[], f64::from(u8::from(is_active)));
        if let Some(peers) = self.network() {
            let help = "How many members this node waits for before it takes its share.";
            page.gauge("cluster_minimum_size", help, &[], peers.wanted as f64);
            network(page, &peers.cluster.stats());
        }
        for (component, stats) in self.shard_figures() {
            page.labelled(&[("component_id", &component)], |page| shard(page, &stats));
        }
        for (component, stats) in self.intent_figures() {
            page.labelled(&[("component_id", &component)], |page| intents(page, &stats));
        }
    }
}

fn intents(page: &mut Page, stats: &IntentStats) {
    for (name, help, count) in [
        (
            "alloy_ownership_intents_unconfirmed_total",
            "Records sent though the successor had not confirmed in time that it knows of them.",
            stats.unconfirmed,
        ),
        (
            "alloy_ownership_records_dropped_total",
            "Records dropped from a log because another node has taken over their file.",
            stats.dropped,
        ),
        (
            "alloy_ownership_records_orphaned_total",
            "Records of an earlier time of ownership sent because nobody knew of a later one.",
            stats.orphaned,
        ),
    ] {
        page.counter(name, help, &[], count);
    }
}

fn network(page: &mut Page, stats: &Stats) {
    let swim = &stats.swim;
    let refused = swim.malformed + swim.foreign + swim.unsealed;
    for (name, help, count) in [
        ("cluster_transport_rx_packets_total", "Packets received.", swim.packets_received),
        ("cluster_transport_tx_packets_total", "Packets sent.", swim.packets_sent),
        ("cluster_transport_tx_bytes_total", "Bytes of packets sent.", swim.bytes_sent),
        (
            "cluster_transport_tx_packets_failed_total",
            "Packets that could not be sent.",
            stats.packets_failed,
        ),
        (
            "cluster_transport_stream_rx_packets_total",
            "Messages received over streams.",
            stats.frames_received,
        ),
        ("cluster_transport_stream_tx_packets_total", "Messages sent over streams.", stats.frames_sent),
        (
            "cluster_transport_stream_tx_packets_failed_total",
            "Messages not sent over streams.",
            stats.frames_dropped,
        ),
        ("alloy_cluster_suspicions_total", "Members that this node began to suspect.", swim.suspicions),
        ("alloy_cluster_declared_down_total", "Members that this node declared down.", swim.declared_down),
        ("alloy_cluster_rejoins_total", "Times this node was declared down and came back.", swim.rejoins),
        (
            "alloy_cluster_disagreements_total",
            "Times a member saw other members than this node for more than 10 s.",
            swim.disagreements,
        ),
        (
            "alloy_cluster_isolations_total",
            "Times this node heard nobody any more, and took over nothing.",
            swim.isolations,
        ),
        (
            "alloy_cluster_refused_packets_total",
            "Packets that were damaged, of another cluster, sealed with an unknown key, or came twice.",
            refused,
        ),
    ] {
        page.counter(name, help, &[], count);
    }
}

fn shard(page: &mut Page, stats: &HandoverStats) {
    let gauges = [
        ("alloy_ownership_keys", "Keys known, whoever owns them.", stats.keys),
        ("alloy_ownership_acting", "Keys that this node works on.", stats.acting),
        ("alloy_ownership_claiming", "Keys that this node is asking the others for.", stats.claiming),
        (
            "alloy_ownership_misplaced",
            "Keys that this node works on though another owns them.",
            stats.misplaced,
        ),
        ("alloy_ownership_lent", "Keys of this node on which others work because it cannot.", stats.lent),
        (
            "alloy_ownership_borrowed",
            "Keys on which this node works because their owners cannot.",
            stats.borrowed,
        ),
        ("alloy_ownership_unclaimed", "Of those, the ones that nobody has claimed in time.", stats.unclaimed),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, &[], value as f64);
    }
    let help = "Keys that this node has begun to work on, by where their state came from.";
    for (origin, count) in [
        ("handed", stats.started_handed),
        ("replica", stats.started_replica),
        ("restored", stats.started_restored),
        ("fresh", stats.started_fresh),
    ] {
        page.counter("alloy_ownership_started_total", help, &[("origin", origin)], count);
    }
    page.counter(
        "alloy_ownership_claims_expired_total",
        "Claims given up because somebody did not answer.",
        &[],
        stats.claims_expired,
    );
    page.counter(
        "alloy_ownership_conflicts_total",
        "Times two nodes were found to work on one key.",
        &[],
        stats.conflicts,
    );
}
