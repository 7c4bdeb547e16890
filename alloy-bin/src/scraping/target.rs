//! A target's life: slot after slot, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use bytes::Bytes;
use http::Uri;
use tokio_util::sync::CancellationToken;

use super::fetch::{Fetcher, Limits, Packed, TooLarge};
use super::page::{Policy, Reading, TargetLabels};
use super::series_rules::SeriesRules;
use super::slots::{Begin, Slots};
use super::staleness::Staleness;
use crate::formats::{Format, Protocol, TextFormat};
use crate::graph::Fanout;
use crate::http_client::{HttpClientOptions, escape};
use crate::telemetry::{STALE_NAN, SampleBatch, Target, Work};

/// How long a scrape that is under way may go on when its target has to stop. What it would have brought is caught up
/// by the next owner, so it is short against the hand-over's deadline.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// A page that is longer, as it came over the wire, is not handed over: what a key's state may have, without the slot. Gzip takes 7 to 90 bytes
/// a series.
const SERIES_BYTES_MAX: usize = 60 * 1024;
/// The clock is read again at least this often while waiting for a slot, so that a clock that was set is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// How all targets of a component are scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Between two slots.
    pub interval: Duration,
    /// Credentials, TLS, proxies.
    pub http: HttpClientOptions,
    /// Of one request.
    pub limits: Limits,
    /// The `Accept` header.
    pub accept: String,
    /// How pages without a usable content type are read.
    pub fallback: Option<Protocol>,
    /// How pages are taken.
    pub policy: Policy,
    /// Which of their series are kept, under which labels.
    pub rules: SeriesRules,
    /// Whether `scrape_timeout_seconds` and its like are written (`extra_metrics`).
    pub extra_metrics: bool,
    /// Why no target is scraped, if so: there are too many.
    pub refusal: Option<String>,
}

impl Settings {
    /// The names of what is said of each scrape.
    fn own_series(&self) -> impl Iterator<Item = &'static str> + use<> {
        let extra = if self.extra_metrics { EXTRA_SERIES.as_slice() } else { &[] };
        OWN_SERIES.iter().chain(extra).copied()
    }
}

/// One target, ready to be scraped.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its key.
    pub key: u64,
    /// Where its page is.
    pub url: Uri,
    /// That for people.
    pub name: Arc<str>,
    /// The labels of its samples.
    pub labels: TargetLabels,
}

/// What the component says of all its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    /// Unless a target has its own.
    pub scheme: String,
    /// Of the page, unless a target has its own.
    pub path: String,
    /// The query, unless a target has its own of that name.
    pub params: Vec<(String, String)>,
    /// The label `job` of targets that have none.
    pub job: String,
    /// Labels that do not count for who a target is.
    pub excluded_labels: Vec<String>,
}

/// Why a target cannot be scraped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("target {target}: {reason}")]
pub struct SpecError {
    target: String,
    reason: String,
}

impl Spec {
    /// A target with what the component says: scheme and path where the target has none of its own, parameters, and
    /// the `job` label where the target has none.
    pub fn new(target: &Target, common: &Common) -> Result<Self, SpecError> {
        let Common { scheme, path, params, job, excluded_labels } = common;
        let address = target.get("__address__").unwrap_or_default();
        let error = |reason: String| SpecError { target: address.to_owned(), reason };
        let scheme = target.get("__scheme__").unwrap_or(scheme);
        if address.is_empty() {
            return Err(error("has no label __address__".to_owned()));
        }
        if !matches!(scheme, "http" | "https") {
            return Err(error(format!("the scheme {scheme:?} is not supported; http and https are")));
        }
        let own = target
            .0
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("__param_")?.to_owned(), value.clone())));
        let own: Vec<(String, String)> = own.collect();
        let shared = params.iter().filter(|(name, _)| !own.iter().any(|(other, _)| other == name)).cloned();
        let mut query: Vec<(String, String)> = shared.chain(own.iter().cloned()).collect();
        // As Prometheus writes it.
        query.sort_by(|(name, _), (other, _)| name.cmp(other));
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let path = target.get("__metrics_path__").unwrap_or(path);
        let (slash, mark) =
            (if path.starts_with('/') { "" } else { "/" }, if query.is_empty() { "" } else { "?" });
        let url = format!("{scheme}://{address}{slash}{path}{mark}{}", query.join("&"));
        let url: Uri = url.parse().map_err(|reason| error(format!("{url:?} is not a URL: {reason}")))?;
        let own_labels = target.public_labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let added = [("instance".to_owned(), address.to_owned()), ("job".to_owned(), job.clone())];
        Ok(Spec {
            key: target.key_without(excluded_labels),
            name: url.to_string().into(),
            url,
            labels: TargetLabels::new(own_labels.chain(added)),
        })
    }
}

