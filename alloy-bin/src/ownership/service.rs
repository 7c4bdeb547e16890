//! The agent's share in its cluster: carries views, messages and time to the shards, and answers who owns what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use alloy_cluster::{
    Cluster, Handover, HandoverOptions, HandoverStats, Incoming, Member, Membership, Phase, Sharder, View,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::facts::{FACTS, Questions};
use super::history::History;
use super::intents::IntentStats;
use super::shard::{Core, Shard};
use crate::config::{Body, Decode};
use crate::telemetry::Work;

/// Whether a component's keys are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Every node works on all keys.
    #[default]
    Alone,
    /// The cluster's members split the keys.
    Clustered,
}

/// The `clustering` block.
impl Decode for Sharing {
    fn decode(body: &mut Body<'_>) -> Self {
        if body.required("enabled") { Sharing::Clustered } else { Sharing::Alone }
    }
}

/// The agent's share in its cluster. Cheap to clone.
#[derive(Clone)]
pub struct Ownership {
    inner: Arc<Inner>,
}

struct Inner {
    membership: Arc<dyn Membership>,
    /// `None` in a cluster of one.
    peers: Option<Peers>,
    sharder: Arc<dyn Sharder>,
    shards: Mutex<Shards>,
    /// The last shard of each component, also of those that are gone: records of theirs may still be in logs.
    last_shards: Mutex<Shards>,
    work: Arc<Notify>,
    /// This node would take its share, but there are too few members.
    waits: Notify,
    is_leaving: AtomicBool,
    history: History,
    questions: Questions,
    /// Why this node works on nothing any more, if so.
    withdrawn: OnceLock<String>,
}

/// The others.
pub(super) struct Peers {
    /// How messages reach them.
    pub(super) cluster: Cluster,
    /// How many members there must be before this node takes its share.
    pub(super) wanted: usize,
    /// How long it waits for them.
    pub(super) patience: Duration,
}

/// Behind a component's name: the channel of questions for who has taken over what.
const TENURES: &str = "#tenures";

/// By component.
type Shards = BTreeMap<Arc<str>, Arc<Core>>;

impl Ownership {
    pub(super) fn new(
        membership: Arc<dyn Membership>,
        sharder: Arc<dyn Sharder>,
        peers: Option<Peers>,
    ) -> Self {
        let inner = Inner {
            membership,
            peers,
            sharder,
            shards: Mutex::default(),
            last_shards: Mutex::default(),
            work: Arc::default(),
            waits: Notify::new(),
            is_leaving: AtomicBool::new(false),
            history: History::default(),
            questions: Questions::default(),
            withdrawn: OnceLock::new(),
        };
        Ownership { inner: Arc::new(inner) }
    }

    /// The keys of one component. A component that asks again gets a new, empty shard.
    pub fn shard(&self, component: &str, sharing: Sharing) -> Shard {
        self.shard_with(component, sharing, HandoverOptions::default())
    }

    pub(super) fn shard_with(&self, component: &str, sharing: Sharing, options: HandoverOptions) -> Shard {
        let me = self.inner.membership.me().clone();
        let handover = Handover::new(me, options, self.inner.sharder.clone());
        let core = Arc::new(Core::new(component, sharing, handover, self.inner.work.clone()));
        self.shards().insert(component.into(), core.clone());
        self.last_shards().insert(component.into(), core.clone());
        // After it is known to the service: a view that comes in between reaches it one way or the other.
        core.set_view(&self.view_for(sharing));
        Shard::new(core)
    }

