//! Accounts and groups that Claude Relay Service wrote.

use switchyard_tests::servers::{Postgres, Redis};

use super::*;

const ENCRYPTION_KEY: &str = "test-encryption-key-32-chars-long";
/// "sk-ant-api03-canary-of-claude-relay-service", as its code seals it under that key.
const SEALED: &str = concat!(
    "000102030405060708090a0b0c0d0e0f:",
    "43687988a6d2ddb1c5c9b7c3aada6b1546a94ced8c87aec4",
    "c1017b714e6c066bcbd45f074016f80a212bb11c2dad2e04"
);

async fn fill(redis: &Redis, id: &str, sealed: &str, priority: &str) -> RelayDatabase {
    let database = RelayDatabase::open(&redis.url()).await;
    let key = format!("claude_console_account:{id}");
    let proxy = r#"{"type":"socks5","host":"p","port":"1080","username":"u","password":"canary-of-a-proxy"}"#;
    let fields = [
        ["id", id],
        ["name", "console"],
        ["apiUrl", "http://127.0.0.1:9/v1/messages"],
        ["apiKey", sealed],
        ["priority", priority],
        ["isActive", "true"],
        ["accountType", "shared"],
        ["proxy", proxy],
        ["someNewField", "kept"],
    ];
    let command: Vec<&str> = ["HSET", &key].into_iter().chain(fields.into_iter().flatten()).collect();
    database.ask::<u64>(&command).await;
    database
}

async fn host_on(redis: Redis, flags: &[&str]) -> Host {
    let (url, postgres) = (redis.url(), Postgres::shared().database().await);
    let flags: Vec<&str> =
        ["--redis-url", &url, "--postgres-url", &postgres].iter().chain(flags).copied().collect();
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &flags).await;
    // A store may be asked once it is known to hold every record.
    let is_whole = async |client: &Client| {
        let paths = ["/admin/accounts", "/admin/account-groups"];
        client.get(paths[0]).await.status == 200 && client.get(paths[1]).await.status == 200
    };
    host.client.until("whole", is_whole).await;
    host
}

