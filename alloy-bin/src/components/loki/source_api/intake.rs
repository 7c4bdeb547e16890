//! Requests -> receivers: what is answered 204 is in custody, what is answered otherwise is still the sender's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use twox_hash::XxHash64;

use super::arguments::Bounds;
use super::body::Form;
use super::shape::{Shape, Shaped};
use crate::graph::{Fanout, Health};
use crate::telemetry::{Histogram, LogBatch, Page};

/// Batches that are handed on at a time. A stream is always in the same lane, which keeps its lines in order.
const LANES: usize = 8;
/// Bodies that are read at a time, and bodies that are unpacked, have together no more bytes than so many largest ones.
const LARGEST_BODIES: usize = 2;
/// What a sender is told that shall come again, in seconds.
const RETRY_AFTER: &str = "2";
/// As long may a tenant's name be, as in Loki.
const TENANT_BYTES_MAX: usize = 150;

/// The part of the component that answers.
pub(super) struct Intake {
    now: RwLock<Arc<Now>>,
    health: Health,
    /// Taken while a batch of the lane is handed on.
    turns: [tokio::sync::Mutex<()>; LANES],
    lanes: [u64; LANES],
    /// The last time that was given to a line.
    last_ns: Mutex<i64>,
    figures: Figures,
}

/// What the arguments mean.
pub(super) struct Now {
    next: Fanout<LogBatch>,
    shape: Shape,
    bounds: Bounds,
    /// Who waits for the second has the first, never the other way round.
    reading: Arc<Semaphore>,
    unpacking: Arc<Semaphore>,
}

#[derive(Default)]
struct Figures {
    requests: Mutex<BTreeMap<u16, Histogram>>,
    in_flight: AtomicU64,
    entries: AtomicU64,
    dropped: AtomicU64,
    bytes: AtomicU64,
}

/// Why a request was not taken.
pub(super) struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: String) -> Self {
        Refusal { status, reason }
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let reason = format!("the request has more than {bytes_max} bytes (max_send_message_size)");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    }

    fn later(reason: String) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.reason + "\n").into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let after = header::HeaderValue::from_static(RETRY_AFTER);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}

impl Now {
    pub(super) fn new(next: Fanout<LogBatch>, shape: Shape, bounds: Bounds) -> Arc<Self> {
        let room = || Arc::new(Semaphore::new(kibibytes(bounds.bytes) as usize * LARGEST_BODIES));
        Arc::new(Now { next, shape, bounds, reading: room(), unpacking: room() })
    }

    /// Reads the body when there is room for it.
    async fn body(&self, headers: &HeaderMap, body: Body) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        let most = self.bounds.bytes;
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = length.unwrap_or(most);
        if length > most {
            return Err(Refusal::too_large(most));
        }
        let read = async {
            let permit = self.reading.clone().acquire_many_owned(kibibytes(length)).await;
            (Limited::new(body, most).collect().await, permit.expect("never closed"))
        };
        match timeout(self.bounds.read, read).await {
            Ok((Ok(body), permit)) => Ok((body.to_bytes(), permit)),
            Ok((Err(error), _)) if error.is::<LengthLimitError>() => Err(Refusal::too_large(most)),
            Ok((Err(error), _)) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string())),
            // Not 408: senders for Loki throw away what is refused with any 4xx but 429.
            Err(_) => Err(Refusal::later("the body did not come in time (server_read_timeout)".to_owned())),
        }
    }
}

/// At least one, so that everybody waits in line.
fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

impl Intake {
    pub(super) fn new(id: &str, health: Health, now: Arc<Now>) -> Self {
        let lane = |index| XxHash64::oneshot(index as u64, id.as_bytes());
        Intake {
            now: RwLock::new(now),
            health,
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            lanes: std::array::from_fn(lane),
            last_ns: Mutex::default(),
            figures: Figures::default(),
        }
    }

