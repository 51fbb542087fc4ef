//! The processes: a host, what it stands on, and the upstream.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::proxy::Fault;
use switchyard_tests::servers::{Setup, Switchyard};

use super::stores::{self, Held};
use crate::call::Caller;
use crate::stage::{self, Cast, Store};

/// How long everything may take to be ready, and the stores to have everything in the end.
const READY: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

pub struct Stage {
    stage: stage::Stage,
    caller: Caller,
    /// What clients sign with.
    pub key: String,
    key_id: String,
    account_id: String,
    _upstream: Switchyard,
}

impl Stage {
    /// Starts everything, and makes a key and an account at the upstream.
    ///
    /// # Errors
    /// When it does not start, is not ready in time, or refuses the key or the account.
    pub async fn start(cast: &Cast) -> Result<Self> {
        let stage = stage::Stage::start(&Cast { hosts: 1, ..cast.clone() }).await?;
        let setup =
            Setup { program: Some(cast.program.clone()), ..Setup::with_arguments(&["--demo-upstream"]) };
        let upstream = tokio::task::block_in_place(|| Switchyard::start_as(&setup));
        let caller = stage.caller()?;
        wait(READY, async || {
            caller.request(0, Method::GET, "/readyz").send().await.is_ok_and(|a| a.status() == 200)
        })
        .await
        .context("the host is not ready")?;
        // Limits that nothing reaches, so that what they reserve is part of it.
        let limits = json!({ "name": "streams", "concurrencyLimit": 10_000, "dailyCostLimit": 1_000_000 });
        let key = create(&caller, "/admin/api-keys", &limits).await?;
        let draft = json!({ "name": "demo", "apiUrl": demo_url(&upstream)?, "apiKey": "sk-ant-demo" });
        let account = create(&caller, "/admin/accounts", &draft).await?;
        let text = |made: &Value, name: &str| made[name].as_str().map(str::to_owned).context("an odd answer");
        let (key, key_id) = (text(&key, "apiKey")?, text(&key, "id")?);
        Ok(Self { stage, caller, key, key_id, account_id: text(&account, "id")?, _upstream: upstream })
    }

    /// Where the host listens, in all its lives.
    pub fn url(&self) -> String {
        self.stage.hosts[0].process.client().base
    }

    /// Everything the host has printed.
    pub fn log(&self) -> String {
        self.stage.hosts[0].process.log()
    }

    /// What happens between the host and a store from now on.
    pub fn between(&self, store: Store, fault: Fault) {
        self.stage.hosts[0].to(store).set(fault);
    }

    pub fn kill_host(&mut self) {
        self.stage.hosts[0].process.kill();
    }

    pub fn start_host(&mut self) {
        self.stage.hosts[0].process.start_again();
    }

    /// What both stores hold when the host has nothing left to tell them, neither owes the other anything and nothing
    /// changes, and how long that took; no time if it was not so in time.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub async fn settled(&self) -> Result<(Held, Option<Duration>)> {
        let (began, mut last) = (Instant::now(), None);
        loop {
            let unrecorded = self.unrecorded().await;
            let (redis, postgres) = (self.stage.redis.url(), self.stage.postgres.url());
            let held = stores::read(&redis, &postgres, &self.key_id, &self.account_id).await?;
            if unrecorded == Some(0) && held.owed == (0, 0) && last.as_ref() == Some(&held) {
                return Ok((held, Some(began.elapsed())));
            }
            if began.elapsed() > SETTLED {
                println!("the host still has {unrecorded:?} attempts, the stores owe {:?}", held.owed);
                return Ok((held, None));
            }
            last = Some(held);
            tokio::time::sleep(STEP).await;
        }
    }

    /// Attempts that no store has, by the host's own word: open, waiting or spooled.
    async fn unrecorded(&self) -> Option<u64> {
        let metrics = self.caller.request(0, Method::GET, "/metrics").send().await.ok()?.text().await.ok()?;
        let held = metrics.lines().find_map(|line| line.strip_prefix("switchyard_usage_attempts_held "))?;
        let status = self.caller.request(0, Method::GET, "/admin/database/status").send().await.ok()?;
        let status: Value = status.json().await.ok()?;
        Some(held.parse::<u64>().ok()? + status["data"]["spool"]["events"].as_u64()?)
    }
}

async fn wait(patience: Duration, holds: impl AsyncFn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds().await {
        ensure!(began.elapsed() < patience, "waited for {} s", patience.as_secs());
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}

async fn create(caller: &Caller, path: &str, content: &Value) -> Result<Value> {
    let answer = caller.request(0, Method::POST, path).json(content).send().await?;
    let (status, body) = (answer.status(), answer.json::<Value>().await?);
    ensure!(status == 201, "{path}: {status} {body}");
    Ok(body["data"].clone())
}

/// Where a host's demo upstream listens, as its log says.
fn demo_url(upstream: &Switchyard) -> Result<String> {
    let log = upstream.log();
    let addr = log.split_once("demo=").and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(format!("http://{}", addr.context("the log does not name the demo upstream")?))
}
