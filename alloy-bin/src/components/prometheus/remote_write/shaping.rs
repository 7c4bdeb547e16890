//! What an endpoint makes of a batch: records for its log.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::arguments::{EndpointArguments, Message};
use crate::formats::{RemoteWrite2Encoder, RemoteWriteEncoder, Sends, compress};
use crate::outbox::Piece;
use crate::relabel::{CacheLimit, Relabeler};
use crate::telemetry::{Labels, Sample, SampleBatch};

/// How long series are remembered that end without a marker. One that comes back later is worked out anew.
const RELABEL_MEMORY: CacheLimit = CacheLimit::Age(Duration::from_secs(600));

/// What an endpoint wants of a batch.
pub(super) struct Shaping {
    wants: Wants,
    /// `write_relabel_config`; its rules see the external labels, so what it gives has them.
    relabeler: Option<Relabeler>,
    /// These add the external labels where no rules have seen them.
    first: RemoteWriteEncoder,
    second: RemoteWrite2Encoder,
}

/// Endpoints without rules that want the same get the same records.
#[derive(Clone, Copy, PartialEq)]
struct Wants {
    /// `max_samples_per_send`.
    max_samples: usize,
    sends: Sends,
    /// With the series, where the message has room for it.
    metadata: bool,
}

/// The records of one batch that were made so far.
#[derive(Default)]
pub(super) struct Made(Vec<(Wants, Message, Vec<Piece>)>);

impl Shaping {
    pub(super) fn new(arguments: &EndpointArguments, external: &Labels) -> Self {
        let relabeler = (!arguments.rules.is_empty())
            .then(|| Relabeler::new(arguments.rules.clone(), external.clone(), RELABEL_MEMORY));
        let none = Labels::new::<&str, &str>([]);
        let external = if relabeler.is_some() { &none } else { external };
        let (max_samples, sends) = (arguments.queue.max_samples_per_send, arguments.sends);
        Shaping {
            wants: Wants { max_samples, sends, metadata: arguments.metadata.send },
            relabeler,
            first: RemoteWriteEncoder::new(external).sending(sends),
            second: RemoteWrite2Encoder::new(external, sends),
        }
    }

    /// The batch as records, encoded and compressed once for all endpoints that want the same.
    pub(super) fn pieces<'m>(
        &self,
        batch: &SampleBatch,
        message: Message,
        made: &'m mut Made,
    ) -> &'m [Piece] {
        let same = |(wants, of, _): &(Wants, Message, Vec<Piece>)| *wants == self.wants && *of == message;
        let known = made.0.iter().position(same).filter(|_| self.relabeler.is_none());
        let index = known.unwrap_or_else(|| {
            let pieces = self.make(batch, message);
            // What rules have changed is nobody else's: it is kept behind, under no wants that are looked for.
            let wants =
                if self.relabeler.is_some() { Wants { max_samples: 0, ..self.wants } } else { self.wants };
            made.0.push((wants, message, pieces));
            made.0.len() - 1
        });
        &made.0[index].2
    }

    /// Pieces of at most `max_samples` samples.
    fn make(&self, batch: &SampleBatch, message: Message) -> Vec<Piece> {
        let relabeled;
        let batch = match &self.relabeler {
            Some(relabeler) => {
                relabeled = relabeler.relabel(batch, Instant::now());
                &relabeled
            }
            None => batch,
        };
        let metadata = if self.wants.metadata { batch.metadata() } else { &[] };
        let samples: Vec<Sample<'_>> = batch.iter().collect();
        let mut plain = Vec::new();
        let pieces = samples.chunks(self.wants.max_samples).filter_map(|chunk| {
            plain.clear();
            let items = match message {
                Message::First => self.first.encode(chunk.iter().copied(), &mut plain),
                Message::Second => self.second.encode(chunk.iter().copied(), metadata, &mut plain),
            };
            (items > 0).then(|| Piece {
                lane: batch.lane(),
                items,
                newest_ms: chunk.iter().map(|sample| sample.timestamp_ms).max().unwrap_or(i64::MIN),
                tenant: None,
                origin: None,
                body: Bytes::from(compress(&plain)),
            })
        });
        pieces.collect()
    }
}