/// What the targets of a component count together.
#[derive(Debug, Default)]
pub struct ScrapeFigures {
    /// Pages taken.
    pub scrapes: AtomicU64,
    /// Scrapes that brought no page.
    pub failures: AtomicU64,
    /// Samples taken, without those of the agent's own.
    pub samples: AtomicU64,
    /// Samples that no receiver took: its log was full.
    pub refused_samples: AtomicU64,
    /// Slots that were taken late because their owner was gone.
    pub caught_up: AtomicU64,
    /// Slots that nobody took.
    pub missed: AtomicU64,
}

/// What is known of a target's life up to now.
#[derive(Debug, Default)]
pub struct Before {
    /// The last slot that somebody has taken.
    pub done_ms: Option<i64>,
    /// The series of that slot.
    pub series: Series,
}

/// Where the series of a target's last slot are known from.
#[derive(Debug, Default)]
pub enum Series {
    /// They are not known, and end unmarked.
    #[default]
    Unknown,
    /// From another agent, as [`Ended::series`] gives them.
    Handed(Bytes),
    /// From a life with other settings that ended here. It is rare, and most lives last.
    Left(Box<Left>),
}

/// The series of a life that has ended, and how they were read.
pub struct Left {
    staleness: Staleness,
    spec: Arc<Spec>,
    settings: Arc<Settings>,
}

impl std::fmt::Debug for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Left").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// How a target's life ended.
pub struct Ended {
    /// The last slot that was taken.
    pub last_slot_ms: Option<i64>,
    /// Between that slot and the next.
    ended_ms: i64,
    life: Life,
}

impl Ended {
    /// The series that it had in its last slot, for its next owner; `None`: the page is too long to be handed over.
    pub fn series(&self) -> Option<Vec<u8>> {
        self.life.staleness.hand_over(SERIES_BYTES_MAX)
    }

    /// Ends all its series: it is gone for good.
    pub fn farewell(&mut self) -> SampleBatch {
        self.life.farewell(self.ended_ms)
    }

    /// For the target's next life here, under other settings.
    pub fn into_before(self) -> Before {
        let Ended { last_slot_ms, life, .. } = self;
        let (spec, settings) = life.read_before.unwrap_or((life.spec, life.settings));
        let left = Left { staleness: life.staleness, spec, settings };
        let series = last_slot_ms.map_or(Series::Unknown, |_| Series::Left(Box::new(left)));
        Before { done_ms: last_slot_ms, series }
    }
}

/// Scrapes the target in its slots until `stop`. `taken` hears of
/// each slot that is done here, and of what went wrong with its page.
pub async fn live(
    spec: Arc<Spec>,
    settings: Arc<Settings>,
    shared: (Fetcher, Fanout<SampleBatch>, Arc<ScrapeFigures>),
    before: Before,
    taken: impl Fn(i64, Option<String>) + Send + Sync,
    stop: CancellationToken,
) -> Ended {
    let (fetcher, receivers, figures) = shared;
    let interval_ms = settings.interval.as_millis() as i64;
    let slots = Slots::new(spec.key, interval_ms);
    let Before { done_ms, series } = before;
    let last = AtomicI64::new(done_ms.unwrap_or(i64::MIN));
    let (staleness, read_before) = match series {
        Series::Unknown => (Staleness::default(), None),
        Series::Handed(series) => (Staleness::inherit(&series), None),
        Series::Left(left) => {
            let Left { staleness, spec, settings } = *left;
            (staleness, Some((spec, settings)))
        }
    };
    let mut life =
        Life { spec, settings, fetcher, receivers, figures, staleness, read_before, failing: false };
    let mut begin = slots.begin(done_ms, now_ms());
    loop {
        let late = begin.slot_ms <= now_ms();
        if !wait_until(begin.slot_ms, &stop).await {
            break;
        }
        life.figures.missed.fetch_add(begin.missed as u64, Ordering::Relaxed);
        life.figures.caught_up.fetch_add(u64::from(late), Ordering::Relaxed);
        let slot_ms = begin.slot_ms;
        // On the heap for as long as it lasts: a request's state is several KiB, and most targets wait most of the time.
        let scrape = Box::pin(life.scrape(slot_ms));
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            error = scrape => {
                last.store(slot_ms, Ordering::Relaxed);
                taken(slot_ms, error);
            }
            () = cut => break,
        }
        begin = next(slots, slot_ms);
    }
    let last_slot_ms = Some(last.into_inner()).filter(|slot| *slot != i64::MIN);
    // Never in a slot: if the target comes back, its next owner has another value for that moment.
    let ended_ms = last_slot_ms.map_or_else(now_ms, |slot| now_ms().min(slots.after(slot) - 1).max(slot + 1));
    Ended { last_slot_ms, ended_ms, life }
}

