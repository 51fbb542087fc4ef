//! A connection for commands that run beside no server: it takes nothing in, and is not replaced.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, ScriptInvocation, Value};
use tokio::time::timeout;

use super::address::Address;
use super::layout;
use crate::store::{Result, StoreError};

/// How many keys one step looks at.
const KEYS_PER_STEP: u32 = 1_000;

/// A Redis that another program has filled.
pub struct Direct {
    connection: MultiplexedConnection,
    address: Address,
    deadline: Duration,
}

impl Direct {
    /// Connects, within the deadline that also holds for each question afterwards.
    ///
    /// # Errors
    /// `Unsupported` when the URL cannot be used, else `Unavailable`.
    pub async fn connect(url: &str, ca_file: Option<&Path>, deadline: Duration) -> Result<Self> {
        let address = Address::parse(url, ca_file)?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let opened = timeout(deadline, address.open(&config)).await.map_err(|_| StoreError::Timeout)?;
        let refused = |error: RedisError| {
            StoreError::Unavailable(format!("Redis cannot be connected: {}", address.describe(&error)))
        };
        let connection = opened.map_err(refused)?;
        Ok(Self { connection, address, deadline })
    }

    pub(super) async fn ask(&self, cmd: &Cmd) -> Result<Value> {
        let mut connection = self.connection.clone();
        self.within(async { connection.send_packed_command(cmd).await?.extract_error() }).await
    }

    /// The answers of all commands. An error of one of them is its answer.
    pub(super) async fn ask_all(&self, mut pipe: Pipeline) -> Result<Vec<Value>> {
        let mut connection = self.connection.clone();
        pipe.ignore_errors();
        let commands = pipe.len();
        let answers =
            self.within(async { connection.send_packed_commands(&pipe, 0, commands).await }).await?;
        Ok(answers)
    }

    pub(super) async fn script(&self, script: &ScriptInvocation<'_>) -> Result<Value> {
        let mut connection = self.connection.clone();
        self.within(script.invoke_async(&mut connection)).await
    }

    /// Some keys, and where to go on. A key may come twice.
    pub(super) async fn keys(&self, cursor: &str, pattern: &str) -> Result<(Option<String>, Vec<Vec<u8>>)> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(KEYS_PER_STEP);
        let [next, keys] = layout::array(self.ask(&scan).await?)?;
        let name = |key| if let Value::BulkString(name) = key { Some(name) } else { None };
        let next = layout::text(next)?;
        Ok(((next != "0").then_some(next), layout::list(keys)?.into_iter().filter_map(name).collect()))
    }

    async fn within<T>(&self, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T> {
        let answer = timeout(self.deadline, asked).await.map_err(|_| StoreError::Timeout)?;
        answer.map_err(|error| StoreError::Other(format!("Redis failed: {}", self.address.describe(&error))))
    }
}
