//! What the invariants' tests share: a cluster of six in a bad network, and faults by seed.
#![allow(dead_code)] // Each test uses its part.

use std::time::{Duration, Instant};

use alloy_cluster::testing::{Network, NetworkOptions};
use alloy_cluster::{Key, Phase};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) const KEYS: Key = 30;
pub(crate) const NODES: usize = 6;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many, or as many as `CLUSTER_SEEDS` says: `CLUSTER_SEEDS=2000 cargo test --release -p alloy-cluster`.
pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("CLUSTER_SEEDS").ok();
    0..wanted.map_or(default, |text| text.parse().expect("CLUSTER_SEEDS is a number"))
}

/// A cluster with faults. Every look is 20 ms of virtual time after the one before.
pub(crate) struct Chaos {
    pub(crate) network: Network,
    pub(crate) random: StdRng,
    pub(crate) names: Vec<String>,
    /// When the last fault began or ended.
    pub(crate) last_fault: Instant,
    /// Whether anything is cut, paused or slow.
    pub(crate) is_disturbed: bool,
    seed: u64,
}

impl Chaos {
    /// Six nodes that have settled.
    pub(crate) fn settled(seed: u64, options: NetworkOptions) -> Self {
        let mut network = Network::new(options, KEYS);
        let names: Vec<String> = (0..NODES).map(|index| format!("node-{index}")).collect();
        for (index, name) in names.iter().enumerate() {
            // Every second seed has two zones.
            let zone = if seed.is_multiple_of(2) { String::new() } else { format!("zone-{}", index % 2) };
            network.start_in(name, &zone);
        }
        network.run_until("settled", ms(60_000), |network| network.agrees() && network.is_settled());
        network.run_for(ms(3000), |_| {});
        let (random, last_fault) = (StdRng::seed_from_u64(seed), network.now());
        Chaos { network, random, names, last_fault, is_disturbed: false, seed }
    }

    pub(crate) fn runs(&self, name: &str) -> bool {
        self.network.names().iter().any(|running| running.as_str() == name)
    }

    pub(crate) fn some(&mut self) -> String {
        self.names[self.random.random_range(0..NODES)].clone()
    }

    /// Any fault at all.
    pub(crate) fn fault(&mut self) {
        let (name, other) = (self.some(), self.some());
        let runs = self.runs(&name);
        let network = &mut self.network;
        match self.random.random_range(0..11) {
            0 => network.crash(&name),
            1 if runs => network.leave(&name),
            2 if runs => network.set_phase(&name, Phase::Leaving),
            3 if runs => network.pause(&name),
            4 => network.partition(&[&name, &other]),
            5 => network.cut(&name, &other),
            6 => network.slow(&name, ms(400)),
            7 => network.set_lost_packets(200),
            8 => network.heal(),
            _ => network.start(&name),
        }
        self.is_disturbed = true;
        self.last_fault = self.network.now();
    }

    /// Ends all faults; every node runs and takes part.
    pub(crate) fn heal(&mut self) {
        self.network.heal();
        for name in self.names.clone() {
            match self.runs(&name) {
                true => self.network.set_phase(&name, Phase::Active),
                false => self.network.start(&name),
            }
        }
        self.is_disturbed = false;
        self.last_fault = self.network.now();
    }

    /// Goes on for so long, with a look every 20 ms.
    pub(crate) fn run(&mut self, duration: Duration, mut look: impl FnMut(&Network)) {
        let end = self.network.now() + duration;
        while self.network.now() < end {
            self.network.run_for(ms(20), |_| {});
            look(&self.network);
        }
    }

    /// The seed and the state of all, for a failed test.
    pub(crate) fn describe(&self) -> String {
        format!("seed {}\n{}", self.seed, self.network.describe())
    }
}
