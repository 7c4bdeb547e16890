//! The components, by their names: `prometheus.scrape` is `prometheus/scrape.rs`. A new one is its file, its `mod` line,
//! its line in [`registrations`] and its page in `docs/components`.

pub mod discovery;
pub mod local;
pub mod loki;
#[cfg(feature = "otelcol")]
pub mod otelcol;
pub mod prometheus;
#[cfg(feature = "otelcol")]
pub mod tracing;

use self::discovery::Refreshed;
#[cfg(feature = "otelcol")]
use self::otelcol::Authentication;
use crate::graph::Registration;

/// Everything that a configuration may use.
pub fn registrations() -> Vec<Registration> {
    vec![
        Registration::of::<Refreshed<discovery::dns::Dns>>(),
        Registration::of::<Refreshed<discovery::file::File>>(),
        Registration::of::<Refreshed<discovery::http::Http>>(),
        #[cfg(feature = "kubernetes")]
        Registration::of::<discovery::kubernetes::Kubernetes>(),
        Registration::of::<discovery::relabel::Relabel>(),
        Registration::of::<local::file_match::FileMatch>(),
        Registration::of::<loki::echo::Echo>(),
        Registration::of::<loki::process::Process>(),
        Registration::of::<loki::relabel::Relabel>(),
        Registration::of::<loki::source_api::SourceApi>(),
        Registration::of::<loki::source_file::SourceFile>(),
        Registration::of::<loki::source_journal::SourceJournal>(),
        #[cfg(feature = "kubernetes")]
        Registration::of::<loki::source_kubernetes::SourceKubernetes>(),
        #[cfg(feature = "kubernetes")]
        Registration::of::<loki::source_kubernetes_events::SourceKubernetesEvents>(),
        Registration::of::<loki::write::Write>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<Authentication<otelcol::auth_basic::Basic>>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<Authentication<otelcol::auth_bearer::Bearer>>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<Authentication<otelcol::auth_headers::Headers>>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::exporter_debug::ExporterDebug>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::exporter_loki::ExporterLoki>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::exporter_otlp::ExporterOtlp>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::exporter_otlphttp::ExporterOtlphttp>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::exporter_prometheus::ExporterPrometheus>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::processor_batch::ProcessorBatch>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::processor_memory_limiter::ProcessorMemoryLimiter>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<otelcol::receiver_otlp::ReceiverOtlp>(),
        Registration::of::<prometheus::echo::Echo>(),
        Registration::of::<prometheus::exporter_self::ExporterSelf>(),
        #[cfg(feature = "unix")]
        Registration::of::<prometheus::exporter_unix::ExporterUnix>(),
        #[cfg(feature = "kubernetes")]
        Registration::of::<prometheus::operator_podmonitors::OperatorPodmonitors>(),
        #[cfg(feature = "kubernetes")]
        Registration::of::<prometheus::operator_servicemonitors::OperatorServicemonitors>(),
        Registration::of::<prometheus::relabel::Relabel>(),
        Registration::of::<prometheus::remote_write::RemoteWrite>(),
        Registration::of::<prometheus::scrape::Scrape>(),
        #[cfg(feature = "otelcol")]
        Registration::of::<tracing::Tracing>(),
    ]
}
