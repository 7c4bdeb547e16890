//! A message -> custody, or the reason why not. The memory that requests take together has a limit: what would pass it is
//! told to come later, before it is read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::formats::{Compression, UnpackError, check_otlp, otlp_from_json, unpack};
use crate::graph::ConsumeError;
use crate::telemetry::{OtlpBatch, Page, Signal};

/// Bytes of all requests of a receiver together, as they came and unpacked: six of the largest that are taken over HTTP.
pub(super) const MEMORY_BYTES: usize = 128 << 20;
/// What memory is counted in.
const UNIT_BYTES: usize = 1 << 10;
/// Messages from this size on are unpacked and checked where a thread may be busy for long.
const LARGE_BYTES: usize = 256 << 10;
/// When a client may try again that was refused for what takes a while to change: a full log, a component on its way.
const LATER: Duration = Duration::from_secs(5);
/// The same, if only other requests have to end first.
const SOON: Duration = Duration::from_secs(1);

/// What stands between the ports of a receiver and its consumers.
pub struct Ingest {
    output: Mutex<Output>,
    memory: Arc<Semaphore>,
    memory_bytes: usize,
    /// Messages that are unpacked at a time: what they will need is known only when it is there.
    unpacking: Semaphore,
    /// Nothing new is taken.
    pub(super) draining: CancellationToken,
    figures: Figures,
}

/// What was taken and refused, by transport and signal.
#[derive(Default)]
pub struct Figures {
    accepted: [[AtomicU64; 3]; 2],
    refused: [[AtomicU64; 3]; 2],
    requests: [[AtomicU64; 5]; 2],
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Grpc,
    Http,
}

/// What a message is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// Why a message was not taken. Each kind has its code in each protocol.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It can't be read; sending it again is of no use.
    Malformed(String),
    /// It is larger than the limit.
    TooLarge(String),
    /// No room: come again after that time.
    Full(String, Duration),
    /// Not now: a component or the agent is on its way up or down.
    Unavailable(String, Duration),
    /// The client was too slow, or gave up.
    TimedOut(String),
}

impl Ingest {
    /// Hands on to `output`.
    pub fn new(output: Output) -> Self {
        Ingest::within(MEMORY_BYTES, output)
    }

