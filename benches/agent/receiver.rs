//! Remote write and Loki push, as an endpoint that decodes whatever it counts and knows each sample and line again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use alloy_bin::telemetry::STALE_NAN;
use alloy_bin::testing::messages::{PushRequest, Sample, WriteRequest, WriteRequest2};
use alloy_bin::testing::server::{Body, Handler, HangUp, Server, answer};
use anyhow::Context as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost::Message as _;

const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// A running endpoint.
pub(crate) struct Receiver {
    server: Server<Endpoint>,
    endpoint: Arc<Endpoint>,
}

#[derive(Default)]
struct Endpoint(Mutex<Books>);

/// What has come.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) requests: u64,
    pub(crate) body_bytes: u64,
    /// Samples that pages had: without what agents say of their scrapes, without markers.
    pub(crate) samples: u64,
    /// All of them.
    pub(crate) all_samples: u64,
    /// Of one series and time, beyond the first.
    pub(crate) doubled: u64,
    /// Those of them that have another value.
    pub(crate) conflicting: u64,
    /// Older than one that the series had already.
    pub(crate) late: u64,
    /// Staleness markers.
    pub(crate) stale: u64,
    pub(crate) lines: u64,
    /// Lines that had come before.
    pub(crate) lines_doubled: u64,
    /// Those of them with the same time: Loki drops them.
    pub(crate) lines_repeated: u64,
    /// Requests that could not be read, with the first reason.
    pub(crate) refused: u64,
    pub(crate) complaint: Option<String>,
    series: HashMap<u64, Series>,
    seen_lines: HashMap<u64, i64>,
}

#[derive(Clone, Default)]
struct Series {
    is_page: bool,
    /// The number in `instance`.
    target: usize,
    stale: u64,
    samples: Vec<(i64, u64)>,
    newest_ms: i64,
}

/// A time in which every slot is accounted for.
pub(crate) struct Stretch {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) interval_ms: i64,
}

/// What has become of the series of targets that stay.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) series: usize,
    pub(crate) lost: u64,
    pub(crate) lost_at_crashes: u64,
    pub(crate) wrong_markers: u64,
}

impl Receiver {
    pub(crate) async fn start() -> anyhow::Result<Receiver> {
        let endpoint = Arc::new(Endpoint::default());
        let server = Server::start((Ipv4Addr::LOCALHOST, 0).into(), endpoint.clone()).await?;
        Ok(Receiver { server, endpoint })
    }

    pub(crate) fn write_url(&self) -> String {
        format!("http://{}/api/v1/write", self.server.address())
    }

    pub(crate) fn push_url(&self) -> String {
        format!("http://{}/loki/api/v1/push", self.server.address())
    }

    /// Nobody can connect.
    pub(crate) async fn down(&self) {
        self.server.down().await;
    }

    /// It is back.
    pub(crate) async fn up(&self) -> anyhow::Result<()> {
        Ok(self.server.up().await?)
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.endpoint.0.lock().expect("no code panics while holding it")
    }
}

impl Handler for Endpoint {
    async fn handle(&self, _peer: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, HangUp> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| HangUp)?.to_bytes();
        let mut books = self.0.lock().expect("no code panics while holding it");
        let taken = match head.uri.path() {
            "/api/v1/write" => books.take_samples(&head.headers, &body),
            "/loki/api/v1/push" => books.take_lines(&body).map(|()| 0),
            other => Err(anyhow::anyhow!("there is no endpoint {other}")),
        };
        books.requests += 1;
        books.body_bytes += body.len() as u64;
        Ok(match taken {
            Ok(samples) => {
                // Protocol 2.0 asks for all three.
                let mut response = answer(204, "");
                for (name, count) in [(WRITTEN[0], samples), (WRITTEN[1], 0), (WRITTEN[2], 0)] {
                    response.headers_mut().insert(name, HeaderValue::from(count));
                }
                response
            }
            Err(error) => {
                books.refused += 1;
                books.complaint.get_or_insert(format!("{error:#}"));
                answer(400, format!("{error:#}"))
            }
        })
    }
}

