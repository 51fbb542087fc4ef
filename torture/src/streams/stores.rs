//! What both stores hold of the streams' usage, read from them directly.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::truth;

/// Before the id of each event that Redis remembers to have counted.
const EVENT: &str = "switchyard:event:";
const OWED: &str = "switchyard:usage:owed";
/// How many keys a step looks at.
const STEP: u32 = 1_000;

/// What is counted: requests, input tokens, output tokens, micro-dollars.
pub type Counts = [u64; 4];

/// An event as PostgreSQL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub request_id: String,
    pub input: u64,
    pub output: u64,
    pub cost: u64,
    pub partial: bool,
    /// Whether it is of the key and the account that were used.
    pub ours: bool,
}

/// The totals of the key and of the account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub key: Counts,
    pub account: Counts,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    pub rows: Vec<Row>,
    /// The ids that Redis remembers.
    pub in_redis: BTreeSet<String>,
    pub redis: Totals,
    pub postgres: Totals,
    /// Events that the other store does not have yet: in Redis, and in PostgreSQL.
    pub owed: (u64, u64),
}

/// Reads everything.
///
/// # Errors
/// When a store does not answer.
pub async fn read(redis_url: &str, postgres_url: &str, key: &str, account: &str) -> Result<Held> {
    let mut redis = truth::connect(redis_url).await.context("Redis")?;
    let mut postgres = PgConnection::connect(postgres_url).await.context("PostgreSQL")?;
    let owed = sqlx::query_scalar("select count(*) from usage_event_id where owed");
    let owed: i64 = owed.fetch_one(&mut postgres).await?;
    let held = Held {
        owed: (redis::cmd("HLEN").arg(OWED).query_async(&mut redis).await?, owed as u64),
        in_redis: remembered(&mut redis).await?,
        redis: Totals {
            key: redis_counts(&mut redis, &format!("usage:{key}")).await?,
            account: redis_counts(&mut redis, &format!("account_usage:{account}")).await?,
        },
        postgres: Totals {
            key: postgres_counts(&mut postgres, &format!("{key}:total")).await?,
            account: postgres_counts(&mut postgres, &format!("account:{account}:total")).await?,
        },
        rows: rows(&mut postgres, key, account).await?,
    };
    postgres.close().await?;
    Ok(held)
}

async fn remembered(redis: &mut MultiplexedConnection) -> Result<BTreeSet<String>> {
    let (mut ids, mut cursor) = (BTreeSet::new(), 0_u64);
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{EVENT}*")).arg("COUNT").arg(STEP);
        let (next, keys): (u64, Vec<String>) = scan.query_async(redis).await?;
        ids.extend(keys.iter().filter_map(|key| key.strip_prefix(EVENT)).map(str::to_owned));
        if next == 0 {
            return Ok(ids);
        }
        cursor = next;
    }
}

async fn redis_counts(redis: &mut MultiplexedConnection, key: &str) -> Result<Counts> {
    let fields = ["totalRequests", "totalInputTokens", "totalOutputTokens", "costMicroUsd"];
    let counts: [Option<u64>; 4] = redis::cmd("HMGET").arg(key).arg(&fields).query_async(redis).await?;
    Ok(counts.map(Option::unwrap_or_default))
}

async fn postgres_counts(postgres: &mut PgConnection, id: &str) -> Result<Counts> {
    let query = "select requests, input_tokens, output_tokens, cost_micro_usd from usage_total where id = $1";
    let Some(row) = sqlx::query(query).bind(id).fetch_optional(postgres).await? else {
        return Ok(Counts::default());
    };
    let mut counts = Counts::default();
    for (at, count) in counts.iter_mut().enumerate() {
        *count = row.try_get::<i64, _>(at)? as u64;
    }
    Ok(counts)
}

async fn rows(postgres: &mut PgConnection, key: &str, account: &str) -> Result<Vec<Row>> {
    let query = "select id, coalesce(request_id, '') as request_id, input_tokens, output_tokens, cost_micro_usd, \
                 partial, key_id = $1 and account_id is not distinct from $2 as ours from usage_event order by id";
    let rows = sqlx::query(query).bind(key).bind(account).fetch_all(postgres).await?;
    let row = |row: sqlx::postgres::PgRow| -> Result<Row> {
        let count = |name: &str| row.try_get::<i64, _>(name).map(|count| count as u64);
        Ok(Row {
            id: row.try_get("id")?,
            request_id: row.try_get("request_id")?,
            input: count("input_tokens")?,
            output: count("output_tokens")?,
            cost: count("cost_micro_usd")?,
            partial: row.try_get("partial")?,
            ours: row.try_get("ours")?,
        })
    };
    rows.into_iter().map(row).collect()
}
