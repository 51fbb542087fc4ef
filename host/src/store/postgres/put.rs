//! Compare-and-set of many records in one statement.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::lane::Reply;
use super::write::Condition;
use super::{failure, row};
use crate::store::clock::now_ms;
use crate::store::{Expect, Kind, Mark, Record, Result, StoreError, Version};

/// A record on its way into the store.
pub(super) struct Put {
    pub(super) record: Arc<Record>,
    pub(super) mark: Mark,
    pub(super) expect: Expect,
    /// The writer's epoch.
    pub(super) epoch: u64,
    pub(super) reply: Reply<()>,
}

impl Put {
    fn id(&self) -> &str {
        &self.record.key.id
    }

    fn answer(self, outcome: Result<()>) {
        // Nobody may wait any more.
        let _ = self.reply.send(outcome);
    }
}

/// Puts records of one kind. A statement cannot touch a row twice: a second write of one id waits for
/// the next.
pub(super) async fn run(
    kind: &'static Kind,
    condition: Condition,
    mut puts: Vec<Put>,
    connection: &mut PgConnection,
) -> Result<()> {
    while !puts.is_empty() {
        let mut ids = HashSet::new();
        let (round, later) = puts.into_iter().partition(|put| ids.insert(put.record.key.id.clone()));
        put_round(kind, condition, round, connection).await?;
        puts = later;
    }
    Ok(())
}

async fn put_round(
    kind: &'static Kind,
    condition: Condition,
    round: Vec<Put>,
    connection: &mut PgConnection,
) -> Result<()> {
    let accepted = match accept(kind, condition, &round, connection).await {
        Ok(accepted) => accepted,
        Err(error) => {
            let error = failure::of_write(&error);
            if failure::spares_connection(&error) && round.len() > 1 {
                // One of them is to blame: each for itself.
                for put in round {
                    Box::pin(put_round(kind, condition, vec![put], connection)).await?;
                }
                return Ok(());
            }
            return fail(round, &error);
        }
    };
    let (accepted, refused): (Vec<_>, Vec<_>) =
        round.into_iter().partition(|put| accepted.contains(put.id()));
    accepted.into_iter().for_each(|put| put.answer(Ok(())));
    if refused.is_empty() {
        return Ok(());
    }
    match held(kind, &refused, connection).await {
        Ok(held) => {
            refused.into_iter().for_each(|put| {
                let outcome = explain(&put, held.get(put.id()).copied());
                put.answer(outcome);
            });
            Ok(())
        }
        // Nothing was written of these, whatever became of the question.
        Err(error) => fail(refused, &failure::of_read(&error)),
    }
}

fn fail(puts: Vec<Put>, error: &StoreError) -> Result<()> {
    puts.into_iter().for_each(|put| put.answer(Err(error.clone())));
    if failure::spares_connection(error) { Ok(()) } else { Err(error.clone()) }
}

/// Why a put was not accepted.
fn explain(put: &Put, held: Option<Version>) -> Result<()> {
    match held {
        Some(held) if held == put.record.version => Ok(()),
        Some(held) => Err(StoreError::Conflict(held)),
        None => Err(StoreError::Unavailable("the record went away meanwhile".into())),
    }
}

/// Offers records with distinct ids; answers the ids of the accepted ones.
///
/// Rows are locked in order of id, so that no two statements wait for each other.
async fn accept(
    kind: &'static Kind,
    condition: Condition,
    puts: &[Put],
    connection: &mut PgConnection,
) -> sqlx::Result<HashSet<String>> {
    let statement = format!(
        "insert into {} as held (id, version, deleted, dirty, expires_at, fields) \
         select * from unnest($1::text[], $2::bigint[], $3::boolean[], $4::boolean[], $5::bigint[], $6::jsonb[]) \
         as offered (id, version, deleted, dirty, expires_at, fields) \
         where (select fence($10)) order by id collate \"C\" \
         on conflict (id) do update set version = excluded.version, deleted = excluded.deleted, \
         dirty = excluded.dirty, expires_at = excluded.expires_at, fields = excluded.fields \
         where held.version < excluded.version and held.version <= $7 \
         and (not $8 or held.deleted or coalesce(held.expires_at <= $9, false)) \
         returning id",
        kind.name
    );
    let records = || puts.iter().map(|put| &put.record);
    sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(puts.iter().map(Put::id).collect::<Vec<_>>())
        .bind(records().map(|record| record.version as i64).collect::<Vec<_>>())
        .bind(records().map(|record| record.deleted).collect::<Vec<_>>())
        .bind(puts.iter().map(|put| put.mark == Mark::Dirty).collect::<Vec<_>>())
        .bind(records().map(|record| record.expires_at).collect::<Vec<_>>())
        .bind(records().map(|record| Json(&record.fields)).collect::<Vec<_>>())
        .bind(condition.at_most as i64)
        .bind(condition.absent)
        .bind(now_ms())
        .bind(puts.iter().map(|put| put.epoch as i64).min())
        .fetch_all(connection)
        .await
        .map(|ids: Vec<String>| ids.into_iter().collect())
}

/// The versions held instead. A statement of its own, because the first one does not see what other
/// connections wrote while it ran.
async fn held(
    kind: &'static Kind,
    puts: &[Put],
    connection: &mut PgConnection,
) -> sqlx::Result<HashMap<String, Version>> {
    let statement = format!("select id, version from {} where id = any($1)", kind.name);
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(puts.iter().map(Put::id).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("id")?, row::version(row)?))).collect()
}
