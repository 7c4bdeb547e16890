//! How keys fare where they are worked on: noted by who works on them, asked for by any member.
//!
//! Questions and answers are JSON on a channel of their own between members. Whoever does not answer in time is told of as
//! such: facts are for people, and nothing is decided by them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use alloy_cluster::Incoming;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::insight::Owned;
use super::service::Ownership;
use super::shard::{Core, Keeper};

/// Behind a component's name: the channel of questions for facts.
pub(super) const FACTS: &str = "#facts";
/// How long another member may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a key fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// When something was last done with it, milliseconds since the Unix epoch.
    pub last_ms: i64,
    /// What went wrong then; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// For how long this member has worked on it.
    #[serde(default)]
    pub seconds: u64,
}

/// A key with how it fares.
#[derive(Debug, Clone, Serialize)]
pub struct Known {
    /// The key.
    #[serde(flatten)]
    pub owned: Owned,
    /// What its owner says of it; `None`: nothing yet, or the owner does not answer.
    pub fact: Option<Fact>,
}

/// What is noted of a component's keys.
pub(super) type Notes = Mutex<HashMap<u64, Fact>>;

/// Questions that wait for their answers.
#[derive(Default)]
pub(super) struct Questions {
    asked: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<HashMap<String, Fact>>>>,
}

#[derive(Serialize, Deserialize)]
enum Message {
    /// How do these keys fare?
    Question { id: u64, keys: Vec<String> },
    /// So, by their keys.
    Answer { id: u64, facts: HashMap<String, Fact> },
}

impl Core {
    /// The key is running here no more.
    pub(super) fn forget_notes(&self, key: u64) {
        self.notes.lock().expect("no code panics while holding it").remove(&key);
    }
}

impl Keeper {
    /// Something was done with a key that is running here, and perhaps it went wrong.
    pub fn note(&self, key: u64, last_ms: i64, error: Option<String>) {
        let mut notes = self.core.notes.lock().expect("no code panics while holding it");
        notes.insert(key, Fact { last_ms, error, seconds: 0 });
    }
}

impl Ownership {
    /// The keys with what their owners say of them.
    pub async fn know(&self, list: Vec<Owned>) -> Vec<Known> {
        let mut by_member: HashMap<(String, String), Vec<String>> = HashMap::new();
        for owned in &list {
            // Who works on it knows, and that is not always its owner.
            let who = if owned.here == "acting" { Some(self.me()) } else { owned.owner.clone() };
            if let Some(who) = who {
                by_member.entry((who, owned.component.clone())).or_default().push(owned.key.clone());
            }
        }
        let mut asking = JoinSet::new();
        for ((who, component), keys) in by_member {
            let ownership = self.clone();
            asking.spawn(async move {
                let facts = match who == ownership.me() {
                    true => ownership.facts(&component, &keys),
                    false => ownership.ask(&who, &component, keys).await,
                };
                (component, facts)
            });
        }
        let mut facts: HashMap<(String, String), Fact> = HashMap::new();
        while let Some(found) = asking.join_next().await {
            let Ok((component, found)) = found else { continue };
            facts.extend(found.into_iter().map(|(key, fact)| ((component.clone(), key), fact)));
        }
        let known = |owned: Owned| {
            let fact = facts.remove(&(owned.component.clone(), owned.key.clone()));
            Known { owned, fact }
        };
        list.into_iter().map(known).collect()
    }

    /// What this node has noted.
    fn facts(&self, component: &str, keys: &[String]) -> HashMap<String, Fact> {
        let Some(core) = self.shards().get(component).cloned() else { return HashMap::new() };
        let (inner, notes) = (core.lock(), core.notes.lock().expect("no code panics while holding it"));
        let fact = |key: &String| {
            let number = u64::from_str_radix(key, 16).ok()?;
            let seconds = inner.handover.status(number)?.since.elapsed().as_secs();
            Some((key.clone(), Fact { seconds, ..notes.get(&number)?.clone() }))
        };
        keys.iter().filter_map(fact).collect()
    }

    /// What another member has noted; nothing, if it does not answer.
    async fn ask(&self, who: &str, component: &str, keys: Vec<String>) -> HashMap<String, Fact> {
        let Some(peers) = self.network() else { return HashMap::new() };
        let questions = self.questions();
        let id = questions.asked.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        questions.lock().insert(id, answer);
        let question = encode(&Message::Question { id, keys });
        peers.cluster.send(&who.into(), &format!("{component}{FACTS}"), question);
        let facts = tokio::time::timeout(PATIENCE, answered).await;
        questions.lock().remove(&id);
        facts.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Another member asks, or answers. What cannot be read is of another version, and nobody's loss.
    pub(super) fn deliver_facts(&self, component: &str, message: &Incoming) {
        match serde_json::from_slice(&message.payload) {
            Ok(Message::Question { id, keys }) => {
                let answer = encode(&Message::Answer { id, facts: self.facts(component, &keys) });
                if let Some(peers) = self.network() {
                    peers.cluster.send(&message.from, &message.channel, answer);
                }
            }
            Ok(Message::Answer { id, facts }) => {
                if let Some(asker) = self.questions().lock().remove(&id) {
                    // Whoever asked may be gone.
                    let _ = asker.send(facts);
                }
            }
            Err(error) => {
                tracing::debug!(member = %message.from, %error, "a message about facts cannot be read")
            }
        }
    }
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<HashMap<String, Fact>>>> {
        self.waiting.lock().expect("no code panics while holding it")
    }
}

fn encode(message: &Message) -> Bytes {
    serde_json::to_vec(message).expect("it has nothing but names and numbers").into()
}
