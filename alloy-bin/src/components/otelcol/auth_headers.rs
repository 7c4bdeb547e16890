//! `otelcol.auth.headers`: headers that exporters add to their requests.

use http::{HeaderMap, HeaderName};

use super::authentication::Credentials;
use crate::config::{Body, Decode, Secret};
use crate::otlp::{DebugMetrics, Handler, sensitive};
use crate::outbox;

/// What the block says.
#[derive(PartialEq)]
pub struct Headers(Vec<Header>);

/// A `header` block.
#[derive(PartialEq)]
struct Header {
    key: String,
    value: Secret,
}

impl Decode for Headers {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        let headers = Headers(body.blocks("header"));
        if let Err(reason) = headers.handler() {
            body.error(reason);
        }
        headers
    }
}

impl Decode for Header {
    fn decode(body: &mut Body<'_>) -> Self {
        let log =
            "between a receiver and an exporter is a log, which keeps no headers of requests; set a value";
        outbox::meaningless(body, &[("from_attribute", log), ("from_context", log), ("default_value", log)]);
        let set = "a header is set, whatever there was; leave it out";
        outbox::only(body, "action", "upsert".to_owned(), set);
        Header { key: body.required("key"), value: body.required("value") }
    }
}

impl Credentials for Headers {
    const NAME: &'static str = "otelcol.auth.headers";

    fn handler(&self) -> Result<Handler, String> {
        let mut headers = HeaderMap::new();
        for Header { key, value } in &self.0 {
            let name: HeaderName = key.parse().map_err(|_| format!("{key:?} is not a header's name"))?;
            let value =
                sensitive(value.expose()).map_err(|reason| format!("the value of {key:?} {reason}"))?;
            headers.insert(name, value);
        }
        Ok(Handler::headers_of(headers))
    }
}