    /// The same with another limit of memory.
    pub(super) fn within(memory_bytes: usize, output: Output) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Ingest {
            output: Mutex::new(output),
            memory: Arc::new(Semaphore::new(memory_bytes / UNIT_BYTES)),
            memory_bytes,
            unpacking: Semaphore::new(workers),
            draining: CancellationToken::new(),
            figures: Figures::default(),
        }
    }

    /// Hands on to others from now on.
    pub fn set_output(&self, output: Output) {
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = output;
    }

    /// From now on requests are told to go elsewhere.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Reads a request's body.
    pub(super) async fn read(
        &self,
        mut body: Incoming,
        bytes_max: usize,
        patience: Duration,
    ) -> Result<(Bytes, Room), Refusal> {
        let too_large = || Refusal::TooLarge(format!("the request has more than {bytes_max} bytes"));
        let mut room = self.room();
        let length = hyper::body::Body::size_hint(&body).lower();
        if length > bytes_max as u64 {
            return Err(too_large());
        }
        let reading = async {
            let mut first = Bytes::new();
            let mut all = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame
                    .map_err(|error| Refusal::TimedOut(format!("the request was broken off: {error}")))?;
                let Ok(data) = frame.into_data() else { continue };
                let bytes = first.len() + all.len() + data.len();
                if bytes > bytes_max {
                    return Err(too_large());
                }
                room.grow_to(bytes)?;
                if first.is_empty() && all.is_empty() {
                    first = data;
                } else {
                    if all.is_empty() {
                        all.reserve((length as usize).max(bytes));
                        all.extend_from_slice(&std::mem::take(&mut first));
                    }
                    all.extend_from_slice(&data);
                }
            }
            Ok(if all.is_empty() { first } else { all.freeze() })
        };
        let body = match tokio::time::timeout(patience, reading).await {
            Ok(body) => body?,
            Err(_) => return Err(Refusal::TimedOut(format!("the request did not come within {patience:?}"))),
        };
        Ok((body, room))
    }

    /// Unpacks the message and reads it to its end.
    pub(super) async fn decode(
        &self,
        (signal, encoding): (Signal, Encoding),
        body: Bytes,
        compression: Compression,
        bytes_max: usize,
        room: &mut Room,
    ) -> Result<OtlpBatch, Refusal> {
        let is_copied = compression != Compression::None || encoding == Encoding::Json;
        let _turn = match is_copied {
            true => Some(self.unpacking.acquire().await.expect("never closed")),
            false => None,
        };
        let before = body.len();
        let read = move || -> Result<OtlpBatch, Refusal> {
            let plain = unpack(body, compression, bytes_max).map_err(|error| match error {
                UnpackError::TooLong(_) => Refusal::TooLarge(error.to_string()),
                _ => Refusal::Malformed(error.to_string()),
            })?;
            match encoding {
                Encoding::Protobuf => {
                    check_otlp(signal, plain).map_err(|error| Refusal::Malformed(error.to_string()))
                }
                Encoding::Json => otlp_from_json(signal, &plain, bytes_max)
                    .map_err(|error| Refusal::Malformed(error.to_string())),
            }
        };
        let batch = if before < LARGE_BYTES {
            read()?
        } else {
            tokio::task::spawn_blocking(read)
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?
        };
        if is_copied {
            room.grow_to(before + batch.body.len())?;
        }
        Ok(batch)
    }

    /// Hands the batch on. When this is `Ok`, the consumers have it; the answer says how many items they dropped, and why.
    pub(super) async fn deliver(
        &self,
        batch: &OtlpBatch,
        patience: Duration,
    ) -> Result<(u64, String), Refusal> {
        if self.draining.is_cancelled() {
            return Err(Refusal::Unavailable("the agent is going down".to_owned(), LATER));
        }
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match tokio::time::timeout(patience, output.offer(batch)).await {
            Ok(Ok(())) => {
                let (items, reason) = batch.dropped.so_far();
                // Two consumers may each have dropped the same item.
                Ok((items.min(batch.items.into()), reason))
            }
            Ok(Err(full @ ConsumeError::Full { .. })) => Err(Refusal::Full(full.to_string(), LATER)),
            Ok(Err(other)) => Err(Refusal::Unavailable(other.to_string(), LATER)),
            Err(_) => Err(Refusal::Unavailable(format!("no consumer took it within {patience:?}"), SOON)),
        }
    }

    /// Counts what became of a request.
    pub(super) fn count(
        &self,
        transport: Transport,
        signal: Signal,
        items: u32,
        answer: Result<(), &Refusal>,
    ) {
        let kind = match answer {
            Ok(()) => 0,
            Err(Refusal::Malformed(_)) => 1,
            Err(Refusal::TooLarge(_)) => 2,
            Err(Refusal::Full(..)) => 3,
            Err(Refusal::Unavailable(..) | Refusal::TimedOut(_)) => 4,
        };
        let figures = &self.figures;
        figures.requests[transport as usize][kind].fetch_add(1, Ordering::Relaxed);
        let by_items = if answer.is_ok() { &figures.accepted } else { &figures.refused };
        by_items[transport as usize][signal as usize].fetch_add(items.into(), Ordering::Relaxed);
    }

    fn room(&self) -> Room {
        Room { memory: self.memory.clone(), held: None, units: 0 }
    }

    /// Writes the receiver's figures.
    pub fn collect(&self, page: &mut Page) {
        const ITEMS: [&str; 3] = ["metric_points", "log_records", "spans"];
        for (transport, name) in ["grpc", "http"].into_iter().enumerate() {
            for (signal, items) in ITEMS.into_iter().enumerate() {
                let labels = [("transport", name)];
                let value = |all: &[[AtomicU64; 3]; 2]| all[transport][signal].load(Ordering::Relaxed);
                page.counter(
                    &format!("otelcol_receiver_accepted_{items}_total"),
                    "Items that are in custody.",
                    &labels,
                    value(&self.figures.accepted),
                );
                page.counter(
                    &format!("otelcol_receiver_refused_{items}_total"),
                    "Items that were read and not taken.",
                    &labels,
                    value(&self.figures.refused),
                );
            }
            for (kind, outcome) in
                ["ok", "malformed", "too_large", "full", "unavailable"].into_iter().enumerate()
            {
                page.counter(
                    "alloy_otelcol_receiver_requests_total",
                    "Requests by what became of them.",
                    &[("transport", name), ("outcome", outcome)],
                    self.figures.requests[transport][kind].load(Ordering::Relaxed),
                );
            }
        }
        let free = self.memory.available_permits() * UNIT_BYTES;
        page.gauge(
            "alloy_otelcol_receiver_request_bytes",
            "Memory of requests that are not answered yet.",
            &[],
            (self.memory_bytes - free) as f64,
        );
    }
}

/// A request's share of the memory, given back when it is dropped.
pub(super) struct Room {
    memory: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    units: usize,
}

impl Room {
    fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let units = bytes.div_ceil(UNIT_BYTES);
        if units <= self.units {
            return Ok(());
        }
        let more = u32::try_from(units - self.units).expect("a request is limited far below 4 TiB");
        let Ok(permit) = self.memory.clone().try_acquire_many_owned(more) else {
            let reason = "too many requests are under way: the receiver's memory is used up";
            return Err(Refusal::Full(reason.to_owned(), SOON));
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        self.units = units;
        Ok(())
    }
}
