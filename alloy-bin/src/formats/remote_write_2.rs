//! Sample batch -> remote-write 2.0 request, complete by itself: its table of texts is in it.
//!
//! ```text
//! Request    { repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
//! TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2; repeated Histogram histograms = 3;
//!              repeated Exemplar exemplars = 4; Metadata metadata = 5; int64 created_timestamp = 6; }
//! Exemplar   { repeated uint32 labels_refs = 1; double value = 2; int64 timestamp = 3; }
//! Metadata   { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }
//! ```
//!
//! Samples and histograms are those of 1.0. The first symbol is the empty text. The table is written in front of the series, as
//! some receivers resolve references while they read. Specification:
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>. Created timestamps are deliberately absent: the model has none.

mod join;
mod symbols;

use std::collections::HashMap;

use super::protobuf::{
    bytes_field_len, delimited, fixed64, put_bytes, put_double, put_integer, put_message, put_varint, varint,
};
use super::remote_write::{Sends, histogram, put_sample, sample_field_len};
use crate::telemetry::{Exemplar, Labels, LabelsRef, Metadata, MetricType, Sample};
pub use join::{is_remote_write_2, join_remote_write_2, older_remote_write};
use symbols::Symbols;

const REQUEST_TIMESERIES: u8 = delimited(5);
const SERIES_LABELS: u8 = delimited(1);
const SERIES_HISTOGRAMS: u8 = delimited(3);
const SERIES_EXEMPLARS: u8 = delimited(4);
const SERIES_METADATA: u8 = delimited(5);
const EXEMPLAR_LABELS: u8 = delimited(1);
const EXEMPLAR_VALUE: u8 = fixed64(2);
const EXEMPLAR_TIMESTAMP: u8 = varint(3);
const METADATA_TYPE: u8 = varint(1);
const METADATA_HELP: u8 = varint(3);
const METADATA_UNIT: u8 = varint(4);

/// What a remote-write 2.0 request says of its body, compressed to one raw snappy block.
pub const REMOTE_WRITE_2_HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "2.0.0"),
];

/// Encodes sample batches for one endpoint.
#[derive(Debug, Clone)]
pub struct RemoteWrite2Encoder {
    external: Labels,
    sends: Sends,
}

impl RemoteWrite2Encoder {
    /// An encoder that adds these labels to each series that has none of the same name.
    pub fn new(external_labels: &Labels, sends: Sends) -> Self {
        RemoteWrite2Encoder { external: external_labels.clone(), sends }
    }

    /// Appends a request with the samples to `out`: one series with one sample for each, in order, with what is said of its
    /// family. Histograms that the endpoint does not want are left out. Returns how many samples went in; without any, nothing is
    /// written.
    pub fn encode<'a>(
        &self,
        samples: impl IntoIterator<Item = Sample<'a>>,
        metadata: &[Metadata],
        out: &mut Vec<u8>,
    ) -> u32 {
        let mut request = Request::new(&self.external, metadata);
        let mut items = 0;
        for sample in samples {
            if sample.histogram().is_some() && !self.sends.native_histograms {
                continue;
            }
            request.push(&sample, self.sends.exemplars);
            items += 1;
        }
        if items > 0 {
            out.append(&mut request.symbols.into_encoded());
            out.append(&mut request.series);
        }
        items
    }
}

/// A label with its references.
#[derive(Clone, Copy)]
struct Known<'a> {
    name: &'a [u8],
    value: &'a [u8],
    references: (u32, u32),
}

/// A request on its way to be one.
struct Request<'a, 'm> {
    symbols: Symbols,
    series: Vec<u8>,
    external: Vec<Known<'m>>,
    /// The labels of the series before, by their places: of one page most are the same in the next, and need no look into the
    /// table.
    before: Vec<Known<'a>>,
    references: Vec<u8>,
    families: HashMap<&'m [u8], &'m Metadata>,
    /// The metric's name and what is said of it, encoded.
    about: (&'a [u8], Vec<u8>),
}

impl<'a, 'm> Request<'a, 'm> {
    fn new(external: &'m Labels, metadata: &'m [Metadata]) -> Self {
        let mut symbols = Symbols::new();
        let known = |(name, value)| Known {
            name,
            value,
            references: (symbols.reference(name), symbols.reference(value)),
        };
        let external = external.as_ref().iter_bytes().map(known).collect();
        let families = metadata.iter().map(|about| (about.family.as_bytes(), about)).collect();
        let (series, before, references) = (Vec::new(), Vec::new(), Vec::new());
        Request { symbols, series, external, before, references, families, about: (b"", Vec::new()) }
    }

    fn push(&mut self, sample: &Sample<'a>, exemplars: bool) {
        self.refer(sample.labels);
        if !self.families.is_empty() {
            self.describe();
        }
        if sample.extras.is_some() {
            return self.push_with_extras(sample, exemplars);
        }
        let length = bytes_field_len(self.references.len()) + sample_field_len(sample) + self.about.1.len();
        self.series.push(REQUEST_TIMESERIES);
        put_varint(&mut self.series, length as u64);
        put_bytes(&mut self.series, SERIES_LABELS, &self.references);
        put_sample(&mut self.series, sample);
        self.series.extend_from_slice(&self.about.1);
    }

