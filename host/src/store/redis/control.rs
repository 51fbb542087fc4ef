//! What the nodes have agreed on, and that Redis syncs every write while it has the last word.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

use super::call::{Call, Effect};
use super::{Redis, layout, script};
use crate::store::epoch::{Authority, Ballot, Control, Proposal};
use crate::store::identity::Lineage as _;
use crate::store::{Result, StoreError};

/// The field that remembers how Redis synced before it had the last word.
const BEFORE: &str = "appendfsync_before";

impl Redis {
    pub(super) async fn control_of(
        &self,
        node: &str,
        ballot: Ballot,
        proposal: Option<&Proposal>,
    ) -> Result<Control> {
        let mut control = script::CONTROL.key(layout::CONTROL);
        let ballot = match ballot {
            Ballot::None => "",
            Ballot::Lost => "vote",
            Ballot::Holds => "hold",
        };
        control.arg(node).arg(ballot).arg(Ballot::LIFE.as_millis() as u64);
        if let Some(Proposal { under, epoch, authority, cause }) = proposal {
            control.arg(*under).arg(*epoch).arg(authority.name()).arg(cause);
        }
        decode(self.wire.begin()?.script(Effect::Writes, &control).await?)
    }

    /// As [`crate::store::Backend::sync_all`]. Where the server does not let us see or set how it syncs, it
    /// stays as it is, and [`crate::store::Backend::durability`] tells.
    pub(super) async fn sync_every_write(&self, all: bool) -> Result<()> {
        let call = self.wire.begin()?;
        if !all {
            // Nothing may be acknowledged as synced from here on.
            call.link.syncs_all.store(false, Ordering::Release);
            self.note_synced(false).await?;
            return restore(&call).await;
        }
        let syncs = match Syncs::ask(&call).await? {
            Some(syncs) if syncs.is_on_disk() && !syncs.all() => begin_syncing(&call, &syncs).await?,
            syncs => syncs.is_some_and(|syncs| syncs.all()),
        };
        if syncs {
            // On the disk before it is answered, and so is all that was written before.
            self.note_synced(true).await?;
        }
        call.link.syncs_all.store(syncs, Ordering::Release);
        Ok(())
    }

    /// Whether what it acknowledges is on its disk.
    pub(super) fn syncs_all(&self) -> bool {
        self.wire.syncs_all()
    }
}

fn decode(answer: Value) -> Result<Control> {
    let [epoch, authority, cause, by, age, lost, holds, before] = layout::array(answer)?;
    let number = |value: &Value| layout::integer(value).map(|n| n.max(0) as u64);
    let number = |value: &Value| number(value).ok_or_else(|| layout::unexpected("a number"));
    Ok(Control {
        epoch: number(&epoch)?,
        authority: match layout::text(authority)?.as_str() {
            "redis" => Authority::Redis,
            _ => Authority::Postgres,
        },
        cause: layout::text(cause)?,
        by: layout::text(by)?,
        age: Duration::from_millis(number(&age)?),
        lost: number(&lost)?,
        holds: number(&holds)?,
        syncs_all: !layout::text(before)?.is_empty(),
    })
}

/// How the server syncs what it writes.
#[derive(Default)]
struct Syncs {
    appendonly: String,
    appendfsync: String,
    /// With `yes`, `always` means nothing while the file is rewritten.
    pauses: String,
}

impl Syncs {
    fn question() -> Cmd {
        redis::cmd("CONFIG").arg("GET").arg("*append*").to_owned()
    }

    /// None when the server does not tell.
    async fn ask(call: &Call) -> Result<Option<Self>> {
        Ok(allowed(call.cmd(Effect::Reads, &Self::question()).await)?.and_then(Self::of))
    }

    fn of(answer: Value) -> Option<Self> {
        let pairs: Vec<(Value, Value)> = match answer {
            Value::Map(pairs) => pairs,
            Value::Array(items) => {
                let mut items = items.into_iter();
                std::iter::from_fn(|| items.next().zip(items.next())).collect()
            }
            _ => return None,
        };
        let mut syncs = Self::default();
        for (name, value) in pairs {
            let value = layout::text(value).ok()?;
            match layout::text(name).ok()?.as_str() {
                "appendonly" => syncs.appendonly = value,
                "appendfsync" => syncs.appendfsync = value,
                "no-appendfsync-on-rewrite" => syncs.pauses = value,
                _ => {}
            }
        }
        Some(syncs)
    }

    fn is_on_disk(&self) -> bool {
        self.appendonly == "yes" && self.pauses == "no"
    }

    fn all(&self) -> bool {
        self.is_on_disk() && self.appendfsync == "always"
    }
}

/// Whether the server now syncs every write, what it acknowledged before included: a write that follows the
/// change is answered when all that was written until then is on disk.
async fn begin_syncing(call: &Call, syncs: &Syncs) -> Result<bool> {
    let remember = redis::cmd("HSETNX").arg(layout::CONTROL).arg(BEFORE).arg(&syncs.appendfsync).to_owned();
    call.cmd(Effect::Writes, &remember).await?;
    if allowed(call.cmd(Effect::Writes, &set("always")).await)?.is_none() {
        return Ok(false);
    }
    let barrier = redis::cmd("HINCRBY").arg(layout::CONTROL).arg("barriers").arg(1).to_owned();
    call.cmd(Effect::Writes, &barrier).await.map(|_| true)
}

/// Lets the server sync as it did before it had the last word, if it was changed.
async fn restore(call: &Call) -> Result<()> {
    let held = redis::cmd("HGET").arg(layout::CONTROL).arg(BEFORE).to_owned();
    let before = call.cmd(Effect::Reads, &held).await?;
    if before == Value::Nil {
        return Ok(());
    }
    allowed(call.cmd(Effect::Writes, &set(&layout::text(before)?)).await)?;
    let forget = redis::cmd("HDEL").arg(layout::CONTROL).arg(BEFORE).to_owned();
    call.cmd(Effect::Writes, &forget).await.map(drop)
}

fn set(appendfsync: &str) -> Cmd {
    redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg(appendfsync).to_owned()
}

/// None when the server does not let us, as managed ones do not.
fn allowed(answer: Result<Value>) -> Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Other(_)) => Ok(None),
        Err(StoreError::Unavailable(why)) if why.contains("NOPERM") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the server at the end of a new connection syncs every write. It may have restarted with the settings
/// of its file; while it has the last word it is told again, before anything is acknowledged on the connection.
pub(super) async fn inspect(connection: &mut MultiplexedConnection) -> bool {
    let authority = redis::cmd("HGET").arg(layout::CONTROL).arg("authority").to_owned();
    let authority: Option<String> = authority.query_async(connection).await.unwrap_or_default();
    if authority.as_deref() == Some(Authority::Redis.name())
        && set("always").exec_async(connection).await.is_err()
    {
        return false;
    }
    let answer: Option<Value> = Syncs::question().query_async(connection).await.ok();
    answer.and_then(Syncs::of).is_some_and(|syncs| syncs.all())
}
