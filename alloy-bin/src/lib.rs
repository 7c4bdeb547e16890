//! The agent as a library, for those who embed it.
#![forbid(unsafe_code)]

pub mod syntax;

pub mod config;

pub mod telemetry;

pub mod formats;

pub mod outbox;

pub mod ownership;

pub mod graph;

pub mod components;

pub mod server;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
