//! What is said of the cluster in `/metrics`: Alloy's names where it has them, ours beside them.

use alloy_cluster::{HandoverStats, Phase};

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
        if let Some(cluster) = self.cluster() {
            let stats = cluster.stats();
            let swim = &stats.swim;
            page.counter(
                "cluster_transport_rx_packets_total",
                "Packets received.",
                &[],
                swim.packets_received,
            );
            page.counter("cluster_transport_tx_packets_total", "Packets sent.", &[], swim.packets_sent);
            page.counter(
                "cluster_transport_tx_packets_failed_total",
                "Packets that could not be sent.",
                &[],
                stats.packets_failed,
            );
            page.counter(
                "cluster_transport_stream_rx_packets_total",
                "Messages received over streams.",
                &[],
                stats.frames_received,
            );
            page.counter(
                "cluster_transport_stream_tx_packets_total",
                "Messages sent over streams.",
                &[],
                stats.frames_sent,
            );
            page.counter(
                "cluster_transport_stream_tx_packets_failed_total",
                "Messages not sent over streams.",
                &[],
                stats.frames_dropped,
            );
            page.counter(
                "alloy_cluster_suspicions_total",
                "Members that this node began to suspect.",
                &[],
                swim.suspicions,
            );
            page.counter(
                "alloy_cluster_declared_down_total",
                "Members that this node declared down.",
                &[],
                swim.declared_down,
            );
            page.counter(
                "alloy_cluster_rejoins_total",
                "Times this node was declared down and came back.",
                &[],
                swim.rejoins,
            );
            page.counter(
                "alloy_cluster_refused_packets_total",
                "Packets that were damaged or of another cluster.",
                &[],
                swim.malformed + swim.foreign,
            );
        }
        for (component, stats) in self.shard_figures() {
            page.labelled(&[("component_id", &component)], |page| shard(page, &stats));
        }
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
