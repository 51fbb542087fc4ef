//! The connection: one at a time, multiplexed, replaced in the background whenever it fails.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use super::address::{Address, cluster_refused};
use super::call::{Call, Effect};
use super::control;
use super::near::Near;
use crate::store::epoch::Epoch;
use crate::store::{Result, StoreError};

/// How long connecting may take, with everything that is asked of a new connection.
const CONNECT: Duration = Duration::from_secs(1);
/// Between attempts to connect: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const HEARTBEAT: Duration = Duration::from_millis(500);
const MAX_IN_FLIGHT: usize = 10_000;

/// How the connection stands.
#[derive(Debug, Clone)]
pub(super) enum Status {
    Connecting,
    Connected,
    /// Connected, and the records that another program wrote are known.
    Ready,
    Lost(StoreError),
}

/// Where the server is and the connection to it, when there is one.
pub(super) struct Wire {
    address: Address,
    pub(super) deadline: Duration,
    epoch: Arc<Epoch>,
    near_cache_bytes: u64,
    link: ArcSwapOption<Link>,
    pub(super) status: watch::Sender<Status>,
    /// True from the first time on that all ids were known.
    pub(super) adopted: AtomicBool,
    slots: Arc<Semaphore>,
    /// Rises with each connection, before that serves.
    pub(super) contact: AtomicU64,
}

/// One connection, and what was kept of its replies.
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) near: Option<Arc<Near>>,
    pub(super) epoch: Arc<Epoch>,
    /// Whether the server is known to sync each write before it answers.
    pub(super) syncs_all: AtomicBool,
    loss: Arc<Loss>,
}

#[derive(Default)]
struct Loss {
    happened: AtomicBool,
    noticed: Notify,
}

impl Loss {
    fn happens(&self) {
        self.happened.store(true, Ordering::Release);
        self.noticed.notify_one();
    }
}

impl Wire {
    pub(super) fn new(
        address: Address,
        deadline: Duration,
        epoch: Arc<Epoch>,
        near_cache_bytes: u64,
    ) -> Self {
        Self {
            address,
            deadline,
            epoch,
            near_cache_bytes,
            link: ArcSwapOption::empty(),
            status: watch::Sender::new(Status::Connecting),
            adopted: AtomicBool::new(false),
            slots: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            contact: AtomicU64::new(0),
        }
    }

    /// The near cache of the connection that stands.
    pub(super) fn near(&self) -> Option<Arc<Near>> {
        let link = self.link.load();
        link.as_ref().filter(|link| !link.is_lost())?.near.clone()
    }

    /// Gives the connection that stands up, if there is one.
    pub(super) fn lose(&self) {
        if let Some(link) = &*self.link.load() {
            link.lose();
        }
    }

