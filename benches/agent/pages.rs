//! Many targets on one port. Their pages are made and compressed once; each scrape brings another variant, in which some
//! 45 % of the values have moved.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_bin::testing::server::{Body, Handler, HangUp, Server, answer};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;

/// Which pages there are.
pub(crate) struct Shape {
    pub(crate) targets: usize,
    pub(crate) series: usize,
    /// Different pages; targets beyond that share them.
    pub(crate) distinct: usize,
    pub(crate) variants: usize,
    pub(crate) kinds: [Kind; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Few labels, some thousand names: a node exporter.
    Node,
    /// Histograms by path: an instrumented service.
    Service,
    /// Seven long labels: cAdvisor, kube-state-metrics.
    Container,
}

pub(crate) const SMALL: Shape =
    Shape { targets: 200, series: 1000, distinct: 50, variants: 6, kinds: [Kind::Node, Kind::Service] };
pub(crate) const MID: Shape =
    Shape { targets: 50, series: 5000, distinct: 25, variants: 4, kinds: [Kind::Service, Kind::Container] };
pub(crate) const LARGE: Shape = Shape {
    targets: 20,
    series: 20_000,
    distinct: 10,
    variants: 3,
    kinds: [Kind::Container, Kind::Container],
};

/// A running server.
pub(crate) struct Pages {
    server: Server<Site>,
    site: Arc<Site>,
}

struct Site {
    series: u64,
    pages: Vec<Vec<Page>>,
    /// Of so many targets the last never answers; 0: all answer.
    hangs_every: usize,
    visits: Mutex<HashMap<usize, Vec<i64>>>,
}

struct Page {
    plain: Bytes,
    gzip: Bytes,
}

impl Pages {
    pub(crate) async fn start(shape: &Shape, hangs_every: usize) -> anyhow::Result<Pages> {
        let page = |index: usize, variant: usize| {
            let plain = text(shape.kinds[index % 2], index, shape.series, variant);
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain.as_bytes())?;
            Ok(Page { gzip: encoder.finish()?.into(), plain: plain.into() })
        };
        let distinct = 0..shape.distinct.min(shape.targets);
        let pages = distinct
            .map(|index| (0..shape.variants).map(|variant| page(index, variant)).collect())
            .collect::<anyhow::Result<Vec<Vec<Page>>>>()?;
        let site =
            Arc::new(Site { series: shape.series as u64, pages, hangs_every, visits: Mutex::default() });
        let server = Server::start((Ipv4Addr::LOCALHOST, 0).into(), site.clone()).await?;
        Ok(Pages { server, site })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Nobody is served any more.
    pub(crate) async fn down(&self) {
        self.server.down().await;
    }

    /// Samples on all pages that were served.
    pub(crate) fn served(&self) -> u64 {
        let visits = self.site.visits.lock().expect("no code panics while holding it");
        let answered = visits.iter().filter(|(index, _)| !self.site.hangs(**index));
        answered.map(|(_, times)| times.len() as u64).sum::<u64>() * self.site.series
    }

    /// How many targets were scraped, and the longest time that one of those that answer was not, in seconds. The first
    /// `skip` scrapes of each do not count.
    pub(crate) fn longest_gap(&self, skip: usize) -> (usize, f64) {
        let visits = self.site.visits.lock().expect("no code panics while holding it");
        let answering = visits.iter().filter(|(index, _)| !self.site.hangs(**index));
        let gaps = answering
            .flat_map(|(_, times)| times[skip.min(times.len())..].windows(2).map(|pair| pair[1] - pair[0]));
        (visits.len(), gaps.max().unwrap_or(0) as f64 / 1000.0)
    }
}

impl Site {
    fn hangs(&self, index: usize) -> bool {
        self.hangs_every > 0 && index % self.hangs_every == self.hangs_every - 1
    }
}

impl Handler for Site {
    async fn handle(&self, _peer: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, HangUp> {
        let path = request.uri().path();
        let index = path.strip_prefix("/t/").and_then(|rest| rest.strip_suffix("/metrics"));
        let Some(index) = index.and_then(|index| index.parse::<usize>().ok()) else {
            return Ok(answer(404, "there is no such target"));
        };
        let visit = {
            let mut visits = self.visits.lock().expect("no code panics while holding it");
            let times = visits.entry(index).or_default();
            times.push(now_ms());
            times.len()
        };
        if self.hangs(index) {
            return std::future::pending().await;
        }
        let variants = &self.pages[index % self.pages.len()];
        let page = &variants[visit % variants.len()];
        let accepts = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let is_packed = accepts.is_some_and(|value| value.contains("gzip"));
        let mut response = answer(200, if is_packed { page.gzip.clone() } else { page.plain.clone() });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        if is_packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// A page of exactly so many series.
fn text(kind: Kind, page: usize, series: usize, variant: usize) -> String {
    /// Series of one family.
    const FAMILY: usize = 20;
    let mut text = String::with_capacity(series * 120);
    for at in 0..series {
        let (family, member) = (at / FAMILY, at % FAMILY);
        let name = match kind {
            Kind::Node => {
                format!("node_{}_{}_{family}_total", SUBJECTS[family % 8], SUBJECTS[family / 8 % 8])
            }
            Kind::Service => format!("http_{}_{family}_seconds_bucket", SUBJECTS[family % 8]),
            Kind::Container => format!("container_{}_{family}_bytes_total", SUBJECTS[family % 8]),
        };
        if member == 0 {
            let kind = if kind == Kind::Service { "histogram" } else { "counter" };
            let family = name.trim_end_matches("_bucket");
            write!(text, "# HELP {family} What is counted of this family.\n# TYPE {family} {kind}\n")
                .expect("a String takes every write");
        }
        let seed = mix((page * 1_000_003 + at) as u64);
        let labels = match kind {
            Kind::Node => format!("device=\"sd{member}\",mode=\"{}\"", SUBJECTS[member % 8]),
            Kind::Service => format!(
                "method=\"GET\",path=\"/api/v1/item/{family}\",status=\"200\",le=\"{}\"",
                BOUNDS[member]
            ),
            Kind::Container => format!(
                "container=\"app-{member}\",id=\"/kubepods/burstable/pod{seed:016x}/{:016x}{seed:016x}\",image=\"registry.example/team/app-{member}:1.{}\",name=\"k8s_app-{member}_{:016x}\",namespace=\"team-{}\",pod=\"app-{member}-{:08x}-{:05x}\"",
                mix(seed),
                seed % 40,
                mix(seed + 1),
                seed % 12,
                seed >> 32,
                seed & 0xf_ffff
            ),
        };
        let moves = seed % 100 < 45;
        let value = seed % 1_000_000 + if moves { (variant as u64 + 1) * (seed % 977) } else { 0 };
        // One of eight is a measured number with all its digits.
        if seed.is_multiple_of(8) {
            writeln!(text, "{name}{{{labels}}} {}", value as f64 / 977.0)
        } else {
            writeln!(text, "{name}{{{labels}}} {value}")
        }
        .expect("a String takes every write");
    }
    text
}

/// SplitMix64's last step.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const SUBJECTS: [&str; 8] =
    ["cpu", "disk", "memory", "network", "requests", "filesystem", "scheduler", "queue"];
const BOUNDS: [&str; 20] = [
    "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.25", "0.5", "0.75", "1",
    "1.5", "2.5", "5", "7.5", "10", "30", "+Inf",
];
