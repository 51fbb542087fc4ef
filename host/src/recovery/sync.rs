//! An admin's full copy from one store into the other, by compare-and-set: it never lowers a version, changes
//! nothing the second time, and takes in a database of Claude Relay Service.
//!
//! # Layout
//! - `balances`: what Redis has counted and PostgreSQL has not, taken over once
//! - `counted`: what PostgreSQL has counted and Redis has not, counted anew

mod balances;
mod counted;

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::operations::{PAGE, Place, Stop, Work};
use crate::store::kind::{Kind, USAGE};
use crate::store::maintenance::Skipped;
use crate::store::side::{Side, Which};
use crate::store::{Key, Record, Result, Store, StoreError, Version, Write};

/// How many records are on their way at once: enough for a server to batch them.
const AT_ONCE: usize = 16;
/// How many skipped keys a report lists; it counts all.
const LISTED: usize = 100;

/// What a sync did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    /// How many records of the source the target has now, or newer ones.
    synced: u64,
    copied: u64,
    unchanged: u64,
    newer_in_target: u64,
    /// How many totals of the target were raised to what the source has counted.
    usage_balances: u64,
    /// How many events Redis has counted anew, because totals of its lacked something.
    usage_recounted: u64,
    skipped: Vec<Skipped>,
    skipped_total: u64,
    /// Kinds of which the target could not take every record: a missing one is unknown there.
    incomplete: Vec<String>,
}

impl Report {
    pub(super) fn skip(&mut self, skipped: impl IntoIterator<Item = Skipped>) {
        for skipped in skipped {
            self.skipped_total += 1;
            if self.skipped.len() < LISTED {
                self.skipped.push(skipped);
            }
        }
    }
}

