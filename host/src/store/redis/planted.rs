//! Faults of a write into Redis that the torture bench plants. See [`crate::planted`].

#[cfg(feature = "planted")]
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Script, Value};

use super::call::{Call, Effect};
use super::{layout, script};
use crate::planted::is;
use crate::store::{Mark, Result, Write};

/// How far a mark that is set by itself lags behind its record.
const APART: Duration = Duration::from_millis(300);
/// The life of a record, in milliseconds, that has one though nobody else has it.
const TTL_MS: u32 = 1_000;

/// What overwrites whatever is there: `put.lua` that does not compare versions.
#[cfg(feature = "planted")]
static OVERWRITE: LazyLock<Script> = LazyLock::new(|| {
    let put = concat!(include_str!("fence.lua"), include_str!("listed.lua"), include_str!("put.lua"));
    assert_eq!(put.matches("held > version").count(), 1, "put.lua compares elsewhere now");
    Script::new(&put.replace("held > version", "false"))
});

/// The script of a write; of a copy of another store's record, another one.
pub(super) fn put(write: &Write) -> &'static Script {
    #[cfg(feature = "planted")]
    if is("fill-without-compare-and-set") && write.mark == Mark::Clean {
        return &OVERWRITE;
    }
    let _ = write;
    &script::PUT
}

impl Call {
    /// Lets a record expire, forgets a tombstone, or sets a mark later, once the record has been taken.
    pub(super) async fn planted_after(&self, write: &Write, answer: &Result<Value>) -> Result<()> {
        let key = &write.record.key;
        let taken = answer.as_ref().is_ok_and(|answer| layout::integer(answer) == Some(0));
        if !taken || write.mark != Mark::Dirty {
            return Ok(());
        }
        let then = async |command: &Cmd| self.cmd(Effect::Writes, command).await.map(drop);
        if is("ttl-on-a-dirty-record") {
            then(redis::cmd("PEXPIRE").arg(layout::record(key)).arg(TTL_MS)).await?;
        }
        if is("tombstone-dropped-at-once") && write.record.deleted {
            then(redis::cmd("DEL").arg(layout::tombstone(key))).await?;
        }
        if is("mark-apart") {
            let (link, mut mark) = (self.link.clone(), redis::cmd("ZADD"));
            mark.arg(layout::DIRTY).arg(write.record.version).arg(key.to_string());
            tokio::spawn(async move {
                tokio::time::sleep(APART).await;
                Self::on(&link, APART).cmd(Effect::Writes, &mark).await
            });
        }
        Ok(())
    }
}
