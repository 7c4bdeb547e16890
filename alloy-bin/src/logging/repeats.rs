//! Complaints that come again and again from one place of the code are left out, and counted.

use std::collections::HashMap;
use std::sync::Mutex;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter};

/// What one place may say from one call of [`Repeats::tell`] to the next: enough to see of which components or targets it speaks.
const BURST: u32 = 30;

/// Counts for each place how often it was heard.
#[derive(Default)]
pub(super) struct Repeats(Mutex<HashMap<Identifier, Said>>);

struct Said {
    times: u32,
    message: String,
}

impl Repeats {
    /// Whether this is to be heard. What is said at `info` is a change of state or was asked for, and has no limit.
    fn allows(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return true;
        }
        let mut said = self.0.lock().expect("no code panics while holding it");
        let said = said.entry(metadata.callsite()).or_insert_with(|| {
            let mut message = Message(String::new());
            event.record(&mut message);
            Said { times: 0, message: message.0 }
        });
        said.times = said.times.saturating_add(1);
        said.times <= BURST
    }

    /// Says what was left out since the last call; from now on everybody is heard again.
    pub(super) fn tell(&self) {
        // Not under the lock: this is heard here, too.
        let said = std::mem::take(&mut *self.0.lock().expect("no code panics while holding it"));
        for Said { times, message } in said.into_values().filter(|said| said.times > BURST) {
            tracing::warn!(left_out = times - BURST, said = message, "the same was said too often");
        }
    }
}

impl<S> Filter<S> for &'static Repeats {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _metadata: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        self.allows(event)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }
}

/// The sentence of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
