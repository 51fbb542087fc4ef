//! Hands a database back to Claude Relay Service.

use super::board::time_of;
use super::direct::Direct;
use super::{layout, script};
use crate::store::board::HELD;
use crate::store::kind::{ACCOUNT, ACCOUNT_GROUP, API_KEY, SESSION};
use crate::store::takeover::{Credentials, Finding, GivenBack};
use crate::store::{Fields, Key, Kind, Result, StoreError};

/// How long that program keeps a key that it does not write, in seconds.
const KEY_LIFE: u64 = 365 * 86_400;
/// How many records one script hands over: bounds how long it keeps the server busy.
const BATCH: usize = 100;
/// How many steps at most: a hundred million keys.
const MAX_STEPS: usize = 100_000;
const ACCOUNTS: &str = "claude_console_account:index";
const SHARED_ACCOUNTS: &str = "shared_claude_console_accounts";
const GROUPS: &str = "account_groups";
/// Says which lists of keys that program has made: without it, it makes them anew at its start.
const LISTS: &str = "apikey:index:version";

impl Direct {
    pub(super) async fn hand_over(&self, credentials: &dyn Credentials) -> Result<GivenBack> {
        self.nobody_serves().await?;
        let mut given = GivenBack::default();
        for kind in Kind::public().filter(|kind| kind.whole) {
            let complete = redis::cmd("SISMEMBER").arg(layout::COMPLETE).arg(kind.name).to_owned();
            if layout::integer(&self.ask(&complete).await?) != Some(1) {
                given.incomplete.push(kind.name);
            }
        }
        // From here on what is gone was deleted by that program: see `adopt`.
        let mark = redis::cmd("SET").arg(layout::GIVEN_BACK).arg(1).to_owned();
        self.ask(&mark).await?;
        for kind in Kind::public() {
            let records = self.hand_over_kind(kind, credentials, &mut given.credentials).await?;
            match kind {
                kind if *kind == API_KEY => given.api_keys = records,
                kind if *kind == ACCOUNT => given.accounts = records,
                kind if *kind == ACCOUNT_GROUP => given.groups = records,
                kind if *kind == SESSION => given.sessions = records,
                _ => {}
            }
        }
        // Whichever version it is: each has lists of its own.
        self.ask(redis::cmd("DEL").arg(LISTS)).await?;
        Ok(given)
    }

    /// Refuses while a node of ours was heard of lately.
    async fn nobody_serves(&self) -> Result<()> {
        let now = time_of(self.ask(&redis::cmd("TIME")).await?)?;
        let lines = self.ask(redis::cmd("HVALS").arg(layout::NODES)).await?;
        let heard = layout::list(lines)?.into_iter().filter_map(|line| layout::text(line).ok());
        let heard = heard.filter_map(|line| line.split(' ').next()?.parse::<i64>().ok());
        let last = heard.max().unwrap_or(0);
        if now - last < HELD.as_micros() as i64 {
            return Err(StoreError::Paused(
                "a node of Switchyard serves from this Redis; end it first".into(),
            ));
        }
        Ok(())
    }

    /// Hands over the records of a kind, and answers how many there were.
    async fn hand_over_kind(
        &self,
        kind: &'static Kind,
        credentials: &dyn Credentials,
        findings: &mut Vec<Finding>,
    ) -> Result<u64> {
        let pattern = format!("{}*", kind.redis_prefix);
        let (mut cursor, mut records) = (String::from("0"), 0);
        for _ in 0..MAX_STEPS {
            let (next, names) = self.keys(&cursor, &pattern).await?;
            let names = names.into_iter().filter_map(|name| String::from_utf8(name).ok());
            let keys: Vec<_> = names.filter_map(|name| layout::key_of(&name)).collect();
            let keys: Vec<_> = keys.into_iter().filter(|key| key.kind == kind).collect();
            for keys in keys.chunks(BATCH) {
                let mut resealed = Vec::new();
                if *kind == ACCOUNT {
                    resealed = self.reseal(keys, credentials, findings).await?;
                }
                records += self.hand_over_keys(kind, keys, &resealed).await?;
            }
            match next {
                Some(next) => cursor = next,
                None => return Ok(records),
            }
        }
        Err(StoreError::Other("too many keys to go through".into()))
    }

    async fn hand_over_keys(&self, kind: &Kind, keys: &[Key], changed: &[Fields]) -> Result<u64> {
        let mut give = script::GIVE_BACK.key(API_KEY.index.as_ref().map_or("", |index| index.redis_key));
        give.key(ACCOUNTS).key(SHARED_ACCOUNTS).key(GROUPS);
        give.arg(kind.name).arg(kind.redis_prefix);
        give.arg(if *kind == API_KEY { KEY_LIFE.to_string() } else { String::new() });
        let none = Fields::new();
        for (n, key) in keys.iter().enumerate() {
            let fields = changed.get(n).unwrap_or(&none);
            give.key(layout::record(key)).arg(fields.len());
            for (name, value) in fields {
                give.arg(name).arg(value);
            }
        }
        Ok(layout::integer(&self.script(&give).await?).unwrap_or(0) as u64)
    }

    /// What has to change in each of these accounts for that program to open it.
    async fn reseal(
        &self,
        keys: &[Key],
        credentials: &dyn Credentials,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<Fields>> {
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.cmd("HGETALL").arg(layout::record(key));
        }
        let mut changed = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(self.ask_all(pipe).await?) {
            // What is no record is left alone.
            let record = layout::decode(key, answer).ok().flatten();
            let fields = record.map(|record| record.fields).unwrap_or_default();
            let resealed =
                if fields.is_empty() { Ok(Fields::new()) } else { credentials.reseal(key, &fields).await };
            changed.push(resealed.unwrap_or_else(|reason| {
                findings.push(Finding { key: layout::record(key), reason });
                Fields::new()
            }));
        }
        Ok(changed)
    }
}
