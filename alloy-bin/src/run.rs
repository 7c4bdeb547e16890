//! `alloy run`: the wiring, readable as one page; the order of start and stop.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::RunFlags;
use crate::components::registrations;
use crate::graph::{Checked, Hints, Host, LOOK_EVERY, Settings, watch};
use crate::http_client;
use crate::logging::Logs;
use crate::ownership::{self, Joined, Links};
use crate::server::{self, Divert, Listener};
use crate::service_manager::ServiceManager;
use crate::telemetry::{Collect, Page};

/// How long a leaving agent waits for the others to claim its keys, before it stops all the same.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is said what was left out because it was said too often.
const REPEATS_INTERVAL: Duration = Duration::from_secs(10);

/// Runs the agent until it is told to stop.
pub fn run(flags: RunFlags) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(flags));
    // A disk that hangs must not keep the process: what matters has been synced by now.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(flags: RunFlags) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;

    // 1. Everything that can be checked before anything is touched.
    let hostname = hostname();
    let checked = Checked::load(&flags.config, &registrations(), &hostname).map_err(anyhow::Error::msg)?;
    let Settings { logging, http, live_debugging } = checked.settings().map_err(anyhow::Error::msg)?;
    let logs = Arc::new(Logs::start(&logging)?);
    let (front, tail) = (Arc::new(server::Front::new(http)), Arc::new(server::Tail::new(live_debugging)));

    // 2. The port, the storage, the cluster. The node sees the others and owns nothing yet.
    let of = || format!("cannot listen on {} (--server.http.listen-addr)", flags.listen);
    let listener = Listener::bind(&flags.listen).await.with_context(of)?;
    let address = listener.address()?;
    let _locked = open_storage(&flags.storage)?;
    flags.limit_logs()?;
    let cluster = flags.cluster.clone().with_storage(&flags.storage);
    let Joined { ownership, member, links } = ownership::start(&cluster, &hostname, address).await?;

    // 3. The components, and the server that shows them.
    let (storage, cluster_name) = (flags.storage.clone(), flags.cluster.name.clone());
    let host = Host { storage, ownership: ownership.clone(), cluster_name };
    let settings = {
        let (logs, front, tail) = (logs.clone(), front.clone(), tail.clone());
        move |settings: Settings| {
            logs.change(&settings.logging);
            front.set(settings.http);
            tail.set(settings.live_debugging);
        }
    };
    let graph = Arc::new(checked.build(host, settings).await.map_err(anyhow::Error::msg)?);
    let support = (!flags.disable_support_bundle).then(|| {
        let recent_log = Box::new(Logs::recent);
        Arc::new(server::Support { flags: flags.shown, recent_log, started: Instant::now() })
    });
    let state = Arc::new(server::State {
        ready: AtomicBool::new(false),
        collectors: vec![
            graph.clone(),
            Arc::new(ownership.clone()),
            Arc::new(BuildInfo),
            Arc::new(server::ProcessFigures),
        ],
        components: graph.clone(),
        ownership: ownership.clone(),
        tail,
        support,
        reload: graph.clone(),
        #[cfg(feature = "ui")]
        lag: server::LagHistory::default(),
        pages: http_client::in_memory_page,
    });
    let shown = Arc::downgrade(&state);
    let own_page = Arc::new(move || shown.upgrade().map(|state| state.page()).unwrap_or_default());
    let _own_page = http_client::serve_in_memory(http_client::OWN_PAGE, own_page);
    let (stop_server, stop_member, stop_graph) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn(listener.serve(
        server::router(state.clone()),
        front,
        links.map(divert),
        stop_server.clone(),
    ));
    let member = tokio::spawn(member.run(stop_member.clone()));
    let running = tokio::spawn({
        let (graph, stop) = (graph.clone(), stop_graph.clone());
        async move { graph.run(stop).await }
    });
    let watching = tokio::spawn({
        let graph = graph.clone();
        async move { watch(&graph, LOOK_EVERY, Hints::Kernel).await }
    });

    let telling = tokio::spawn({
        let logs = logs.clone();
        async move {
            loop {
                tokio::time::sleep(REPEATS_INTERVAL).await;
                logs.tell_repeats();
            }
        }
    });
    #[cfg(feature = "ui")]
    let lag = tokio::spawn({
        let state = state.clone();
        async move { server::LagHistory::follow(&state).await }
    });

    // 4. Ready: the node takes its share.
    ownership.activate().await;
    state.ready.store(true, Ordering::Relaxed);
    let manager = Arc::new(ServiceManager::from_environment());
    manager.tell("READY=1");
    tokio::spawn(manager.clone().watchdog());
    tracing::info!(%address, node = ownership.me(), config = %flags.config.display(), "the agent is running");

    // 5. Stop: give the keys away, let sources end before what they send to, say goodbye.
    let signal = loop {
        match signals.next().await {
            Asked::Stop(signal) => break signal,
            Asked::Reload => manager.reloading(graph.reload()).await,
        }
    };
    watching.abort();
    #[cfg(feature = "ui")]
    lag.abort();
    tracing::info!(signal, "stopping");
    manager.tell("STOPPING=1");
    state.ready.store(false, Ordering::Relaxed);
    let handing_over = async {
        if !ownership.hand_over(HAND_OVER_PATIENCE).await {
            tracing::warn!(patience = ?HAND_OVER_PATIENCE, "not all keys were claimed in time; the others take them over from the copies");
        }
        stop_graph.cancel();
        let _ = running.await;
        ownership.leave().await;
    };
    tokio::select! {
        () = handing_over => {}
        signal = signals.stop() => tracing::warn!(signal, "stopping at once"),
    }
    stop_member.cancel();
    stop_server.cancel();
    let _ = (member.await, serving.await);
    telling.abort();
    logs.tell_repeats();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Connections that begin like a stream between members go to the cluster.
fn divert(links: Links) -> Divert {
    let take = move |stream| {
        let links = links.clone();
        tokio::spawn(async move { links.accept(stream).await });
    };
    Divert { magic: Links::MAGIC, take: Arc::new(take) }
}

/// What the system may ask of the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits until the agent is asked for something.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// Waits until the agent is asked to stop.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}

/// What the agent is asked for.
enum Asked {
    Stop(&'static str),
    Reload,
}

/// The machine's name; in a pod, the pod's.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Makes the storage folder and sees that it can be written: better now than at the first batch. No other agent may use
/// it while the returned file is open: two would write over each other's positions.
fn open_storage(path: &Path) -> anyhow::Result<File> {
    let of = || format!("cannot write to {} (--storage.path)", path.display());
    std::fs::create_dir_all(path).with_context(of)?;
    let probe = path.join(".writable");
    std::fs::write(&probe, b"").with_context(of)?;
    std::fs::remove_file(&probe).with_context(of)?;
    let lock = File::options().create(true).append(true).open(path.join(".lock")).with_context(of)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!("another agent is using {} (--storage.path)", path.display()),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// `alloy_build_info`.
struct BuildInfo;

impl Collect for BuildInfo {
    fn collect(&self, page: &mut Page) {
        let help = "The version of the agent.";
        page.gauge("alloy_build_info", help, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    }
}
