//! Keys of Claude Relay Service, as it wrote them.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use switchyard::keys::Refusal;
use switchyard_tests::host::Host;
use switchyard_tests::relay_database::RelayDatabase;
use switchyard_tests::servers;

use super::{PATH, issue, refusal};

const THEIRS: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "cr_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const ID: &str = "3f0c1c8e-4d52-4e5b-9b1f-2a7d9f0e1a11";

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(format!("{key}{THEIRS}")))
}

/// A key with every field that it had, and some of a later version.
async fn write_key(database: &RelayDatabase) -> Vec<String> {
    let hash = hash(KEY);
    let fields = [
        ("id", ID),
        ("name", "Änne"),
        ("description", "d"),
        ("apiKey", &hash),
        ("tokenLimit", "1000"),
        ("concurrencyLimit", "2"),
        ("rateLimitWindow", "5"),
        ("rateLimitRequests", "10"),
        ("rateLimitCost", "0.5"),
        ("isActive", "true"),
        ("claudeAccountId", ""),
        ("claudeConsoleAccountId", "group:g1"),
        ("geminiAccountId", ""),
        ("openaiAccountId", ""),
        ("azureOpenaiAccountId", ""),
        ("bedrockAccountId", ""),
        ("permissions", "[\"claude\"]"),
        ("enableModelRestriction", "true"),
        ("restrictedModels", "[\"m1\"]"),
        ("enableClientRestriction", "false"),
        ("allowedClients", "[]"),
        ("dailyCostLimit", "12.5"),
        ("weeklyOpusCostLimit", "0"),
        ("tags", "[\"team\"]"),
        ("activationDays", "0"),
        ("expirationMode", "fixed"),
        ("isActivated", "true"),
        ("activatedAt", ""),
        ("createdAt", "2025-01-02T03:04:05.678Z"),
        ("lastUsedAt", "2025-02-03T04:05:06.789Z"),
        ("expiresAt", ""),
        ("createdBy", "admin"),
        ("userId", ""),
        ("userUsername", ""),
        ("icon", "star"),
        ("openaiResponsesPayloadRules", "[{\"x\":1}]"),
    ];
    let mut command = vec!["HSET", "apikey:3f0c1c8e-4d52-4e5b-9b1f-2a7d9f0e1a11"];
    fields.iter().for_each(|(name, value)| command.extend([*name, *value]));
    database.ask::<i64>(&command).await;
    database.ask::<i64>(&["HSET", "apikey:hash_map", &hash, ID]).await;
    database.ask::<i64>(&["ZADD", "apikey:idx:name", "0", &format!("former\0{ID}")]).await;
    fields.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
}

#[tokio::test]
async fn its_keys_let_in_and_keep_every_field() {
    let redis = servers::Redis::start();
    let url = redis.url();
    let database = RelayDatabase::open(&url).await;
    let written = write_key(&database).await;
    let flags = ["--redis-url", &url, "--encryption-key", THEIRS];
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &flags).await;
    let key = host.keys().authenticate(KEY).await.unwrap();
    assert_eq!((key.id(), key.name(), key.tags()), (ID, "Änne", vec!["team".to_owned()]));
    assert_eq!((key.limits().window_cost_micro, key.limits().daily_cost_micro), (500_000, 12_500_000));
    assert_eq!(
        (key.limits().window.unwrap().as_secs(), key.claude_console_account_id()),
        (300, Some("group:g1"))
    );
    assert!(key.may_use_claude() && key.allows_model("m1").is_err() && key.allows_model("m2").is_ok());

    host.client.put(&format!("{PATH}/{ID}"), json!({ "description": "new" })).await.expect(200);
    let held: Vec<String> = database.ask(&["HGETALL", &format!("apikey:{ID}")]).await;
    let held: std::collections::BTreeMap<_, _> = held.chunks(2).map(|pair| (&pair[0], &pair[1])).collect();
    for pair in written.chunks(2).filter(|pair| pair[0] != "description") {
        assert_eq!(held[&pair[0]], &pair[1], "{}", pair[0]);
    }
    // A key of ours is one of theirs, too.
    let (id, new) = issue(&host.client, json!({ "name": "new" })).await;
    assert_eq!(database.ask::<String>(&["HGET", "apikey:hash_map", &hash(&new)]).await, id);
    host.stop().await;
}

