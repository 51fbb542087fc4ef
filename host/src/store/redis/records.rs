//! Records: the four functions of the contract, and their marks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::Value;

use super::call::{Call, Effect};
use super::near::Asked;
use super::{Redis, layout, script};
use crate::planted;
use crate::store::clock::now_ms;
use crate::store::list::listed;
use crate::store::{Expect, Key, Kind, MAX_PAGE, Mark, Page, Record, Result, StoreError, Version, Write};
use crate::telemetry::Seldom;

/// How many records one script reads at most: bounds how long it keeps the server busy.
const RECORDS_PER_SCRIPT: usize = 200;
/// One record that cannot be read must not keep the others from the other store.
static UNREADABLE: Seldom = Seldom::new();
/// How many scripts one page takes at most. Expired ids may make a page shorter than asked for.
const SCRIPTS_PER_PAGE: usize = 10;

impl Redis {
    pub(super) async fn get_record(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        layout::has_place(key.kind)?;
        let now = now_ms();
        if let Some(near) = self.wire.near() {
            if let Some(record) = near.get(key, now) {
                self.hits.inc();
                return Ok(Some(record));
            }
            self.misses.inc();
        }
        let call = self.wire.begin()?;
        let asked = ask(&call);
        let name = layout::record(key);
        let hash = call.cmd(Effect::Reads, redis::cmd("HGETALL").arg(&name)).await?;
        let record = match layout::decode(key, hash)? {
            Some(record) if layout::is_ours(&record) || key.kind.whole => Some(record),
            // Absent, or another program's that may expire: all that is known of it, in one step.
            _ => {
                let mut get = script::GET.key(name);
                get.key(layout::tombstone(key));
                layout::decode_read(key, call.script(Effect::Reads, &get).await?, now)?
            }
        };
        let record = record.filter(|record| !record.is_expired(now)).map(Arc::new);
        keep(&call, asked, record.as_ref());
        Ok(record)
    }

    pub(super) async fn find_record(
        &self,
        kind: &'static Kind,
        index: &str,
        value: &str,
    ) -> Result<Option<Arc<Record>>> {
        let index = kind.index_named(index)?;
        let now = now_ms();
        if let Some(near) = self.wire.near() {
            if let Some(record) = near.find(kind, value, now) {
                self.hits.inc();
                return Ok(Some(record));
            }
            self.misses.inc();
        }
        let call = self.wire.begin()?;
        let asked = ask(&call);
        let mut find = script::FIND.key(index.redis_key);
        find.arg(value).arg(kind.redis_prefix).arg(layout::tombstones(kind)).arg(layout::old_index(kind));
        let answer = call.script(Effect::Reads, &find).await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let [id, read] = layout::array(answer)?;
        let Ok(key) = Key::new(kind, &layout::text(id)?) else { return Ok(None) };
        let record = layout::decode_read(&key, read, now)?;
        // Another program may leave an entry behind that its record no longer has.
        let has_value = |record: &Record| record.is_live(now) && record.index_value() == Some(value);
        let record = record.filter(has_value).map(Arc::new);
        if let (Some(near), Some(asked), Some(_)) = (&call.link.near, asked, &record) {
            near.keep_found(asked, &key, value);
            // The server announces changes of the keys that a request names. The script has not named the
            // record's, so what it answered must not be kept: only a read by the key may be.
            return Ok(self.get_record(&key).await?.filter(|record| has_value(record)));
        }
        Ok(record)
    }

