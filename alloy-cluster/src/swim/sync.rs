//! The full state as a stream message: every member with its state, and every member's attributes; and when to ask for it.
//!
//! A node asks the first member it hears of, so that a join into 1,000 nodes does not wait for gossip, and a member that
//! sees another view for longer than gossip needs.
//!
//! ```text
//! | version (1) | kind: 0 ask, 1 answer | member count (u32) | members ... | attribute count (u32) | attributes ... |
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::Member;

use super::attributes::AttributeStore;
use super::known::Known;
use super::protocol::Swim;
use crate::codec::{Attributes, CodecError, put_member, take_member, take_u8, take_u32};
use crate::node::Identity;
use crate::{ClusterEvent, NodeName};

const VERSION: u8 = 1;

/// Between two exchanges that this node asks for, in a cluster of up to 100; longer by as much as there are more members.
const PAUSE: Duration = Duration::from_millis(100);
/// Views that differ for so many gossip intervals will not be made equal by gossip.
const GOSSIP_INTERVALS: u32 = 5;
/// Views that differ for so long, though the full state is exchanged, are worth an event.
const DISAGREEMENT: Duration = Duration::from_secs(10);

/// What has been asked, and why it may be asked again.
#[derive(Default)]
pub(super) struct Syncs {
    asked: Option<Instant>,
    /// Since when other digests than ours come, and none that is ours. It goes on when this node's view changes: while
    /// 1,000 boot at once it always does, and the full state is what makes it whole.
    differ_since: Option<Instant>,
    is_told: bool,
}

impl Syncs {
    /// A member sees the same as this node.
    fn reset(&mut self) {
        self.differ_since = None;
        self.is_told = false;
    }
}

impl Swim {
    /// Looks at the view's digest in a packet of a member.
    pub(super) fn compare(&mut self, now: Instant, digest: u64, source: &Identity) {
        if digest == self.view.digest() {
            self.syncs.reset();
            // Gossip has told this node all that this member knows.
            self.is_joined = true;
            return;
        }
        // What is known and not in the view yet is no disagreement, but does not end one.
        let is_expected = self.view_is_stale && self.syncs.differ_since.is_none();
        if is_expected || self.view.index_of(&source.name).is_none() {
            return;
        }
        let since = *self.syncs.differ_since.get_or_insert(now);
        if now >= since + DISAGREEMENT && !self.syncs.is_told {
            self.syncs.is_told = true;
            self.stats.disagreements += 1;
            self.push_event(ClusterEvent::ViewsDiffer { with: source.name.clone() });
        }
        let is_stranger = self.attributes.of(&source.name, source.incarnation).is_none();
        let is_lasting = now >= since + self.timing.gossip_interval * GOSSIP_INTERVALS;
        let pause = PAUSE * (self.view.members().len() as u32).div_ceil(100);
        let is_early = self.syncs.asked.is_some_and(|at| now < at + pause);
        if (is_stranger || is_lasting) && !is_early {
            self.syncs.asked = Some(now);
            self.stats.syncs += 1;
            let state = self.full_state(SyncKind::Ask, &Told::default());
            self.push_message(source.name.clone(), state);
        }
    }

    /// All that is known, but for what the other has just told.
    pub(super) fn full_state(&self, kind: SyncKind, told: &Told) -> Bytes {
        let me = self.foca.identity();
        let others = self.foca.iter_membership_state().filter(|member| member.id().name != me.name);
        let others = others.filter(|member| !told.states.contains(&member.id().name));
        let members = others.cloned().chain([Member::alive(me.clone())]).collect();
        let mut attributes = self.attributes.all();
        attributes.retain(|attributes| !told.attributes.contains(&attributes.name));
        FullState { kind, members, attributes }.encode()
    }
}

/// The names of which the other knows what this node knows.
#[derive(Default)]
pub(super) struct Told {
    states: HashSet<NodeName>,
    attributes: HashSet<NodeName>,
}

impl Told {
    /// What a state tells that is no news, and nothing older.
    pub(super) fn by(state: &FullState, known: &Known, attributes: &AttributeStore) -> Self {
        let states = state.members.iter().filter(|member| known.of(member.id()) == Some(*member));
        attributes.with(|newest| {
            let equal = |told: &&Arc<Attributes>| {
                newest.get(&told.name).is_some_and(|newest| {
                    newest.incarnation == told.incarnation && newest.revision == told.revision
                })
            };
            Told {
                states: states.map(|member| member.id().name.clone()).collect(),
                attributes: state.attributes.iter().filter(equal).map(|told| told.name.clone()).collect(),
            }
        })
    }
}

/// Whether the receiver shall send its own state back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncKind {
    Ask = 0,
    Answer = 1,
}

#[derive(Clone)]
pub(super) struct FullState {
    pub(super) kind: SyncKind,
    pub(super) members: Vec<Member<Identity>>,
    pub(super) attributes: Vec<Arc<Attributes>>,
}

impl FullState {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.members.len() * 128);
        out.put_slice(&[VERSION, self.kind as u8]);
        out.put_u32_le(self.members.len() as u32);
        for member in &self.members {
            put_member(&mut out, member);
        }
        out.put_u32_le(self.attributes.len() as u32);
        for attributes in &self.attributes {
            attributes.encode(&mut out);
        }
        out.freeze()
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, CodecError> {
        if take_u8(&mut bytes)? != VERSION {
            return Err(CodecError::Malformed);
        }
        let kind = match take_u8(&mut bytes)? {
            0 => SyncKind::Ask,
            1 => SyncKind::Answer,
            _ => return Err(CodecError::Malformed),
        };
        let mut members = Vec::new();
        for _ in 0..take_u32(&mut bytes)? {
            members.push(take_member(&mut bytes)?);
        }
        let mut attributes = Vec::new();
        for _ in 0..take_u32(&mut bytes)? {
            attributes.push(Arc::new(Attributes::decode(&mut bytes)?));
        }
        if bytes.has_remaining() {
            Err(CodecError::Malformed)
        } else {
            Ok(FullState { kind, members, attributes })
        }
    }
}
