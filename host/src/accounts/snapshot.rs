//! Every account and group as of a moment ago. Read when a request asks and it is too old, by one reader at a
//! time; never while nobody asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use jiff::tz::Offset;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::account::Account;
use super::{groups, quota};
use crate::store::kind::{ACCOUNT, ACCOUNT_GROUP};
use crate::store::{Kind, MAX_PAGE, Record, StoreError};
use crate::strategy::records::Records;
use crate::telemetry::Seldom;

/// How old a snapshot may be.
const FRESH: Duration = Duration::from_millis(500);
/// How long a request waits for a new snapshot when there is an old one.
const PATIENCE: Duration = Duration::from_millis(250);
/// The most accounts, and the most groups, that are taken notice of.
const MOST: usize = 10_000;

/// All accounts and groups.
pub(super) struct Snapshot {
    pub(super) accounts: HashMap<Arc<str>, Arc<Account>>,
    /// The members of each group; why they are unknown.
    groups: Result<HashMap<Arc<str>, Vec<String>>, StoreError>,
    /// When reading it began.
    read: Instant,
    /// How many changes this node had made by then.
    changes: u64,
}

impl Snapshot {
    /// The members of a group; none when there is no such group.
    pub(super) fn group(&self, id: &str) -> Result<Option<&[String]>, StoreError> {
        let groups = self.groups.as_ref().map_err(Clone::clone)?;
        Ok(groups.get(id).map(Vec::as_slice))
    }
}

type Outcome = Result<Arc<Snapshot>, StoreError>;

/// Reads snapshots, and keeps the last one.
pub(super) struct Snapshots {
    records: Arc<Records>,
    held: ArcSwapOption<Snapshot>,
    /// How many changes this node has made.
    changes: AtomicU64,
    reading: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    under_way: Option<(u64, Shared<BoxFuture<'static, Outcome>>)>,
    /// Until then an old snapshot is good enough: the stores have just failed.
    spare: Option<Instant>,
}

impl Snapshots {
    pub(super) fn new(records: Arc<Records>) -> Arc<Self> {
        let (held, changes, reading) = (ArcSwapOption::empty(), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { records, held, changes, reading })
    }

    /// The accounts as they were at most half a second ago, this node's own changes included; older ones while
    /// the stores do not answer.
    ///
    /// # Errors
    /// When none could be read since the start.
    pub(super) async fn current(self: &Arc<Self>) -> Outcome {
        let held = self.held.load_full();
        if let Some(held) = held.as_ref().filter(|held| self.is_fresh(held)) {
            return Ok(held.clone());
        }
        let Some(held) = held else { return self.read_anew().await };
        if self.reading.lock().spare.is_some_and(|until| Instant::now() < until) {
            return Ok(held);
        }
        match timeout(PATIENCE, self.read_anew()).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(_)) | Err(_) => Ok(held),
        }
    }

    /// The account as it was last seen here.
    pub(super) fn last(&self, id: &str) -> Option<Arc<Account>> {
        self.held.load().as_ref()?.accounts.get(id).cloned()
    }

    /// This node has changed something: nothing read before is fresh.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.reading.lock().spare = None;
    }

    fn is_fresh(&self, snapshot: &Snapshot) -> bool {
        snapshot.changes == self.changes.load(Ordering::Acquire) && snapshot.read.elapsed() < FRESH
    }

    /// Joins the read that is under way, unless a change came after it began. Goes on without those who wait.
    fn read_anew(self: &Arc<Self>) -> Shared<BoxFuture<'static, Outcome>> {
        let changes = self.changes.load(Ordering::Acquire);
        let mut reading = self.reading.lock();
        if let Some((since, read)) = &reading.under_way
            && *since == changes
            && read.peek().is_none()
        {
            return read.clone();
        }
        let this = self.clone();
        let task = tokio::spawn(async move { this.read(changes).await });
        let ended = |_| Err(StoreError::Unavailable("reading the accounts was cut short".into()));
        let read = task.map(move |read| read.unwrap_or_else(ended)).boxed().shared();
        reading.under_way = Some((changes, read.clone()));
        read
    }

    async fn read(&self, changes: u64) -> Outcome {
        let (began, before) = (Instant::now(), self.held.load_full());
        let accounts = match self.all(&ACCOUNT).await {
            Ok(accounts) => accounts,
            Err(error) => {
                self.reading.lock().spare = Some(Instant::now() + FRESH);
                return Err(error);
            }
        };
        let groups = self.all(&ACCOUNT_GROUP).await;
        let groups = match (groups, &before) {
            (Ok(groups), _) => Ok(groups.iter().map(|group| groups::members(group)).collect()),
            (Err(_), Some(before)) if before.groups.is_ok() => before.groups.clone(),
            (Err(error), _) => Err(error),
        };
        let offset = self.records.offset;
        let carried = accounts.into_iter().map(|record| carry_over(record, before.as_deref(), offset));
        let accounts: HashMap<_, _> =
            carried.map(|account| (account.record.key.id.clone(), account)).collect();
        quota::look(&self.records, accounts.values()).await;
        let read = Arc::new(Snapshot { accounts, groups, read: began, changes });
        // A read that began later may have ended earlier.
        self.held.rcu(|held| match held {
            Some(held) if held.read > read.read => Some(held.clone()),
            _ => Some(read.clone()),
        });
        Ok(read)
    }

    async fn all(&self, kind: &'static Kind) -> Result<Vec<Arc<Record>>, StoreError> {
        static TOO_MANY: Seldom = Seldom::new();
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.records.scan(kind, cursor.as_deref(), MAX_PAGE).await?.value;
            all.extend(page.records);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(all);
            }
            if all.len() >= MOST {
                if TOO_MANY.is_due() {
                    warn!(kind = kind.name, most = MOST, "there are more than are taken notice of");
                }
                return Ok(all);
            }
        }
    }
}

/// What was opened stays open while the record is the same; what is known of its health outlives it.
fn carry_over(record: Arc<Record>, before: Option<&Snapshot>, offset: Offset) -> Arc<Account> {
    match before.and_then(|before| before.accounts.get(&record.key.id)) {
        Some(account) if account.record.version == record.version => account.clone(),
        Some(account) => Arc::new(Account::new(record, account.health.clone(), offset)),
        None => Arc::new(Account::new(record, Arc::default(), offset)),
    }
}
