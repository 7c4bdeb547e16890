//! One component of a running graph: made, started, given new arguments, made anew, stopped. It lives on over reloads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::{Argument, Scope, Value};
use crate::syntax::ast::Block;
use crate::syntax::{Diagnostic, Diagnostics};
use crate::telemetry::Page;

use super::changes::Changes;
use super::component::{Context, Refusal, Registration, Running};

/// How long one component may take to stop before it is ended by force. A component's own flush is shorter.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long is waited for others to let go of what a stopped component has given them.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);
/// Between a failure and the next try: doubled each time, from the first to the last.
const BACKOFF: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(60);
/// Who has run for so long is forgiven earlier failures.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);

/// A component, whether it runs or not.
pub(super) struct Live {
    pub(super) context: Context,
    registration: Registration,
    changes: Arc<Changes>,
    state: Mutex<State>,
}

struct State {
    running: Option<Arc<dyn Running>>,
    task: Option<Task>,
    given: Given,
    /// Whether it is meant to run.
    was_started: bool,
    failures: u32,
    started: Instant,
}

struct Task {
    stop: CancellationToken,
    watcher: JoinHandle<()>,
    work: AbortHandle,
}

/// What a component is made with.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) block: Arc<Block>,
    pub(super) scope: Arc<Scope>,
    /// What the block's expressions come to.
    pub(super) arguments: Value,
    /// Whether its figures are shown.
    pub(super) shows_figures: bool,
}

impl Live {
    /// Makes the component. It does not run yet.
    pub(super) fn make(
        registration: Registration,
        given: Given,
        context: Context,
        changes: Arc<Changes>,
    ) -> Result<Arc<Live>, Diagnostics> {
        let running = build(registration, &given, context.clone())?;
        let state = State {
            running: Some(running),
            task: None,
            given,
            was_started: false,
            failures: 0,
            started: Instant::now(),
        };
        Ok(Arc::new(Live { context, registration, changes, state: Mutex::new(state) }))
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.context.id
    }

    pub(super) fn given(&self) -> Given {
        self.lock().given.clone()
    }

    /// Writes its figures under its name.
    pub(super) fn collect(&self, page: &mut Page) {
        let Some(running) = self.running().filter(|_| self.given().shows_figures) else { return };
        let (path, local_id) = self.id().rsplit_once('/').unwrap_or(("", self.id()));
        let labels = [("component_id", local_id), ("component_path", &format!("/{path}"))];
        page.labelled(&labels, |page| running.collect(page));
    }

    /// What its block says.
    pub(super) fn arguments(&self) -> Vec<Argument> {
        let given = self.given();
        (self.registration.shown)(&given.block, &given.scope)
    }

    fn running(&self) -> Option<Arc<dyn Running>> {
        self.lock().running.clone()
    }

    /// The same arguments, in the words of a new configuration.
    pub(super) fn reword(&self, given: Given) {
        self.lock().given = given;
    }

    /// Begins to work.
    pub(super) fn start(&self) {
        let mut state = self.lock();
        let Some(running) = state.running.clone().filter(|_| state.task.is_none()) else { return };
        let stop = CancellationToken::new();
        let (token, health) = (stop.clone(), self.context.health.clone());
        let (id, changes) = (self.id().clone(), self.changes.clone());
        // A task of its own, so that a panic is a component's end and not the agent's.
        let work = tokio::spawn(async move { running.run(token).await });
        let abort = work.abort_handle();
        let told = stop.clone();
        let watcher = tokio::spawn(async move {
            let reason = match work.await {
                Err(error) if !error.is_cancelled() => format!("has failed: {error}"),
                _ if told.is_cancelled() => return,
                _ => "has ended by itself".to_owned(),
            };
            tracing::error!(component_id = &*id, reason, "a component works no more");
            health.ended(reason);
            if !told.is_cancelled() {
                changes.note(|news| {
                    news.ended.insert(id);
                });
            }
        });
        state.task = Some(Task { stop, watcher, work: abort });
        state.started = Instant::now();
        state.was_started = true;
    }

    /// Stops by `deadline`; by force, if need be.
    pub(super) async fn stop(&self, deadline: Instant) {
        let Some(mut task) = self.lock().task.take() else { return };
        task.stop.cancel();
        let deadline = deadline.min(Instant::now() + STOP_PATIENCE);
        if timeout_at(deadline, &mut task.watcher).await.is_err() {
            tracing::error!(component_id = &**self.id(), "a component does not stop; it is ended by force");
            task.work.abort();
            let _ = task.watcher.await;
        }
    }

