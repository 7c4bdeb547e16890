//! The `Authorization` header.

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::oauth2::OAuth2;
use super::options::{Credentials, Text};
use super::watched::Watched;

/// Where the header's value comes from.
pub(super) enum Authorizer {
    None,
    /// The prefix, what the text is for, and the value that was made of it.
    Text {
        scheme: Scheme,
        text: Text,
        value: Watched<HeaderValue>,
    },
    OAuth2(Box<OAuth2>),
}

/// What the text is.
pub(super) enum Scheme {
    /// The password of that user.
    Basic(String),
    /// Stands behind that word.
    Typed(String),
}

impl Authorizer {
    pub(super) fn new(credentials: &Credentials) -> Self {
        let (scheme, text) = match credentials {
            Credentials::None => return Authorizer::None,
            Credentials::OAuth2(options) => return Authorizer::OAuth2(Box::new(OAuth2::new(options))),
            Credentials::Basic { username, password } => (Scheme::Basic(username.clone()), password.clone()),
            Credentials::Typed { kind, text } => (Scheme::Typed(kind.clone()), text.clone()),
        };
        Authorizer::Text { scheme, value: Watched::new(text.files()), text }
    }

    /// The value for a request that is sent now.
    pub(super) async fn value(&self) -> anyhow::Result<Option<HeaderValue>> {
        match self {
            Authorizer::None => Ok(None),
            Authorizer::Text { scheme, text, value } => {
                let value = value.current(|files| scheme.value(&text.read(files)?)).await?;
                Ok(Some(HeaderValue::clone(&value)))
            }
            Authorizer::OAuth2(tokens) => tokens.value().await.context("oauth2").map(Some),
        }
    }

    /// A server has answered that this value is not good enough.
    pub(super) async fn refused(&self, value: &HeaderValue) {
        if let Authorizer::OAuth2(tokens) = self {
            tokens.refused(value).await;
        }
    }
}

impl Text {
    /// The file that the text stands in, if it does.
    pub(super) fn files(&self) -> Vec<std::path::PathBuf> {
        match self {
            Text::Given(_) => Vec::new(),
            Text::File(path) => vec![path.clone()],
        }
    }

    /// The text, without the blanks round that of a file; `files` is the content of [`Text::files`].
    pub(super) fn read(&self, files: &[Vec<u8>]) -> anyhow::Result<String> {
        match self {
            Text::Given(secret) => Ok(secret.expose().to_owned()),
            Text::File(path) => {
                let content = files.first().map(Vec::as_slice).unwrap_or_default();
                let text = std::str::from_utf8(content)
                    .with_context(|| format!("{} is not UTF-8", path.display()))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}

impl Scheme {
    fn value(&self, text: &str) -> anyhow::Result<HeaderValue> {
        match self {
            Scheme::Basic(user) => basic(user, text),
            Scheme::Typed(kind) => sensitive(&format!("{kind} {text}")),
        }
    }
}

/// RFC 7617.
pub(super) fn basic(user: &str, password: &str) -> anyhow::Result<HeaderValue> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

pub(super) fn sensitive(text: &str) -> anyhow::Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(text).context("credentials with characters that a header may not have")?;
    value.set_sensitive(true);
    Ok(value)
}