/// Whether this agent can scrape the target: a scrape out of turn, of which nothing is kept.
pub async fn can_scrape(spec: Arc<Spec>, settings: Arc<Settings>, fetcher: Fetcher) -> bool {
    let (receivers, figures) = (Fanout::new(Vec::new()), Arc::default());
    let (staleness, read_before) = (Staleness::default(), None);
    let life = Life { spec, settings, fetcher, receivers, figures, staleness, read_before, failing: false };
    Box::pin(life.page(now_ms())).await.is_ok()
}

/// The slot after this one. A scrape that took longer than an interval leaves a slot that has passed: it is taken late,
/// as after a change of owner, and those before it are missed.
fn next(slots: Slots, slot_ms: i64) -> Begin {
    let now_ms = now_ms();
    if slots.after(slot_ms) > now_ms {
        Begin { slot_ms: slots.after(slot_ms), missed: 0 }
    } else {
        slots.begin(Some(slot_ms), now_ms)
    }
}

/// Waits for a moment of wall time. False: stopped before it came.
async fn wait_until(time_ms: i64, stop: &CancellationToken) -> bool {
    loop {
        if stop.is_cancelled() {
            return false;
        }
        let left = time_ms - now_ms();
        if left <= 0 {
            return true;
        }
        let wait = Duration::from_millis(left as u64).min(CLOCK_CHECK);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return false,
        }
    }
}

/// What a scrape has brought.
struct Scraped {
    batch: SampleBatch,
    /// Before the rules.
    samples: usize,
    /// What they are from.
    page: (Packed, Format),
    /// Of the page, unpacked.
    body_bytes: usize,
}

struct Life {
    spec: Arc<Spec>,
    settings: Arc<Settings>,
    fetcher: Fetcher,
    receivers: Fanout<SampleBatch>,
    figures: Arc<ScrapeFigures>,
    staleness: Staleness,
    /// How the series of the last slot were read, until the first slot with these settings.
    read_before: Option<(Arc<Spec>, Arc<Settings>)>,
    failing: bool,
}

impl Life {
    /// One slot: whatever happens, `up` and its like are written. Says why there was no page, if so.
    async fn scrape(&mut self, slot_ms: i64) -> Option<String> {
        let started = Instant::now();
        let mut work = Work::begin("scrape");
        work.set("url.full", &self.spec.url);
        let scraped = self.page(slot_ms).await;
        let seconds = started.elapsed().as_secs_f64();
        self.note(scraped.as_ref().err());
        let up = if scraped.is_ok() { 1.0 } else { 0.0 };
        let wrong = scraped.as_ref().err().map(|error| format!("{error:#}"));
        let (mut batch, scraped, page, body_bytes) = match scraped {
            Ok(Scraped { batch, samples, page, body_bytes }) => {
                (batch, samples, Some(page), body_bytes as f64)
            }
            // As Prometheus marks a page that was too large.
            Err(error) => {
                (SampleBatch::new(self.spec.key), 0, None, if error.is::<TooLarge>() { -1.0 } else { 0.0 })
            }
        };
        let samples = batch.len();
        work.set("alloy.samples", samples);
        if let Some(wrong) = &wrong {
            work.failed(wrong);
        }
        let before = self.read_before.take();
        let added = self.follow(&mut batch, page, slot_ms, before.as_ref());
        let own = [seconds, samples as f64, scraped as f64, added as f64, up];
        let limits = (self.settings.limits.timeout.as_secs_f64(), self.settings.policy.sample_limit as f64);
        let extra = [body_bytes, limits.1, limits.0];
        for (name, value) in self.settings.own_series().zip(own.into_iter().chain(extra)) {
            self.spec.labels.push_own(&mut batch, name, slot_ms, value);
        }
        if let Some((spec, settings)) = before {
            let goes_on =
                |name| spec.labels == self.spec.labels && self.settings.own_series().any(|own| own == name);
            for name in settings.own_series().filter(|name| !goes_on(*name)) {
                spec.labels.push_own(&mut batch, name, slot_ms, STALE_NAN);
            }
        }
        if let Err(error) = self.receivers.offer(&batch).await {
            self.figures.refused_samples.fetch_add(batch.len() as u64, Ordering::Relaxed);
            tracing::debug!(target = %self.spec.url, %error, "samples were refused");
        }
        self.figures.samples.fetch_add(samples as u64, Ordering::Relaxed);
        wrong
    }

