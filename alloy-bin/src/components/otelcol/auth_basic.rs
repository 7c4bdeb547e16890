//! `otelcol.auth.basic`: a user and a password, which exporters send and receivers ask for.

use super::authentication::Credentials;
use crate::config::{Body, Decode, Secret};
use crate::otlp::{DebugMetrics, Handler};

/// What the block says.
#[derive(PartialEq)]
pub struct Basic {
    username: String,
    password: Secret,
}

impl Decode for Basic {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        body.unsupported(&["client_auth", "htpasswd"]);
        let basic = Basic { username: body.required("username"), password: body.required("password") };
        if let Err(reason) = basic.handler() {
            body.error_at("username", reason);
        }
        basic
    }
}

impl Credentials for Basic {
    const NAME: &'static str = "otelcol.auth.basic";

    fn handler(&self) -> Result<Handler, String> {
        Handler::basic(&self.username, self.password.expose())
    }
}
