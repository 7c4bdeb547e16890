//! What stands between the port and the routes: TLS and passwords, which may change while the server runs.

use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::settings::{AuthBlock, HttpBlock};
use super::tls::Tls;

/// The protection of the running server.
pub struct Front {
    now: RwLock<Protection>,
}

/// A block whose files have been read and understood.
#[derive(Clone, Default)]
pub struct Protection {
    tls: Option<Arc<Tls>>,
    auth: Option<Arc<AuthBlock>>,
}

impl Protection {
    /// Reads certificates and keys. Whoever reloads does this first, so that nothing has changed when it fails.
    pub fn new(block: HttpBlock) -> anyhow::Result<Protection> {
        let tls = block.tls.map(|tls| Tls::new(tls, &[b"http/1.1"])).transpose();
        let tls = tls.context("http block")?.map(Arc::new);
        Ok(Protection { tls, auth: block.auth.map(Arc::new) })
    }
}

impl Front {
    /// What the first connections are met with.
    pub fn new(protection: Protection) -> Front {
        Front { now: RwLock::new(protection) }
    }

    /// From now on new connections and requests are met with this. Open connections stay as they are, plain or TLS.
    pub fn set(&self, protection: Protection) {
        *self.now.write().expect("no code panics while holding it") = protection;
    }

    fn now(&self) -> Protection {
        self.now.read().expect("no code panics while holding it").clone()
    }

    pub(super) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.now().tls.map(|tls| tls.config())
    }

    /// Looks whether the certificates' files have changed. Reads files: not for the threads that serve.
    pub(super) fn refresh(&self) {
        if let Some(tls) = self.now().tls {
            tls.refresh();
        }
    }
}

/// Lets a request pass if its path is open or it brings the password.
pub(super) async fn authenticate(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let auth = front.now().auth;
    let allowed = auth.is_none_or(|auth| {
        !needs_password(&auth, request.uri().path())
            || has_password(&auth, request.headers().get(header::AUTHORIZATION))
    });
    if allowed {
        return next.run(request).await;
    }
    let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"alloy\""));
    (StatusCode::UNAUTHORIZED, [challenge], "This path needs a user name and a password.\n").into_response()
}

fn needs_password(auth: &AuthBlock, path: &str) -> bool {
    auth.filter.as_ref().is_none_or(|filter| {
        filter.paths.iter().any(|prefix| path.starts_with(prefix.as_str())) == filter.matching
    })
}

/// RFC 7617. The comparison takes the same time wherever the first difference is.
fn has_password(auth: &AuthBlock, header: Option<&HeaderValue>) -> bool {
    let given = header.and_then(|header| header.to_str().ok()).and_then(|header| {
        let (scheme, credentials) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()).ok())?
    });
    let wanted = format!("{}:{}", auth.username, auth.password.expose());
    given.is_some_and(|given| bool::from(given.ct_eq(wanted.as_bytes())))
}
