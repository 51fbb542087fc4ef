//! A Redis as Claude Relay Service leaves it, written in its documented layout: keys with all their fields, sealed
//! accounts, usage, limits in force, sessions, and what is not taken over.

mod counting;

use serde_json::{Value, json};

pub use self::counting::{Request, week_key};
use crate::relay_database::RelayDatabase;

/// Its `ENCRYPTION_KEY`.
pub const ENCRYPTION_KEY: &str = "crs-encryption-key-of-32-charact";

/// A client's key, and its hash under [`ENCRYPTION_KEY`].
pub struct ClientKey {
    pub id: &'static str,
    pub plain: &'static str,
    pub hash: &'static str,
}

const fn key(id: &'static str, plain: &'static str, hash: &'static str) -> ClientKey {
    ClientKey { id, plain, hash }
}

/// Active, disabled, deleted softly, expired, with every limit, and bound to another platform's account.
pub static KEYS: [ClientKey; 6] = [
    key(
        "11111111-aaaa-4aaa-8aaa-000000000000",
        "cr_a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",
        "e47ed4f2200854050a34c842ad8ba3855739bcd16da5ae125a4ee8871270682a",
    ),
    key(
        "11111111-aaaa-4aaa-8aaa-000000000001",
        "cr_a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
        "c26508ac103e945f0464531a476d55cc06dfebb612f2a63e3dc2ca5de4bcd331",
    ),
    key(
        "11111111-aaaa-4aaa-8aaa-000000000002",
        "cr_a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2",
        "57999acf610adbf7ce05d6805a6b40510935a3fb9a222d6b1adf5c231dbf9d88",
    ),
    key(
        "11111111-aaaa-4aaa-8aaa-000000000003",
        "cr_a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3",
        "fa163bc80ede98483838a0a5cce60c2bca2eed7d4ac273716c41278035a5a631",
    ),
    key(
        "11111111-aaaa-4aaa-8aaa-000000000004",
        "cr_a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4",
        "d06a4e83dc379af377307c3483dfcf547dfe44f1f34702589aa566500cb3e957",
    ),
    key(
        "11111111-aaaa-4aaa-8aaa-000000000005",
        "cr_a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5",
        "4a4c8b4625af3dab93cb93e97807a197b1ff418d69b9d7559e5ced68fe28af35",
    ),
];

/// An account: its id, its credential, and that sealed under [`ENCRYPTION_KEY`].
pub static ACCOUNTS: [(&str, &str, &str); 2] = [
    (
        "22222222-bbbb-4bbb-8bbb-000000000000",
        "sk-upstream-one-0123456789",
        "00112233445566778899aabbccddeeff:b0e2c556d9e1c128bbc1fdc624901054da6b6ec0cd98b515754e4c3a4299d22f",
    ),
    (
        "22222222-bbbb-4bbb-8bbb-000000000001",
        "sk-upstream-two-0123456789-abcdefghij",
        "ffeeddccbbaa99887766554433221100:c9e7a956981408715acf1d6622b67c63135c5d2c992d4137613f564cba2d1f63\
         844a3c09e6447f2598c886d62eacf02e",
    ),
];

/// The proxy of the second account, as its record has it, and its password.
pub const PROXY: (&str, &str) = (
    r#"{"type":"socks5","host":"127.0.0.1","port":"9","username":"u","password":"proxy-password-in-plain"}"#,
    "proxy-password-in-plain",
);

/// A group, of the first account.
pub const GROUP: &str = "33333333-cccc-4ccc-8ccc-000000000000";

/// The token of an admin's session, which is part of a key's name.
pub const SESSION: &str = "5e55105e55105e55105e55105e55105e55105e55105e55105e55105e55105e55";

/// What each key has used: requests, input tokens, and dollars.
pub const USED: (u64, u64, &str) = (7, 700, "1.25");

/// Days and hours of [`RelayService::write`]'s usage.
pub const DAY: &str = "2026-01-02";

