//! Finds the records that another program wrote: they have no version, no mark, and are in no sorted set yet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;

use super::call::{Call, Effect};
use super::link::{Link, Status, Wire};
use super::{board, layout, script};
use crate::store::clock::now_ms;
use crate::store::kind::{API_KEY, Index};
use crate::store::list::listed;
use crate::store::maintenance::{Adopted, Skipped};
use crate::store::{InvalidKey, Key, Kind, Result, StoreError};

const KEYS_PER_STEP: u32 = 1_000;
/// How many records one script looks at: bounds how long it keeps the server busy.
const KEYS_PER_SCRIPT: usize = 200;
const RETRY: Duration = Duration::from_secs(1);

/// Goes through all keys once, however often it takes, and then waits for the connection to end.
pub(super) async fn adopt(wire: &Wire, link: Arc<Link>) {
    while let Err(error) = adopt_all(wire, &link).await {
        tracing::warn!(%error, "looking for the records in Redis failed; trying again");
        tokio::time::sleep(RETRY).await;
    }
    wire.adopted.store(true, Ordering::Release);
    wire.status.send_replace(Status::Ready);
    std::future::pending().await
}

async fn adopt_all(wire: &Wire, link: &Arc<Link>) -> Result<()> {
    let (mut cursor, mut skipped) = (None::<String>, 0);
    loop {
        let adopted = step(&Call::on(link, wire.deadline), cursor.as_deref()).await?;
        skipped += adopted.skipped.len();
        match adopted.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    vanished(&Call::on(link, wire.deadline)).await?;
    if skipped > 0 {
        tracing::warn!(skipped, "some keys in Redis cannot be records; a sync lists them");
    }
    Ok(())
}

/// Puts tombstones in place of the records that were given back and that the other program has deleted. Not more
/// than once: what vanishes otherwise was lost.
async fn vanished(call: &Call) -> Result<()> {
    let given_back = redis::cmd("EXISTS").arg(layout::GIVEN_BACK).to_owned();
    if layout::integer(&call.cmd(Effect::Reads, &given_back).await?) != Some(1) {
        return Ok(());
    }
    let version = board::time_of(call.cmd(Effect::Reads, &redis::cmd("TIME")).await?)?;
    let mut deleted = 0;
    for kind in Kind::public().filter(|kind| kind.whole) {
        let all = redis::cmd("ZRANGE").arg(layout::ids(kind)).arg(0).arg(-1).to_owned();
        let ids = layout::list(call.cmd(Effect::Reads, &all).await?)?;
        let ids: Vec<_> = ids.into_iter().filter_map(|id| layout::text(id).ok()).collect();
        for ids in ids.chunks(KEYS_PER_SCRIPT) {
            let mut vanished = script::VANISHED.key(layout::ids(kind));
            vanished.key(layout::DIRTY).arg(version).arg(kind.redis_prefix).arg(layout::tombstones(kind));
            vanished.arg(format!("{}/", kind.name)).arg(u8::from(*kind == API_KEY)).arg(ids);
            deleted += layout::integer(&call.write(&mut vanished).await?).unwrap_or(0);
        }
    }
    tracing::info!(deleted, "taken over again; records that the other program deleted are gone");
    let done = redis::cmd("DEL").arg(layout::GIVEN_BACK).to_owned();
    call.cmd(Effect::Writes, &done).await.map(drop)
}

/// One step: `KIND.PART.CURSOR` names it, where the part is the keys of the records or their index.
pub(super) async fn step(call: &Call, cursor: Option<&str>) -> Result<Adopted> {
    let malformed = || StoreError::Unsupported("a malformed cursor".into());
    let mut parts = cursor.unwrap_or("0.keys.0").splitn(3, '.');
    let (Some(number), Some(part), Some(at)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    let number: usize = number.parse().map_err(|_| malformed())?;
    let kind = Kind::public().nth(number).ok_or_else(malformed)?;
    let (mut adopted, next) = match (part, &kind.index) {
        ("keys", _) => keys(call, kind, at).await?,
        ("index", Some(index)) => entries(call, kind, index, at).await?,
        _ => return Err(malformed()),
    };
    adopted.next = match (next.as_str(), part) {
        ("0", "keys") if kind.index.is_some() => Some(format!("{number}.index.0")),
        ("0", _) => Kind::public().nth(number + 1).map(|_| format!("{}.keys.0", number + 1)),
        (next, part) => Some(format!("{number}.{part}.{next}")),
    };
    Ok(adopted)
}

/// Takes in the records among some keys of a kind.
async fn keys(call: &Call, kind: &'static Kind, at: &str) -> Result<(Adopted, String)> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(at).arg("MATCH").arg(format!("{}*", kind.redis_prefix)).arg("COUNT").arg(KEYS_PER_STEP);
    let [next, names] = layout::array(call.cmd(Effect::Reads, &scan).await?)?;
    let names = layout::list(names)?;
    let mut adopted = Adopted { seen: names.len() as u64, ..Adopted::default() };
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        match layout::text(name.clone()) {
            Ok(name) => ids.extend(name.strip_prefix(kind.redis_prefix).map(str::to_owned)),
            Err(_) => {
                let Value::BulkString(name) = name else { continue };
                let key = String::from_utf8_lossy(&name).into_owned();
                adopted.skipped.push(Skipped { key, reason: "the name is not UTF-8".into() });
            }
        }
    }
    // By the server's clock: this node's may be wrong.
    let version = board::time_of(call.cmd(Effect::Reads, &redis::cmd("TIME")).await?)?;
    ids.retain(|id| !matches!(Key::new(kind, id), Err(InvalidKey::Reserved(_))));
    for ids in ids.chunks(KEYS_PER_SCRIPT) {
        take_in(call, kind, version, ids, &mut adopted.skipped).await?;
    }
    Ok((adopted, layout::text(next)?))
}

/// Takes in those of these that are records: see `adopt.lua`. A whole kind never expires.
async fn take_in(
    call: &Call,
    kind: &'static Kind,
    version: i64,
    ids: &[String],
    skipped: &mut Vec<Skipped>,
) -> Result<()> {
    let mut adopt = script::ADOPT.key(layout::ids(kind));
    adopt.key(layout::DIRTY).arg(version).arg(now_ms()).arg(u8::from(kind.whole));
    adopt.arg(kind.redis_prefix).arg(layout::tombstones(kind)).arg(format!("{}/", kind.name));
    adopt.arg(u8::from(listed(kind).is_ok()));
    for id in ids {
        adopt.arg(id).arg(u8::from(Key::new(kind, id).is_ok()));
    }
    for left_alone in layout::list(call.write(&mut adopt).await?)? {
        let said: Vec<_> = layout::list(left_alone)?.into_iter().map(layout::text).collect::<Result<_>>()?;
        let (id, why) = (said.first().map_or("", String::as_str), said.get(1).map_or("", String::as_str));
        let reason = match (why, said.get(2)) {
            ("type", Some(other)) => format!("a record is a hash; this is a {other}"),
            ("text", _) => "a field is not UTF-8".into(),
            ("nul", _) => "a field holds a NUL character".into(),
            _ => Key::new(kind, id).err().map_or_else(String::new, |error| error.to_string()),
        };
        skipped.push(Skipped { key: format!("{}{id}", kind.redis_prefix), reason });
    }
    Ok(())
}

/// Names the entries of an index that lead to nothing. The values stay unnamed: they may be hashes of keys.
async fn entries(call: &Call, kind: &'static Kind, index: &Index, at: &str) -> Result<(Adopted, String)> {
    let mut scan = redis::cmd("HSCAN");
    scan.arg(index.redis_key).arg(at).arg("COUNT").arg(KEYS_PER_SCRIPT);
    let answer = match call.cmd(Effect::Reads, &scan).await {
        Err(StoreError::Other(why)) if why.contains("WRONGTYPE") => {
            let reason = "an index is a hash; this is something else".into();
            let skipped = vec![Skipped { key: index.redis_key.into(), reason }];
            return Ok((Adopted { skipped, ..Adopted::default() }, "0".into()));
        }
        answer => answer?,
    };
    let [next, entries] = layout::array(answer)?;
    let entries = layout::list(entries)?;
    let mut dangling = script::DANGLING.key(index.redis_key);
    dangling.arg(kind.redis_prefix);
    for entry in &entries {
        let Value::BulkString(bytes) = entry else { continue };
        dangling.arg(bytes);
    }
    let seen = entries.len() as u64 / 2;
    let ids = layout::list(call.script(Effect::Reads, &dangling).await?)?;
    let skipped = ids.into_iter().map(|id| {
        let id = match id {
            Value::BulkString(id) => String::from_utf8_lossy(&id).into_owned(),
            _ => String::new(),
        };
        Skipped {
            key: index.redis_key.into(),
            reason: format!("an entry leads to {id:?}, which is no record"),
        }
    });
    Ok((Adopted { seen, skipped: skipped.collect(), next: None }, layout::text(next)?))
}