    /// Makes room for a call on the connection that stands.
    pub(super) fn begin(&self) -> Result<Call> {
        let link = self.link.load_full().filter(|link| !link.is_lost()).ok_or_else(|| self.loss())?;
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| StoreError::Overloaded)?;
        Ok(Call::in_slot(link, self.deadline, slot))
    }

    /// Whether the server at the other end is known to sync each write before it answers.
    pub(super) fn syncs_all(&self) -> bool {
        self.link.load().as_ref().is_some_and(|link| link.syncs_all.load(Ordering::Acquire))
    }

    fn loss(&self) -> StoreError {
        match &*self.status.borrow() {
            // It may be another server when it is back, so nothing is for ever.
            Status::Lost(StoreError::Unsupported(reason)) => StoreError::Unavailable(reason.clone()),
            Status::Lost(error) => error.clone(),
            _ => StoreError::Unavailable("Redis is not connected".into()),
        }
    }

    /// Connects and connects again for ever. Runs `tend` beside each connection for as long as that stands.
    pub(super) async fn keep<F: Future<Output = ()>>(&self, tend: impl Fn(Arc<Link>) -> F) {
        let mut pause = PAUSE.0;
        loop {
            match self.open().await {
                Ok(link) => {
                    let link = Arc::new(link);
                    self.contact.fetch_add(1, Ordering::AcqRel);
                    self.link.store(Some(link.clone()));
                    self.status.send_replace(Status::Connected);
                    pause = PAUSE.0;
                    tokio::select! {
                        () = link.loss.noticed.notified() => {}
                        ((), ()) = async { tokio::join!(tend(link.clone()), self.beat(&link)) } => {}
                    }
                    self.link.store(None);
                    let lost = "the connection to Redis was lost; connecting again";
                    self.status.send_replace(Status::Lost(StoreError::Unavailable(lost.into())));
                }
                Err(error) => {
                    self.status.send_replace(Status::Lost(error));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn open(&self) -> Result<Link> {
        let near = (self.near_cache_bytes > 0).then(|| Arc::new(Near::new(self.near_cache_bytes)));
        let loss = Arc::new(Loss::default());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1_024)
            .set_push_sender(listener(near.clone(), loss.clone()));
        let attempt = async {
            let mut connection = self.address.open(&config).await.map_err(|error| self.refusal(&error))?;
            self.inspect(&mut connection).await?;
            if let Some(near) = &near {
                let sent = std::time::Instant::now();
                let track = redis::cmd("CLIENT").arg("TRACKING").arg("ON").to_owned();
                track.exec_async(&mut connection).await.map_err(|error| self.refusal(&error))?;
                near.prove(sent);
            }
            let syncs_all = control::inspect(&mut connection).await.into();
            let (near, loss, epoch) = (near.clone(), loss.clone(), self.epoch.clone());
            Ok(Link { connection, near, epoch, syncs_all, loss })
        };
        let silence = || Err(StoreError::Unavailable("Redis does not answer; connecting again".into()));
        timeout(CONNECT, attempt).await.unwrap_or_else(|_| silence())
    }

    /// Whether the server is one that takes our writes: a primary, and not part of a cluster.
    async fn inspect(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        let mut info = String::new();
        for section in ["cluster", "replication", "memory"] {
            match redis::cmd("INFO").arg(section).query_async::<String>(connection).await {
                Ok(text) => info.push_str(&text),
                Err(error) if error.is_io_error() => return Err(self.refusal(&error)),
                Err(_) => tracing::warn!(section, "Redis does not tell about itself; assuming one primary"),
            }
        }
        let says = |line| info.lines().any(|l| l == line);
        if says("cluster_enabled:1") {
            return Err(cluster_refused());
        }
        if says("role:slave") {
            return Err(StoreError::Unavailable("the Redis server is a replica; a primary is needed".into()));
        }
        if !says("maxmemory:0") && info.lines().any(|line| line.starts_with("maxmemory_policy:allkeys")) {
            tracing::warn!("Redis may evict records that only it holds: set maxmemory-policy to noeviction");
        }
        Ok(())
    }

    fn refusal(&self, error: &RedisError) -> StoreError {
        StoreError::Unavailable(format!("Redis cannot be connected: {}", self.address.describe(error)))
    }

    /// Proves at short intervals that the server is there, and that it has announced every change.
    async fn beat(&self, link: &Arc<Link>) {
        loop {
            let sent = std::time::Instant::now();
            let answer = Call::on(link, self.deadline).cmd(Effect::Reads, &redis::cmd("PING")).await;
            if let (Ok(_), Some(near)) = (answer, &link.near) {
                near.prove(sent);
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    }
}

impl Link {
    /// Gives the connection up: no call begins on it any more, and another one is made.
    pub(super) fn lose(&self) {
        self.loss.happens();
    }

    fn is_lost(&self) -> bool {
        self.loss.happened.load(Ordering::Acquire)
    }
}

/// Hears of changed keys, and of the end of the connection. Called by the task that reads the connection,
/// in the order in which the server wrote.
fn listener(
    near: Option<Arc<Near>>,
    loss: Arc<Loss>,
) -> impl Fn(PushInfo) -> std::result::Result<(), ()> + Send + Sync + 'static {
    move |push| {
        match (push.kind, &near) {
            (PushKind::Disconnection, _) => loss.happens(),
            (PushKind::Invalidate, Some(near)) => near.on_invalidation(push.data),
            _ => {}
        }
        Ok(())
    }
}