    /// Marks what is gone since the slot before, which perhaps was read in another way.
    fn follow(
        &mut self,
        batch: &mut SampleBatch,
        page: Option<(Packed, Format)>,
        slot_ms: i64,
        before: Option<&(Arc<Spec>, Arc<Settings>)>,
    ) -> usize {
        let now = reading(&self.spec, &self.settings, slot_ms);
        let before = before.map_or(now, |(spec, settings)| reading(spec, settings, slot_ms));
        self.staleness.follow(batch, page, now, before)
    }

    async fn page(&self, slot_ms: i64) -> anyhow::Result<Scraped> {
        if let Some(refusal) = &self.settings.refusal {
            bail!("{refusal}");
        }
        let fetched =
            self.fetcher.fetch(&self.spec.url, &self.settings.accept, &self.settings.limits).await?;
        let format = Format::from_content_type(fetched.content_type.as_deref(), self.settings.fallback)?;
        let reading = Reading { format, ..reading(&self.spec, &self.settings, slot_ms) };
        let (read, body_bytes) = fetched.with_page(|page| (reading.read_all(page), page.len()))?;
        let (batch, samples) = read?;
        Ok(Scraped { batch, samples, page: (fetched.pack(), format), body_bytes })
    }

    /// Counts, and says it once when a target begins to fail and once when it is well again.
    fn note(&mut self, error: Option<&anyhow::Error>) {
        match error {
            Some(error) => {
                self.figures.failures.fetch_add(1, Ordering::Relaxed);
                if !self.failing {
                    tracing::warn!(target = %self.spec.url, error = format!("{error:#}"), "a target cannot be scraped");
                }
            }
            None => {
                self.figures.scrapes.fetch_add(1, Ordering::Relaxed);
                if self.failing {
                    tracing::info!(target = %self.spec.url, "a target can be scraped again");
                }
            }
        }
        self.failing = error.is_some();
    }

    /// Markers for everything that the target had.
    fn farewell(&mut self, at_ms: i64) -> SampleBatch {
        let mut batch = SampleBatch::new(self.spec.key);
        let before = self.read_before.take();
        self.follow(&mut batch, None, at_ms, before.as_ref());
        let (spec, settings) = match &before {
            Some((spec, settings)) => (spec, settings),
            None => (&self.spec, &self.settings),
        };
        for name in settings.own_series() {
            spec.labels.push_own(&mut batch, name, at_ms, STALE_NAN);
        }
        batch
    }
}

/// What is said of each scrape, beside what its page says.
const OWN_SERIES: [&str; 5] = [
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "scrape_samples_scraped",
    "scrape_series_added",
    "up",
];

/// What is said beside that with `extra_metrics`.
const EXTRA_SERIES: [&str; 3] = ["scrape_body_size_bytes", "scrape_sample_limit", "scrape_timeout_seconds"];

/// How pages of the target are read in a slot; the format is the page's own.
fn reading<'a>(spec: &'a Spec, settings: &'a Settings, slot_ms: i64) -> Reading<'a> {
    Reading {
        target: &spec.labels,
        format: Format::Text(TextFormat::Prometheus),
        policy: settings.policy,
        rules: &settings.rules,
        lane: spec.key,
        slot_ms,
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

#[cfg(test)]
mod tests;