    /// Gives it new arguments; makes it anew if it can't take them as it stands. After an error it works with the old
    /// ones.
    pub(super) async fn apply(&self, given: Given) -> Result<(), Diagnostics> {
        let refused = match self.running().filter(|_| self.is_up()) {
            Some(running) => {
                let update = AssertUnwindSafe(|| running.update(&given.block, &given.scope));
                match catch_unwind(update) {
                    Ok(Ok(())) => {
                        self.lock().given = given;
                        return Ok(());
                    }
                    Ok(Err(Refusal::Wrong(diagnostics))) => return Err(diagnostics),
                    Ok(Err(Refusal::Rebuild(error))) => format!("{error:#}"),
                    Err(_) => "it panicked over its new arguments".to_owned(),
                }
            }
            None => "it does not work now".to_owned(),
        };
        tracing::info!(component_id = &**self.id(), reason = refused, "a component is made anew");
        let old = self.given();
        self.rebuild(given, Some(old)).await
    }

    /// Gives it new arguments, as [`Live::apply`] does. One that waits for its revival has them then.
    pub(super) async fn offer(&self, given: Given) -> Result<(), Diagnostics> {
        if self.is_up() {
            return self.apply(given).await;
        }
        (self.registration.check)(&given.block, &given.scope)?;
        self.reword(given);
        Ok(())
    }

    /// What is wrong with the arguments that it was offered last.
    pub(super) fn refused(&self, trouble: Option<String>) {
        self.context.health.arguments(trouble);
    }

    /// Makes it anew with what it had.
    pub(super) async fn revive(&self) -> Result<(), Diagnostics> {
        let given = self.given();
        self.rebuild(given, None).await
    }

    /// Another one in its place. What the first had on disk is released before; those who send to it wait. If that
    /// fails, one with the old arguments takes the place again.
    async fn rebuild(&self, given: Given, old: Option<Given>) -> Result<(), Diagnostics> {
        // One that was never started is not to begin now.
        let is_started = self.lock().was_started;
        let is_released = self.context.exports.close();
        self.stop(Instant::now() + STOP_PATIENCE).await;
        let weak = self.lock().running.take().map(|running| Arc::downgrade(&running));
        let deadline = Instant::now() + RELEASE_PATIENCE;
        while !(is_released() && weak.as_ref().is_none_or(|weak| weak.strong_count() == 0))
            && Instant::now() < deadline
        {
            // Batches that were on their way are refused by now; the rest is a matter of turns.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let result = match self.build(given).await {
            Ok(()) => Ok(()),
            Err(diagnostics) => {
                let is_old_up = match &old {
                    Some(old) => self.build(old.clone()).await.is_ok(),
                    None => false,
                };
                if !is_old_up {
                    self.context.health.ended("cannot be made anew");
                    self.changes.note(|news| {
                        news.ended.insert(self.id().clone());
                    });
                }
                Err(diagnostics)
            }
        };
        if is_started {
            self.start();
        }
        result
    }

    async fn build(&self, given: Given) -> Result<(), Diagnostics> {
        let (registration, for_build, context) = (self.registration, given.clone(), self.context.clone());
        // Files are opened here, and a disk may be slow.
        let running = blocking(move || build(registration, &for_build, context)).await?;
        self.context.health.reborn();
        let mut state = self.lock();
        state.running = Some(running);
        state.given = given;
        Ok(())
    }

    /// It has ended: asks for another try when the time has come.
    pub(super) fn await_revival(&self) {
        let wait = {
            let mut state = self.lock();
            if state.task.take_if(|task| task.work.is_finished()).is_none() && state.running.is_some() {
                // It was made anew since.
                return;
            }
            if state.started.elapsed() > FORGIVEN_AFTER {
                state.failures = 0;
            }
            state.failures += 1;
            BACKOFF.start.saturating_mul(1 << (state.failures - 1).min(16)).min(BACKOFF.end)
        };
        tracing::info!(component_id = &**self.id(), ?wait, "a component will be made anew");
        let (id, changes) = (self.id().clone(), self.changes.clone());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            changes.note(|news| {
                news.due.insert(id);
            });
        });
    }

    /// Whether it works, or was not told to yet.
    pub(super) fn is_up(&self) -> bool {
        let state = self.lock();
        let is_at_work = state.task.as_ref().map_or(!state.was_started, |task| !task.work.is_finished());
        state.running.is_some() && is_at_work
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while holding it")
    }
}

/// Makes a component; its panic is its own trouble.
fn build(
    registration: Registration,
    given: &Given,
    context: Context,
) -> Result<Arc<dyn Running>, Diagnostics> {
    let build = AssertUnwindSafe(|| (registration.build)(&given.block, &given.scope, context));
    catch_unwind(build).unwrap_or_else(|_| {
        let message = format!("{}: it panicked when it was made", given.block.id());
        Err(Diagnostic::error(given.block.header(), message).into())
    })
}

/// Does what may wait for a disk. A panic goes on here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