impl Books {
    /// Says how many samples there were.
    fn take_samples(&mut self, headers: &HeaderMap, body: &[u8]) -> anyhow::Result<u64> {
        let content = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (plain, before) = (plain(body)?, self.all_samples);
        if content.contains("io.prometheus.write.v2") {
            let request = WriteRequest2::decode(plain.as_slice())?;
            let symbol = |place: &u32| request.symbols.get(*place as usize).map(String::as_str);
            for series in &request.timeseries {
                let texts = series.labels_refs.iter().map(symbol).collect::<Option<Vec<&str>>>();
                let texts = texts.context("a reference leads to no symbol")?;
                let labels = texts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                self.take_series(labels.collect(), &series.samples)?;
            }
        } else {
            for series in &WriteRequest::decode(plain.as_slice())?.timeseries {
                let labels = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
                self.take_series(labels.collect(), &series.samples)?;
            }
        }
        Ok(self.all_samples - before)
    }

    fn take_series(&mut self, mut labels: Vec<(&str, &str)>, samples: &[Sample]) -> anyhow::Result<()> {
        let value = |wanted: &str| labels.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let name = value("__name__").context("a series has no name")?;
        let is_page = name != "up" && !name.starts_with("scrape_");
        let target = value("instance").and_then(|instance| instance.strip_prefix("host-")?.parse().ok());
        let new = Series { is_page, target: target.unwrap_or(usize::MAX), ..Series::default() };
        // Agents sort labels, or don't.
        labels.sort_unstable();
        let key = hash(&labels);
        for sample in samples {
            self.take_sample(key, &new, (sample.timestamp, sample.value.to_bits()));
        }
        Ok(())
    }

    fn take_sample(&mut self, key: u64, new: &Series, (time_ms, bits): (i64, u64)) {
        self.all_samples += 1;
        let series = self.series.entry(key).or_insert_with(|| new.clone());
        if bits == STALE_NAN.to_bits() {
            self.stale += 1;
            series.stale += 1;
            return;
        }
        if time_ms <= series.newest_ms {
            if let Some((_, other)) = series.samples.iter().rev().find(|(time, _)| *time == time_ms) {
                self.doubled += 1;
                self.conflicting += u64::from(*other != bits);
                return;
            }
            self.late += 1;
        }
        self.samples += u64::from(series.is_page);
        series.newest_ms = series.newest_ms.max(time_ms);
        series.samples.push((time_ms, bits));
    }

    fn take_lines(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let request = PushRequest::decode(plain(body)?.as_slice())?;
        for entry in request.streams.into_iter().flat_map(|stream| stream.entries) {
            let time = entry.timestamp.context("a line has no time")?;
            let time_ns = time.seconds * 1_000_000_000 + i64::from(time.nanos);
            self.lines += 1;
            match self.seen_lines.entry(hash(&entry.line)) {
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(time_ns);
                }
                std::collections::hash_map::Entry::Occupied(before) => {
                    self.lines_doubled += 1;
                    self.lines_repeated += u64::from(*before.get() == time_ns);
                }
            }
        }
        Ok(())
    }

    /// Different lines.
    pub(crate) fn different_lines(&self) -> u64 {
        self.lines - self.lines_doubled
    }

    /// Series that pages had.
    pub(crate) fn page_series(&self) -> usize {
        self.series.values().filter(|series| series.is_page).count()
    }

    /// Looks at every slot of the series of targets below that number; `is_excused` says when slots may be missing.
    pub(crate) fn judge(
        &self,
        targets: usize,
        stretch: &Stretch,
        is_excused: impl Fn(i64) -> bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for series in self.series.values().filter(|series| series.is_page && series.target < targets) {
            let mut times: Vec<i64> = series.samples.iter().map(|(time, _)| *time).collect();
            times.sort_unstable();
            verdict.series += 1;
            verdict.wrong_markers += series.stale;
            let begin = times.first().map_or(stretch.from_ms, |first| {
                stretch.from_ms + (first - stretch.from_ms).rem_euclid(stretch.interval_ms)
            });
            let mut slot_ms = begin;
            while slot_ms < stretch.to_ms {
                if times.binary_search(&slot_ms).is_err() {
                    let count =
                        if is_excused(slot_ms) { &mut verdict.lost_at_crashes } else { &mut verdict.lost };
                    *count += 1;
                }
                slot_ms += stretch.interval_ms;
            }
        }
        verdict
    }
}

fn plain(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    Ok(snap::raw::Decoder::new().decompress_vec(body)?)
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
