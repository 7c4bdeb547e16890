//! The cluster of the simulation: what happens to nodes, and what they do about it.

use super::*;

/// What a node learns of another, and when.
struct News {
    at: u64,
    to: usize,
    of: usize,
    incarnation: u64,
    phase: Option<Phase>,
}

struct World {
    chance: Chance,
    began: Instant,
    ms: u64,
    machines: Vec<Machine>,
    news: Vec<News>,
    messages: Vec<(u64, usize, usize, bool, Bytes)>,
    /// Nodes that hear nobody.
    cut_off: Option<usize>,
    files: BTreeMap<u64, u64>,
    is_writing: bool,
    /// What endpoints have: file, line -> its times.
    arrived: Vec<BTreeMap<(u64, u64), BTreeSet<i64>>>,
    /// On their way to an endpoint, whoever sent them.
    wire: Vec<(u64, usize, u64, Range)>,
    are_down: [bool; ENDPOINTS],
    /// As if there were no intents: only what is in custody is known to others.
    is_blind: bool,
}

fn name(node: usize) -> NodeName {
    format!("node-{node}").as_str().into()
}

fn order(phase: Phase) -> u8 {
    match phase {
        Phase::Joining => 0,
        Phase::Active => 1,
        Phase::Leaving => 2,
    }
}

impl World {
    fn new(seed: u64, is_blind: bool) -> Self {
        let mut chance = Chance(seed);
        let machine =
            |_| Machine { skew_ns: chance.below(4_000_000_000) as i64 - 2_000_000_000, ..Machine::default() };
        let machines = (0..NODES).map(machine).collect();
        let mut world = World {
            chance,
            began: Instant::now(),
            ms: 0,
            machines,
            news: Vec::new(),
            messages: Vec::new(),
            cut_off: None,
            files: (0..KEYS).map(|key| (key, 0)).collect(),
            is_writing: true,
            arrived: vec![BTreeMap::new(); ENDPOINTS],
            wire: Vec::new(),
            are_down: [false; ENDPOINTS],
            is_blind,
        };
        (0..NODES).for_each(|node| world.start(node, true));
        world
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_millis(self.ms)
    }

    fn now_ns(&self, node: usize) -> i64 {
        1_700_000_000_000_000_000 + self.ms as i64 * 1_000_000 + self.machines[node].skew_ns
    }

    fn start(&mut self, node: usize, has_volume: bool) {
        let incarnation = self.ms + 1;
        let machine = &mut self.machines[node];
        machine.incarnation = incarnation;
        if !has_volume {
            machine.logs = Default::default();
            machine.bookmarks.clear();
        }
        machine.logs.iter_mut().for_each(|log| (log.posted, log.waits_since) = (None, None));
        let options = HandoverOptions {
            replicate_interval: Duration::from_millis(20),
            trust: Trust::Members,
            ..HandoverOptions::default()
        };
        let mut handover = Handover::new(name(node), options, Arc::new(Rendezvous));
        handover.set_keys(self.began + Duration::from_millis(self.ms), 0..KEYS);
        let intents = Intents::default();
        let phases = BTreeMap::from([(node, (incarnation, Phase::Joining))]);
        self.machines[node].life = Some(Life { handover, intents, readers: BTreeMap::new(), phases });
        for other in 0..NODES {
            // Who is there it learns before it takes its share.
            if let Some(phase) = self.phase(other).filter(|_| other != node) {
                let incarnation = self.machines[other].incarnation;
                self.news.push(News { at: self.ms, to: node, of: other, incarnation, phase: Some(phase) });
            }
        }
        self.spread(node, Some(Phase::Joining), 50);
    }

    /// What a node says of itself.
    fn phase(&self, node: usize) -> Option<Phase> {
        self.machines[node].life.as_ref().map(|life| life.phases[&node].1)
    }

    /// All others learn of it within that time.
    fn spread(&mut self, of: usize, phase: Option<Phase>, within_ms: u64) {
        let incarnation = self.machines[of].incarnation;
        for to in 0..NODES {
            let at = self.ms + if to == of { 0 } else { 1 + self.chance.below(within_ms) };
            self.news.push(News { at, to, of, incarnation, phase });
        }
    }

    fn kill(&mut self, node: usize) {
        self.machines[node].life = None;
        self.spread(node, None, 1500);
    }

