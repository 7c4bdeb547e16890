//! One POST and what its answer means.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};

use super::Rejection;
use super::options::{Dialect, Endpoint, NewerForm, OnTooManyRequests};
use crate::http_client::HttpClient;
use crate::telemetry::Work;

/// Whose the data is.
const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// As much of an error's body as is read and shown.
const SHOWN_BYTES: usize = 512;

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The endpoint has it.
    Taken {
        /// How many items it has written, if it says so.
        written: Option<u64>,
        /// But for so many items, which it will never take, and why.
        rejected: Option<(u64, String)>,
    },
    /// It may be taken later: a server error, no answer, too many requests.
    Later {
        /// For the log line.
        why: String,
        /// The endpoint's `Retry-After`.
        after: Option<Duration>,
    },
    /// It will never be taken.
    Never {
        /// For the log line.
        why: String,
        /// For counters.
        reason: Rejection,
        /// How many of its items the endpoint has written all the same.
        written: u64,
    },
    /// The endpoint does not know the newer form, and has nothing of it.
    NotUnderstood {
        /// For the log line.
        why: String,
    },
}

impl Outcome {
    /// Why the endpoint does not have it.
    fn trouble(&self) -> Option<&str> {
        match self {
            Outcome::Taken { .. } => None,
            Outcome::Later { why, .. } | Outcome::Never { why, .. } | Outcome::NotUnderstood { why } => {
                Some(why)
            }
        }
    }
}

/// A client for one endpoint, with its kept connections.
pub(super) struct Client {
    http: HttpClient,
    endpoint: Endpoint,
    on_too_many_requests: OnTooManyRequests,
}

impl Client {
    pub(super) fn new(endpoint: Endpoint, on_too_many_requests: OnTooManyRequests) -> Self {
        Client { http: HttpClient::new(&endpoint.http), endpoint, on_too_many_requests }
    }

    /// Sends the body once; `newer`: it is in that form; `tenant`: it is not the endpoint's own.
    pub(super) async fn post(&self, body: Bytes, newer: Option<&NewerForm>, tenant: Option<&str>) -> Outcome {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.url.clone();
        let headers = newer.and(self.endpoint.newer_headers.as_ref()).unwrap_or(&self.endpoint.headers);
        *request.headers_mut() = headers.clone();
        #[cfg(feature = "otelcol")]
        if self.endpoint.dialect != Dialect::Push {
            super::otlp::prepare(self.endpoint.dialect, &mut request);
        }
        if let Some(tenant) = tenant.and_then(|tenant| HeaderValue::from_str(tenant).ok()) {
            request.headers_mut().insert(TENANT, tenant);
        }
        let mut work = (!self.endpoint.takes_spans).then(|| Work::begin("deliver"));
        if let Some(work) = &mut work {
            work.set("url.full", &self.endpoint.url);
            work.set("http.request.body.size", request.body().len());
        }
        let outcome = match tokio::time::timeout(self.endpoint.timeout, self.exchange(request, newer)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Later { why: describe(&error), after: None },
            Err(_) => {
                Outcome::Later { why: format!("no answer within {:?}", self.endpoint.timeout), after: None }
            }
        };
        if let (Some(work), Some(why)) = (&mut work, outcome.trouble()) {
            work.failed(why);
        }
        outcome
    }

    async fn exchange(&self, request: Request<Bytes>, newer: Option<&NewerForm>) -> anyhow::Result<Outcome> {
        let response = self.http.send(request).await?;
        match self.endpoint.dialect {
            Dialect::Push => {}
            #[cfg(feature = "otelcol")]
            dialect => return Ok(super::otlp::judge(dialect, response).await),
        }
        let status = response.status();
        let after = retry_after(response.headers(), SystemTime::now());
        let written = newer.and_then(|newer| written(response.headers(), newer));
        // The body is read to its end so that the connection can be kept; a long one costs the connection instead.
        let body = Limited::new(response.into_body(), SHOWN_BYTES * 8).collect().await;
        if status.is_success() {
            return Ok(match (newer, written) {
                // An endpoint of the older protocol finds nothing that it knows in the request, and is content.
                (Some(_), None) => {
                    Outcome::NotUnderstood { why: format!("status {status}, nothing written") }
                }
                _ => Outcome::Taken { written, rejected: None },
            });
        }
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        let whole = String::from_utf8_lossy(&text);
        let (reason, is_final) = (Rejection::of(status, &whole), Rejection::is_final(status, &whole));
        let why = format!("status {status}: {}", shown(&text));
        let later = status.is_server_error() && !is_final
            || status == StatusCode::TOO_MANY_REQUESTS
                && self.on_too_many_requests == OnTooManyRequests::Retry
                && !is_final;
        let understood = newer.is_none() || status != StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Ok(match (understood, later) {
            (false, _) => Outcome::NotUnderstood { why },
            (true, true) => Outcome::Later { why, after },
            (true, false) => Outcome::Never { why, reason, written: written.unwrap_or(0) },
        })
    }
}

/// The beginning of an answer, for people.
pub(super) fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(SHOWN_BYTES)]).trim().to_owned()
}

/// How many items the endpoint says that it has written. `None`: it says nothing of it.
fn written(headers: &http::HeaderMap, newer: &NewerForm) -> Option<u64> {
    let number = |name: &&str| headers.get(*name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let said = newer.written_headers.iter().filter_map(number);
    said.reduce(u64::saturating_add)
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3). A date that has passed is no wait.
pub(super) fn retry_after(headers: &http::HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

/// An error with all its causes: hyper keeps the interesting part in the source.
fn describe(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_its_pause_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        let check = |text: &'static str, expected: Option<u64>| {
            let headers =
                http::HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().expect("a header"))]);
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), expected, "{text}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        // The three forms of RFC 9110, section 5.6.7.
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(90));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(90));
        check("Sun Nov  6 08:49:37 1994", Some(90));
        check("Sun, 06 Nov 1994 08:40:00 GMT", None);
        check("soon", None);
        check("-5", None);
        check("1.5", None);
        assert_eq!(retry_after(&http::HeaderMap::new(), now), None);
    }
}
