//! What an admin asks of the hosts, and what they say of themselves.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::fault::Command;
use crate::run::Run;

/// Strategies that need one store only, so that the other is not owed anything by them.
const OF_ONE_STORE: [&str; 2] = ["redis_only", "postgres_only"];

/// How much of a host's log is kept.
const LINES: usize = 25;

impl Run {
    /// Makes a strategy active through a host; false if it is refused.
    pub async fn activate(&self, host: u8, name: &str) -> bool {
        let path = format!("/admin/strategies/{name}/activate");
        let answer = self.recorder.caller.request(host, Method::POST, &path).json(&json!({})).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Asks it of the hosts in turn. A refusal is no harm; an answer that cannot be is a violation.
    pub async fn command(&mut self, command: Command) {
        let host = (self.tally.commands.0 + self.tally.commands.1) % self.stage.hosts.len() as u64;
        let answer = self.request_of(host as u8, command).send().await;
        match answer.map(|answer| answer.status().as_u16()) {
            Ok(200 | 202) => self.tally.commands.0 += 1,
            Ok(409 | 503) | Err(_) => self.tally.commands.1 += 1,
            Ok(status) => {
                let what = format!("host {host} has answered {status} to an admin's {command:?}");
                self.history.wrong.push(("I0", self.now(), what));
                self.tally.commands.1 += 1;
            }
        }
    }

    fn request_of(&self, host: u8, command: Command) -> RequestBuilder {
        let request = |method, path: &str| {
            self.recorder.caller.request(host, method, &format!("/admin/database/{path}"))
        };
        match command {
            Command::SyncToPostgres => request(Method::POST, "sync/redis-to-postgres"),
            Command::SyncToRedis => request(Method::POST, "sync/postgres-to-redis"),
            Command::Check => request(Method::GET, "consistency-check?deep=true"),
            Command::Fix => {
                let whole = json!({ "deep": true, "dry_run": false });
                request(Method::POST, "consistency-fix").json(&whole)
            }
            Command::ClearCache => request(Method::POST, "cache/clear"),
        }
    }

    async fn status(&self, host: u8) -> Option<Value> {
        let status = self.recorder.caller.request(host, Method::GET, "/admin/database/status");
        Some(status.send().await.ok()?.json::<Value>().await.ok()?["data"].take())
    }

    /// What each host says of itself, and the end of its log.
    pub async fn say(&mut self) {
        let whole = crate::truth::whole_in_redis(&self.stage.redis.url()).await;
        self.tally.said.push(format!("Redis says that it is whole for {whole:?}"));
        let whole = crate::truth::whole_in_postgres(&self.stage.postgres.url()).await;
        self.tally.said.push(format!("PostgreSQL says that it is whole for {whole:?}"));
        for host in 0..self.stage.hosts.len() {
            let status = self.status(host as u8).await.unwrap_or_default();
            let log = self.stage.hosts[host].process.log();
            let lines: Vec<_> = log.lines().rev().take(LINES).collect();
            let lines = lines.into_iter().rev().map(|line| format!("\n    {line}")).collect::<String>();
            let events = self.recovery_events(host as u8).await;
            self.tally.said.push(format!("host {host} says {status}; {events}; and in its log:{lines}"));
        }
    }

    /// What the hosts have found of the stores and done about it, newest first, as one of them knows it.
    async fn recovery_events(&self, host: u8) -> String {
        let events = self.recorder.caller.request(host, Method::GET, "/admin/strategies/events");
        let events = match events.send().await {
            Ok(answer) => answer.json::<Value>().await,
            Err(error) => Err(error),
        };
        let events = match events {
            Ok(events) => events,
            Err(error) => return format!("its events are unknown: {error}"),
        };
        let all = events["events"].as_array().into_iter().flatten();
        let told = all.filter(|event| event["by"] == "recovery").take(LINES);
        told.map(|event| format!("\n    {} {} {}", event["at"], event["node"], event["detail"])).collect()
    }

    /// Events that the hosts have acknowledged and no store has yet; none while a host does not say.
    pub async fn spooled(&self) -> Option<u64> {
        let mut events = 0;
        for host in 0..self.recorder.caller.hosts() as u8 {
            events += self.status(host).await?["spool"]["events"].as_u64()?;
        }
        Some(events)
    }

    /// Why it is not so that a strategy of both stores is chosen and in force on every host. They have to return to
    /// it by themselves; only where one store was chosen, another choice is made.
    pub async fn not_returned(&self) -> Option<String> {
        let mut all = Vec::new();
        for host in 0..self.recorder.caller.hosts() as u8 {
            let Some(status) = self.status(host).await else {
                return Some(format!("host {host} does not say what it does"));
            };
            let name = |what: &str| status[what]["name"].as_str().unwrap_or_default().to_owned();
            all.push((name("chosen"), name("active")));
        }
        let chosen = all.first()?.0.clone();
        if all.iter().any(|(other, _)| *other != chosen) {
            return Some(format!("the hosts do not agree on what is chosen (chosen, in force): {all:?}"));
        }
        if OF_ONE_STORE.contains(&chosen.as_str()) {
            self.activate(0, "dual_write").await;
            return Some(format!("{chosen} is still chosen"));
        }
        let stuck = all.iter().any(|(_, active)| *active != chosen);
        stuck.then(|| format!("what was chosen is not in force again (chosen, in force): {all:?}"))
    }
}
