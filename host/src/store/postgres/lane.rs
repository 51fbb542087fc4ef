//! Workers that each own a connection and serve many calls with one statement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{Backoff, Link};
use super::failure;
use super::schema::Gate;
use crate::store::{Connections, Result, StoreError};

/// Where a job's answer goes. Dropped without one when nobody knows what became of the job.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// The most calls that wait for one worker.
const QUEUE: usize = 1_024;

/// The most calls that one drain takes from the queue.
const DRAIN: usize = 64;

/// After so long without a call a worker asks whether its connection lives.
const IDLE: Duration = Duration::from_secs(1);

/// A call on its way to a worker.
pub(super) trait Job: Send + Sized + 'static {
    /// Jobs of one group are served together.
    type Group: Ord + Send;

    fn group(&self) -> Self::Group;

    /// Answers every job of a group, in as few statements as there can be.
    ///
    /// # Errors
    /// The connection must not be used again.
    fn run(
        group: Self::Group,
        jobs: Vec<Self>,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Answers a job that was not begun.
    fn refuse(self, error: StoreError);

    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
}

/// Workers for one sort of job.
pub(super) struct Lane<J> {
    workers: Vec<(mpsc::Sender<J>, Arc<Load>)>,
}

/// What decides which worker gets the next job.
#[derive(Default)]
struct Load {
    up: AtomicBool,
    /// Jobs in its queue and in its hands.
    jobs: AtomicUsize,
}

impl<J: Job> Lane<J> {
    pub(super) fn new(workers: usize, link: &Arc<Link>, gate: &Gate, tasks: &mut JoinSet<()>) -> Self {
        let mut start = || {
            let (sender, queue) = mpsc::channel(QUEUE);
            let load = Arc::<Load>::default();
            let worker = Worker { link: link.clone(), gate: gate.clone(), queue, load: load.clone() };
            tasks.spawn(worker.work());
            (sender, load)
        };
        Self { workers: (0..workers).map(|_| start()).collect() }
    }

    /// Hands a job to the connected worker that has least to do, and waits for the answer.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> J) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.submit(job(reply))?;
        answer.await.unwrap_or(Err(StoreError::Timeout))
    }

    /// The workers that have a connection, and what waits for them.
    pub(super) fn connections(&self) -> Connections {
        let of_worker = |(queue, load): &(mpsc::Sender<J>, Arc<Load>)| {
            let up = load.up.load(Ordering::Acquire);
            let idle = up && load.jobs.load(Ordering::Relaxed) == 0;
            let waiting = queue.max_capacity() - queue.capacity();
            Connections { open: up.into(), idle: idle.into(), waiting }
        };
        self.workers.iter().map(of_worker).fold(Connections::default(), std::ops::Add::add)
    }

    fn submit(&self, job: J) -> Result<()> {
        let rank = |load: &Load| (!load.up.load(Ordering::Acquire), load.jobs.load(Ordering::Relaxed));
        let worker = self.workers.iter().min_by_key(|(_, load)| rank(load));
        let stopped = || StoreError::Unavailable("postgres is stopped".into());
        let (queue, load) = worker.ok_or_else(stopped)?;
        load.jobs.fetch_add(1, Ordering::Relaxed);
        queue.try_send(job).map_err(|refused| {
            load.jobs.fetch_sub(1, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => stopped(),
            }
        })
    }
}

/// The owner of one connection.
struct Worker<J> {
    link: Arc<Link>,
    gate: Gate,
    queue: mpsc::Receiver<J>,
    load: Arc<Load>,
}

impl<J: Job> Worker<J> {
    /// Ends when the store is gone.
    async fn work(mut self) {
        while let Some(connection) = self.connect().await {
            self.load.up.store(true, Ordering::Release);
            let lost = self.serve(connection).await;
            self.load.up.store(false, Ordering::Release);
            match lost {
                None => return,
                // Silence says nothing about the next connection; what is queued waits for that.
                Some(StoreError::Timeout) => {}
                Some(error) => self.refuse_queued(&error),
            }
        }
    }

    /// A new connection, however long it takes. From the first failure on, calls are refused meanwhile.
    async fn connect(&mut self) -> Option<PgConnection> {
        let (link, gate) = (self.link.clone(), self.gate.clone());
        let mut backoff = Backoff::default();
        let mut failure = None;
        loop {
            let opening = async {
                gate.opened().await;
                link.open().await
            };
            match self.refusing(failure.as_ref(), opening).await? {
                Ok(connection) => return Some(connection),
                Err(error) => failure = Some(error),
            }
            self.refusing(failure.as_ref(), sleep(backoff.next())).await?;
        }
    }

    /// Waits for something, and answers calls with the failure meanwhile, if there is one. None when the
    /// store is gone.
    async fn refusing<T>(
        &mut self,
        failure: Option<&StoreError>,
        awaited: impl Future<Output = T>,
    ) -> Option<T> {
        let Some(failure) = failure else { return Some(awaited.await) };
        let mut awaited = std::pin::pin!(awaited);
        loop {
            tokio::select! {
                biased;
                done = &mut awaited => return Some(done),
                job = self.queue.recv() => self.refuse(job?, failure),
            }
        }
    }

    /// Serves until the connection is lost; none when the store is gone.
    async fn serve(&mut self, mut connection: PgConnection) -> Option<StoreError> {
        let mut drain = Vec::with_capacity(DRAIN);
        let era = self.link.era();
        loop {
            if era != self.link.era() {
                return Some(StoreError::Timeout);
            }
            let Ok(count) = timeout(IDLE, self.queue.recv_many(&mut drain, DRAIN)).await else {
                match timeout(self.link.deadline, connection.ping()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return Some(failure::of_read(&error)),
                    Err(_) => return Some(StoreError::Timeout),
                }
            };
            if count == 0 {
                return None;
            }
            let lost = self.run(&mut drain, &mut connection).await.err();
            self.load.jobs.fetch_sub(count, Ordering::Relaxed);
            if lost.is_some() {
                return lost;
            }
        }
    }

    /// Serves what was drained, group by group.
    async fn run(&self, drain: &mut Vec<J>, connection: &mut PgConnection) -> Result<()> {
        let mut groups: BTreeMap<J::Group, Vec<J>> = BTreeMap::new();
        for job in drain.drain(..).filter(|job| !job.is_abandoned()) {
            groups.entry(job.group()).or_default().push(job);
        }
        let mut lost = Ok(());
        for (group, jobs) in groups {
            if lost.is_ok() {
                let run = J::run(group, jobs, connection);
                lost = timeout(self.link.deadline, run).await.unwrap_or(Err(StoreError::Timeout));
            } else {
                let why = StoreError::Unavailable("the connection to postgres was lost".into());
                jobs.into_iter().for_each(|job| job.refuse(why.clone()));
            }
        }
        lost
    }

    fn refuse_queued(&mut self, failure: &StoreError) {
        while let Ok(job) = self.queue.try_recv() {
            self.refuse(job, failure);
        }
    }

    fn refuse(&self, job: J, failure: &StoreError) {
        self.load.jobs.fetch_sub(1, Ordering::Relaxed);
        job.refuse(failure.clone());
    }
}
