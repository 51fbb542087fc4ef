//! A folder whose components go live by themselves: `NAME.wasm` becomes a version of NAME through the same
//! checks as an upload, and if NAME is active, the new version takes over.
//!
//! The folder is looked at whenever the system reports a change, and every two seconds in case it does not.
//! A file is taken when it has kept its size and time for [`SETTLED`]; both a rename into place and a write
//! in place end that way. A file that fails its checks leaves everything as it was, and an event.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::warn;

use super::activation::Wish;
use super::events::Event;
use super::{Strategies, StrategyError};
use crate::engine::refusal::BUSY;
use crate::store::clock::now_ms;
use crate::telemetry::Metrics;

/// How long a file must stay as it is before it counts as complete.
pub const SETTLED: Duration = Duration::from_millis(250);
/// How long to wait for the system to report a change before looking anyway.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);
/// How many files a watched folder may hold; more are ignored, with an error in the status.
const MAX_FILES: usize = 256;

/// What the watcher is doing, for `GET /admin/strategies`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WatcherStatus {
    pub folder: PathBuf,
    /// Whether the last look at the folder succeeded.
    pub alive: bool,
    /// Milliseconds since 1970.
    pub last_look_at: i64,
    /// How often it has looked.
    pub looks: u64,
    pub last_event_at: Option<i64>,
    /// What was last done with which file.
    pub last_event: Option<String>,
    pub last_error: Option<String>,
}

/// Size and time of change: what a file looks like from outside.
type Look = (u64, SystemTime);

/// Watches one folder for as long as it runs.
pub struct Watcher {
    folder: PathBuf,
    strategies: Arc<Strategies>,
    status: Arc<Mutex<WatcherStatus>>,
    seen: HashMap<PathBuf, Look>,
    taken: HashMap<PathBuf, Look>,
    metrics: WatcherMetrics,
}

struct WatcherMetrics {
    alive: Gauge,
    taken: Counter,
    failed: Counter,
}

impl Watcher {
    pub fn new(folder: &Path, strategies: Arc<Strategies>, metrics: &Metrics) -> Self {
        let gauges =
            WatcherMetrics { alive: Gauge::default(), taken: Counter::default(), failed: Counter::default() };
        metrics.register("watcher_alive", "Whether the watched folder can be read.", gauges.alive.clone());
        metrics.register("watcher_files_taken", "Watched files that passed.", gauges.taken.clone());
        metrics.register("watcher_files_failed", "Watched files that failed.", gauges.failed.clone());
        let status = WatcherStatus { folder: folder.into(), ..Default::default() };
        Self {
            folder: folder.into(),
            strategies,
            status: Arc::new(Mutex::new(status)),
            seen: HashMap::new(),
            taken: HashMap::new(),
            metrics: gauges,
        }
    }

    pub fn status(&self) -> Arc<Mutex<WatcherStatus>> {
        self.status.clone()
    }

    /// Runs until the task is dropped.
    pub async fn run(mut self) {
        let (nudge, mut changes) = mpsc::channel(1);
        let mut subscription = None;
        loop {
            if subscription.is_none() {
                subscription = self.subscribe(&nudge);
            }
            let unsettled = match self.look().await {
                Ok(unsettled) => unsettled,
                Err(error) => {
                    subscription = None;
                    self.failed(format!("{error:#}"));
                    false
                }
            };
            let wait = if unsettled { SETTLED } else { LOOK_ANYWAY };
            // A change in between only makes the next look come sooner.
            let _ = tokio::time::timeout(wait, changes.recv()).await;
            if unsettled {
                tokio::time::sleep(SETTLED).await;
            }
        }
    }

