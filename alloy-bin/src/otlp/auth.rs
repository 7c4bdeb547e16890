//! Credentials: what `otelcol.auth.*` export, exporters send and receivers ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use subtle::ConstantTimeEq;

use crate::config::{Capsule, CapsuleType, Value};

/// Headers with secrets in them.
#[derive(Debug, PartialEq)]
pub struct Handler {
    headers: HeaderMap,
    /// Whether a client that brings them is known by them.
    identifies: bool,
}

impl CapsuleType for Handler {
    const NAME: &'static str = "otelcol.Handler";
}

impl Handler {
    /// A user and a password. `Err` says what is wrong with them.
    pub fn basic(user: &str, password: &str) -> Result<Self, String> {
        if user.contains(':') {
            return Err("a user's name can't contain a colon".to_owned());
        }
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Handler::known_by(header::AUTHORIZATION, &value)
    }

    /// A header by which a client is known.
    pub fn known_by(name: HeaderName, value: &str) -> Result<Self, String> {
        let headers = HeaderMap::from_iter([(name, sensitive(value)?)]);
        Ok(Handler { headers, identifies: true })
    }

    /// Headers that say more than who we are.
    pub fn headers_of(headers: HeaderMap) -> Self {
        Handler { headers, identifies: false }
    }

    /// What goes with each request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether a receiver can ask for it.
    pub fn identifies(&self) -> bool {
        self.identifies
    }

    /// Whether a request brings it. A comparison takes the same time wherever the first difference is.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().all(|(name, wanted)| {
            let given = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            // The scheme's name may be written in any way (RFC 9110, section 11.1).
            let split = |value: &[u8]| -> (Vec<u8>, Vec<u8>) {
                let at = value.iter().position(|byte| *byte == b' ').unwrap_or(0);
                (value[..at].to_ascii_lowercase(), value[at..].trim_ascii().to_vec())
            };
            let (given, wanted) = (split(given), split(wanted.as_bytes()));
            given.0 == wanted.0 && bool::from(given.1.ct_eq(&wanted.1))
        })
    }

    /// What stands for one in a configuration that is only checked.
    pub fn placeholder() -> Value {
        Capsule::new(std::sync::Arc::new(Handler { headers: HeaderMap::new(), identifies: true })).into()
    }
}

/// A header's value that no debug output shows.
pub fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| "has characters that a header may not have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_brings_the_same_credentials_comes_in() {
        let basic = Handler::basic("u", "p:x").expect("valid");
        let check = |value: &str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header"))]);
            assert_eq!(basic.allows(&headers), expected, "{value}");
        };
        check("Basic dTpwOng=", true);
        check("bAsIC  dTpwOng= ", true);
        check("Basic dTpwOng", false);
        check("Bearer dTpwOng=", false);
        check("", false);
        assert!(!basic.allows(&HeaderMap::new()));
        assert!(Handler::basic("u:v", "p").is_err());
        assert!(Handler::known_by(header::AUTHORIZATION, "a\nb").is_err());
        assert!(!format!("{basic:?}").contains("dTpw"), "{basic:?}");
    }
}
