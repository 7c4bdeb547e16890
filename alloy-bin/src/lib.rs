//! The agent as a library, for those who embed it. In reading order:
//!
//! | module | what |
//! | --- | --- |
//! | [`cli`], [`run`] | the command line, and the wiring of `alloy run` |
//! | [`service_manager`] | telling systemd that it is ready |
//! | [`tools`] | `alloy tools`: looking at what is on disk |
//! | [`logging`] | what the agent says of itself |
//! | [`syntax`], [`config`] | text -> tree -> typed values |
//! | [`graph`] | configuration -> running components |
//! | [`components`] | the components, by their names |
//! | [`scraping`], [`tailing`] | what `prometheus.scrape` and `loki.source.file` do with one target and one file |
//! | [`outbox`] | delivery: logs on disk, and sending from them |
//! | `otlp` | OTLP in and out (feature `otelcol`) |
//! | [`http_client`] | credentials, TLS and proxies of all who make requests |
//! | `kubernetes` | what a Kubernetes API has, listed and watched (feature `kubernetes`) |
//! | [`relabel`] | rules that rewrite labels |
//! | [`stages`] | what `loki.process` does with lines |
//! | [`ownership`] | who owns what |
//! | [`formats`] | wire formats |
//! | [`telemetry`] | the in-memory model |
//! | [`server`] | HTTP |
#![forbid(unsafe_code)]

pub mod cli;
pub mod run;
pub mod service_manager;

pub mod tools;

pub mod logging;

pub mod syntax;

pub mod config;

pub mod graph;

pub mod components;

pub mod scraping;

pub mod tailing;

pub mod outbox;

#[cfg(feature = "otelcol")]
pub mod otlp;

pub mod http_client;

#[cfg(feature = "kubernetes")]
pub mod kubernetes;

pub mod relabel;

pub mod stages;

pub mod ownership;

pub mod formats;

pub mod telemetry;

pub mod server;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
