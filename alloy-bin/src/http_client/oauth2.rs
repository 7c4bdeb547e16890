//! Tokens by client credentials (RFC 6749, section 4.4), kept until shortly before they expire.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use tokio::sync::Mutex;

use super::client::{escape, read};
use super::credentials::{basic, sensitive};
use super::options::OAuth2Options;
use super::transport::Transport;
use super::watched::Watched;

/// A token is renewed so long before it expires: it must not expire on its way.
const RENEW_BEFORE: Duration = Duration::from_secs(10);
/// After a failure the next try waits so long, and all requests fail until then: a server of tokens that is in trouble is
/// not asked by every target.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A token that a server refuses is only renewed if it is as old as this, for the same reason.
const REFUSED_AFTER: Duration = Duration::from_secs(30);
/// Of one request for a token.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Gets tokens and keeps the last.
pub(super) struct OAuth2 {
    options: OAuth2Options,
    transport: Transport,
    secret: Watched<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    failed: Option<(Instant, String)>,
    /// How the server takes the client's name, once one way has worked.
    style: Option<Style>,
}

struct Token {
    value: HeaderValue,
    fetched: Instant,
    expires: Option<Instant>,
}

/// How the client says who it is (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Header,
    Body,
}

impl OAuth2 {
    pub(super) fn new(options: &OAuth2Options) -> Self {
        OAuth2 {
            transport: Transport::new(&options.connection),
            secret: Watched::new(options.client_secret.files()),
            state: Mutex::default(),
            options: options.clone(),
        }
    }

    /// The value of `Authorization`. While a token is being fetched, all who need one wait for it.
    pub(super) async fn value(&self) -> anyhow::Result<HeaderValue> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) =
            state.token.as_ref().filter(|token| token.expires.is_none_or(|expires| now < expires))
        {
            return Ok(token.value.clone());
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < RETRY_AFTER
        {
            bail!("{error}");
        }
        let fetched = tokio::time::timeout(TIMEOUT, self.fetch(state.style)).await;
        match fetched.unwrap_or_else(|_| Err(anyhow!("no token within {TIMEOUT:?}"))) {
            Ok((token, style)) => {
                let value = token.value.clone();
                *state = State { token: Some(token), failed: None, style: Some(style) };
                Ok(value)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), format!("{error:#}")));
                Err(error)
            }
        }
    }

    /// Forgets the token, unless it is new.
    pub(super) async fn refused(&self, value: &HeaderValue) {
        let mut state = self.state.lock().await;
        let is_old = |token: &Token| token.value == value && token.fetched.elapsed() >= REFUSED_AFTER;
        state.token.take_if(|token| is_old(token));
    }

    /// Tries both ways if none has worked yet.
    async fn fetch(&self, style: Option<Style>) -> anyhow::Result<(Token, Style)> {
        let secret = self.secret.current(|files| self.options.client_secret.read(files)).await?;
        let first = style.unwrap_or(Style::Header);
        match self.ask(&secret, first).await {
            Ok(token) => Ok((token, first)),
            Err(error) if style.is_some() => Err(error),
            Err(error) => match self.ask(&secret, Style::Body).await {
                Ok(token) => Ok((token, Style::Body)),
                Err(_) => Err(error),
            },
        }
    }

    async fn ask(&self, secret: &str, style: Style) -> anyhow::Result<Token> {
        let OAuth2Options { client_id, scopes, token_url, endpoint_params, .. } = &self.options;
        let scope = scopes.join(" ");
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend((!scope.is_empty()).then_some(("scope", scope.as_str())));
        if style == Style::Body {
            form.extend([("client_id", client_id.as_str()), ("client_secret", secret)]);
        }
        form.extend(endpoint_params.iter().map(|(name, value)| (name.as_str(), value.expose())));
        let form: Vec<String> =
            form.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let mut request = Request::new(Full::new(Bytes::from(form.join("&"))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = token_url.clone();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if style == Style::Header {
            request.headers_mut().insert(header::AUTHORIZATION, basic(&escape(client_id), &escape(secret))?);
        }
        let asked = Instant::now();
        let response = self
            .transport
            .request(request)
            .await
            .with_context(|| format!("cannot ask {token_url} for a token"))?;
        let status = response.status();
        let answer = read(response, ANSWER_BYTES_MAX).await.context("the token")?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        if status != StatusCode::OK {
            // RFC 6749, section 5.2; nothing else of the answer is shown.
            let error = answer["error"].as_str().unwrap_or_default();
            bail!("{token_url} answered with status {status} {}", error.chars().take(80).collect::<String>());
        }
        let token =
            answer["access_token"].as_str().with_context(|| format!("{token_url} sent no access_token"))?;
        let kind = answer["token_type"]
            .as_str()
            .filter(|kind| !kind.is_empty() && !kind.eq_ignore_ascii_case("bearer"));
        let value = sensitive(&format!("{} {token}", kind.unwrap_or("Bearer")))?;
        // A number by the RFC; some send it as a text.
        let seconds = &answer["expires_in"];
        let seconds =
            seconds.as_f64().or_else(|| seconds.as_str()?.parse().ok()).filter(|seconds| *seconds > 0.0);
        let life = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        // One that lives shorter than that is renewed after half its life.
        let kept = life.map(|life| life.saturating_sub(RENEW_BEFORE).max(life / 2));
        Ok(Token { value, fetched: asked, expires: kept.and_then(|kept| asked.checked_add(kept)) })
    }
}