#[tokio::test]
async fn its_credentials_are_used_and_sealed_anew() {
    let redis = Redis::start();
    let database = fill(&redis, "whole", SEALED, "50").await;
    fill(&redis, "cut", &SEALED[..SEALED.len() - 32], "1").await;
    let host = host_on(redis, &["--encryption-key", ENCRYPTION_KEY]).await;
    let client = &host.client;
    let upstream = choose(&host, anyone()).await.unwrap();
    assert_eq!(
        (plain(&upstream), upstream.id.as_str()),
        ("sk-ant-api03-canary-of-claude-relay-service", "whole")
    );
    assert_eq!(upstream.base_url.as_str(), "http://127.0.0.1:9/");
    assert_eq!(upstream.proxy.as_ref().unwrap().password.as_ref().unwrap().as_str(), PROXY_CANARY);

    let listed = client.get("/admin/accounts").await.expect(200);
    assert_eq!(listed["data"][1]["sealed"], "relay_service");
    assert!(!listed.to_string().contains("canary"), "{listed}");
    let report = client.post("/admin/accounts/rewrap", json!({})).await.expect(200)["data"].clone();
    assert_eq!((&report["seen"], &report["rewrapped"], &report["failed"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(report["failures"][0]["id"], "cut");
    let hash: Vec<String> = database.ask(&["HGETALL", "claude_console_account:whole"]).await;
    assert!(
        hash.iter().any(|text| text.starts_with("sy1.")) && hash.contains(&"kept".to_owned()),
        "{hash:?}"
    );
    assert!(!hash.concat().contains("canary"), "the proxy's password, too: {hash:?}");
    let again = choose(&host, anyone()).await.unwrap();
    assert_eq!((plain(&again), again.proxy.as_ref()), (plain(&upstream), upstream.proxy.as_ref()));
    host.stop().await;
}

#[tokio::test]
async fn a_cut_or_plain_credential_is_never_sent() {
    for (sealed, flags) in [
        (&SEALED[..SEALED.len() - 32], vec!["--encryption-key", ENCRYPTION_KEY]),
        (&SEALED[..SEALED.len() - 1], vec!["--encryption-key", ENCRYPTION_KEY]),
        (SEALED, vec!["--encryption-key", "not that key"]),
        (SEALED, vec![]),
        ("sk-ant-canary-in-plain-text", vec!["--encryption-key", ENCRYPTION_KEY]),
    ] {
        let redis = Redis::start();
        fill(&redis, "a", sealed, "50").await;
        let host = host_on(redis, &flags).await;
        let refused = choose(&host, anyone()).await.unwrap_err();
        let NoAccount::Credential(why) = &refused else { panic!("{refused:?}") };
        assert!(why.contains("\"a\"") && !why.contains("canary") && !why.contains(sealed), "{why}");
        host.stop().await;
    }
}

#[tokio::test]
async fn its_groups_keep_their_members() {
    let redis = Redis::start();
    let database = fill(&redis, "member", SEALED, "50").await;
    fill(&redis, "stranger", SEALED, "1").await;
    database
        .ask::<u64>(&["HSET", "account_group:g", "id", "g", "name", "its group", "platform", "claude"])
        .await;
    database.ask::<u64>(&["SADD", "account_group_members:g", "member", "gone"]).await;
    database.ask::<u64>(&["SADD", "account_groups", "g"]).await;
    let host = host_on(redis, &["--encryption-key", ENCRYPTION_KEY]).await;
    let group = host.client.get("/admin/account-groups/g").await.expect(200)["data"].clone();
    assert_eq!((&group["name"], &group["memberIds"]), (&json!("its group"), &json!(["gone", "member"])));
    assert_eq!(chosen(&host, Wanted { bound: Some("group:g"), ..anyone() }).await, "member");
    assert_eq!(chosen(&host, anyone()).await, "stranger");
    host.stop().await;
}

#[tokio::test]
async fn its_credentials_can_be_given_back() {
    let redis = Redis::start();
    let url = redis.url();
    let host = host_on(redis, &["--encryption-key", ENCRYPTION_KEY]).await;
    let with_proxy = json!({ "proxy": { "type": "http", "host": "h", "port": 1, "password": PROXY_CANARY } });
    let (a, b) = (id(&create(&host.client, json!({})).await), id(&create(&host.client, with_proxy).await));
    let path = "/admin/accounts/rewrap?for=claude-relay-service";
    let report = host.client.post(path, json!({})).await.expect(200)["data"].clone();
    assert_eq!((&report["rewrapped"], &report["failures"][0]["id"]), (&json!(1), &json!(b)), "{report}");
    let again = host.client.post(path, json!({})).await.expect(200)["data"].clone();
    assert_eq!((&again["rewrapped"], &again["current"]), (&json!(0), &json!(1)), "{again}");
    let database = RelayDatabase::open(&url).await;
    let sealed: String = database.ask(&["HGET", &format!("claude_console_account:{a}"), "apiKey"]).await;
    assert!(sealed.split_once(':').is_some_and(|(iv, _)| iv.len() == 32) && !sealed.contains("canary"));
    let wanted = Wanted { tried: std::slice::from_ref(&b), ..anyone() };
    assert_eq!(plain(&choose(&host, wanted).await.unwrap()), CANARY);
    host.client.post("/admin/accounts/rewrap?for=x", json!({})).await.expect(400);
    host.stop().await;
}

/// What is known of the account holds on.
#[tokio::test]
async fn what_it_left_in_plain_text_is_sealed_soon_and_never_shown() {
    let redis = Redis::start();
    let database = fill(&redis, "a", SEALED, "50").await;
    fill(&redis, "b", SEALED, "60").await;
    fill(&redis, "c", "sk-ant-canary-in-plain-text", "70").await;
    let host = host_on(redis, &["--encryption-key", ENCRYPTION_KEY]).await;
    assert_eq!(chosen(&host, anyone()).await, "a");
    for path in ["/store/v1/records/account/a", "/store/v1/records/account/c", "/store/v1/records/account"] {
        let shown = host.client.get(path).await.expect(200).to_string();
        assert!(!shown.contains("canary") && shown.contains("socks5"), "{shown}");
    }
    let retry_after = Some(std::time::Duration::from_secs(90));
    host.server().accounts().report("a", Outcome::RateLimited { retry_after });
    let is_sealed = async |id: &str| {
        let hash: Vec<String> = database.ask(&["HGETALL", &format!("claude_console_account:{id}")]).await;
        !hash.concat().contains("canary")
    };
    for id in ["a", "b", "c"] {
        host.client.until("sealed", async |_| is_sealed(id).await).await;
    }
    let mut postgres = PgConnection::connect(&host.postgres_url().unwrap()).await.unwrap();
    let query = "select string_agg(fields::text, ' ') from account";
    let mut in_postgres =
        async || sqlx::query_scalar::<_, String>(query).fetch_one(&mut postgres).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while in_postgres().await.contains("canary") {
        assert!(tokio::time::Instant::now() < deadline, "{}", in_postgres().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(chosen(&host, anyone()).await, "b", "it still rests");
    let upstream = choose(&host, anyone()).await.unwrap();
    assert_eq!(upstream.proxy.as_ref().unwrap().password.as_ref().unwrap().as_str(), PROXY_CANARY);
    assert!(in_postgres().await.contains("sy1."));
    for id in ["a", "b", "c"] {
        let record = host.client.get(&format!("/store/v1/records/account/{id}")).await.expect(200);
        assert!(!record.to_string().contains("canary"), "{record}");
    }
    host.stop().await;
}