    fn subscribe(&self, nudge: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        let nudge = nudge.clone();
        let report = move |event: notify::Result<notify::Event>| {
            // A look opens the folder, which is reported, too.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // A full channel means that a look is due anyway.
                let _ = nudge.try_send(());
            }
        };
        let subscribed = notify::recommended_watcher(report).and_then(|mut watcher| {
            watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        subscribed.map_err(|error| warn!(%error, "no change reports; looking every two seconds")).ok()
    }

    /// Looks at every file once. True if some are still changing.
    async fn look(&mut self) -> anyhow::Result<bool> {
        let folder = self.folder.clone();
        let files = tokio::task::spawn_blocking(move || list(&folder)).await??;
        let mut unsettled = false;
        for (path, look) in &files {
            if self.taken.get(path) == Some(look) {
                continue;
            }
            if self.seen.get(path) == Some(look) {
                if self.take(path).await {
                    self.taken.insert(path.clone(), *look);
                }
            } else {
                unsettled = true;
            }
        }
        self.taken.retain(|path, _| files.contains_key(path));
        self.seen = files;
        self.metrics.alive.set(1);
        let mut status = self.status.lock();
        (status.alive, status.last_look_at) = (true, now_ms());
        status.looks += 1;
        Ok(unsettled)
    }

    /// Makes a file's contents a version of its name, and active if the name is. False if that failed for
    /// a reason that passes, so that the next look tries again.
    async fn take(&mut self, path: &Path) -> bool {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match self.try_take(path, &name).await {
            Ok(what) => {
                self.metrics.taken.inc();
                let mut status = self.status.lock();
                status.last_event_at = Some(now_ms());
                status.last_event = Some(format!("{name}: {what}"));
                true
            }
            Err(error) if passes(&error) => {
                self.failed(format!("{name}.wasm: {error:#}; it will be tried again"));
                false
            }
            Err(error) => {
                let error = format!("{name}.wasm: {error:#}");
                self.strategies.events.add(Event::new("watcher-failed", &name, "watcher", &error)).await;
                self.failed(error);
                true
            }
        }
    }

    async fn try_take(&self, path: &Path, name: &str) -> anyhow::Result<&'static str> {
        let limit = self.strategies.engine.limits().component_bytes as u64;
        let size = tokio::fs::metadata(path).await?.len();
        anyhow::ensure!(size <= limit, "{size} bytes are more than a component may have ({limit})");
        let bytes = tokio::fs::read(path).await?;
        let uploaded = self.strategies.upload(name, bytes.into(), "watcher").await?;
        let chosen = self.strategies.chosen();
        if chosen.name != name {
            return Ok("uploaded, not active");
        }
        for _ in 0..50 {
            let why = "the watched file changed";
            let wish = Wish { digest: Some(uploaded.digest.clone()), pin: chosen.pinned, ..Wish::default() };
            match self.strategies.activate(name, wish, "watcher", why).await {
                Err(StrategyError::Busy) => tokio::time::sleep(Duration::from_millis(100)).await,
                done => return Ok(done.map(|_| "uploaded and active")?),
            }
        }
        Err(StrategyError::Busy.into())
    }

    fn failed(&self, error: String) {
        warn!(error, "watcher");
        self.metrics.failed.inc();
        let alive = std::fs::read_dir(&self.folder).is_ok();
        self.metrics.alive.set(alive.into());
        let mut status = self.status.lock();
        (status.alive, status.last_look_at, status.last_error) = (alive, now_ms(), Some(error));
    }
}

/// Whether a failure is not the file's fault: the catalogue out of reach, or another check or switch.
fn passes(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<StrategyError>() {
        Some(StrategyError::Store(_) | StrategyError::Busy) => true,
        Some(StrategyError::Refused(refusal)) => refusal.code == BUSY,
        _ => false,
    }
}

/// The components in a folder, and what each looks like.
fn list(folder: &Path) -> anyhow::Result<HashMap<PathBuf, Look>> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        // A file may vanish between the listing and this question.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        anyhow::ensure!(files.len() < MAX_FILES, "more than {MAX_FILES} components in the watched folder");
        if metadata.is_file() {
            files.insert(path, (metadata.len(), metadata.modified()?));
        }
    }
    Ok(files)
}