/// The 35 fields of a key.
pub fn key_fields(n: usize) -> Value {
    let ClientKey { id, hash, .. } = &KEYS[n];
    let mut fields = json!({
        "id": id, "name": format!("Schlüssel {n}"), "description": "of the team", "apiKey": hash,
        "tokenLimit": "0", "concurrencyLimit": "0", "rateLimitWindow": "0", "rateLimitRequests": "0",
        "rateLimitCost": "0", "isActive": "true", "claudeAccountId": "", "claudeConsoleAccountId": "",
        "geminiAccountId": "", "openaiAccountId": "", "azureOpenaiAccountId": "", "bedrockAccountId": "",
        "permissions": "all", "enableModelRestriction": "false", "restrictedModels": "[]",
        "enableClientRestriction": "false", "allowedClients": "[]", "dailyCostLimit": "0",
        "weeklyOpusCostLimit": "0", "tags": "[\"team\"]", "activationDays": "0", "expirationMode": "fixed",
        "isActivated": "true", "activatedAt": "", "createdAt": "2025-09-16T03:04:05.678Z", "lastUsedAt": "",
        "expiresAt": "", "createdBy": "admin", "userId": "", "userUsername": "", "icon": "",
    });
    let special: &[(&str, &str)] = match n {
        0 => &[("claudeConsoleAccountId", ACCOUNTS[0].0), ("lastUsedAt", "2025-10-01T00:00:00.000Z")],
        1 => &[("isActive", "false")],
        2 => &[("isActive", "false"), ("isDeleted", "true"), ("deletedAt", "2025-10-02T00:00:00.000Z")],
        3 => &[("expiresAt", "2025-09-30T00:00:00.000Z")],
        4 => &[
            ("concurrencyLimit", "3"),
            ("rateLimitWindow", "60"),
            ("rateLimitRequests", "100"),
            ("rateLimitCost", "2.5"),
            ("dailyCostLimit", "10"),
            ("weeklyOpusCostLimit", "50"),
            ("enableModelRestriction", "true"),
            ("restrictedModels", "[\"claude-opus-4\"]"),
            ("claudeConsoleAccountId", "group:33333333-cccc-4ccc-8ccc-000000000000"),
        ],
        _ => &[("claudeAccountId", "44444444-dddd-4ddd-8ddd-000000000000"), ("permissions", "[\"openai\"]")],
    };
    for (name, value) in special {
        fields[*name] = json!(value);
    }
    fields
}

/// That program's database.
#[derive(Clone)]
pub struct RelayService(pub RelayDatabase);

impl RelayService {
    pub async fn open(url: &str) -> Self {
        Self(RelayDatabase::open(url).await)
    }

    /// One command.
    pub async fn run(&self, command: &[&str]) {
        self.0.ask::<redis::Value>(command).await;
    }

    async fn hash(&self, key: &str, fields: &Value) {
        let fields = fields.as_object().expect("an object");
        let pairs = fields.iter().flat_map(|(name, value)| [&**name, value.as_str().expect("a string")]);
        let command: Vec<_> = ["HSET", key].into_iter().chain(pairs).collect();
        self.run(&command).await;
    }

    /// Everything.
    pub async fn write(&self) {
        for n in 0..KEYS.len() {
            self.write_key(n).await;
            self.write_usage(n).await;
        }
        for (n, (id, _, sealed)) in ACCOUNTS.iter().enumerate() {
            let fields = json!({
                "id": id, "platform": "claude-console", "name": format!("console {n}"), "description": "",
                "apiUrl": "http://127.0.0.1:9", "apiKey": sealed, "supportedModels": "{}", "userAgent": "",
                "priority": "50", "rateLimitDuration": "60", "isActive": "true", "accountType": "shared",
                "proxy": if n == 1 { PROXY.0 } else { "" }, "dailyQuota": "0", "schedulable": "true", "status": "active", "errorMessage": "",
                "createdAt": "2025-09-16T03:04:05.678Z", "lastUsedAt": "",
            });
            self.hash(&format!("claude_console_account:{id}"), &fields).await;
            self.run(&["SADD", "claude_console_account:index", id]).await;
            self.run(&["SADD", "shared_claude_console_accounts", id]).await;
        }
        self.write_limits().await;
        self.write_beside().await;
    }

    /// A key and its lists.
    pub async fn write_key(&self, n: usize) {
        let ClientKey { id, hash, .. } = &KEYS[n];
        let (key, fields) = (format!("apikey:{id}"), key_fields(n));
        self.hash(&key, &fields).await;
        let state = if fields["isDeleted"] == "true" { "apikey:set:deleted" } else { "apikey:set:active" };
        let by_name = format!("schlüssel {n}\0{id}");
        let commands: [&[&str]; 7] = [
            &["EXPIRE", &key, "31536000"],
            &["HSET", "apikey:hash_map", hash, id],
            &["ZADD", "apikey:idx:createdAt", "1757991845678", id],
            &["ZADD", "apikey:idx:name", "0", &by_name],
            &["SADD", "apikey:idx:all", id],
            &["SADD", state, id],
            &["SET", "apikey:index:version", "2"],
        ];
        for command in commands {
            self.run(command).await;
        }
    }

