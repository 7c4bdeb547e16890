//! The components, by their names: `prometheus.scrape` is `prometheus/scrape.rs`. A new one is its file, its `mod` line,
//! its line in [`registrations`] and its page in `docs/components`.

pub mod discovery;
pub mod local;
pub mod loki;
pub mod prometheus;

use self::discovery::Refreshed;
use crate::graph::Registration;

/// Everything that a configuration may use.
pub fn registrations() -> Vec<Registration> {
    vec![
        Registration::of::<Refreshed<discovery::dns::Dns>>(),
        Registration::of::<Refreshed<discovery::file::File>>(),
        Registration::of::<Refreshed<discovery::http::Http>>(),
        Registration::of::<discovery::relabel::Relabel>(),
        Registration::of::<local::file_match::FileMatch>(),
        Registration::of::<loki::echo::Echo>(),
        Registration::of::<loki::process::Process>(),
        Registration::of::<loki::relabel::Relabel>(),
        Registration::of::<loki::source_api::SourceApi>(),
        Registration::of::<loki::source_file::SourceFile>(),
        Registration::of::<loki::source_journal::SourceJournal>(),
        Registration::of::<loki::write::Write>(),
        Registration::of::<prometheus::echo::Echo>(),
        Registration::of::<prometheus::exporter_self::ExporterSelf>(),
        Registration::of::<prometheus::relabel::Relabel>(),
        Registration::of::<prometheus::remote_write::RemoteWrite>(),
        Registration::of::<prometheus::scrape::Scrape>(),
    ]
}