    fn step(&mut self) {
        self.ms += STEP_MS;
        for lines in self.files.values_mut().filter(|_| self.is_writing) {
            *lines += u64::from(self.chance.below(8) == 0) * self.chance.below(4);
        }
        self.learn();
        self.carry();
        for node in 0..NODES {
            self.work(node);
            (0..ENDPOINTS).for_each(|endpoint| self.send(node, endpoint));
        }
        let ms = self.ms;
        for (_, endpoint, key, range) in self.wire.extract_if(.., |(at, ..)| *at <= ms) {
            for (line, time) in (range.from..range.to).zip(range.base_ns..) {
                self.arrived[endpoint].entry((key, line)).or_default().insert(time);
            }
        }
    }

    fn learn(&mut self) {
        let (ms, now) = (self.ms, self.now());
        let due: Vec<News> = self.news.extract_if(.., |news| news.at <= ms).collect();
        for News { to, of, incarnation, phase, .. } in due {
            let Some(life) = self.machines[to].life.as_mut() else { continue };
            // Late news.
            let is_old = life.phases.get(&of).is_some_and(|(known, known_phase)| {
                let is_before =
                    *known == incarnation && phase.is_some_and(|phase| order(phase) < order(*known_phase));
                *known > incarnation || is_before
            });
            if is_old || (to == of && phase.is_none()) {
                continue;
            }
            match phase {
                Some(phase) => _ = life.phases.insert(of, (incarnation, phase)),
                None => _ = life.phases.remove(&of),
            }
            let member = |(node, (incarnation, phase)): (&usize, &(u64, Phase))| Member {
                phase: *phase,
                ..Member::new(Node {
                    name: name(*node),
                    address: ([127, 0, 0, 1], 1).into(),
                    incarnation: *incarnation,
                })
            };
            let view = View::new(ms, life.phases.iter().map(member).collect());
            life.handover.set_view(now, Arc::new(view));
        }
    }

    fn carry(&mut self) {
        let (ms, now) = (self.ms, self.now());
        let due: Vec<_> = self.messages.extract_if(.., |(at, ..)| *at <= ms).collect();
        for (_, from, to, is_question, message) in due {
            let is_cut = self.cut_off.is_some_and(|node| node == from || node == to);
            let Some(life) = self.machines[to].life.as_mut().filter(|_| !is_cut) else { continue };
            if !is_question {
                life.handover.handle_message(now, &name(from), &message);
            } else if let Some(answer) = life.intents.handle_message(&message) {
                self.messages.push((ms + 1 + self.chance.below(20), to, from, true, answer));
            }
        }
    }

    fn work(&mut self, node: usize) {
        let (ms, now, now_ns) = (self.ms, self.now(), self.now_ns(node));
        let machine = &mut self.machines[node];
        let Some(life) = machine.life.as_mut() else { return };
        if life.handover.poll_deadline().is_some_and(|at| at <= now) {
            life.handover.handle_timeout(now);
        }
        while let Some(event) = life.handover.poll_event() {
            match event {
                Event::Start { key, state, .. } => {
                    let inherited = state.as_ref().map(Inherited::decode).unwrap_or_default();
                    let batches = if self.is_blind { Vec::new() } else { inherited.batches };
                    let mut repeats: VecDeque<Place> = batches.into_iter().map(Place::decode).collect();
                    let custody = inherited.custody.map(Place::decode);
                    let known = repeats.pop_front().or(custody).or(machine.bookmarks.get(&key).copied());
                    let place = known.unwrap_or(Place { last_ns: i64::MIN, ..Place::default() });
                    let tenure = life.intents.begin(key, state.as_ref(), place.last_ns, now_ns);
                    put(&mut life.handover, &mut life.intents, now, key);
                    let repeats = repeats.into_iter().filter_map(|place| place.offered).collect();
                    let reader = Reader { tenure, sequence: 0, place, repeats, taken: 0, is_stopping: false };
                    assert!(life.readers.insert(key, reader).is_none(), "a key is started once");
                }
                Event::Stop { key } => {
                    life.readers.get_mut(&key).expect("it was started").is_stopping = true;
                }
            }
        }
        for key in 0..KEYS {
            let Some(reader) = life.readers.get_mut(&key) else { continue };
            if self.chance.below(4) > 0 {
                continue;
            }
            let offered = match reader.place.offered {
                Some(offered) => offered,
                None if reader.is_stopping => {
                    life.readers.remove(&key);
                    let state = life.intents.end(key);
                    life.handover.handle_stopped(now, key, state);
                    continue;
                }
                None => {
                    let from = reader.place.offset;
                    let next = reader.repeats.pop_front();
                    assert!(next.is_none_or(|next| next.from == from), "batches follow each other");
                    let to = self.files[&key].min(from + 1 + self.chance.below(6));
                    if next.is_none() && to == from {
                        continue;
                    }
                    let base_ns = now_ns.max(reader.place.last_ns.saturating_add(1));
                    next.unwrap_or(Range { from, to, base_ns })
                }
            };
            reader.place.offered = Some(offered);
            let lines = Lines {
                component: "files".into(),
                key,
                tenure: reader.tenure,
                sequence: reader.sequence,
                base_ns: offered.base_ns,
                batch: reader.place.encode(),
            };
            if reader.taken < ENDPOINTS {
                if reader.taken == 0 {
                    let offered = Some((reader.sequence, offered.base_ns));
                    life.intents.handle_custody(key, reader.place.encode(), reader.place.last_ns, offered);
                }
                // A batch that the stages drop altogether goes into no log.
                life.intents.handle_accepted(reader.taken, &lines);
                machine.logs[reader.taken].records.push_back(Record { lines, range: offered });
                reader.taken += 1;
            } else {
                let last_ns = offered.base_ns + (offered.to - offered.from) as i64 - 1;
                reader.place = Place { offset: offered.to, last_ns, offered: None };
                reader.taken = 0;
                reader.sequence += 1;
                life.intents.handle_custody(key, reader.place.encode(), last_ns, None);
            }
            machine.bookmarks.insert(key, reader.place);
            put(&mut life.handover, &mut life.intents, now, key);
        }
        while let Some((to, message)) = life.handover.poll_message() {
            let to = (0..NODES).find(|node| name(*node) == to).expect("a node");
            self.messages.push((ms + 1 + self.chance.below(20), node, to, false, message));
        }
        if let Some(question) = life.intents.poll_ask(now) {
            let others = life.phases.keys().filter(|other| **other != node);
            for other in others {
                self.messages.push((ms + 1 + self.chance.below(20), node, *other, true, question.clone()));
            }
        }
    }