    async fn write_usage(&self, n: usize) {
        let (id, (requests, input, dollars)) = (KEYS[n].id, USED);
        let (requests, input) = (requests.to_string(), input.to_string());
        let all = json!({
            "totalTokens": input, "totalInputTokens": input, "totalOutputTokens": "0",
            "totalAllTokens": input, "totalRequests": requests,
        });
        self.hash(&format!("usage:{id}"), &all).await;
        let span = json!({ "tokens": input, "inputTokens": input, "allTokens": input, "requests": requests });
        let spans = [("daily", DAY, "2764800", "2592000"), ("monthly", "2026-01", "31536000", "7776000")];
        for (span_name, at, life, cost_life) in spans {
            let (key, cost) =
                (format!("usage:{span_name}:{id}:{at}"), format!("usage:cost:{span_name}:{id}:{at}"));
            self.hash(&key, &span).await;
            self.run(&["EXPIRE", &key, life]).await;
            self.run(&["SET", &cost, dollars, "EX", cost_life]).await;
        }
        self.run(&["SET", &format!("usage:cost:total:{id}"), dollars]).await;
        self.run(&["SADD", &format!("usage:daily:index:{DAY}"), id]).await;
    }

    /// A window that has begun, and nothing in flight.
    async fn write_limits(&self) {
        let id = KEYS[4].id;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
        let now = now.as_millis().to_string();
        for (part, value) in [("window_start", &*now), ("requests", "99"), ("tokens", "5"), ("cost", "0.1")] {
            self.run(&["SET", &format!("rate_limit:{part}:{id}"), value, "PX", "3600000"]).await;
        }
    }

    /// What is beside all that, and is not taken over.
    async fn write_beside(&self) {
        let session = format!("session:{SESSION}");
        let commands: [&[&str]; 12] = [
            &["HSET", &session, "username", "admin", "loginTime", "2026-01-01T00:00:00.000Z"],
            &["EXPIRE", &session, "86400"],
            &["HSET", "session:admin_credentials", "username", "admin", "passwordHash", "$2b$10$x"],
            &["HSET", "claude:account:44444444-dddd-4ddd-8ddd-000000000000", "accessToken", "00:00"],
            &["SET", "bedrock_account:b", "{}"],
            &["HSET", "openai:account:o", "accessToken", "00:00"],
            &["HSET", "user:u", "name", "someone"],
            &["SET", "unified_claude_session_mapping:s", "{}", "EX", "3600"],
            &["SADD", "account_groups", GROUP],
            &["HSET", &format!("account_group:{GROUP}"), "name", "both"],
            &["SADD", &format!("account_group_members:{GROUP}"), ACCOUNTS[0].0],
            &["SET", "claude_relay_config", "{}"],
        ];
        for command in commands {
            self.run(command).await;
        }
    }

    /// What goes wrong in such a database, [`BROKEN`] things of it.
    pub async fn break_parts(&self) {
        let cut = &ACCOUNTS[1].2[..60];
        let commands: [&[&str]; 8] = [
            &["HDEL", "apikey:hash_map", KEYS[0].hash],
            // As it is with a deleted key there: nothing is broken by that.
            &["HDEL", "apikey:hash_map", KEYS[2].hash],
            &["HSET", &format!("apikey:{}", KEYS[5].id), "expiresAt", "never"],
            &["HSET", "apikey:hash_map", KEYS[1].hash, "no-such-key"],
            &["RPUSH", "apikey:list", "x"],
            &["HSET", &format!("apikey:{}", KEYS[3].id), "tags", "[\"cut"],
            &["HSET", &format!("claude_console_account:{}", ACCOUNTS[1].0), "apiKey", cut],
            &["HSET", &format!("apikey:{}", KEYS[4].id), "claudeConsoleAccountId", "no-such-account"],
        ];
        for command in commands {
            self.run(command).await;
        }
    }
}

/// What [`RelayService::break_parts`] breaks: the second one is found twice, from both ends.
pub const BROKEN: usize = 8;
