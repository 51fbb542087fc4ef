//! The admin's commands on Redis.

use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::Offset;

use super::call::Effect;
use super::{Redis, adopt, layout, script};
use crate::store::clock::now_ms;
use crate::store::maintenance::{Adopted, Counted, Windows};
use crate::store::{Key, Kind, Maintenance, Page, Record, Result, StoreError, Version};

/// How many copies one script drops, and how many tombstones one step looks at.
const AT_ONCE: usize = 200;

#[async_trait]
impl Maintenance for Redis {
    async fn adopt(&self, cursor: Option<&str>) -> Result<Adopted> {
        adopt::step(&self.wire.begin()?, cursor).await
    }

    async fn count(&self, kind: &'static Kind) -> Result<u64> {
        let count = redis::cmd("ZCARD").arg(layout::ids(kind)).to_owned();
        let answer = self.wire.begin()?.cmd(Effect::Reads, &count).await?;
        Ok(layout::integer(&answer).unwrap_or(0) as u64)
    }

    async fn tombstones(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        let prefix = layout::tombstones(kind);
        let call = self.wire.begin()?;
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor.unwrap_or("0")).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(limit.max(1));
        let [next, names] = layout::array(call.cmd(Effect::Reads, &scan).await?)?;
        let names = layout::list(names)?.into_iter().filter_map(|name| layout::text(name).ok());
        let keys = names.filter_map(|name| Key::new(kind, name.strip_prefix(&prefix)?).ok());
        let mut records = Vec::new();
        for key in keys {
            let mut get = script::GET.key(layout::record(&key));
            get.key(layout::tombstone(&key));
            let read = call.script(Effect::Reads, &get).await?;
            let record = layout::decode_read(&key, read, now_ms()).ok().flatten();
            records.extend(record.filter(|record: &Record| record.deleted).map(Into::into));
        }
        let next = layout::text(next)?;
        Ok(Page { records, next: (next != "0").then_some(next) })
    }

    async fn windows(&self, cursor: Option<&str>, _limit: u32, every: bool) -> Result<Windows> {
        self.count_windows(cursor, every).await
    }

    async fn has_counted(&self, ids: &[String]) -> Result<Vec<String>> {
        let mut counted = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            let mut pipe = redis::pipe();
            for id in ids {
                pipe.cmd("EXISTS").arg(layout::event(id));
            }
            let known = layout::list(self.wire.begin()?.pipe(Effect::Reads, &pipe).await?)?;
            let known = ids.iter().zip(known).filter(|(_, exists)| layout::integer(exists) == Some(1));
            counted.extend(known.map(|(id, _)| id.clone()));
        }
        Ok(counted)
    }

    async fn close_usage(&self, hold: Option<Duration>) -> Result<()> {
        // Not fenced: it ends by itself, and nothing is lost while counting pauses.
        let mut cmd = redis::cmd(if hold.is_some() { "SET" } else { "DEL" });
        cmd.arg(layout::USAGE_CLOSED);
        if let Some(hold) = hold {
            cmd.arg(1).arg("PX").arg(hold.as_millis().max(1) as u64);
        }
        self.wire.begin()?.cmd(Effect::Writes, &cmd).await.map(drop)
    }

    async fn open_balances(&self, _held: &[Counted], _offset: Offset, _from: &str) -> Result<u64> {
        Err(StoreError::Unsupported("opening balances are kept in a durable store only".into()))
    }

    async fn dropped(&self, kind: &'static Kind) -> Result<u64> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(layout::DROPS).arg(kind.name);
        let answer = self.wire.begin()?.cmd(Effect::Reads, &cmd).await?;
        Ok(layout::integer(&answer).unwrap_or(0) as u64)
    }

    async fn complete_since(&self, kind: &'static Kind, dropped: u64) -> Result<bool> {
        let mut complete = script::COMPLETE.key(layout::COMPLETE);
        complete.key(layout::DROPS).arg(kind.name).arg(dropped);
        let answer = self.wire.begin()?.write(&mut complete).await?;
        Ok(layout::integer(&answer) == Some(1))
    }

    async fn drop_copies(&self, kind: &'static Kind, copies: &[(Key, Version)]) -> Result<u64> {
        let (index_key, field) = kind.index.as_ref().map_or(("", ""), |index| (index.redis_key, index.field));
        let mut dropped = 0;
        for copies in copies.chunks(AT_ONCE) {
            let mut drop = script::DROP.key(layout::COMPLETE);
            drop.key(layout::DROPS).key(layout::DIRTY).key(layout::ids(kind)).key(index_key);
            drop.arg(kind.name).arg(kind.redis_prefix).arg(format!("{}/", kind.name)).arg(field);
            for (key, version) in copies.iter().filter(|(key, _)| key.kind == kind) {
                drop.arg(&*key.id).arg(*version);
            }
            let answer = self.wire.begin()?.write(&mut drop).await?;
            dropped += layout::integer(&answer).unwrap_or(0) as u64;
        }
        Ok(dropped)
    }

    async fn forget_near(&self) -> Result<u64> {
        let Some(near) = self.wire.near() else { return Ok(0) };
        let kept = near.len() as u64;
        near.forget_all();
        Ok(kept)
    }

    async fn reconnect(&self) -> Result<()> {
        self.wire.lose();
        Ok(())
    }
}
