//! What is known of monitors and of what they select, and the plan that comes of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::scraper::{Plan, Way};
use super::arguments::Arguments;
use super::job::{Job, Made, jobs};
use super::monitor::{Monitor, Monitors};
use super::secrets::Secrets;
use crate::graph::Fanout;
use crate::kubernetes::{Api, Attach, Namespaces, Role, Selection, Sources, Store, Wanted};
use crate::scraping::Spec;
use crate::telemetry::SampleBatch;

/// In more namespaces than this nothing is watched one by one: an API server allows some 250 watches on a connection, and each namespace
/// needs three or four.
const NAMESPACES_MAX: usize = 20;
/// What is known.
pub(super) struct State<M: Monitors> {
    pub(super) arguments: Arc<Arguments<M>>,
    pub(super) api: Arc<Api>,
    pub(super) secrets: Secrets,
    pub(super) since: Instant,
    /// There was a plan.
    pub(super) has_begun: bool,
    /// Problems that were shown last.
    pub(super) shown: BTreeSet<String>,
    receivers: Fanout<SampleBatch>,
    /// By the namespace that monitors are in; empty: all.
    stores: BTreeMap<String, Arc<Store<Monitor<M>>>>,
    /// What was made of each monitor.
    made: BTreeMap<Box<str>, Jobs<M>>,
    /// The last number that was given to something made.
    number: u64,
    sources: BTreeMap<Place, Arc<Sources>>,
    /// All is watched in the whole cluster.
    is_whole: bool,
    /// By the jobs' names.
    found: HashMap<String, Found>,
}

struct Jobs<M> {
    monitor: Arc<Monitor<M>>,
    number: u64,
    made: Made,
}

/// Where targets are looked for: as what, with their nodes, in which namespace; empty: all.
type Place = (Role, bool, String);

/// What a job has found last.
struct Found {
    /// That of the monitor.
    namespace: Box<str>,
    /// The numbers of the monitor, and of what it selects from.
    made_of: (u64, u64),
    targets: HashMap<u64, (Arc<Spec>, Arc<Way>)>,
    /// By interval and timeout.
    ways: HashMap<(Duration, Duration), Arc<Way>>,
    problem: Option<String>,
}

impl<M: Monitors> State<M> {
    /// What was found before goes on until something else is.
    pub(super) fn new(arguments: Arc<Arguments<M>>, before: Option<Self>) -> anyhow::Result<Self> {
        let api = Api::shared(&arguments.access)?;
        // One that is empty is all, as in Alloy.
        let is_all = arguments.namespaces.iter().all(String::is_empty);
        let namespaces = if is_all { vec![String::new()] } else { arguments.namespaces.clone() };
        let store = |namespace: String| {
            let (labels, fields) = (arguments.selector.clone(), String::new());
            (namespace.clone(), api.store(Selection { namespace, labels, fields }))
        };
        let state = State {
            stores: namespaces.into_iter().map(store).collect(),
            api: api.clone(),
            receivers: Fanout::new(arguments.forward_to.clone()),
            arguments,
            secrets: Secrets::default(),
            since: Instant::now(),
            has_begun: false,
            shown: BTreeSet::new(),
            made: BTreeMap::new(),
            number: 0,
            sources: BTreeMap::new(),
            is_whole: false,
            found: HashMap::new(),
        };
        let Some(before) = before else { return Ok(state) };
        let State { has_begun, shown, number, sources, found, .. } = before;
        let sources =
            if before.arguments.access == state.arguments.access { sources } else { BTreeMap::new() };
        Ok(State { has_begun, shown, number, sources, found, ..state })
    }

    /// Makes jobs of monitors that are new or others, and of all when what Secrets say may be another.
    pub(super) async fn make(&mut self) {
        let is_due = self.secrets.until().is_some_and(|until| until <= Instant::now());
        self.make_now(is_due);
        // One that is not known yet hides those behind it.
        while self.secrets.refresh(&self.api).await {
            self.make_now(true);
        }
    }

    fn make_now(&mut self, anew: bool) {
        if anew {
            self.secrets.begin_anew();
        }
        let mut before = std::mem::take(&mut self.made);
        for (key, monitor) in self.stores.values().flat_map(|store| store.all()) {
            let known = before.remove(&key).filter(|jobs| !anew && Arc::ptr_eq(&jobs.monitor, &monitor));
            let jobs = known.unwrap_or_else(|| {
                self.number += 1;
                let made = jobs(&monitor, &self.arguments, &self.secrets);
                if !made.unknown.is_empty() && !anew {
                    let fields = made.unknown.join(", ");
                    tracing::warn!(
                        monitor = &*key,
                        fields,
                        "fields of a monitor are not known here and change nothing"
                    );
                }
                Jobs { monitor, number: self.number, made }
            });
            self.made.insert(key, jobs);
        }
    }

    fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.made.values().flat_map(|jobs| &jobs.made.jobs)
    }

    /// Watches what jobs select from, and nothing else.
    pub(super) fn watch(&mut self, id: &str) {
        let named: BTreeSet<&String> = self.jobs().flat_map(|job| job.namespaces.iter().flatten()).collect();
        let many = named.len() > NAMESPACES_MAX || self.jobs().any(|job| job.namespaces.is_none());
        let is_whole = many && self.stores.contains_key("");
        self.is_whole = is_whole;
        let wanted: BTreeSet<Place> = self.jobs().flat_map(|job| self.places(job)).collect();
        // The old ones go after that: what both watch is watched on.
        let mut before = std::mem::take(&mut self.sources);
        for place in wanted {
            let sources = before.remove(&place).map(Ok).unwrap_or_else(|| self.sources_at(&place, id));
            match sources {
                Ok(sources) => drop(self.sources.insert(place, sources)),
                Err(error) => {
                    tracing::error!(component_id = id, error = format!("{error:#}"), "cannot watch")
                }
            }
        }
    }

    fn places(&self, job: &Job) -> Vec<Place> {
        let place = |namespace: &str| (job.role, job.with_node, namespace.to_owned());
        match &job.namespaces {
            Some(names) if !self.is_whole => names.iter().map(|name| place(name)).collect(),
            _ => vec![place("")],
        }
    }

    fn sources_at(&self, (role, node, namespace): &Place, id: &str) -> anyhow::Result<Arc<Sources>> {
        let names = if namespace.is_empty() { Vec::new() } else { vec![namespace.clone()] };
        let wanted = Wanted {
            access: self.arguments.access.clone(),
            role: *role,
            namespaces: Namespaces { own: false, names },
            selectors: Vec::new(),
            attach: Attach { node: *node, namespace: false },
            all_nodes: true,
        };
        Sources::new(&Arc::new(wanted), id).map(Arc::new)
    }

    /// Whether all that there is to know is known.
    pub(super) fn is_known(&self) -> bool {
        let are_complete = self.sources.values().all(|sources| sources.are_complete());
        are_complete && self.stores.values().all(|store| store.is_complete())
    }

    /// Finds targets anew where something has changed. True: something has.
    pub(super) fn find(&mut self) -> bool {
        let mut before = std::mem::take(&mut self.found);
        let mut found = HashMap::with_capacity(before.len());
        let mut has_changed = false;
        for jobs in self.made.values() {
            for job in &jobs.made.jobs {
                let old = before.remove(&job.name);
                let (now, is_other) = self.find_one(job, jobs, old);
                has_changed |= is_other;
                found.extend(now.map(|now| (job.name.clone(), now)));
            }
        }
        // Of namespaces whose monitors are not known now, nothing ends.
        let stays = |found: &Found| {
            let store = self.stores.get("").or_else(|| self.stores.get(&*found.namespace));
            store.is_some_and(|store| !store.is_complete())
        };
        let (stay, gone): (HashMap<_, _>, HashMap<_, _>) =
            before.into_iter().partition(|(_, found)| stays(found));
        has_changed |= !gone.is_empty();
        found.extend(stay);
        self.found = found;
        has_changed
    }

    /// What a job finds, and whether it is another than before.
    fn find_one(&self, job: &Job, jobs: &Jobs<M>, old: Option<Found>) -> (Option<Found>, bool) {
        let places = self.places(job);
        let sources: Vec<&Arc<Sources>> = places.iter().filter_map(|place| self.sources.get(place)).collect();
        if sources.len() < places.len() || !sources.iter().all(|sources| sources.are_complete()) {
            return (old, false);
        }
        let made_of = (jobs.number, sources.iter().map(|sources| sources.number()).sum());
        if old.as_ref().is_some_and(|old| old.made_of == made_of) {
            return (old, false);
        }
        let is_wanted = |namespace: &str| {
            job.namespaces.as_ref().is_none_or(|names| names.iter().any(|name| name == namespace))
        };
        let selected = sources.iter().flat_map(|sources| {
            sources.select(|namespace, labels| is_wanted(namespace) && job.selector.selects(labels))
        });
        let Arguments { rules, clustering, .. } = &*self.arguments;
        let (targets, problems) = job.targets(rules, selected.collect(), &clustering.excluded_labels);
        let count = targets.len();
        let mut ways = HashMap::new();
        let targets = targets.into_iter().map(|(key, (spec, interval, timeout))| {
            let way = ways.entry((interval, timeout)).or_insert_with(|| {
                let before = old.as_ref().and_then(|old| old.ways.get(&(interval, timeout)));
                let settings = job.settings(count, interval, timeout);
                Arc::new(Way::new(settings, self.receivers.clone(), before.map(|way| &**way)))
            });
            (key, (Arc::new(spec), way.clone()))
        });
        let targets = targets.collect();
        let problem = problems.first().map(|first| {
            format!("{}: {} targets cannot be scraped; the first: {first}", job.name, problems.len())
        });
        let namespace = jobs.monitor.metadata.namespace.clone();
        (Some(Found { namespace, made_of, targets, ways, problem }), true)
    }

    /// All targets.
    pub(super) fn plan(&self) -> Plan {
        let all = self.found.values().flat_map(|found| &found.targets);
        let targets = all.map(|(key, target)| (*key, target.clone())).collect();
        let falls_back = self.arguments.clustering.falls_back;
        Plan {
            targets,
            receivers: self.receivers.clone(),
            fallback: falls_back.then(|| self.arguments.interval()),
        }
    }

    /// What is wrong with monitors, and with what they select.
    pub(super) fn problems(&self) -> Vec<String> {
        let made = self.made.iter();
        let made = made.flat_map(|(key, jobs)| {
            jobs.made.problems.iter().map(move |problem| format!("{key}: {problem}"))
        });
        made.chain(self.found.values().filter_map(|found| found.problem.clone())).collect()
    }

    pub(super) fn monitors(&self) -> usize {
        self.made.len()
    }

    /// Why something is not up to date.
    pub(super) fn troubles(&self) -> Vec<String> {
        let stores =
            self.stores.values().filter_map(|store| Some(format!("{}: {}", M::PLURAL, store.trouble()?)));
        let mut troubles: Vec<String> =
            stores.chain(self.sources.values().flat_map(|sources| sources.troubles())).collect();
        troubles.sort_unstable();
        troubles.dedup();
        troubles
    }
}
