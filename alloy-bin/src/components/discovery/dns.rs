//! `discovery.dns`: targets from records of the domain name system, as Prometheus looks them up.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use super::refreshed::{Discover, Figures, Looked, Outcome};
use crate::config::{Body, ConversionError, Decode, FromValue, Value};
use crate::telemetry::{Page, Target};

/// Names that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 32;

/// Of one name, with all servers, tries and search domains: resolv.conf may allow for minutes.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the block says.
pub struct Arguments {
    names: Vec<String>,
    kind: Kind,
    port: u16,
    refresh_interval: Duration,
}

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kind(RecordType);

impl FromValue for Kind {
    /// In any case, as Prometheus reads them.
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let kinds = [
            ("SRV", RecordType::SRV),
            ("A", RecordType::A),
            ("AAAA", RecordType::AAAA),
            ("MX", RecordType::MX),
        ];
        let value = Value::from(String::from_value(value)?.to_uppercase());
        ConversionError::one_of(&value, &kinds).map(Kind)
    }
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let arguments = Arguments {
            names: body.required("names"),
            kind: body.optional("type", Kind(RecordType::SRV)),
            port: body.optional("port", 0),
            refresh_interval: body.optional("refresh_interval", Duration::from_secs(30)),
        };
        if arguments.names.is_empty() && body.has("names") {
            body.error_at("names", "must have at least one name");
        }
        if arguments.kind != Kind(RecordType::SRV) && arguments.port == 0 {
            body.error("a port is required for all record types except SRV");
        }
        if arguments.refresh_interval.is_zero() {
            body.error_at("refresh_interval", "must be above zero");
        }
        arguments
    }
}

/// The component, in the frame of discovery that looks again and again.
#[derive(Default)]
pub struct Dns;

#[async_trait]
impl Discover for Dns {
    const NAME: &'static str = "discovery.dns";
    type Arguments = Arguments;

    fn interval(arguments: &Arguments) -> Duration {
        arguments.refresh_interval
    }

    async fn look(&self, arguments: &Arc<Arguments>) -> Looked {
        // Made anew each time: it remembers nothing, and a changed resolv.conf counts at once.
        look(system_resolver(), arguments).await
    }

    fn collect(&self, page: &mut Page, figures: &Figures) {
        let help = "The number of DNS-SD lookups.";
        page.counter("prometheus_sd_dns_lookups_total", help, &[], figures.looks.load(Relaxed));
        let help = "The number of DNS-SD lookup failures.";
        page.counter("prometheus_sd_dns_lookup_failures_total", help, &[], figures.failures.load(Relaxed));
    }
}

fn system_resolver() -> anyhow::Result<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().context("cannot use the system's resolv.conf")?;
    builder.options_mut().cache_size = 0;
    builder.build().context("cannot make a resolver")
}

async fn look(resolver: anyhow::Result<TokioResolver>, arguments: &Arc<Arguments>) -> Looked {
    let resolver = match resolver {
        Ok(resolver) => resolver,
        Err(error) => {
            let failed = |name: &String| (name.clone(), Outcome::Failed(format!("{error:#}")));
            return arguments.names.iter().map(failed).collect();
        }
    };
    let mut looked = Looked::new();
    let mut running = JoinSet::new();
    for name in &arguments.names {
        if running.len() == LOOKUPS_AT_ONCE {
            looked.extend(running.join_next().await.and_then(Result::ok));
        }
        let (resolver, arguments, name) = (resolver.clone(), arguments.clone(), name.clone());
        running.spawn(async move {
            let outcome = lookup(&resolver, &arguments, &name).await;
            (name, outcome)
        });
    }
    while let Some(done) = running.join_next().await {
        looked.extend(done.ok());
    }
    looked
}

async fn lookup(resolver: &TokioResolver, arguments: &Arguments, name: &str) -> Outcome {
    let Ok(answer) = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup(name, arguments.kind.0)).await
    else {
        return Outcome::Failed(format!("no {} records within {LOOKUP_TIMEOUT:?}", arguments.kind.0));
    };
    match answer {
        Ok(found) => {
            let records = found.answers().iter().map(|record| &record.data);
            Outcome::Targets(records.filter_map(|record| target(record, arguments, name)).collect())
        }
        // A name without records is an answer too.
        Err(error) if error.is_no_records_found() => Outcome::Targets(Vec::new()),
        Err(error) => Outcome::Failed(format!("cannot look up {} records: {error}", arguments.kind.0)),
    }
}

/// A record's target; none for records of another type, such as the aliases on the way.
fn target(record: &RData, arguments: &Arguments, name: &str) -> Option<Target> {
    let mut labels = vec![("__meta_dns_name", name.to_owned())];
    let address = match record {
        RData::SRV(srv) if arguments.kind.0 == RecordType::SRV => {
            labels.push(("__meta_dns_srv_record_target", srv.target.to_string()));
            labels.push(("__meta_dns_srv_record_port", srv.port.to_string()));
            format!("{}:{}", srv.target.to_string().trim_end_matches('.'), srv.port)
        }
        RData::MX(mx) if arguments.kind.0 == RecordType::MX => {
            labels.push(("__meta_dns_mx_record_target", mx.exchange.to_string()));
            format!("{}:{}", mx.exchange.to_string().trim_end_matches('.'), arguments.port)
        }
        RData::A(address) if arguments.kind.0 == RecordType::A => host_port(address.0.into(), arguments.port),
        RData::AAAA(address) if arguments.kind.0 == RecordType::AAAA => {
            host_port(address.0.into(), arguments.port)
        }
        _ => return None,
    };
    labels.push(("__address__", address));
    Some(Target(labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

fn host_port(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests;
