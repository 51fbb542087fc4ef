//! One call: its requests, its deadline, and what the server's errors mean.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ScriptInvocation, ServerErrorKind, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::layout;
use super::link::Link;
use crate::planted;
use crate::store::{Result, StoreError};

/// What a call does if it is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

/// One call of the store: one or more requests on one connection within one deadline.
pub(super) struct Call {
    pub(super) link: Arc<Link>,
    deadline: Instant,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Call {
    pub(super) fn in_slot(link: Arc<Link>, deadline: Duration, slot: OwnedSemaphorePermit) -> Self {
        Self { link, deadline: Instant::now() + deadline, _slot: Some(slot) }
    }

    /// A call of the backend itself, which needs no room.
    pub(super) fn on(link: &Arc<Link>, deadline: Duration) -> Self {
        Self { link: link.clone(), deadline: Instant::now() + deadline, _slot: None }
    }

    pub(super) async fn cmd(&self, effect: Effect, cmd: &Cmd) -> Result<Value> {
        let mut connection = self.link.connection.clone();
        #[cfg(feature = "planted")]
        if planted::is("timed-out-connection-reused") && effect == Effect::Reads {
            return self.out_of_step(cmd.clone()).await;
        }
        self.run(effect, async { connection.send_packed_command(cmd).await?.extract_error() }).await
    }

    pub(super) async fn script(&self, effect: Effect, script: &ScriptInvocation<'_>) -> Result<Value> {
        let mut connection = self.link.connection.clone();
        self.run(effect, script.invoke_async(&mut connection)).await
    }

    /// Runs a script that begins with `fence.lua`, under the epoch of this process.
    pub(super) async fn write(&self, script: &mut ScriptInvocation<'_>) -> Result<Value> {
        script.key(layout::CONTROL).arg(self.link.epoch.carried());
        self.script(Effect::Writes, script).await
    }

    pub(super) async fn pipe(&self, effect: Effect, pipe: &redis::Pipeline) -> Result<Value> {
        let mut connection = self.link.connection.clone();
        self.run(effect, pipe.query_async(&mut connection)).await
    }

    /// A connection that goes on after a timeout: the answer that was late is taken for that of the next question.
    #[cfg(feature = "planted")]
    async fn out_of_step(&self, cmd: Cmd) -> Result<Value> {
        let mut connection = self.link.connection.clone();
        let mut asked = tokio::spawn(async move { connection.send_packed_command(&cmd).await });
        if let Some(late) = planted::late::take() {
            return Ok(late);
        }
        match timeout_at(self.deadline, &mut asked).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(_) => Err(StoreError::Timeout),
            Err(_) => {
                tokio::spawn(async move {
                    if let Ok(Ok(late)) = asked.await {
                        planted::late::keep(late);
                    }
                });
                Err(StoreError::Timeout)
            }
        }
    }

    /// Without an answer in time the connection is given up, so that a late answer finds nobody.
    async fn run(&self, effect: Effect, request: impl Future<Output = RedisResult<Value>>) -> Result<Value> {
        match timeout_at(self.deadline, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failure(effect, &error)),
            Err(_) => {
                if !planted::is("timed-out-connection-reused") {
                    self.link.lose();
                }
                Err(StoreError::Timeout)
            }
        }
    }

    fn failure(&self, effect: Effect, error: &RedisError) -> StoreError {
        if error.is_io_error() {
            self.link.lose();
            return match effect {
                Effect::Reads => {
                    StoreError::Unavailable(format!("the connection to Redis was lost: {error}"))
                }
                Effect::Writes => StoreError::Timeout,
            };
        }
        if error.code() == Some("FENCED")
            && let Some(stored) = error.detail().and_then(|stored| stored.trim().parse().ok())
        {
            self.link.epoch.note_refusal(stored);
            return StoreError::Fenced(stored);
        }
        let reason = error.to_string();
        let names = |codes: &[&str]| {
            reason.split(|c: char| !c.is_ascii_uppercase()).any(|word| codes.contains(&word))
        };
        if names(&["READONLY"]) || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
            self.link.lose();
            return StoreError::Unavailable(
                "Redis is read-only: the server is not a primary any more".into(),
            );
        }
        if names(&REFUSALS) || QUOTAS.iter().any(|quota| reason.contains(quota)) {
            return StoreError::Unavailable(format!("Redis refused: {reason}"));
        }
        StoreError::Other(format!("Redis failed: {reason}"))
    }
}

/// Errors by which the server says that it did nothing, and may do it later.
const REFUSALS: [&str; 10] = [
    "OOM",
    "MISCONF",
    "LOADING",
    "NOAUTH",
    "NOPERM",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOREPLICAS",
    "BUSY",
    "TRYAGAIN",
];

/// The same in words: servers that others run have quotas, and no code for them.
const QUOTAS: [&str; 3] = ["limit exceeded", "quota", "max number of clients"];
