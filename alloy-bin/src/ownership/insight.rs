//! What people and programs ask of the cluster: who is there, who owns what, and why.

use alloy_cluster::{KeyStatus, Member, Phase, View};
use serde::Serialize;

use super::history::Change;
use super::service::{Ownership, Sharing};
use super::shard::Core;

/// A member, as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// Whether it is this node.
    pub is_self: bool,
    /// In Alloy's words: `viewer`, `participant`, `terminating`.
    pub state: &'static str,
    /// `joining`, `active`, `leaving`.
    pub phase: &'static str,
    /// Its failure domain; empty: it has not said.
    pub zone: String,
    /// Its share of the keys relative to the others'; 1 is one share.
    pub weight: f64,
    /// The agent's version; empty: it has not said.
    pub version: String,
    /// The hash of the configuration that runs there; empty: it has not said.
    pub configuration: String,
    /// Whether that is another one than this node's.
    pub configuration_differs: bool,
}

/// A key and who owns it, as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Owned {
    /// The component that the key belongs to.
    pub component: String,
    /// What it is: a target's address or a file's path.
    pub name: String,
    /// The key, in hexadecimal.
    pub key: String,
    /// Who owns it by this node's view; `None` while nobody is active.
    pub owner: Option<String>,
    /// Who comes next.
    pub successor: Option<String>,
    /// Whose key it is, if this node works on it because its owner cannot.
    pub stands_in_for: Option<String>,
    /// What this node does about it: `idle`, `claiming`, `acting`, `stopping`.
    pub here: &'static str,
    /// For how long it has done that.
    pub here_seconds: u64,
}

impl Owned {
    /// Its place in a list.
    fn place(&self) -> (&str, &str, &str) {
        (&self.component, &self.name, &self.key)
    }
}

/// Which keys to list. The default: all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this component alone.
    pub component: Option<String>,
    /// Owned by this member alone.
    pub owner: Option<String>,
    /// With this in the name, whatever the case of its letters.
    pub search: Option<String>,
    /// With this key in hexadecimal or this name exactly.
    pub key: Option<String>,
}

impl Filter {
    fn takes(&self, component: &str, name: &str, status: &KeyStatus) -> bool {
        let is_owner =
            |owner: &String| status.owner.as_ref().is_some_and(|known| known.as_str() == owner.as_str());
        let is_key = |key: &String| key == name || *key == hexadecimal(status.key);
        let has = |search: &String| name.to_lowercase().contains(&search.to_lowercase());
        self.component.as_ref().is_none_or(|wanted| wanted == component)
            && self.owner.as_ref().is_none_or(is_owner)
            && self.key.as_ref().is_none_or(is_key)
            && self.search.as_ref().is_none_or(has)
    }
}

/// Why a key is where it is, as this node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The key.
    #[serde(flatten)]
    pub owned: Owned,
    /// Everybody who could own it, best first: who is behind the owner follows when those before it are gone.
    pub ranking: Vec<Candidate>,
    /// In sentences.
    pub because: Vec<String>,
}

/// One of those who could own a key.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Who.
    pub name: String,
    /// Its failure domain; empty: it has not said.
    pub zone: String,
    /// Its share of the keys relative to the others'; 1 is one share.
    pub weight: f64,
}

impl Ownership {
    /// The members.
    pub fn peers(&self) -> Vec<Peer> {
        let me = self.membership().me();
        let view = self.membership().view();
        let mine = view.member(me).map(|me| me.metadata.clone()).unwrap_or_default();
        let peers = view.members().iter().map(|member| Peer {
            name: member.node.name.to_string(),
            address: member.node.address.to_string(),
            is_self: member.node.name == *me,
            state: Ownership::state_name(member.phase),
            phase: member.phase.as_str(),
            zone: member.zone.to_string(),
            weight: shares(member),
            version: member.version.to_string(),
            configuration: String::from_utf8_lossy(&member.metadata).into_owned(),
            configuration_differs: !mine.is_empty() && !member.metadata.is_empty() && member.metadata != mine,
        });
        peers.collect()
    }

    /// What happened in the cluster lately, oldest first.
    pub fn changes(&self) -> Vec<Change> {
        self.history().newest()
    }

    /// How many changes there have been.
    pub fn change_count(&self) -> u64 {
        self.history().count()
    }

    /// The components that have keys.
    pub fn components(&self) -> Vec<String> {
        self.shards().keys().map(ToString::to_string).collect()
    }

