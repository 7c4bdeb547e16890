//! What the members say of themselves (phase, weight, zone, version, metadata), spread as numbered broadcasts.

use std::sync::{Arc, Mutex, MutexGuard};

use super::by_name::{ByName, Named};
use crate::codec::{Attributes, CodecError};
use crate::node::Identity;
use crate::{NodeName, Phase};

/// How many members' attributes are kept: a cluster of 10,000 and as many that have just gone. At most about
/// 1 KiB each.
pub(super) const ATTRIBUTES_MAX: usize = 20_000;

/// The newest attributes of each name. Shared between [`Swim`](super::Swim) and foca, which owns the handler and does
/// not lend it; one thread uses both, so the lock is always free.
#[derive(Clone)]
pub(super) struct AttributeStore {
    me: NodeName,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    newest: ByName<Arc<Attributes>>,
    changed: bool,
    is_passed_on: bool,
}

impl Named for Arc<Attributes> {
    fn name(&self) -> &NodeName {
        &self.name
    }
}

impl AttributeStore {
    pub(super) fn new(me: NodeName, seed: u64) -> Self {
        let shared = Shared { newest: ByName::new(seed), changed: false, is_passed_on: true };
        AttributeStore { me, shared: Arc::new(Mutex::new(shared)) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no code panics while holding it")
    }

    pub(super) fn of(&self, name: &NodeName, incarnation: u64) -> Option<Arc<Attributes>> {
        self.shared().newest.get(name).filter(|attributes| attributes.incarnation == incarnation).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Attributes>> {
        self.shared().newest.iter().cloned().collect()
    }

    /// Whether anything changed since this was last asked.
    pub(super) fn take_changed(&self) -> bool {
        std::mem::take(&mut self.shared().changed)
    }

    /// Whether they are newer than those that are known.
    pub(super) fn is_news(&self, attributes: &Attributes) -> bool {
        self.shared().is_news(attributes)
    }

    /// Keeps them, and tells nobody.
    pub(super) fn insert(&self, attributes: Arc<Attributes>) {
        let mut shared = self.shared();
        if shared.is_news(&attributes) {
            shared.newest.replace(attributes);
            shared.changed = true;
        }
    }

    /// Whether what others say is passed on, or only kept; a goodbye always is.
    pub(super) fn pass_on(&self, is_passed_on: bool) {
        self.shared().is_passed_on = is_passed_on;
    }

    /// Looks at the attributes of many at once.
    pub(super) fn with<T>(&self, look: impl FnOnce(&ByName<Arc<Attributes>>) -> T) -> T {
        look(&self.shared().newest)
    }

    /// Forgets the attributes of names that are not known any more, once there are too many.
    pub(super) fn prune(&self, is_known: impl Fn(&NodeName) -> bool) {
        let mut shared = self.shared();
        if shared.newest.len() >= ATTRIBUTES_MAX / 2 {
            shared.newest.retain(|attributes| is_known(&attributes.name));
        }
    }
}

impl Shared {
    fn is_news(&self, attributes: &Attributes) -> bool {
        let age = |attributes: &Attributes| (attributes.incarnation, attributes.revision);
        match self.newest.get(&attributes.name) {
            Some(known) => age(attributes) > age(known),
            None => self.newest.len() < ATTRIBUTES_MAX,
        }
    }
}

/// The name that a broadcast is about: newer news of a name replaces older news that still waits to be sent.
pub(super) struct About(NodeName);

impl foca::Invalidates for About {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl foca::BroadcastHandler<Identity> for AttributeStore {
    type Key = About;
    type Error = CodecError;

    fn receive_item(
        &mut self,
        mut data: &[u8],
        sender: Option<&Identity>,
    ) -> Result<Option<About>, CodecError> {
        let attributes = Attributes::decode(&mut data)?;
        if !data.is_empty() {
            return Err(CodecError::Malformed);
        }
        // What this node is ready for is only ever said by itself: without a sender it comes from here.
        if sender.is_some() && attributes.name == self.me {
            return Ok(None);
        }
        let mut shared = self.shared();
        if !shared.is_news(&attributes) {
            return Ok(None);
        }
        let name = attributes.name.clone();
        let is_urgent = sender.is_none() || attributes.phase == Phase::Leaving;
        shared.newest.replace(Arc::new(attributes));
        shared.changed = true;
        Ok((is_urgent || shared.is_passed_on).then_some(About(name)))
    }
}
