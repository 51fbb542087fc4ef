//! The lines of the nodes, and the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::broadcast;

use super::reserve::Reserve;
use super::{Postgres, failure};
use crate::store::Result;
use crate::store::board::{Board, FORGOTTEN, HELD, Heard, Line};

#[async_trait]
impl Board for Postgres {
    async fn announce(&self, line: &Line) -> Result<bool> {
        self.call(announce(&self.reserve, line)).await
    }

    async fn lines(&self) -> Result<Vec<Heard>> {
        self.call(lines(&self.reserve)).await
    }

    async fn withdraw(&self, node: &str, holder: &str) -> Result<()> {
        self.call(withdraw(&self.reserve, node, holder)).await
    }

    fn notices(&self) -> Option<broadcast::Receiver<String>> {
        Some(self.notices.subscribe())
    }
}

/// As [`crate::store::Backend::time`].
pub(super) async fn time(reserve: &Reserve) -> Result<i64> {
    let mut loan = reserve.lend().await?;
    let time = sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
        .fetch_one(loan.connection())
        .await;
    loan.end(time, failure::of_read)
}

async fn announce(reserve: &Reserve, line: &Line) -> Result<bool> {
    let mut loan = reserve.lend().await?;
    let up = sqlx::query_scalar(
        "with forgotten as (delete from node where id <> $1 and heard < clock_timestamp() - make_interval(secs => $5)), \
         up as (insert into node (id, holder, line, heard) values ($1, $2, $3, clock_timestamp()) \
         on conflict (id) do update set holder = excluded.holder, line = excluded.line, heard = excluded.heard \
         where node.holder = excluded.holder or node.heard < clock_timestamp() - make_interval(secs => $4) \
         returning true) select exists (select from up)",
    )
    .bind(&line.node)
    .bind(&line.holder)
    .bind(&line.text)
    .bind(HELD.as_secs_f64())
    .bind(FORGOTTEN.as_secs_f64())
    .fetch_one(loan.connection())
    .await;
    loan.end(up, failure::of_write)
}

async fn lines(reserve: &Reserve) -> Result<Vec<Heard>> {
    let mut loan = reserve.lend().await?;
    let rows = sqlx::query(
        "select id, holder, line, (extract(epoch from clock_timestamp() - heard) * 1000000)::bigint as age \
         from node order by id",
    )
    .fetch_all(loan.connection())
    .await;
    let lines = rows.and_then(|rows| rows.iter().map(heard).collect());
    loan.end(lines, failure::of_read)
}

fn heard(row: &PgRow) -> sqlx::Result<Heard> {
    let age = row.try_get::<i64, _>("age")?.max(0) as u64;
    let line = Line { node: row.try_get("id")?, holder: row.try_get("holder")?, text: row.try_get("line")? };
    Ok(Heard { line, age: Duration::from_micros(age) })
}

async fn withdraw(reserve: &Reserve, node: &str, holder: &str) -> Result<()> {
    let mut loan = reserve.lend().await?;
    let done = sqlx::query("delete from node where id = $1 and holder = $2")
        .bind(node)
        .bind(holder)
        .execute(loan.connection())
        .await;
    loan.end(done, failure::of_write).map(drop)
}
