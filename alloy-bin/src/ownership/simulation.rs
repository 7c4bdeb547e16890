//! What would move if members came and went: the same draws as in earnest, over the keys that there are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::LazyLock;

use alloy_cluster::{Member, Node, Phase, View};
use anyhow::Context as _;
use regex::Regex;
use serde::Serialize;

use super::service::{Ownership, Sharing};

/// Who comes and who goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// New members.
    pub join: Vec<Newcomer>,
    /// Members that leave in an orderly way.
    pub leave: Vec<String>,
    /// Members that die.
    pub kill: Vec<String>,
}

/// A member that is not there yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Newcomer {
    /// Its name (`--cluster.node-name`).
    pub name: String,
    /// Its failure domain; may be empty.
    pub zone: String,
    /// Its weight in hundredths of a share.
    pub weight: u16,
}

/// `NAME[:ZONE[:SHARES]]`, as docs/openapi.yaml has it.
static NEWCOMER: LazyLock<Regex> = LazyLock::new(|| {
    const SHARES: &str = r"0\.0[1-9]|0\.[1-9][0-9]?|[1-9][0-9]?(?:\.[0-9]{1,2})?";
    Regex::new(&format!("^([A-Za-z0-9._-]+)(?::([A-Za-z0-9._-]*)(?::({SHARES}))?)?$")).expect("it is valid")
});

impl Newcomer {
    /// From `NAME[:ZONE[:SHARES]]`.
    ///
    /// # Errors
    /// Names with other characters than those of hosts, shares that are no number from 0.01 to 99.99.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let parts = NEWCOMER.captures(text).with_context(|| {
            format!("{text:?} is not NAME[:ZONE[:SHARES]] with letters, digits, '.', '_' and '-', and shares from 0.01 to 99.99")
        })?;
        let part = |index| parts.get(index).map_or("", |part| part.as_str());
        let shares: f64 = part(3).parse().unwrap_or(1.0);
        Ok(Newcomer {
            name: part(1).to_owned(),
            zone: part(2).to_owned(),
            weight: (shares * 100.0).round() as u16,
        })
    }
}

/// Why nothing can be said of a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Somebody goes who is not there.
    #[error("{0:?} is no member; there are {1}")]
    Unknown(String, String),
    /// Somebody comes who is there.
    #[error("{0:?} is a member already")]
    Known(String),
}

/// What would happen.
#[derive(Debug, Clone, Serialize)]
pub struct Simulation {
    /// Shared keys that this node knows.
    pub keys: usize,
    /// Of those, the ones that would change hands.
    pub moved: usize,
    /// How many keys each member has, and would have.
    pub members: Vec<Share>,
    /// Which way they would go, the most first.
    pub flows: Vec<Flow>,
}

/// One member's keys.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    /// Who.
    pub name: String,
    /// Keys now.
    pub before: usize,
    /// Keys afterwards.
    pub after: usize,
}

/// Keys of a component that would go from one member to another.
#[derive(Debug, Clone, Serialize)]
pub struct Flow {
    /// Whose they are.
    pub component: String,
    /// Who has them; `None`: nobody is active.
    pub from: Option<String>,
    /// Who would have them; `None`: nobody would be active.
    pub to: Option<String>,
    /// How many.
    pub keys: usize,
    /// `handed over` without a gap, or `taken over` from the copy when the death is noticed.
    pub how: &'static str,
}

impl Ownership {
    /// What would move.
    ///
    /// # Errors
    /// Somebody goes who is not there, or comes who is.
    pub fn simulate(&self, plan: &Plan) -> Result<Simulation, PlanError> {
        let now = self.membership().view();
        let after = after(&now, plan)?;
        let mut flows: BTreeMap<(String, u32, u32), usize> = BTreeMap::new();
        let mut shares: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for member in now.members().iter().chain(after.members()) {
            shares.insert(member.node.name.as_str(), (0, 0));
        }
        let (mut all, mut moved) = (0, 0);
        let shards: Vec<_> = self.shards().values().cloned().collect();
        for core in shards.iter().filter(|core| core.sharing == Sharing::Clustered) {
            let keys: Vec<u64> = core.lock().names.keys().copied().collect();
            let (before, later) = (self.owners(&keys, &now), self.owners(&keys, &after));
            for (from, to) in before.into_iter().zip(later) {
                let (old, new) = (name(&now, from), name(&after, to));
                all += 1;
                if let Some(old) = old {
                    shares.entry(old).or_default().0 += 1;
                }
                if let Some(new) = new {
                    shares.entry(new).or_default().1 += 1;
                }
                if old != new {
                    moved += 1;
                    *flows.entry((core.component.to_string(), from, to)).or_default() += 1;
                }
            }
        }
        let flows = flows.into_iter().map(|((component, from, to), keys)| {
            let from = name(&now, from).map(str::to_owned);
            let is_dead = from.as_ref().is_some_and(|from| plan.kill.contains(from));
            let how = if is_dead { "taken over" } else { "handed over" };
            Flow { component, from, to: name(&after, to).map(str::to_owned), keys, how }
        });
        let mut flows: Vec<Flow> = flows.collect();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.keys));
        let shares = shares.into_iter();
        let members = shares.map(|(name, (before, after))| Share { name: name.to_owned(), before, after });
        Ok(Simulation { keys: all, moved, members: members.collect(), flows })
    }

    /// For each key its owner's index among the members.
    fn owners(&self, keys: &[u64], view: &View) -> Vec<u32> {
        let (mut owners, mut draws) = (vec![u32::MAX; keys.len()], vec![0; keys.len()]);
        self.sharder().assign(keys, view, &mut owners, &mut draws);
        owners
    }
}

fn name(view: &View, index: u32) -> Option<&str> {
    view.members().get(index as usize).map(|member| member.node.name.as_str())
}

/// The members as they would be.
fn after(now: &View, plan: &Plan) -> Result<View, PlanError> {
    let is_there = |name: &String| now.members().iter().any(|member| member.node.name.as_str() == name);
    if let Some(unknown) = plan.leave.iter().chain(&plan.kill).find(|name| !is_there(name)) {
        let names: Vec<&str> = now.members().iter().map(|member| member.node.name.as_str()).collect();
        return Err(PlanError::Unknown(unknown.clone(), names.join(", ")));
    }
    if let Some(known) = plan.join.iter().find(|newcomer| is_there(&newcomer.name)) {
        return Err(PlanError::Known(known.name.clone()));
    }
    let goes =
        |member: &&Member| plan.leave.iter().chain(&plan.kill).all(|name| name != member.node.name.as_str());
    let mut members: Vec<Member> = now.members().iter().filter(goes).cloned().collect();
    for Newcomer { name, zone, weight } in &plan.join {
        let node =
            Node { name: name.as_str().into(), address: SocketAddr::from(([0, 0, 0, 0], 0)), incarnation: 1 };
        members.push(Member {
            phase: Phase::Active,
            zone: zone.as_str().into(),
            weight: *weight,
            ..Member::new(node)
        });
    }
    Ok(View::new(now.epoch(), members))
}
