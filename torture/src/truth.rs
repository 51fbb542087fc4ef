//! What both stores hold, read from them directly.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::history::{Contents, Held, KeyIndex, Loss, Truth};
use crate::keys::{self, KEYS, KINDS, SUBJECTS};

/// Fields of a record's hash that are the host's.
const OWN: [&str; 3] = ["_version", "_expires", "_cached"];
const DIRTY: &str = "switchyard:dirty";
const OWED: &str = "switchyard:usage:owed";

/// Reads everything.
///
/// # Errors
/// When a store does not answer.
pub async fn read(redis_url: &str, postgres_url: &str) -> Result<Truth> {
    let mut redis = connect(redis_url).await?;
    let mut postgres = PgConnection::connect(postgres_url).await.context("PostgreSQL")?;
    let truth = Truth {
        redis: redis_contents(&mut redis).await.context("Redis")?,
        events: events(&mut postgres).await?,
        postgres: postgres_contents(&mut postgres).await?,
    };
    postgres.close().await?;
    Ok(truth)
}

/// A connection to Redis.
///
/// # Errors
/// When it does not answer.
pub async fn connect(redis_url: &str) -> Result<MultiplexedConnection> {
    Ok(redis::Client::open(redis_url)?.get_multiplexed_async_connection().await?)
}

async fn redis_contents(redis: &mut MultiplexedConnection) -> Result<Contents> {
    let mut contents = Contents::default();
    for key in 0..KEYS {
        let (hash, tombstone): (BTreeMap<String, String>, Option<u64>) = redis::pipe()
            .cmd("HGETALL")
            .arg(keys::redis_key(key))
            .cmd("GET")
            .arg(keys::redis_tombstone(key))
            .query_async(redis)
            .await?;
        if let Some(held) = held(hash, tombstone) {
            contents.records.insert(key, held);
        }
    }
    for key in 0..SUBJECTS {
        let (requests, tokens): (Option<u64>, Option<u64>) = redis::cmd("HMGET")
            .arg(format!("usage:{}", keys::id(key)))
            .arg(&["totalRequests", "totalInputTokens"])
            .query_async(redis)
            .await?;
        if let Some(requests) = requests {
            contents.totals.insert(key, (requests, tokens.unwrap_or(0)));
        }
    }
    contents.owed = redis::pipe().cmd("ZCARD").arg(DIRTY).cmd("HLEN").arg(OWED).query_async(redis).await?;
    Ok(contents)
}

fn held(hash: BTreeMap<String, String>, tombstone: Option<u64>) -> Option<Held> {
    let mut fields = hash;
    let version = fields.get("_version").and_then(|version| version.parse().ok());
    OWN.iter().for_each(|own| drop(fields.remove(*own)));
    match (version, tombstone) {
        (Some(version), _) => Some(Held { version, deleted: false, fields }),
        (None, Some(version)) => Some(Held { version, deleted: true, fields }),
        (None, None) => None,
    }
}

async fn postgres_contents(postgres: &mut PgConnection) -> Result<Contents> {
    let mut contents = Contents::default();
    for (kind, _) in KINDS {
        let query = format!("select id, version, deleted, dirty, fields::text as fields from {kind}");
        for row in sqlx::query(AssertSqlSafe(query)).fetch_all(&mut *postgres).await? {
            let Some(key) = keys::of_id(row.try_get("id")?) else { continue };
            let fields: String = row.try_get("fields")?;
            let (deleted, version): (bool, i64) = (row.try_get("deleted")?, row.try_get("version")?);
            let fields = if deleted { BTreeMap::new() } else { serde_json::from_str(&fields)? };
            contents.records.insert(key, Held { version: version as u64, deleted, fields });
            contents.owed.0 += u64::from(row.try_get::<bool, _>("dirty")?);
        }
    }
    let totals = "select id, requests, input_tokens from usage_total where id like '%:total'";
    for row in sqlx::query(totals).fetch_all(&mut *postgres).await? {
        let id: &str = row.try_get("id")?;
        let Some(key) = id.strip_suffix(":total").and_then(keys::of_id) else { continue };
        let (requests, tokens): (i64, i64) = (row.try_get("requests")?, row.try_get("input_tokens")?);
        contents.totals.insert(key, (requests as u64, tokens as u64));
    }
    let owed = sqlx::query_scalar("select count(*) from usage_event_id where owed");
    let owed: i64 = owed.fetch_one(postgres).await?;
    contents.owed.1 = owed as u64;
    Ok(contents)
}