    /// The next request is treated so.
    pub(super) fn set(&self, now: Arc<Now>) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn collect(&self, page: &mut Page) {
        let Figures { requests, in_flight, entries, dropped, bytes } = &self.figures;
        for (status, seconds) in &*requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let name = "loki_source_api_request_duration_seconds";
            page.histogram(name, "Time of one request.", &[("status_code", &status.to_string())], seconds);
        }
        let name = "loki_source_api_inflight_requests";
        page.gauge(name, "Requests that are being answered.", &[], in_flight.load(Relaxed) as f64);
        for (name, help, value) in [
            ("loki_source_api_entries_written", "Lines that were forwarded.", entries),
            (
                "alloy_loki_source_api_dropped_entries_total",
                "Lines that the rules have dropped or left without a label.",
                dropped,
            ),
            ("alloy_loki_source_api_received_bytes_total", "Bytes of bodies as they came.", bytes),
        ] {
            page.counter(name, help, &[], value.load(Relaxed));
        }
    }

    async fn answer(&self, request: Request, form: impl Fn(&HeaderMap) -> Result<Form, Refusal>) -> Response {
        let begun = Instant::now();
        let _in_flight = InFlight::new(&self.figures.in_flight);
        let response = match self.take(request, form).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(refusal) => {
                let Refusal { status, reason } = &refusal;
                tracing::debug!(status = status.as_u16(), reason, "a push was not taken");
                refusal.into_response()
            }
        };
        let mut requests = self.figures.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = requests.entry(response.status().as_u16());
        seconds.or_insert_with(|| Histogram::new(Histogram::SECONDS)).observe(begun.elapsed());
        response
    }

    async fn take(
        &self,
        request: Request,
        form: impl Fn(&HeaderMap) -> Result<Form, Refusal>,
    ) -> Result<(), Refusal> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (head, body) = request.into_parts();
        let form = form(&head.headers)?;
        let tenant = tenant(&head.headers)?;
        let (body, read) = now.body(&head.headers, body).await?;
        self.figures.bytes.fetch_add(body.len() as u64, Relaxed);

        let handing_on = async {
            let bytes_max = now.bounds.bytes;
            let most = bytes_max.saturating_mul(LARGEST_BODIES);
            let cost = kibibytes(form.cost(&body, bytes_max).min(most));
            let _unpacked = now.unpacking.clone().acquire_many_owned(cost).await.expect("never closed");
            // A large body takes a good part of a second.
            let streams = tokio::task::spawn_blocking(move || form.read(body, bytes_max));
            let streams = streams.await.expect("reading does not panic")?;
            drop(read);
            let count = streams.iter().map(|stream| stream.entries.len()).sum();
            let shaped = now.shape.shape(streams, tenant.as_deref(), &self.lanes, self.times(count));
            self.hand_on(&now, shaped).await
        };
        let late =
            |_| Refusal::later("the receivers did not take it in time (server_write_timeout)".to_owned());
        timeout(now.bounds.write, handing_on).await.map_err(late)?
    }

    /// Nothing is taken if the first batch is refused. The others are waited for then: the sender would send the first one again.
    async fn hand_on(&self, now: &Now, shaped: Shaped) -> Result<(), Refusal> {
        let Shaped { batches, dropped, wrong } = shaped;
        for (place, (lane, batch)) in batches.iter().enumerate() {
            let _turn = self.turns[*lane].lock().await;
            if place > 0 {
                now.next.deliver(batch, |_| ()).await;
            } else if let Err(error) = now.next.hand_on(batch).await {
                self.health.unhealthy(error.to_string());
                return Err(Refusal::later(error.to_string()));
            }
            self.figures.entries.fetch_add(batch.len() as u64, Relaxed);
        }
        self.health.ok();
        self.figures.dropped.fetch_add(dropped, Relaxed);
        wrong.map_or(Ok(()), |reason| {
            let reason = format!("streams were left out; the first: {reason}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, reason))
        })
    }

    /// The first of so many times, which nobody else gets.
    fn times(&self, count: usize) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
        let mut last_ns = self.last_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let first_ns = now_ns.max(*last_ns + 1);
        *last_ns = first_ns + count as i64;
        first_ns
    }
}

/// The tenant, if one is named. A name that Loki would not take is an error: the lines would become somebody else's.
fn tenant(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(name) = headers.get("x-scope-orgid").filter(|name| !name.is_empty()) else { return Ok(None) };
    let is_sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(byte);
    let text = name.to_str().ok().filter(|_| name.as_bytes().iter().all(is_sound));
    let text = text.filter(|text| text.len() <= TENANT_BYTES_MAX && !matches!(*text, "." | ".."));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let reason = format!("X-Scope-OrgID {name:?} is no name of one tenant");
        Refusal::new(StatusCode::BAD_REQUEST, reason)
    })
}

/// Counts a request for as long as it lives, whether it is answered or its sender hangs up.
struct InFlight<'f>(&'f AtomicU64);

impl<'f> InFlight<'f> {
    fn new(count: &'f AtomicU64) -> Self {
        count.fetch_add(1, Relaxed);
        InFlight(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The routes.
pub(super) fn router(intake: Arc<Intake>) -> Router {
    Router::new()
        .route("/loki/api/v1/push", post(push))
        .route("/api/v1/push", post(push))
        .route("/loki/api/v1/raw", post(raw))
        .route("/api/v1/raw", post(raw))
        .route("/ready", get(async || "ready"))
        .with_state(intake)
}

async fn push(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    intake.answer(request, Form::push).await
}

async fn raw(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    intake.answer(request, Form::lines).await
}
