//! `discovery.http`: targets from a URL, as Prometheus' HTTP-based discovery reads them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{HeaderValue, Request, StatusCode, Uri, header};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bytes::Bytes;

use super::groups::{self, BYTES_MAX, Format};
use super::refreshed::{Discover, Figures, Looked, Outcome};
use crate::config::{Body, Decode};
use crate::http_client::{HttpClient, HttpClientOptions, checked_url, read};
use crate::telemetry::{Page, Target};

/// What the block says.
pub struct Arguments {
    url: Uri,
    refresh_interval: Duration,
    http: HttpClientOptions,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        let url: String = body.required("url");
        let url = checked_url(body, "url", &url);
        let refresh_interval = body.optional("refresh_interval", Duration::from_secs(60));
        if refresh_interval.is_zero() {
            body.error_at("refresh_interval", "must be above zero");
        }
        Arguments { url, refresh_interval, http: HttpClientOptions::read(body, true) }
    }
}

/// The component, in the frame of discovery that looks again and again.
#[derive(Default)]
pub struct Http {
    client: Mutex<Option<(HttpClientOptions, HttpClient)>>,
}

#[async_trait]
impl Discover for Http {
    const NAME: &'static str = "discovery.http";
    type Arguments = Arguments;

    fn interval(arguments: &Arguments) -> Duration {
        arguments.refresh_interval
    }

    async fn look(&self, arguments: &Arc<Arguments>) -> Looked {
        let client = self.client(&arguments.http);
        // As in Prometheus: an answer that takes longer than until the next is none.
        let answer = tokio::time::timeout(arguments.refresh_interval, ask(&client, arguments)).await;
        let outcome = match answer {
            Ok(Ok(targets)) => Outcome::Targets(targets),
            Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
            Err(_) => Outcome::Failed(format!("no complete answer within {:?}", arguments.refresh_interval)),
        };
        Looked::from([(arguments.url.to_string(), outcome)])
    }

    fn collect(&self, page: &mut Page, figures: &Figures) {
        let help = "Number of HTTP service discovery refresh failures.";
        page.counter(
            "prometheus_sd_http_failures_total",
            help,
            &[],
            figures.failures.load(std::sync::atomic::Ordering::Relaxed),
        );
    }
}

impl Http {
    /// The client with its kept connections, as long as it is the same.
    fn client(&self, options: &HttpClientOptions) -> HttpClient {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some((before, kept)) if before == options => kept.clone(),
            _ => client.insert((options.clone(), HttpClient::new(options))).1.clone(),
        }
    }
}

async fn ask(client: &HttpClient, arguments: &Arguments) -> anyhow::Result<Vec<Target>> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = arguments.url.clone();
    let interval = HeaderValue::from_str(&arguments.refresh_interval.as_secs_f64().to_string())?;
    request.headers_mut().insert("x-prometheus-refresh-interval-seconds", interval);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let response = client.send(request).await.context("cannot ask for targets")?;
    if response.status() != StatusCode::OK {
        bail!("the server answered with status {}", response.status());
    }
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type =
        content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let (media_type, rest) = content_type.split_once(';').unwrap_or((&content_type, ""));
    let charset = rest.trim().trim_start_matches("charset=").trim_matches('"');
    if media_type.trim() != "application/json" || !matches!(charset, "" | "utf-8") {
        bail!("unsupported content type {content_type:?}");
    }
    let body = read(response, BYTES_MAX).await?;
    let text = std::str::from_utf8(&body).context("the list is not UTF-8")?;
    groups::targets(text, Format::Json, ("__meta_url", &arguments.url.to_string()))
}
