//! `prometheus.scrape`: scrapes its share of the targets in their slots and passes each page on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::scraper::{Clustering, Options, Plan, Scraper, Way};
use crate::config::{Body, Decode};
use crate::graph::{Component, Context, ExportType, Fanout, Health, MadeOf, MetricsReceiver, SharedTarget};
use crate::scraping::{Common, Spec, SpecError};
use crate::telemetry::{Page, Target};

/// What the block says.
pub struct Arguments {
    targets: Vec<SharedTarget>,
    forward_to: Vec<MetricsReceiver>,
    clustering: Clustering,
    options: Options,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        Arguments {
            targets: body.required("targets"),
            forward_to: body.required("forward_to"),
            clustering: body.block("clustering").unwrap_or_default(),
            options: Options::decode(body),
        }
    }
}

/// The component.
pub struct Scrape {
    id: Arc<str>,
    scraper: Scraper,
    health: Health,
    /// `None` until the arguments are first adopted.
    before: Mutex<Option<Before>>,
}

/// What was made of the last arguments.
struct Before {
    common: Common,
    /// The targets by what they are made of.
    made: MadeOf<Result<Arc<Spec>, SpecError>>,
    way: Arc<Way>,
}

impl Scrape {
    /// Targets that cannot be scraped are reported and left out; the others go on.
    fn adopt(&self, arguments: Arguments) {
        let Arguments { targets, forward_to, clustering, options } = arguments;
        let common = options.common(&self.id, &clustering.excluded_labels);
        let mut before = self.before.lock().expect("no code panics while holding it");
        let none = MadeOf::default();
        let made =
            before.as_ref().filter(|before| before.common == common).map_or(&none, |before| &before.made);
        let spec = |target: &Target| Spec::new(target, &common).map(Arc::new);
        let (made, specs) = MadeOf::new(&targets, made, spec);
        let (specs, errors): (Vec<_>, Vec<_>) = specs.into_iter().partition(Result::is_ok);
        let errors: Vec<String> =
            errors.into_iter().filter_map(|error| Some(error.err()?.to_string())).collect();
        match errors.first() {
            Some(first) => {
                tracing::warn!(
                    component_id = &*self.id,
                    targets = errors.len(),
                    first,
                    "targets cannot be scraped and are left out"
                );
                self.health
                    .unhealthy(format!("{} targets cannot be scraped; the first: {first}", errors.len()));
            }
            None => self.health.ok(),
        }
        let specs: HashMap<u64, Arc<Spec>> =
            specs.into_iter().flatten().map(|spec| (spec.key, spec)).collect();
        let fallback = clustering.falls_back.then_some(options.settings.interval);
        let receivers = Fanout::new(forward_to);
        let settings = options.settings_for(specs.len());
        let way = before.as_ref().map(|before| &*before.way);
        let way = Arc::new(Way::new(settings, receivers.clone(), way));
        *before = Some(Before { common, made, way: way.clone() });
        let targets = specs.into_iter().map(|(key, spec)| (key, (spec, way.clone()))).collect();
        self.scraper.adopt(Plan { targets, receivers, fallback });
    }
}

#[async_trait]
impl Component for Scrape {
    const NAME: &'static str = "prometheus.scrape";
    const EXPORTS: &'static [ExportType] = &[];
    type Arguments = Arguments;

    fn build(arguments: Arguments, context: Context) -> anyhow::Result<Self> {
        let scraper = Scraper::new(&context, arguments.clustering.sharing)?;
        let Context { id, health, .. } = context;
        let scrape = Scrape { id, scraper, health, before: Mutex::default() };
        scrape.adopt(arguments);
        Ok(scrape)
    }

    async fn run(&self, stop: CancellationToken) {
        self.scraper.run(stop).await;
    }

    fn update(&self, arguments: Arguments) -> anyhow::Result<()> {
        self.scraper.check(arguments.clustering.sharing)?;
        self.adopt(arguments);
        Ok(())
    }

    fn collect(&self, page: &mut Page) {
        self.scraper.collect(page);
    }
}

#[cfg(test)]
mod tests;