#[tokio::test]
async fn without_its_encryption_key_its_keys_are_unknown() {
    let redis = servers::Redis::start();
    let url = redis.url();
    write_key(&RelayDatabase::open(&url).await).await;
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &["--redis-url", &url]).await;
    assert_eq!(refusal(&host, KEY).await, Refusal::Unknown);
    host.stop().await;
}

#[tokio::test]
async fn its_lists_are_kept_as_it_keeps_them() {
    let redis = servers::Redis::start();
    let url = redis.url();
    let database = RelayDatabase::open(&url).await;
    write_key(&database).await;
    let flags = ["--redis-url", &url, "--strategy", "redis_only", "--encryption-key", THEIRS];
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &flags).await;
    let score = async |list: &str| database.ask::<f64>(&["ZSCORE", list, ID]).await;
    let within = async |set: &str| database.ask::<i64>(&["SISMEMBER", set, ID]).await == 1;
    let named = async |name: &str| {
        database.ask::<Option<f64>>(&["ZSCORE", "apikey:idx:name", &format!("{name}\0{ID}")]).await.is_some()
    };
    assert_eq!(score("apikey:idx:createdAt").await, 1_735_787_045_678.0);
    assert_eq!(score("apikey:idx:lastUsedAt").await, 1_738_555_506_789.0);
    assert!(
        within("apikey:idx:all").await
            && within("apikey:set:active").await
            && within("apikey:tag:team").await
    );
    // The entry of a former name that it left behind leads nowhere.
    let list =
        async || host.client.get(&format!("{PATH}?sort=name")).await.expect(200)["data"]["items"].clone();
    assert_eq!(list().await.as_array().map(Vec::len), Some(1));

    let path = format!("{PATH}/{ID}");
    host.client.put(&path, json!({ "name": "Bert", "tags": ["other"] })).await.expect(200);
    assert!(named("bert").await && within("apikey:tag:other").await && !within("apikey:tag:team").await);
    assert_eq!(database.ask::<Vec<String>>(&["SMEMBERS", "apikey:tags:all"]).await, ["other"]);
    host.client.delete(&path).await.expect(200);
    assert!(within("apikey:set:deleted").await && !within("apikey:set:active").await);
    assert_eq!(list().await, Value::Array(Vec::new()));
    host.client.delete(&format!("{path}?hard=true")).await.expect(200);
    assert!(!within("apikey:idx:all").await && !within("apikey:set:deleted").await && !named("bert").await);
    host.stop().await;
}

/// An old version led to a key by a hash of its own; the index that later ones have is made from that, as they do.
#[tokio::test]
async fn the_lookup_of_an_old_version_lets_in_and_is_given_up() {
    let redis = servers::Redis::start();
    let url = redis.url();
    let database = RelayDatabase::open(&url).await;
    write_key(&database).await;
    database.ask::<i64>(&["DEL", "apikey:hash_map"]).await;
    let old = format!("apikey_hash:{}", hash(KEY));
    let flags = ["--redis-url", &url, "--strategy", "redis_only", "--encryption-key", THEIRS];
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &flags).await;
    database.ask::<i64>(&["HSET", &old, "id", "another"]).await;
    assert_eq!(refusal(&host, KEY).await, Refusal::Unknown, "it leads to no key of that hash");
    database.ask::<i64>(&["HSET", &old, "id", ID]).await;
    assert_eq!(host.keys().authenticate(KEY).await.unwrap().id(), ID);
    assert_eq!(database.ask::<String>(&["HGET", "apikey:hash_map", &hash(KEY)]).await, ID);
    // What is left of it leads nowhere once the key is another.
    let regenerate = format!("{PATH}/{ID}/regenerate");
    let new = host.client.post(&regenerate, json!({})).await.expect(200)["data"]["apiKey"].clone();
    assert_eq!(refusal(&host, KEY).await, Refusal::Unknown);
    assert_eq!(host.keys().authenticate(new.as_str().unwrap()).await.unwrap().id(), ID);
    host.stop().await;
}
