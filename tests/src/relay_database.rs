//! A Redis as Claude Relay Service fills it, sound parts and broken ones.

use serde_json::{Value, json};

/// A connection for what the product does not do: writing as another program.
#[derive(Clone)]
pub struct RelayDatabase {
    connection: redis::aio::MultiplexedConnection,
}

/// What is broken on purpose, and cannot be a record: as a sync names it.
pub const BROKEN: [&str; 6] = [
    "apikey:list",
    "claude_console_account:list",
    "session:not-text",
    "apikey:has space",
    "apikey:hash_map",
    "usage:not-a-hash",
];

impl RelayDatabase {
    pub async fn open(url: &str) -> Self {
        let client = redis::Client::open(url).expect("a URL");
        // Filling a whole database takes longer than one answer may.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
        let connection = connection.expect("a connection");
        Self { connection }
    }

    pub async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query_async(&mut self.connection.clone()).await.unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// Keys, accounts, sessions and their usage, `of_each` of them.
    pub async fn fill(&self, of_each: usize) {
        for part in (0..of_each).collect::<Vec<_>>().chunks(500) {
            let mut pipe = redis::pipe();
            for n in part {
                api_key(&mut pipe, *n);
                account(&mut pipe, *n);
                session(&mut pipe, *n);
                usage(&mut pipe, *n);
            }
            pipe.exec_async(&mut self.connection.clone()).await.expect("it takes them");
        }
        // What lies beside the records, and is none.
        let beside: [&[&str]; 7] = [
            &["ZADD", "apikey:idx:createdAt", "1", "key-0"],
            &["SADD", "apikey:set:active", "key-0"],
            &["SET", "apikey:index:version", "2"],
            &["SADD", "claude_console_account:index", "acc-0"],
            &["HSET", "session:admin_credentials", "username", "admin"],
            &["SADD", "usage:daily:index:2026-01-02", "key-0"],
            &["HSET", "usage:model:daily:claude:2026-01-02", "requests", "1"],
        ];
        for command in beside {
            self.ask::<redis::Value>(command).await;
        }
    }

    /// What a grown database has, too; see [`BROKEN`].
    pub async fn break_parts(&self) {
        let commands: [&[&str]; 6] = [
            &["RPUSH", "apikey:list", "x"],
            &["RPUSH", "claude_console_account:list", "x"],
            &["HSET", "apikey:has space", "name", "x"],
            &["HSET", "apikey:hash_map", "dangling", "no-such-key"],
            &["SET", "usage:not-a-hash", "7"],
            // Text to us: copied as it is.
            &["HSET", "apikey:key-0", "tags", "[\"broken json"],
        ];
        for command in commands {
            self.ask::<redis::Value>(command).await;
        }
        let mut cmd = redis::cmd("HSET");
        cmd.arg("session:not-text").arg("username").arg(&[0xff_u8, 0xfe][..]);
        cmd.exec_async(&mut self.connection.clone()).await.expect("it takes it");
    }
}

/// The fields of a key, as far as a number decides them.
pub fn key_fields(n: usize) -> Value {
    json!({
        "id": format!("key-{n}"), "name": format!("Schlüssel {n}"), "apiKey": format!("{n:064x}"),
        "isActive": "true", "tokenLimit": "0", "permissions": "all", "restrictedModels": "[]",
        "tags": "[\"a\",\"b\"]", "createdAt": "2025-01-02T03:04:05.678Z", "expiresAt": "", "icon": "",
    })
}

fn hset(pipe: &mut redis::Pipeline, key: &str, fields: &Value) {
    let cmd = pipe.cmd("HSET").arg(key);
    for (name, value) in fields.as_object().expect("an object") {
        cmd.arg(name).arg(value.as_str().expect("a string"));
    }
    cmd.ignore();
}

fn api_key(pipe: &mut redis::Pipeline, n: usize) {
    let key = format!("apikey:key-{n}");
    hset(pipe, &key, &key_fields(n));
    pipe.cmd("EXPIRE").arg(&key).arg(365 * 86_400).ignore();
    pipe.cmd("HSET").arg("apikey:hash_map").arg(format!("{n:064x}")).arg(format!("key-{n}")).ignore();
}

fn account(pipe: &mut redis::Pipeline, n: usize) {
    let fields = json!({"id": format!("acc-{n}"), "name": "console", "apiKey": "0011:2233", "proxy": "{}"});
    hset(pipe, &format!("claude_console_account:acc-{n}"), &fields);
}

fn session(pipe: &mut redis::Pipeline, n: usize) {
    let key = format!("session:{n:064x}");
    hset(pipe, &key, &json!({"username": "admin", "loginTime": "2026-01-01T00:00:00.000Z"}));
    pipe.cmd("EXPIRE").arg(&key).arg(86_400).ignore();
}

fn usage(pipe: &mut redis::Pipeline, n: usize) {
    let n = n + 1;
    let id = format!("key-{}", n - 1);
    let totals = json!({
        "totalRequests": n.to_string(), "totalInputTokens": (10 * n).to_string(),
        "totalOutputTokens": (2 * n).to_string(), "totalCacheCreateTokens": (3 * n).to_string(),
        "totalCacheReadTokens": (4 * n).to_string(), "totalTokens": (12 * n).to_string(),
    });
    hset(pipe, &format!("usage:{id}"), &totals);
    let span = json!({"requests": n.to_string(), "inputTokens": (10 * n).to_string()});
    for key in ["daily:{}:2026-01-02", "monthly:{}:2026-01", "hourly:{}:2026-01-02:03"] {
        hset(pipe, &format!("usage:{}", key.replace("{}", &id)), &span);
    }
    pipe.cmd("SET").arg(format!("usage:cost:total:{id}")).arg("1.25").ignore();
}
