//! The consistency check: compares what the stores hold, not how many of it, and repairs by version when asked.
//!
//! Both stores are read in order of id, a page of each at a time, and the records between the same two ids are
//! compared whole: memory is bounded, and no difference can hide behind a digest. Whatever differs is looked at
//! again two seconds later, so that a write on its way is not taken for a difference.
//!
//! # Layout
//! - `report`: what is found and told
//! - `suspects`: what differed once, until it is looked at again
//! - `judge`: why two states of a record differ
//! - `totals`: the counters of usage
//! - `repair`: what to do about a difference

mod judge;
mod repair;
mod report;
mod suspects;
mod totals;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::operations::{PAGE, Stop, Work};
use crate::store::kind::Kind;
use crate::store::side::{Side, Which};
use crate::store::{Record, Result};
use judge::Pair;
use report::Report;
use suspects::{Subject, Suspects};

/// The parts of a check, in their order.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Another program's records get versions, so that they can be repaired by version.
    Adopt,
    Records(&'static Kind),
    Tombstones(&'static Kind, Which),
    /// The counters that this store has.
    Totals(Which),
}

impl Stage {
    fn all(deep: bool, repairs: bool) -> Vec<Self> {
        let sides = [Which::Redis, Which::Postgres];
        let records = Kind::public().map(Self::Records);
        let tombstones = Kind::public().flat_map(|kind| sides.map(|side| Self::Tombstones(kind, side)));
        let tombstones: Vec<_> = tombstones.filter(|_| deep).collect();
        let totals = [Self::Totals(Which::Postgres), Self::Totals(Which::Redis)];
        let adopt = repairs.then_some(Self::Adopt);
        adopt.into_iter().chain(records).chain(tombstones).chain(totals).collect()
    }
}

/// Compares the stores from where it was left; `dry_run` is none for a check alone.
pub(super) async fn run(work: &Work<'_>, deep: bool, dry_run: Option<bool>) -> Result<(), Stop> {
    let (redis, postgres) = (work.sides.side(Which::Redis)?, work.sides.side(Which::Postgres)?);
    let stages = Stage::all(deep, dry_run == Some(false));
    let (mut place, mut report) = (work.progress.place(), work.progress.report::<Report>());
    report.begin(dry_run.is_some());
    work.expect(&[redis, postgres]).await;
    let mut check = Check { redis, postgres, work, deep, dry_run, report, suspects: Suspects::default() };
    while let Some(stage) = stages.get(place.stage) {
        let (this, cursor) = (&check, &place.cursor);
        let seen = work.paced(|| this.step(*stage, cursor.as_deref())).await?;
        if let Stage::Records(_) = stage {
            work.progress.looked_at(seen.compared);
        }
        let ends = seen.next.is_none();
        place = place.then(seen.next.clone());
        check.note(seen, *stage);
        // A stage ends when nothing is in doubt any more.
        check.judge(ends).await?;
        if check.suspects.is_empty() {
            work.progress.reached(&place, &check.report);
        }
    }
    check.report.end();
    work.progress.reached(&place, &check.report);
    Ok(())
}

/// What a step has seen.
#[derive(Default)]
struct Seen {
    compared: u64,
    /// Of them, how many records Redis has, and PostgreSQL.
    held: [u64; 2],
    suspects: Vec<Subject>,
    next: Option<String>,
}

struct Check<'a> {
    redis: &'a Side,
    postgres: &'a Side,
    work: &'a Work<'a>,
    deep: bool,
    dry_run: Option<bool>,
    report: Report,
    suspects: Suspects,
}

impl Check<'_> {
    async fn step(&self, stage: Stage, cursor: Option<&str>) -> Result<Seen> {
        match stage {
            Stage::Adopt => {
                let adopted = self.redis.backend.adopt(cursor).await?;
                Ok(Seen { next: adopted.next, ..Seen::default() })
            }
            Stage::Records(kind) => self.records(kind, cursor).await,
            Stage::Tombstones(kind, side) => self.tombstones(kind, side, cursor).await,
            Stage::Totals(side) => self.totals(side, cursor).await,
        }
    }

    fn note(&mut self, seen: Seen, stage: Stage) {
        match stage {
            Stage::Totals(_) => self.report.usage.compared += seen.compared,
            _ => self.report.compared += seen.compared,
        }
        self.report.held(seen.held);
        self.suspects.add(seen.suspects);
    }

    /// Compares the records after `cursor`, as far as both stores have told theirs.
    async fn records(&self, kind: &'static Kind, cursor: Option<&str>) -> Result<Seen> {
        let (redis, postgres) = tokio::try_join!(
            self.redis.backend.scan(kind, cursor, PAGE),
            self.postgres.backend.scan(kind, cursor, PAGE),
        )?;
        let next = [&redis.next, &postgres.next].into_iter().flatten().min().cloned();
        let told = |record: &Arc<Record>| next.as_deref().is_none_or(|next| &*record.key.id <= next);
        let mut pairs: BTreeMap<Arc<str>, Pair> = BTreeMap::new();
        for record in redis.records.into_iter().filter(told) {
            let id = record.key.id.clone();
            pairs.entry(id).or_default().redis = Some(record);
        }
        for record in postgres.records.into_iter().filter(told) {
            let id = record.key.id.clone();
            pairs.entry(id).or_default().postgres = Some(record);
        }
        let held = |has: fn(&Pair) -> bool| pairs.values().filter(|pair| has(pair)).count() as u64;
        let held = [held(|pair| pair.redis.is_some()), held(|pair| pair.postgres.is_some())];
        let mut seen = Seen { compared: pairs.len() as u64, held, next, ..Seen::default() };
        for pair in pairs.values() {
            let Some(key) = pair.key() else { continue };
            if pair.redis != pair.postgres {
                seen.suspects.push(Subject::Record(key.clone()));
            } else if self.deep && !self.is_indexed(pair).await? {
                seen.suspects.push(Subject::Index(key.clone()));
            }
        }
        Ok(seen)
    }

    /// Whether both stores find something with the record's value by its index.
    async fn is_indexed(&self, pair: &Pair) -> Result<bool> {
        let Some(record) = &pair.postgres else { return Ok(true) };
        let Some((index, value)) = record.key.kind.index.as_ref().zip(record.index_value()) else {
            return Ok(true);
        };
        if record.fields.get(index.unless).is_some_and(|is| is == "true") {
            return Ok(true);
        }
        for side in [self.redis, self.postgres] {
            let found = side.backend.find(record.key.kind, index.name, value).await?;
            // Two records may have one value; either is a right answer.
            if found.is_none_or(|found| found.index_value() != Some(value)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn tombstones(&self, kind: &'static Kind, side: Which, cursor: Option<&str>) -> Result<Seen> {
        let (from, to) = match side {
            Which::Redis => (self.redis, self.postgres),
            Which::Postgres => (self.postgres, self.redis),
        };
        let page = from.backend.tombstones(kind, cursor, PAGE).await?;
        let mut seen = Seen { compared: page.records.len() as u64, next: page.next, ..Seen::default() };
        for tombstone in page.records {
            let key = tombstone.key.clone();
            let differs = match to.backend.get(&key).await? {
                // A live record that was deleted here is among the records.
                Some(held) => held.deleted && held != tombstone,
                // Redis forgets a tombstone that both stores had.
                None => side == Which::Redis,
            };
            if differs {
                seen.suspects.push(Subject::Record(key));
            }
        }
        Ok(seen)
    }
}
