//! The one writer: what waits is written in one transaction, and answered after its commit.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use jiff::tz::Offset;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite, Transaction};
use tokio::sync::mpsc;

use super::super::identity::Seen;
use super::super::maintenance::Counted;
use super::super::usage::Counts;
use super::super::{Key, Kind, Mark, Result, UsageEvent, Version, Write};
use super::link::{Link, unavailable};
use super::queue::Job;

mod count;
mod identity;
mod open;
mod put;
mod settle;

use put::Condition;

/// The most calls that share a commit.
const GROUP: usize = 256;

/// One atomic change. Answered with how many usage events were new; 0 for every other change, where nothing else is
/// said.
/// One atomic change. Answered with how many usage events were new; 0 where nothing else is said.
pub(super) enum Change {
    Put(Write),
    Add {
        events: Arc<Vec<UsageEvent>>,
        offset: Offset,
        mark: Mark,
    },
    Settle(Vec<(Key, Version)>),
    SettleUsage(Vec<String>),
    SetComplete(&'static Kind),
    /// Answered with the beat.
    Beat(Option<Seen>),
    Remember(Seen),
    Doubt,
    Vouch(u64),
    /// Answered with how many totals were raised.
    Open {
        held: Vec<Counted>,
        offset: Offset,
        from: String,
    },
    /// Milliseconds since 1970.
    Probe(i64),
}

/// Writes until the last sender is gone; then gives up the folder.
pub(super) async fn run(mut link: Link, mut queue: mpsc::Receiver<Job<Change, u64>>, folder: File) {
    let mut jobs = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut jobs, GROUP).await > 0 {
        // Nothing was tried of what nobody waits for any more.
        jobs.retain(|job| !job.is_abandoned());
        let answers = match link.connection().await {
            Ok(connection) => write(connection, &jobs).await,
            Err(error) => Err(error),
        };
        match answers {
            Ok(answers) => jobs.drain(..).zip(answers).for_each(|(job, answer)| job.answer(answer)),
            Err(error) => {
                let error = unavailable(error);
                jobs.drain(..).for_each(|job| job.answer(Err(error.clone())));
                link.close().await;
            }
        }
    }
    link.close().await;
    drop(folder);
}

/// Commits the group and gives each change its answer; an error means that none is committed.
async fn write(
    connection: &mut SqliteConnection,
    jobs: &[Job<Change, u64>],
) -> sqlx::Result<Vec<Result<u64>>> {
    let transaction = connection.begin_with("begin immediate").await?;
    let mut group = Group { transaction, totals: BTreeMap::new() };
    let mut answers = vec![Ok(0); jobs.len()];
    let mut puts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (position, job) in jobs.iter().enumerate() {
        match &job.call {
            Change::Put(write) => puts.entry(Condition::of(write)).or_default().push((position, write)),
            Change::Add { events, offset, mark } => {
                answers[position] = Ok(group.count(events, *offset, *mark).await?);
            }
            Change::Settle(settled) => group.settle(settled).await?,
            Change::SettleUsage(ids) => group.settle_usage(ids).await?,
            Change::Open { held, offset, from } => {
                answers[position] = Ok(group.open(held, *offset, from).await?);
            }
            Change::SetComplete(kind) => group.set_complete(kind).await?,
            Change::Beat(other) => answers[position] = Ok(group.beat(other.as_ref()).await?),
            Change::Remember(other) => group.remember(other).await?,
            Change::Doubt => group.doubt().await?,
            Change::Vouch(above) => group.vouch(*above).await?,
            Change::Probe(at) => group.probe(*at).await?,
        }
    }
    // Calls that wait together may take effect in any order.
    for (condition, writes) in puts {
        group.put(condition, &writes, &mut answers).await?;
    }
    group.commit().await?;
    Ok(answers)
}

/// The changes that share a transaction.
struct Group<'c> {
    transaction: Transaction<'c, Sqlite>,
    /// What the new events of the whole group add to the totals.
    totals: BTreeMap<String, Counts>,
}

impl Group<'_> {
    async fn commit(mut self) -> sqlx::Result<()> {
        self.write_totals().await?;
        self.transaction.commit().await
    }
}
