//! Faults of a write into Redis that the torture bench plants. See [`crate::planted`].

use std::time::Duration;

use redis::{Cmd, Value};

use super::call::{Call, Effect};
use super::layout;
use crate::planted::is;
use crate::store::{Mark, Result, Write};

/// How far a mark that is set by itself lags behind its record.
const APART: Duration = Duration::from_millis(300);
/// The life of a record, in milliseconds, that has one though nobody else has it.
const TTL_MS: u32 = 1_000;

impl Call {
    /// Makes a copy of another store's record overwrite whatever is there.
    pub(super) async fn planted_before(&self, write: &Write) -> Result<()> {
        let key = &write.record.key;
        if is("fill-without-compare-and-set") && write.mark == Mark::Clean {
            let mut forget = redis::cmd("DEL");
            forget.arg(layout::record(key)).arg(layout::tombstone(key));
            self.cmd(Effect::Writes, &forget).await?;
        }
        Ok(())
    }

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
