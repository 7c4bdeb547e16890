//! `otelcol.auth.bearer`: a token, which exporters send and receivers ask for.

use super::authentication::Credentials;
use crate::config::{Body, Decode, Secret};
use crate::otlp::{DebugMetrics, Handler};

/// What the block says.
#[derive(PartialEq)]
pub struct Bearer {
    header: String,
    scheme: String,
    token: Secret,
}

impl Decode for Bearer {
    fn decode(body: &mut Body<'_>) -> Self {
        body.block::<DebugMetrics>("debug_metrics");
        let bearer = Bearer {
            header: body.optional("header", "Authorization".to_owned()),
            scheme: body.optional("scheme", "Bearer".to_owned()),
            token: body.required("token"),
        };
        if let Err(reason) = bearer.handler() {
            body.error(reason);
        }
        bearer
    }
}

impl Credentials for Bearer {
    const NAME: &'static str = "otelcol.auth.bearer";

    fn handler(&self) -> Result<Handler, String> {
        let name = self.header.parse().map_err(|_| format!("{:?} is not a header's name", self.header))?;
        let value = format!("{} {}", self.scheme, self.token.expose());
        Handler::known_by(name, value.trim()).map_err(|reason| format!("the token or its scheme {reason}"))
    }
}