async fn events(postgres: &mut PgConnection) -> Result<BTreeMap<KeyIndex, HashSet<u64>>> {
    let mut events: BTreeMap<KeyIndex, HashSet<u64>> = BTreeMap::new();
    let counted = "select id, key_id from usage_event join usage_event_id using (id)";
    for row in sqlx::query(counted).fetch_all(postgres).await? {
        let (id, subject): (&str, &str) = (row.try_get("id")?, row.try_get("key_id")?);
        if let Some((event, subject)) = keys::of_event(id).zip(keys::of_id(subject)) {
            events.entry(subject).or_default().insert(event);
        }
    }
    Ok(events)
}

/// The kinds that Redis is said to hold whole, and whether it is closed for usage.
///
/// # Errors
/// When it does not answer.
pub async fn whole_in_redis(redis_url: &str) -> Result<(Vec<String>, bool)> {
    let mut redis = connect(redis_url).await?;
    let mut pipe = redis::pipe();
    pipe.cmd("SMEMBERS").arg("switchyard:complete").cmd("EXISTS").arg("switchyard:usage:closed");
    Ok(pipe.query_async(&mut redis).await?)
}

/// The kinds that PostgreSQL is said to hold whole.
///
/// # Errors
/// When it does not answer.
pub async fn whole_in_postgres(postgres_url: &str) -> Result<Vec<String>> {
    let mut postgres = PgConnection::connect(postgres_url).await?;
    Ok(sqlx::query_scalar("select kind from complete_kind").fetch_all(&mut postgres).await?)
}

/// The version that PostgreSQL holds of each record.
///
/// # Errors
/// When it does not answer.
pub async fn versions(postgres_url: &str) -> Result<HashMap<KeyIndex, u64>> {
    let mut postgres = PgConnection::connect(postgres_url).await?;
    let mut versions = HashMap::new();
    for (kind, _) in KINDS {
        let query = AssertSqlSafe(format!("select id, version from {kind}"));
        for row in sqlx::query(query).fetch_all(&mut postgres).await? {
            if let Some(key) = keys::of_id(row.try_get("id")?) {
                versions.insert(key, row.try_get::<i64, _>("version")? as u64);
            }
        }
    }
    Ok(versions)
}

/// What Redis alone holds now, and then, with `destroy`, nothing any more, in one step. `had` is what PostgreSQL had
/// a moment ago.
///
/// # Errors
/// When Redis does not answer.
pub async fn only_in_redis(redis_url: &str, had: &HashMap<KeyIndex, u64>, destroy: bool) -> Result<Loss> {
    let mut redis = connect(redis_url).await?;
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("ZRANGE").arg(DIRTY).arg(0).arg(-1).cmd("HKEYS").arg(OWED);
    if destroy {
        pipe.cmd("FLUSHALL").ignore();
    }
    let (marks, owed): (Vec<String>, Vec<String>) = pipe.query_async(&mut redis).await?;
    let marked = marks.iter().filter_map(|mark| keys::of_name(mark));
    let keys = marked.map(|key| (key, had.get(&key).copied().unwrap_or(0))).collect();
    let events = owed.iter().filter_map(|id| keys::of_event(id)).collect();
    Ok(Loss { from: 0, at: 0, keys, events })
}