    /// Carries views, messages and time until `stop`.
    pub async fn run(&self, mut incoming: Option<mpsc::Receiver<Incoming>>, stop: CancellationToken) {
        let membership = &self.inner.membership;
        let mut view = membership.view();
        self.each(Sharing::Clustered, |core| core.set_view(&view));
        loop {
            let deadline = self.deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = stop.cancelled() => return,
                changed = membership.changed(view.epoch()) => {
                    view = changed;
                    self.each(Sharing::Clustered, |core| core.set_view(&view));
                }
                Some(message) = receive(&mut incoming) => self.deliver(&message),
                () = self.inner.work.notified() => {}
                () = tokio::time::sleep_until(deadline.into()) => {
                    // Also the shards of one node have timers: a deadline that nobody handles would come again at once.
                    let shards: Vec<_> = self.shards().values().cloned().collect();
                    shards.iter().for_each(|core| core.change(|handover, now| handover.handle_timeout(now)));
                }
            }
            self.send();
        }
    }

    /// This node's configuration and discovery are ready: it takes its share. If there are too few members, that is left to
    /// the node's task ([`admit`](Ownership::admit)): an agent that waits for others is as ready as it can be.
    pub async fn activate(&self) {
        match &self.inner.peers {
            Some(peers) if peers.wanted > 1 => self.inner.waits.notify_one(),
            _ => self.inner.membership.set_phase(Phase::Active).await,
        }
    }

    /// Takes this node's share once it is activated and there are enough members, or the time to wait for them is over.
    pub(super) async fn admit(&self) {
        let Some(Peers { cluster, wanted, patience }) = &self.inner.peers else { return };
        self.inner.waits.notified().await;
        let members = self.inner.membership.view().members().len();
        tracing::info!(members, wanted, "waiting for members (--cluster.wait-for-size)");
        // If they do not come, the cluster has told so, and this node goes ahead.
        let _enough_or_told = cluster.wait_for_size(*wanted, *patience).await;
        if !self.inner.is_leaving.load(Ordering::SeqCst) {
            self.inner.membership.set_phase(Phase::Active).await;
            if self.inner.is_leaving.load(Ordering::SeqCst) {
                // It has been told to stop in between.
                self.inner.membership.set_phase(Phase::Leaving).await;
            }
        }
    }

    /// Tells the others which configuration runs here, by a hash of at most 512 bytes: at the start and after each reload.
    /// No key moves for it.
    pub async fn announce_configuration(&self, hash: &str) {
        if let Err(error) = self.inner.membership.set_metadata(hash.as_bytes()).await {
            tracing::warn!(%error, "the others are not told which configuration runs here");
        }
    }

    /// How many members run another configuration than this node; whoever has not told which does not count.
    pub(super) fn configuration_drift(&self) -> usize {
        let view = self.inner.membership.view();
        let Some(me) = view.member(self.inner.membership.me()) else { return 0 };
        let drifts = |member: &&Member| !member.metadata.is_empty() && member.metadata != me.metadata;
        if me.metadata.is_empty() { 0 } else { view.members().iter().filter(drifts).count() }
    }

    /// Gives every shared key to the others, waiting for at most `patience`. True: all are given. At once and true when
    /// there is nobody to take them.
    pub async fn hand_over(&self, patience: Duration) -> bool {
        self.inner.is_leaving.store(true, Ordering::SeqCst);
        let view = self.inner.membership.view();
        let me = self.inner.membership.me();
        if !view.members().iter().any(|member| member.node.name != *me && member.phase == Phase::Active) {
            return true;
        }
        let mut work = Work::begin("hand over");
        self.inner.membership.set_phase(Phase::Leaving).await;
        let drained = async {
            while !self.is_drained() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let is_drained = tokio::time::timeout(patience, drained).await.is_ok();
        if !is_drained {
            work.failed("not all keys were claimed in time");
        }
        is_drained
    }

    /// Tells the cluster that this node goes.
    pub async fn leave(&self) {
        self.inner.membership.leave().await;
    }

    /// Why this node works on nothing any more, if so: another one runs under its name.
    pub fn withdrawn(&self) -> Option<&str> {
        self.inner.withdrawn.get().map(String::as_str)
    }

    /// Another node runs under this one's name, and is the newer.
    pub(super) fn withdraw(&self, other: SocketAddr) {
        let reason =
            format!("another node runs under the name {} at {other} (--cluster.node-name)", self.me());
        let _ = self.inner.withdrawn.set(reason);
    }

    /// This node's name.
    pub fn me(&self) -> String {
        self.inner.membership.me().to_string()
    }

    /// Epoch and digest of this node's view.
    pub fn view(&self) -> (u64, u64) {
        let view = self.inner.membership.view();
        (view.epoch(), view.digest())
    }

    /// For each component that reads shared files what was counted.
    pub(super) fn intent_figures(&self) -> Vec<(Arc<str>, IntentStats)> {
        let shards = self.shards();
        let shared = shards.values().filter(|core| core.sharing == Sharing::Clustered);
        shared.map(|core| (core.component.clone(), core.lock().intents.stats)).collect()
    }

    /// For each shard its component and what its core has counted.
    pub(super) fn shard_figures(&self) -> Vec<(Arc<str>, HandoverStats)> {
        let now = Instant::now();
        let shards = self.shards();
        shards.values().map(|core| (core.component.clone(), core.lock().handover.stats(now))).collect()
    }

    /// A phase in Alloy's words.
    pub(super) fn state_name(phase: Phase) -> &'static str {
        match phase {
            Phase::Joining => "viewer",
            Phase::Active => "participant",
            Phase::Leaving => "terminating",
        }
    }

    pub(super) fn questions(&self) -> &Questions {
        &self.inner.questions
    }

    pub(super) fn history(&self) -> &History {
        &self.inner.history
    }

    pub(super) fn sharder(&self) -> &dyn Sharder {
        &*self.inner.sharder
    }

    pub(super) fn membership(&self) -> &dyn Membership {
        &*self.inner.membership
    }

    pub(super) fn network(&self) -> Option<&Peers> {
        self.inner.peers.as_ref()
    }

    /// The shards of the components that there are.
    pub(super) fn shards(&self) -> std::sync::MutexGuard<'_, Shards> {
        let mut shards = self.inner.shards.lock().expect("no code panics while holding it");
        shards.retain(|_, core| !core.is_gone.load(Ordering::Relaxed));
        shards
    }

    pub(super) fn last_shards(&self) -> std::sync::MutexGuard<'_, Shards> {
        self.inner.last_shards.lock().expect("no code panics while holding it")
    }

    /// The cluster's view, or for keys that are not shared a view of this node alone.
    fn view_for(&self, sharing: Sharing) -> Arc<View> {
        let view = self.inner.membership.view();
        if sharing == Sharing::Clustered {
            return view;
        }
        let me = view.member(self.inner.membership.me());
        let me = me.into_iter().map(|me| Member { phase: Phase::Active, ..me.clone() });
        Arc::new(View::new(view.epoch(), me.collect()))
    }

    fn each(&self, sharing: Sharing, work: impl Fn(&Core)) {
        let shards: Vec<_> = self.shards().values().cloned().collect();
        shards.iter().filter(|core| core.sharing == sharing).for_each(|core| work(core));
    }

    fn deliver(&self, message: &Incoming) {
        if let Some(component) = message.channel.strip_suffix(TENURES) {
            return self.deliver_tenures(component, message);
        }
        if let Some(component) = message.channel.strip_suffix(FACTS) {
            return self.deliver_facts(component, message);
        }
        let shard = self.shards().get(message.channel.as_str()).cloned();
        // Without the component (another configuration there, or still loading here) the claim is left unanswered;
        // the claimant goes on after its deadline.
        if let Some(core) = shard.filter(|core| core.sharing == Sharing::Clustered) {
            core.change(|handover, now| handover.handle_message(now, &message.from, &message.payload));
        }
    }

    fn send(&self) {
        let Some(peers) = &self.inner.peers else { return };
        self.each(Sharing::Clustered, |core| {
            for (to, message) in core.take_outgoing() {
                peers.cluster.send(&to, &core.component, message);
            }
            let question = core.lock().intents.poll_ask(Instant::now());
            if let Some(question) = question {
                let view = self.inner.membership.view();
                let others = view.members().iter().map(|member| &member.node.name);
                for name in others.filter(|name| *name != self.inner.membership.me()) {
                    peers.cluster.send(name, &format!("{}{TENURES}", core.component), question.clone());
                }
            }
        });
    }

    /// Who has taken over which file, asked or told.
    fn deliver_tenures(&self, component: &str, message: &Incoming) {
        let shard = self.shards().get(component).cloned();
        let answer =
            shard.and_then(|core| core.change_both(|_, intents, _| intents.handle_message(&message.payload)));
        if let (Some(answer), Some(peers)) = (answer, &self.inner.peers) {
            peers.cluster.send(&message.from, &message.channel, answer);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let earliest = |core: &Arc<Core>| {
            let inner = core.lock();
            [inner.handover.poll_deadline(), inner.intents.poll_deadline()].into_iter().flatten().min()
        };
        self.shards().values().filter_map(earliest).min()
    }

    fn is_drained(&self) -> bool {
        self.shards().values().all(|core| core.sharing == Sharing::Alone || core.lock().handover.is_drained())
    }
}

/// The next message; never, in a cluster of one.
async fn receive(incoming: &mut Option<mpsc::Receiver<Incoming>>) -> Option<Incoming> {
    match incoming {
        Some(incoming) => incoming.recv().await,
        None => std::future::pending().await,
    }
}
