//! Reads of single records. Those that wait at the same time are answered by one select per kind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::mpsc;

use super::super::clock::now_ms;
use super::super::{Kind, Record, Result, kind};
use super::link::{Link, Select};
use super::queue::Job;
use super::row::{self, COLUMNS};

/// The most lookups that one select answers.
const BATCH: usize = 256;

/// The column of a record's name.
pub(super) const ID: &str = "id";

/// Asks for the record whose column has this value.
pub(super) struct Lookup {
    pub(super) kind: &'static Kind,
    /// [`ID`], or the name of the kind's index.
    pub(super) column: &'static str,
    pub(super) value: Arc<str>,
}

pub(super) type Found = Option<Arc<Record>>;

/// Answers lookups until the last sender is gone.
pub(super) async fn run(mut link: Link, mut queue: mpsc::Receiver<Job<Lookup, Found>>) {
    let mut jobs = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let mut alike: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for job in jobs.drain(..).filter(|job| !job.is_abandoned()) {
            alike.entry((job.call.kind, job.call.column)).or_default().push(job);
        }
        for ((kind, column), jobs) in alike {
            let found = look_up(&mut link, kind, column, &jobs).await;
            for job in jobs {
                let answer = match &found {
                    Ok(found) => found.get(&*job.call.value).cloned().transpose(),
                    Err(error) => Err(error.clone()),
                };
                job.answer(answer);
            }
        }
    }
    link.close().await;
}

/// The records that these ask for, by the value asked for.
async fn look_up(
    link: &mut Link,
    kind: &'static Kind,
    column: &'static str,
    jobs: &[Job<Lookup, Found>],
) -> Result<HashMap<String, Result<Arc<Record>>>> {
    let values = sqlx::types::Json(jobs.iter().map(|job| &*job.call.value).collect::<Vec<_>>());
    let select: Select = sqlx::query(AssertSqlSafe(statement(kind, column))).bind(values);
    let rows = link.rows(select).await?;
    let now = now_ms();
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let (value, record) = decode(kind, column, row)?;
        match record {
            // A tombstone is read by its id; `statement` keeps it from being found.
            Ok(record) if record.is_expired(now) => {}
            record => drop(found.insert(value, record)),
        }
    }
    Ok(found)
}

fn statement(kind: &'static Kind, column: &'static str) -> String {
    let sought = "in (select value from json_each(?))";
    let table = kind.name;
    match column {
        ID if *kind == kind::USAGE => {
            format!("select id, {} from usage_total where id {sought}", row::counters())
        }
        ID => format!("select {COLUMNS} from {table} where id {sought}"),
        // Of two records with one value the later write is the one found.
        index => format!(
            "select {COLUMNS}, {index} from {table}
             where {index} {sought} and deleted = 0 and {index} <> '' order by version"
        ),
    }
}

/// The value that this row answers, and its record.
fn decode(
    kind: &'static Kind,
    column: &'static str,
    row: &SqliteRow,
) -> Result<(String, Result<Arc<Record>>)> {
    let position = if column == ID { 0 } else { row::WIDTH };
    let value = row.try_get(position).map_err(row::unreadable)?;
    let record = if *kind == kind::USAGE { row::totals(row) } else { row::record(kind, row) };
    Ok((value, record))
}