/// The parts of a sync, in their order.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// What another program wrote into the source gets versions and marks.
    Adopt,
    /// What each store owes the other.
    Marks,
    Records(&'static Kind),
    Tombstones(&'static Kind),
    Complete(&'static Kind),
    Balances,
    Counted,
}

impl Stage {
    fn all(source: Which) -> Vec<Self> {
        let kinds = Kind::public()
            .flat_map(|kind| [Self::Records(kind), Self::Tombstones(kind), Self::Complete(kind)]);
        match source {
            Which::Redis => {
                [Self::Adopt, Self::Marks].into_iter().chain(kinds).chain([Self::Balances]).collect()
            }
            Which::Postgres => [Self::Marks].into_iter().chain(kinds).chain([Self::Counted]).collect(),
        }
    }
}

/// Copies everything of `source` into `target`, from where it was left.
pub(super) async fn run(work: &Work<'_>, source: Which, target: Which) -> Result<(), Stop> {
    let (from, to) = (work.sides.side(source)?, work.sides.side(target)?);
    let stages = Stage::all(source);
    let (mut place, mut report) = (work.progress.place(), work.progress.report::<Report>());
    work.expect(&[from]).await;
    while let Some(stage) = stages.get(place.stage) {
        let copy = &Copy { from, to, work };
        let step = || {
            let (mut report, place) = (report.clone(), place.clone());
            async move {
                let place = copy.step(*stage, place, &mut report).await?;
                Ok((place, report))
            }
        };
        (place, report) = work.paced(step).await?;
        work.progress.reached(&place, &report);
    }
    Ok(())
}

/// What becomes of one record.
enum Outcome {
    Copied,
    Unchanged,
    Newer,
    Skipped(Skipped),
}

struct Copy<'a> {
    from: &'a Side,
    to: &'a Side,
    work: &'a Work<'a>,
}

impl Copy<'_> {
    async fn step(&self, stage: Stage, place: Place, report: &mut Report) -> Result<Place> {
        Ok(match stage {
            Stage::Adopt => self.adopt(place, report).await?,
            Stage::Marks => {
                // What it leaves is among the records.
                self.work.carry.catch_up().await;
                // Another program's records are among them only now.
                self.work.expect(&[self.from]).await;
                place.then(None)
            }
            Stage::Records(kind) => self.records(kind, place, report).await?,
            Stage::Tombstones(kind) => self.tombstones(kind, place, report).await?,
            Stage::Complete(kind) => {
                let all = !report.incomplete.iter().any(|name| name == kind.name);
                if all && !self.to.backend.complete_since(kind, place.dropped).await? {
                    report.incomplete.push(kind.name.into());
                }
                place.then(None)
            }
            Stage::Balances => {
                report.usage_balances += balances::open(self.work, self.from, self.to, report).await?;
                self.to.backend.set_complete(&USAGE).await?;
                place.then(None)
            }
            Stage::Counted => {
                report.usage_recounted += counted::anew(self.work, self.to, self.from).await?;
                place.then(None)
            }
        })
    }

    async fn adopt(&self, place: Place, report: &mut Report) -> Result<Place> {
        let adopted = self.from.backend.adopt(place.cursor.as_deref()).await?;
        report.skip(adopted.skipped);
        Ok(place.then(adopted.next))
    }

    async fn records(&self, kind: &'static Kind, mut place: Place, report: &mut Report) -> Result<Place> {
        if place.cursor.is_none() {
            place.dropped = self.to.backend.dropped(kind).await?;
        }
        let page = self.from.backend.scan(kind, place.cursor.as_deref(), PAGE).await?;
        let seen = page.records.len() as u64;
        let waits = self.before_copies(&page.records).await?;
        let waits = &waits;
        let offers = page.records.into_iter().map(|record| async move {
            // The drain will find the newer one.
            let waits = waits.contains(&record.key);
            let outcome = if waits { Outcome::Newer } else { self.offer(&record).await? };
            Ok::<_, StoreError>((record.key.clone(), record.version, outcome))
        });
        let outcomes: Vec<(Key, Version, Outcome)> =
            stream::iter(offers).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut in_both = Vec::new();
        for (key, version, outcome) in outcomes {
            match outcome {
                Outcome::Copied => report.copied += 1,
                Outcome::Unchanged => report.unchanged += 1,
                Outcome::Newer => {
                    // The mark stays: by it the drain knows whether the two were written without each other.
                    report.newer_in_target += 1;
                    continue;
                }
                Outcome::Skipped(skipped) => {
                    report.skip([skipped]);
                    if !report.incomplete.iter().any(|name| name == kind.name) {
                        report.incomplete.push(kind.name.into());
                    }
                    continue;
                }
            }
            in_both.push((key, version));
        }
        report.synced += in_both.len() as u64;
        self.from.backend.settle(&in_both).await?;
        self.work.progress.looked_at(seen);
        Ok(place.then(page.next))
    }

    async fn before_copies(&self, records: &[Arc<Record>]) -> Result<HashSet<Key>> {
        self.work.carry.before_copies(self.from.which, self.to.which, records).await
    }

    /// Offers a record to the target, unless it has it.
    async fn offer(&self, record: &Arc<Record>) -> Result<Outcome> {
        match self.to.backend.get(&record.key).await {
            Ok(Some(held)) if held.version > record.version => return Ok(Outcome::Newer),
            Ok(Some(held)) if held.version == record.version && held == *record => {
                return Ok(Outcome::Unchanged);
            }
            Ok(Some(held)) if held.version == record.version => {
                let reason =
                    "both stores hold this version with different contents; write it again to decide";
                return Ok(Outcome::Skipped(Skipped { key: record.key.to_string(), reason: reason.into() }));
            }
            // What cannot be read there is written over, if it can be.
            Ok(_) | Err(StoreError::Other(_)) => {}
            Err(error) => return Err(error),
        }
        match self.to.put(&Write::copy(record.clone())).await {
            Ok(()) => Ok(Outcome::Copied),
            Err(StoreError::Conflict(_)) => Ok(Outcome::Newer),
            Err(StoreError::Other(reason) | StoreError::Unsupported(reason)) => {
                Ok(Outcome::Skipped(Skipped { key: record.key.to_string(), reason }))
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes what was deleted. A delete that the target of copies knows nothing of is no news to it.
    async fn tombstones(&self, kind: &'static Kind, place: Place, report: &mut Report) -> Result<Place> {
        let page = self.from.backend.tombstones(kind, place.cursor.as_deref(), PAGE).await?;
        let waits = self.before_copies(&page.records).await?;
        for tombstone in page.records.iter().filter(|tombstone| !waits.contains(&tombstone.key)) {
            let news = match self.to.backend.get(&tombstone.key).await? {
                Some(held) => held.version < tombstone.version,
                None => self.to.which == Which::Postgres,
            };
            if !news {
                continue;
            }
            match self.to.put(&Write::copy(tombstone.clone())).await {
                Ok(()) => report.copied += 1,
                Err(StoreError::Conflict(_)) => report.newer_in_target += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(place.then(page.next))
    }
}