    fn push_with_extras(&mut self, sample: &Sample<'a>, exemplars: bool) {
        let Request { symbols, series, references, about, .. } = self;
        put_message(series, REQUEST_TIMESERIES, 128, |out| {
            put_bytes(out, SERIES_LABELS, references);
            match sample.histogram() {
                Some(histogram) => {
                    let put = |out: &mut Vec<u8>| histogram::put(out, histogram, sample.timestamp_ms);
                    put_message(out, SERIES_HISTOGRAMS, 128, put);
                }
                None => put_sample(out, sample),
            }
            let wanted = sample.extras.filter(|_| exemplars);
            for exemplar in wanted.iter().flat_map(|extras| &extras.exemplars) {
                put_message(out, SERIES_EXEMPLARS, 64, |out| {
                    put_exemplar(out, exemplar, sample.timestamp_ms, symbols);
                });
            }
            out.extend_from_slice(&about.1);
        });
    }

    /// Writes the references of the labels, with the external ones between them in order; the series' own label wins.
    fn refer(&mut self, labels: LabelsRef<'a>) {
        let Request { symbols, external, before, references, .. } = self;
        references.clear();
        let mut put = |(name, value): (u32, u32)| {
            put_varint(references, name.into());
            put_varint(references, value.into());
        };
        let mut external = external.iter().peekable();
        let mut count = 0;
        for (name, value) in labels.iter_bytes() {
            while let Some(label) = external.next_if(|label| label.name < name) {
                put(label.references);
            }
            external.next_if(|label| label.name == name);
            let references = match before.get(count) {
                Some(known) if known.name == name && known.value == value => known.references,
                Some(known) if known.name == name => (known.references.0, symbols.reference(value)),
                _ => (symbols.reference(name), symbols.reference(value)),
            };
            let known = Known { name, value, references };
            match before.get_mut(count) {
                Some(place) => *place = known,
                None => before.push(known),
            }
            put(references);
            count += 1;
        }
        before.truncate(count);
        external.for_each(|label| put(label.references));
    }

    /// What is said of the family that the series belongs to; the same as before while the name is.
    fn describe(&mut self) {
        let name =
            self.before.iter().find(|label| label.name == b"__name__").map_or(&b""[..], |label| label.value);
        if self.about.0 == name {
            return;
        }
        self.about = (name, Vec::new());
        let Some(metadata) = family_of(name, &self.families) else { return };
        if **metadata == (Metadata { family: metadata.family.clone(), ..Metadata::default() }) {
            return;
        }
        let help = self.symbols.reference(metadata.help.as_bytes());
        let unit = self.symbols.reference(metadata.unit.as_bytes());
        put_message(&mut self.about.1, SERIES_METADATA, 8, |out| {
            put_integer(out, METADATA_TYPE, metadata.metric_type as i64);
            put_integer(out, METADATA_HELP, help.into());
            put_integer(out, METADATA_UNIT, unit.into());
        });
    }
}

/// The family of that name, or the one whose samples have such names.
fn family_of<'f, 'm>(name: &[u8], families: &'f HashMap<&'m [u8], &'m Metadata>) -> Option<&'f &'m Metadata> {
    use MetricType::{Counter, GaugeHistogram, Histogram, Info, Summary};
    const SUFFIXES: [(&[u8], &[MetricType]); 8] = [
        (b"_bucket", &[Histogram, GaugeHistogram]),
        (b"_count", &[Histogram, Summary]),
        (b"_sum", &[Histogram, Summary]),
        (b"_total", &[Counter]),
        (b"_info", &[Info]),
        (b"_created", &[Counter, Histogram, Summary]),
        (b"_gcount", &[GaugeHistogram]),
        (b"_gsum", &[GaugeHistogram]),
    ];
    let with_suffix = || {
        SUFFIXES.iter().find_map(|(suffix, types)| {
            let found = families.get(name.strip_suffix(*suffix)?)?;
            types.contains(&found.metric_type).then_some(found)
        })
    };
    families.get(name).or_else(with_suffix)
}

fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar, sample_ms: i64, symbols: &mut Symbols) {
    put_message(out, EXEMPLAR_LABELS, 8, |out| {
        for (name, value) in exemplar.labels.as_ref().iter_bytes() {
            put_varint(out, symbols.reference(name).into());
            put_varint(out, symbols.reference(value).into());
        }
    });
    put_double(out, EXEMPLAR_VALUE, exemplar.value);
    put_integer(out, EXEMPLAR_TIMESTAMP, exemplar.timestamp_ms.unwrap_or(sample_ms));
}

#[cfg(test)]
mod tests;