    /// Keys that this node knows, with their owners, in the order of components and names.
    pub fn list(&self, filter: &Filter) -> Vec<Owned> {
        let mut list = Vec::new();
        self.each_key(filter, |core, name, status| list.push(owned(core, name, status)));
        list.sort_by(|a, b| a.place().cmp(&b.place()));
        list
    }

    /// Why those keys are where they are.
    pub fn explain(&self, filter: &Filter) -> Vec<Explanation> {
        let view = self.membership().view();
        let mut explained = Vec::new();
        self.each_key(filter, |core, name, status| {
            let mut rank = Vec::new();
            if core.sharing == Sharing::Clustered {
                self.sharder().rank(status.key, &view, view.members().len(), &mut rank);
            }
            let ranking: Vec<&Member> = rank.iter().map(|index| &view.members()[*index]).collect();
            explained.push(Explanation {
                owned: owned(core, name, status),
                because: self.reasons(core, status, &view, &ranking),
                ranking: ranking
                    .into_iter()
                    .map(|member| Candidate {
                        name: member.node.name.to_string(),
                        zone: member.zone.to_string(),
                        weight: shares(member),
                    })
                    .collect(),
            });
        });
        explained.sort_by(|a, b| a.owned.place().cmp(&b.owned.place()));
        explained
    }

    fn reasons(&self, core: &Core, status: &KeyStatus, view: &View, ranking: &[&Member]) -> Vec<String> {
        if core.sharing == Sharing::Alone {
            let component = &core.component;
            return vec![format!(
                "{component} does not share what it works on (clustering {{ enabled = true }}): every member works on all of it"
            )];
        }
        let [first, rest @ ..] = ranking else {
            return vec![
                "nobody is active: a member takes its share when its configuration is loaded".to_owned(),
            ];
        };
        let owner = &first.node.name;
        let mut because = vec![format!(
            "{owner} is the first in rank of the {} active members: the rank is drawn from key, name and weight, and is the same on all",
            ranking.len()
        )];
        if let [second, ..] = rest {
            let elsewhere = !first.zone.is_empty() && !second.zone.is_empty() && first.zone != second.zone;
            // The next owner is the best draw of the rest, in whatever zone, and asks the second for the copy.
            because.push(if elsewhere {
                format!(
                    "{} has the copy of its state, being the best outside of its zone; who follows if {owner} dies gets it there",
                    second.node.name
                )
            } else {
                format!("{} has the copy of its state and follows if {owner} dies", second.node.name)
            });
        }
        if let Some(lender) = &status.stands_in_for {
            because.push(format!(
                "this node works on it for {lender}, which cannot (clustering {{ fallback = true }})"
            ));
        } else if status.misplaced_since.is_some() {
            because.push(format!("this node works on it until {owner} claims it"));
        }
        if !status.waiting_for.is_empty() {
            let asked: Vec<&str> = status.waiting_for.iter().map(|name| name.as_str()).collect();
            because.push(format!("this node asks {} for it and waits for the answer", asked.join(", ")));
        }
        let waiting = view.members().iter().filter(|member| member.phase != Phase::Active).count();
        if waiting > 0 {
            because.push(format!("{waiting} more members are joining or leaving and own nothing"));
        }
        because
    }

    /// Those keys of all components that this node's discovery knows: states of others are kept, but are nobody's.
    fn each_key(&self, filter: &Filter, mut take: impl FnMut(&Core, &str, &KeyStatus)) {
        let shards: Vec<_> = self.shards().values().cloned().collect();
        for core in shards {
            let inner = core.lock();
            for status in inner.handover.statuses() {
                if let Some(name) = inner.names.get(&status.key)
                    && filter.takes(&core.component, name, &status)
                {
                    take(&core, name, &status);
                }
            }
        }
    }
}

fn owned(core: &Core, name: &str, status: &KeyStatus) -> Owned {
    Owned {
        component: core.component.to_string(),
        name: name.to_owned(),
        key: hexadecimal(status.key),
        owner: status.owner.as_ref().map(ToString::to_string),
        successor: status.successor.as_ref().map(ToString::to_string),
        stands_in_for: status.stands_in_for.as_ref().map(ToString::to_string),
        here: status.activity.as_str(),
        here_seconds: status.since.elapsed().as_secs(),
    }
}

fn hexadecimal(key: u64) -> String {
    format!("{key:016x}")
}

/// A member's weight in shares.
pub(super) fn shares(member: &Member) -> f64 {
    f64::from(member.weight) / 100.0
}