    pub(super) async fn scan_records(
        &self,
        kind: &'static Kind,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page> {
        layout::has_place(kind)?;
        if !self.wire.adopted.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("the index of the records in Redis is being built".into()));
        }
        let (call, now, limit) = (self.wire.begin()?, now_ms(), limit.clamp(1, MAX_PAGE) as usize);
        let (mut records, mut last): (Vec<Arc<Record>>, _) = (Vec::new(), cursor.map(str::to_owned));
        for _ in 0..SCRIPTS_PER_PAGE {
            let wanted = (limit + 1 - records.len()).min(RECORDS_PER_SCRIPT);
            let mut scan = script::SCAN.key(layout::ids(kind));
            scan.arg(last.as_ref().map_or("-".into(), |id| format!("({id}"))).arg(wanted);
            scan.arg(kind.redis_prefix).arg(layout::tombstones(kind));
            let seen = layout::list(call.script(Effect::Reads, &scan).await?)?;
            let at_end = seen.len() < wanted;
            for entry in seen {
                let [id, read] = layout::array(entry)?;
                let id = layout::text(id)?;
                if let Ok(key) = Key::new(kind, &id) {
                    let record = readable(&key, read, now);
                    records.extend(record.filter(|record| record.is_live(now)).map(Arc::new));
                }
                last = Some(id);
            }
            if records.len() > limit {
                records.truncate(limit);
                let next = records.last().map(|record| record.key.id.to_string());
                return Ok(Page { records, next });
            }
            if at_end {
                return Ok(Page { records, next: None });
            }
        }
        Ok(Page { records, next: last })
    }

    pub(super) async fn put_record(&self, write: &Write) -> Result<()> {
        let record = &*write.record;
        layout::has_place(record.key.kind)?;
        layout::has_own_names(record)?;
        let call = self.wire.begin()?;
        let answer = call.write(&mut put(write)).await;
        call.planted_after(write, &answer).await?;
        // Whatever became of it: the caller must not see what was there before.
        if let Some(near) = self.wire.near() {
            near.forget_own(record);
        }
        match layout::integer(&answer?) {
            Some(0) => Ok(()),
            Some(held) => Err(StoreError::Conflict(held as Version)),
            None => Err(layout::unexpected("a version")),
        }
    }

    pub(super) async fn dirty_records(
        &self,
        before: Version,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<Arc<Record>>> {
        let mut dirty = script::DIRTY.key(layout::DIRTY);
        dirty.arg(before).arg(skip).arg(limit.min(MAX_PAGE));
        for kind in Kind::public() {
            dirty.arg(kind.name).arg(kind.redis_prefix).arg(layout::tombstones(kind));
        }
        self.with_marks(&self.wire.begin()?, &dirty).await
    }

    pub(super) async fn marked_records(&self, keys: &[Key]) -> Result<Vec<Arc<Record>>> {
        let (call, mut records) = (self.wire.begin()?, Vec::new());
        for part in keys.chunks(RECORDS_PER_SCRIPT) {
            let mut marked = script::MARKED.key(layout::DIRTY);
            for key in part {
                marked.arg(key.to_string()).arg(layout::record(key)).arg(layout::tombstone(key));
            }
            records.extend(self.with_marks(&call, &marked).await?);
        }
        Ok(records)
    }

    /// The records that a script answers with their marks.
    async fn with_marks(
        &self,
        call: &Call,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<Vec<Arc<Record>>> {
        let (now, mut records) = (now_ms(), Vec::new());
        for entry in layout::list(call.script(Effect::Reads, script).await?)? {
            let [mark, read] = layout::array(entry)?;
            let Some(key) = layout::marked(&layout::text(mark)?) else { continue };
            match layout::decode_read(&key, read, now) {
                Ok(record) => records.extend(record.map(Arc::new)),
                Err(error) if UNREADABLE.is_due() => {
                    tracing::error!(%key, %error, "a marked record in Redis is unreadable, and stays there");
                }
                Err(_) => {}
            }
        }
        Ok(records)
    }

    pub(super) async fn settle_records(&self, settled: &[(Key, Version)]) -> Result<()> {
        let call = self.wire.begin()?;
        for part in settled.chunks(RECORDS_PER_SCRIPT) {
            let mut settle = script::SETTLE.key(layout::DIRTY);
            settle.arg(layout::TOMBSTONE_MS);
            for (key, version) in part {
                settle.arg(layout::record(key)).arg(layout::tombstone(key)).arg(key.to_string());
                settle.arg(*version).arg(u8::from(key.kind.whole));
            }
            call.write(&mut settle).await?;
        }
        Ok(())
    }
}

/// One record among many: one that another program made unreadable does not stop the others.
fn readable(key: &Key, read: Value, now: i64) -> Option<Record> {
    layout::decode_read(key, read, now).unwrap_or_else(|error| {
        tracing::warn!(%error, %key, "a record in Redis cannot be read");
        None
    })
}

/// A write as `put.lua` takes it.
fn put(write: &Write) -> redis::ScriptInvocation<'static> {
    let record = &*write.record;
    let kind = record.key.kind;
    let (precondition, version) = match write.expect {
        Expect::Anything => ("none", 0),
        Expect::AtMost(version) => ("at-most", version),
        Expect::Absent => ("absent", 0),
    };
    let mut put = super::planted::put(write).key(layout::record(&record.key));
    put.key(layout::tombstone(&record.key)).key(layout::ids(kind)).key(layout::DIRTY);
    put.key(kind.index.as_ref().map_or("", |index| index.redis_key));
    put.arg(record.version).arg(precondition).arg(version).arg(now_ms());
    let dirty = write.mark == Mark::Dirty && !planted::is("mark-apart");
    put.arg(u8::from(dirty)).arg(&*record.key.id).arg(record.key.to_string());
    put.arg(u8::from(record.deleted));
    put.arg(record.expires_at.map(|at| at.to_string()).unwrap_or_default());
    put.arg(u8::from(kind.whole)).arg(layout::TOMBSTONE_MS);
    put.arg(kind.index.as_ref().map_or("", |index| index.field));
    put.arg(record.index_value().unwrap_or_default()).arg(u8::from(listed(kind).is_ok()));
    for (name, value) in &record.fields {
        put.arg(name).arg(value);
    }
    put
}

fn ask(call: &Call) -> Option<Asked> {
    call.link.near.as_ref().map(|near| near.ask())
}

fn keep(call: &Call, asked: Option<Asked>, record: Option<&Arc<Record>>) {
    if let (Some(near), Some(asked), Some(record)) = (&call.link.near, asked, record)
        && !record.deleted
    {
        near.keep(asked, record);
    }
}
