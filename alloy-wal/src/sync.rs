//! Locks and giving way: the standard library's, or with `--cfg shuttle` those of a scheduler that tries interleavings
//! (`tests/interleavings.rs`).

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::yield_now,
};

#[cfg(shuttle)]
pub(crate) use {
    shuttle::sync::{Condvar, Mutex, MutexGuard},
    shuttle::thread::yield_now,
    std::sync::PoisonError,
};
