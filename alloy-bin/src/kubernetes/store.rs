//! The objects of one selection, kept by a watcher.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::api::Api;
use super::object::{Object, Selection};
use super::watcher::{Change, Watcher};

/// The objects by `namespace/name`, or the name alone for those of the whole cluster.
type Objects<T> = BTreeMap<Box<str>, Arc<T>>;

/// The selected objects as they are. Dropping the last handle ends the watch.
pub struct Store<T> {
    inner: Arc<Inner<T>>,
    _watch: DropGuard,
}

struct Inner<T> {
    api: Weak<Api>,
    contents: Mutex<Contents<T>>,
    tally: Tally,
}

struct Contents<T> {
    objects: Objects<T>,
    /// What the pages of a list have brought, until it is complete.
    listed: Objects<T>,
    is_complete: bool,
    trouble: Option<String>,
    /// Grows with each change of an object.
    generation: u64,
}

/// What has happened to objects.
#[derive(Debug, Default)]
pub struct Tally {
    /// They came.
    pub added: AtomicU64,
    /// They changed.
    pub updated: AtomicU64,
    /// They went.
    pub deleted: AtomicU64,
}

impl<T: Object> Store<T> {
    pub(super) fn start(api: &Arc<Api>, selection: Selection) -> Self {
        let contents = Contents {
            objects: BTreeMap::new(),
            listed: BTreeMap::new(),
            is_complete: false,
            trouble: None,
            generation: 0,
        };
        let inner = Arc::new(Inner {
            api: Arc::downgrade(api),
            contents: Mutex::new(contents),
            tally: Tally::default(),
        });
        let stop = CancellationToken::new();
        let (kept, stopped) = (inner.clone(), stop.clone());
        // It ends with the API as well: a watcher alone keeps nothing alive for long.
        let mut watcher = Watcher::<T>::new(api.clone(), selection, None);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    change = watcher.next() => kept.handle(change),
                }
            }
        });
        Store { inner, _watch: stop.drop_guard() }
    }

    /// Grows with each change of an object.
    pub fn generation(&self) -> u64 {
        self.inner.lock().generation
    }

    /// Whether all objects are known.
    pub fn is_complete(&self) -> bool {
        self.inner.lock().is_complete
    }

    /// Why it is not up to date, if it is not.
    pub fn trouble(&self) -> Option<String> {
        self.inner.lock().trouble.clone()
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        self.inner.lock().objects.get(key).cloned()
    }

    /// All objects.
    pub fn all(&self) -> Vec<(Box<str>, Arc<T>)> {
        self.inner.lock().objects.iter().map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// What has happened to them.
    pub fn tally(&self) -> &Tally {
        &self.inner.tally
    }
}

impl<T: Object> Inner<T> {
    fn handle(&self, change: Change<T>) {
        let mut contents = self.lock();
        let trouble = match change {
            Change::Page { is_first, items, complete } => {
                if is_first {
                    contents.listed.clear();
                }
                for (object, _) in items {
                    let (key, object) = contents.share(object);
                    contents.listed.insert(key, object);
                }
                if complete.is_some() {
                    self.replace(&mut contents);
                }
                None
            }
            Change::Applied(object, _) => {
                let (key, object) = contents.share(object);
                let old = contents.objects.insert(key, object.clone());
                self.count(&mut contents, old.as_ref(), Some(&object));
                None
            }
            Change::Deleted(mut object, _) => {
                let old = contents.objects.remove(&*key(&mut object));
                self.count(&mut contents, old.as_ref(), None);
                None
            }
            Change::Reached(_) => None,
            Change::Trouble(error) => {
                if contents.trouble.is_none() {
                    tracing::warn!(kind = T::PLURAL, error, "cannot watch the Kubernetes API, trying again");
                }
                Some(error)
            }
        };
        if trouble.is_none() && contents.trouble.is_some() {
            tracing::info!(kind = T::PLURAL, "the Kubernetes API is watched again");
        }
        contents.trouble = trouble;
        drop(contents);
        if let Some(api) = self.api.upgrade() {
            api.handle_change();
        }
    }

    /// The list is complete: what it does not have is gone.
    fn replace(&self, contents: &mut Contents<T>) {
        let new = std::mem::take(&mut contents.listed);
        let old = std::mem::replace(&mut contents.objects, new.clone());
        for (key, object) in &new {
            self.count(contents, old.get(key), Some(object));
        }
        for (key, object) in &old {
            if !new.contains_key(key) {
                self.count(contents, Some(object), None);
            }
        }
        contents.is_complete = true;
    }

    fn count(&self, contents: &mut Contents<T>, old: Option<&Arc<T>>, new: Option<&Arc<T>>) {
        let counter = match (old, new) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => return,
            (Some(_), Some(_)) => &self.tally.updated,
            (None, Some(_)) => &self.tally.added,
            (Some(_), None) => &self.tally.deleted,
            (None, None) => return,
        };
        counter.fetch_add(1, Relaxed);
        contents.generation += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Contents<T>> {
        // It is good after every step.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Object> Contents<T> {
    /// The object under its key; the old one if nothing has changed that somebody needs.
    fn share(&self, mut object: T) -> (Box<str>, Arc<T>) {
        let key = key(&mut object);
        let old = self.objects.get(&key).filter(|old| ***old == object).cloned();
        (key, old.unwrap_or_else(|| Arc::new(object)))
    }
}

fn key<T: Object>(object: &mut T) -> Box<str> {
    let meta = object.meta();
    if meta.namespace.is_empty() {
        meta.name.clone()
    } else {
        format!("{}/{}", meta.namespace, meta.name).into()
    }
}
