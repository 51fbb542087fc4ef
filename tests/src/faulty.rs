//! A store that fails on command.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::Offset;
use switchyard::store::identity::{Identity, Lineage, Recount, Recounted, Seen};
use switchyard::store::list::ListQuery;
use switchyard::store::maintenance::{Adopted, Counted, Windows};
use switchyard::store::{
    Backend, Backlog, Ballot, Board, Control, Key, Kind, Maintenance, NearCache, Page, Proposal, Record,
    Result, Store, StoreError, Usage, UsageEvent, Version, Write,
};

/// How one call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused at once: nothing happened.
    Refuse,
    /// Answered correctly, but this much later.
    Delay(Duration),
    /// No answer within the deadline, although it happened.
    TimeoutAfter,
    /// No answer within the deadline, and it did not happen.
    TimeoutBefore,
}

/// Which calls fail, and how.
#[derive(Debug, Clone)]
pub enum Plan {
    /// None.
    Healthy,
    /// All, in this way.
    Always(Fault),
    /// The next ones, in this order; none after the last.
    Script(VecDeque<Option<Fault>>),
    /// About this many of a hundred, in turn refused, timed out after and before; by the seed, the same ones.
    Seeded { seed: u64, percent: u64 },
}

/// A store in front of another. Healthy until told otherwise; every call of either trait follows the plan.
pub struct Faulty<B> {
    inner: B,
    plan: Mutex<Plan>,
}

impl<B: Backend> Faulty<B> {
    pub fn new(inner: B) -> Self {
        Self { inner, plan: Mutex::new(Plan::Healthy) }
    }

    /// From the next call on this plan holds.
    pub fn follow(&self, plan: Plan) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// The next calls fail in this order; those after them do not.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.follow(Plan::Script(faults.into_iter().collect()));
    }

    /// The store behind it, to see what really happened.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn next(&self) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *plan {
            Plan::Healthy => None,
            Plan::Always(fault) => Some(*fault),
            Plan::Script(faults) => faults.pop_front().flatten(),
            Plan::Seeded { seed, percent } => {
                let random = splitmix(seed);
                let faults = [Fault::Refuse, Fault::TimeoutAfter, Fault::TimeoutBefore];
                (random % 100 < *percent).then(|| faults[(random / 100 % 3) as usize])
            }
        }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next() {
            None => call.await,
            Some(Fault::Refuse) => Err(StoreError::Unavailable("refused on command".into())),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                call.await
            }
            Some(Fault::TimeoutAfter) => call.await.and(Err(StoreError::Timeout)),
            Some(Fault::TimeoutBefore) => Err(StoreError::Timeout),
        }
    }
}

/// The next of a series of well-mixed numbers.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[async_trait]
impl<B: Backend> Store for Faulty<B> {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        self.call(self.inner.get(key)).await
    }

    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        self.call(self.inner.find(kind, index, value)).await
    }

    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.call(self.inner.scan(kind, cursor, limit)).await
    }

    async fn put(&self, write: &Write) -> Result<()> {
        self.call(self.inner.put(write)).await
    }

    async fn add(&self, usage: &Usage) -> Result<u64> {
        self.call(self.inner.add(usage)).await
    }
}

#[async_trait]
impl<B: Backend> Backend for Faulty<B> {
    async fn dirty(&self, before: Version, skip: u32, limit: u32) -> Result<Vec<Arc<Record>>> {
        self.call(self.inner.dirty(before, skip, limit)).await
    }

    async fn settle(&self, settled: &[(Key, Version)]) -> Result<()> {
        self.call(self.inner.settle(settled)).await
    }

    async fn owed_usage(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        self.call(self.inner.owed_usage(after, limit)).await
    }

    async fn settle_usage(&self, ids: &[String]) -> Result<()> {
        self.call(self.inner.settle_usage(ids)).await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.call(self.inner.backlog()).await
    }

    async fn complete(&self, kind: &'static Kind) -> Result<bool> {
        self.call(self.inner.complete(kind)).await
    }

    async fn set_complete(&self, kind: &'static Kind) -> Result<()> {
        self.call(self.inner.set_complete(kind)).await
    }

    async fn counts_usage(&self) -> Result<bool> {
        self.call(self.inner.counts_usage()).await
    }