    /// One lane for each endpoint, one record in a request.
    fn send(&mut self, node: usize, endpoint: usize) {
        let (ms, now) = (self.ms, self.now());
        let machine = &mut self.machines[node];
        let Some(life) = machine.life.as_mut() else { return };
        let log = &mut machine.logs[endpoint];
        let Some(record) = log.records.front().cloned() else { return };
        let mut done = false;
        match log.posted {
            Some((_, acknowledged)) if acknowledged > ms => {}
            Some(_) => done = true,
            None if self.are_down[endpoint] => {}
            None => {
                let since = *log.waits_since.get_or_insert(ms);
                if life.intents.handle_waits(now, &record.lines, Some(endpoint)) {
                    put(&mut life.handover, &mut life.intents, now, record.lines.key);
                }
                let waited = Some(Duration::from_millis(ms - since));
                let verdict = life.intents.verdict(&life.handover, now, &record.lines, waited);
                match verdict {
                    _ if self.is_blind => {}
                    Verdict::Wait => return,
                    Verdict::Drop => done = true,
                    Verdict::Send => {}
                }
                if !done {
                    let taken = ms + 1 + self.chance.below(40);
                    log.posted = Some((taken, taken + 1 + self.chance.below(40)));
                    self.wire.push((taken, endpoint, record.lines.key, record.range));
                }
            }
        }
        if done {
            log.records.pop_front();
            (log.posted, log.waits_since) = (None, None);
            life.intents.handle_delivered(endpoint, &record.lines);
            put(&mut life.handover, &mut life.intents, now, record.lines.key);
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.ms + ms;
        while self.ms < end {
            if self.chance.below(400) == 0 {
                let endpoint = self.chance.below(ENDPOINTS as u64) as usize;
                self.are_down[endpoint] = self.is_writing && self.chance.below(3) > 0;
            }
            self.step();
        }
    }

    /// Each key is read somewhere, and what is on its way is known to its successor.
    fn is_known(&self) -> bool {
        let lives = || self.machines.iter().filter_map(|machine| machine.life.as_ref());
        let all_active = lives().all(|life| life.phases.values().all(|(_, phase)| *phase == Phase::Active));
        all_active
            && (0..KEYS).all(|key| {
                let acting = |life: &&Life| {
                    life.handover.status(key).is_some_and(|status| status.activity == Activity::Acting)
                };
                let one: Vec<&Life> = lives().filter(acting).collect();
                one.len() == 1
                    && one[0].handover.state(key).is_some_and(|(version, _)| {
                        let term = Version { sequence: 1, ..version };
                        one[0].handover.is_replicated(key, term).unwrap_or(true)
                    })
            })
    }

    fn wait_until_known(&mut self) {
        for _ in 0..20_000 {
            if self.is_known() {
                return;
            }
            self.run(STEP_MS);
        }
        panic!("it does not settle at {} ms", self.ms);
    }

    fn activate(&mut self, node: usize) {
        self.spread(node, Some(Phase::Active), 50);
    }

    /// Something happens to one node, and it comes back.
    fn trouble(&mut self, may_split: bool) {
        let node = self.chance.below(NODES as u64) as usize;
        let has_volume = self.chance.below(2) == 0;
        match self.chance.below(if may_split { 4 } else { 3 }) {
            // Killed; it may be back before its death is known.
            0 | 1 => {
                self.kill(node);
                let away = self.chance.below(5000);
                self.run(away);
                if away > 2000 && self.chance.below(2) == 0 {
                    self.wait_until_known();
                    // The one that has taken over dies too.
                    let other = (node + 1) % NODES;
                    self.kill(other);
                    self.run(2500);
                    self.start(other, self.chance.0.is_multiple_of(2));
                    self.run(200);
                    self.activate(other);
                    self.wait_until_known();
                }
                self.start(node, has_volume);
            }
            2 => {
                self.spread(node, Some(Phase::Leaving), 50);
                for _ in 0..1000 {
                    self.run(STEP_MS);
                    if self.machines[node].life.as_ref().is_some_and(|life| life.handover.is_drained()) {
                        break;
                    }
                }
                self.machines[node].life = None;
                self.spread(node, None, 50);
                let away = self.chance.below(3000);
                self.run(away);
                self.start(node, has_volume);
            }
            _ => {
                self.cut_off = Some(node);
                for other in (0..NODES).filter(|other| *other != node) {
                    for (to, of) in [(node, other), (other, node)] {
                        let at = self.ms + 500 + self.chance.below(1000);
                        let incarnation = self.machines[of].incarnation;
                        self.news.push(News { at, to, of, incarnation, phase: None });
                    }
                }
                let split = 3000 + self.chance.below(3000);
                self.run(split);
                self.cut_off = None;
                for other in (0..NODES).filter(|other| *other != node) {
                    for (to, of) in [(node, other), (other, node)] {
                        let incarnation = self.machines[of].incarnation;
                        let phase = self.phase(of);
                        self.news.push(News { at: self.ms + 1, to, of, incarnation, phase });
                    }
                }
                return;
            }
        }
        let joining = self.chance.below(600);
        self.run(joining);
        self.activate(node);
    }

    /// Lines lost, and lines that came with two times, over all endpoints.
    fn judge(&self) -> (u64, u64) {
        let mut lost = 0;
        for arrived in &self.arrived {
            for (key, lines) in &self.files {
                lost += (0..*lines).filter(|line| !arrived.contains_key(&(*key, *line))).count() as u64;
            }
        }
        let times = self.arrived.iter().flat_map(|arrived| arrived.values());
        (lost, times.filter(|times| times.len() > 1).count() as u64)
    }
}

/// What came of it: lines written, lost, doubled, and batches sent without waiting any longer.
pub(super) fn simulate(seed: u64, may_split: bool, is_blind: bool) -> (u64, u64, u64, u64) {
    let mut world = World::new(seed, is_blind);
    (0..NODES).for_each(|node| world.activate(node));
    world.wait_until_known();
    let mut unconfirmed = 0;
    for _ in 0..6 {
        let pause = world.chance.below(4000);
        world.run(pause);
        world.wait_until_known();
        world.trouble(may_split);
        let lives = world.machines.iter().filter_map(|machine| machine.life.as_ref());
        unconfirmed = unconfirmed.max(lives.map(|life| life.intents.stats.unconfirmed).sum());
    }
    world.wait_until_known();
    (world.is_writing, world.are_down) = (false, [false; ENDPOINTS]);
    let left = |world: &World| -> usize {
        world.machines.iter().flat_map(|machine| &machine.logs).map(|log| log.records.len()).sum()
    };
    for _ in 0..20 {
        world.run(20_000);
        if left(&world) == 0 {
            break;
        }
    }
    let (lost, doubled) = world.judge();
    let left = left(&world);
    assert_eq!(left, 0, "seed {seed}: records are left in logs");
    (world.files.values().sum(), lost, doubled, unconfirmed)
}