    async fn list(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        self.call(self.inner.list(kind, query)).await
    }

    async fn probe(&self) -> Result<()> {
        self.call(self.inner.probe()).await
    }

    fn durability(&self) -> &'static str {
        self.inner.durability()
    }

    fn near_cache(&self) -> NearCache {
        self.inner.near_cache()
    }

    async fn control(
        &self,
        node: &str,
        ballot: Ballot,
        proposal: Option<&Proposal>,
    ) -> Result<Option<Control>> {
        self.call(self.inner.control(node, ballot, proposal)).await
    }

    async fn sync_all(&self, all: bool) -> Result<()> {
        self.call(self.inner.sync_all(all)).await
    }

    async fn marked(&self, keys: &[Key]) -> Result<Vec<Arc<Record>>> {
        self.call(self.inner.marked(keys)).await
    }

    async fn time(&self) -> Result<i64> {
        self.call(self.inner.time()).await
    }

    fn board(&self) -> Option<&dyn Board> {
        self.inner.board()
    }
}

#[async_trait]
impl<B: Backend> Lineage for Faulty<B> {
    fn contact(&self) -> u64 {
        self.inner.contact()
    }

    async fn identity(&self) -> Result<Option<Identity>> {
        self.call(self.inner.identity()).await
    }

    async fn beat(&self, other: Option<&Seen>) -> Result<u64> {
        self.call(self.inner.beat(other)).await
    }

    async fn remember(&self, other: &Seen) -> Result<()> {
        self.call(self.inner.remember(other)).await
    }

    async fn claim(&self, holder: &str, renew: bool) -> Result<bool> {
        self.call(self.inner.claim(holder, renew)).await
    }

    async fn doubt(&self, incarnation: &str) -> Result<()> {
        self.call(self.inner.doubt(incarnation)).await
    }

    async fn vouch(&self, holder: Option<&str>, run: &str, above: u64) -> Result<bool> {
        self.call(self.inner.vouch(holder, run, above)).await
    }

    async fn note_synced(&self, synced: bool) -> Result<()> {
        self.call(self.inner.note_synced(synced)).await
    }

    async fn usage_events(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        self.call(self.inner.usage_events(after, limit)).await
    }

    async fn recount(&self, holder: &str, step: Recount) -> Result<Recounted> {
        self.call(self.inner.recount(holder, step)).await
    }
}

#[async_trait]
impl<B: Backend> Maintenance for Faulty<B> {
    async fn adopt(&self, cursor: Option<&str>) -> Result<Adopted> {
        self.call(self.inner.adopt(cursor)).await
    }

    async fn count(&self, kind: &'static Kind) -> Result<u64> {
        self.call(self.inner.count(kind)).await
    }

    async fn tombstones(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.call(self.inner.tombstones(kind, cursor, limit)).await
    }

    async fn windows(&self, cursor: Option<&str>, limit: u32, every: bool) -> Result<Windows> {
        self.call(self.inner.windows(cursor, limit, every)).await
    }

    async fn has_counted(&self, ids: &[String]) -> Result<Vec<String>> {
        self.call(self.inner.has_counted(ids)).await
    }

    async fn close_usage(&self, hold: Option<Duration>) -> Result<()> {
        self.call(self.inner.close_usage(hold)).await
    }

    async fn open_balances(&self, held: &[Counted], offset: Offset, from: &str) -> Result<u64> {
        self.call(self.inner.open_balances(held, offset, from)).await
    }

    async fn balances(&self, cursor: Option<&str>, limit: u32) -> Result<Windows> {
        self.call(self.inner.balances(cursor, limit)).await
    }

    async fn dropped(&self, kind: &'static Kind) -> Result<u64> {
        self.call(self.inner.dropped(kind)).await
    }

    async fn complete_since(&self, kind: &'static Kind, dropped: u64) -> Result<bool> {
        self.call(self.inner.complete_since(kind, dropped)).await
    }

    async fn drop_copies(&self, kind: &'static Kind, copies: &[(Key, Version)]) -> Result<u64> {
        self.call(self.inner.drop_copies(kind, copies)).await
    }

    async fn forget_near(&self) -> Result<u64> {
        self.call(self.inner.forget_near()).await
    }

    async fn reconnect(&self) -> Result<()> {
        self.call(self.inner.reconnect()).await
    }
}
