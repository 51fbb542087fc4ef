//! Upstream accounts: what an admin does with them, and which one is chosen.

mod choosing;
mod secrets;
mod take_over;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use switchyard::accounts::{Credential, NoAccount, Outcome, Upstream, Wanted};
use switchyard_tests::host::{Behind, Body, Client, Host};
use switchyard_tests::relay_database::RelayDatabase;

pub(crate) const MODEL: &str = "claude-sonnet-4-5";
/// Never to be seen outside.
pub(crate) const CANARY: &str = "sk-ant-canary-of-an-account";
const PROXY_CANARY: &str = "canary-of-a-proxy";

/// Makes an account and answers it as it is shown, once the stores are known to hold every record.
pub(crate) async fn create(client: &Client, more: Value) -> Value {
    client.until("whole", async |client| client.get("/admin/account-groups").await.status == 200).await;
    client.until("whole", async |client| client.get("/admin/accounts").await.status == 200).await;
    let mut draft = json!({ "name": "n", "apiUrl": "http://127.0.0.1:9", "apiKey": CANARY });
    draft.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let created = client.post("/admin/accounts", draft).await.expect(201);
    assert_eq!(created["success"], true);
    created["data"].clone()
}

pub(crate) fn id(account: &Value) -> String {
    account["id"].as_str().expect("an id").to_owned()
}

pub(crate) fn anyone() -> Wanted<'static> {
    Wanted { model: MODEL, bound: None, sticky: None, tried: &[] }
}

pub(crate) async fn choose(host: &Host, wanted: Wanted<'_>) -> Result<Upstream, NoAccount> {
    host.server().accounts().choose(&wanted).await
}

/// The id of the chosen account.
pub(crate) async fn chosen(host: &Host, wanted: Wanted<'_>) -> String {
    choose(host, wanted).await.expect("an account").id
}

pub(crate) fn plain(upstream: &Upstream) -> &str {
    match &upstream.credential {
        Credential::ApiKey(plain) | Credential::Bearer(plain) => plain,
    }
}

#[tokio::test]
async fn an_account_lives_on_the_embedded_stores() {
    life_of_an_account(Behind::Embedded).await;
}

#[tokio::test]
async fn an_account_lives_on_real_servers() {
    life_of_an_account(Behind::RealServers).await;
}

async fn life_of_an_account(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    let client = &host.client;
    let proxy =
        json!({ "type": "socks5", "host": "p", "port": 1080, "username": "u", "password": PROXY_CANARY });
    let made = create(client, json!({ "priority": 7, "proxy": proxy, "supportedModels": [MODEL] })).await;
    assert_eq!(
        (&made["priority"], &made["hasApiKey"], &made["sealed"]),
        (&json!(7), &json!(true), &json!("current"))
    );
    assert_eq!(
        made["proxy"],
        json!({ "type": "socks5", "host": "p", "port": 1080, "username": "u", "hasPassword": true })
    );
    let path = format!("/admin/accounts/{}", id(&made));

    let patch = json!({ "name": "other", "isActive": false, "proxy": { "type": "socks5", "host": "p", "port": 1080, "username": "u" } });
    let patched = client.put(&path, patch).await.expect(200)["data"].clone();
    assert_eq!(
        (&patched["name"], &patched["isActive"], &patched["priority"]),
        (&json!("other"), &json!(false), &json!(7))
    );
    assert_eq!(patched["proxy"]["hasPassword"], true, "what was not shown is not sent back");
    assert_eq!(choose(&host, anyone()).await.unwrap_err(), NoAccount::None);
    client.put(&path, json!({ "isActive": true })).await.expect(200);

    let upstream = choose(&host, anyone()).await.unwrap();
    assert_eq!((plain(&upstream), upstream.base_url.as_str()), (CANARY, "http://127.0.0.1:9/"));
    assert_eq!(upstream.proxy.as_ref().unwrap().password.as_ref().unwrap().as_str(), PROXY_CANARY);
    assert!(matches!(upstream.credential, Credential::ApiKey(_)));

    let stored = client.get(&format!("/store/v1/records/account/{}", id(&made))).await.expect(200);
    assert!(stored["fields"]["apiKey"].as_str().unwrap().starts_with("sy1."));
    let mut seen = vec![format!("{upstream:?}"), stored.to_string(), made.to_string(), patched.to_string()];
    for path in ["/admin/accounts", &path, "/metrics", "/store/v1/records/account"] {
        seen.push(client.get(path).await.expect(200).to_string());
    }
    seen.extend(in_the_stores(&host, &id(&made)).await);
    for seen in seen {
        assert!(!seen.contains("canary"), "{seen}");
    }

    client.delete(&path).await.expect(200);
    assert_eq!(client.get(&path).await.expect(404)["code"], "not-found");
    assert_eq!(choose(&host, anyone()).await.unwrap_err(), NoAccount::None);
    host.stop().await;
}

/// What the two servers hold of an account.
async fn in_the_stores(host: &Host, id: &str) -> Vec<String> {
    let (Some(redis), Some(postgres)) = (&host.redis, host.postgres_url()) else { return Vec::new() };
    let database = RelayDatabase::open(&redis.url()).await;
    let hash: Vec<String> = database.ask(&["HGETALL", &format!("claude_console_account:{id}")]).await;
    assert!(hash.iter().any(|text| text.starts_with("sy1.")), "{hash:?}");
    let mut connection = PgConnection::connect(&postgres).await.unwrap();
    let row: String =
        sqlx::query_scalar("select fields::text from account").fetch_one(&mut connection).await.unwrap();
    assert!(row.contains("sy1."), "{row}");
    vec![hash.join(" "), row]
}

#[tokio::test]
async fn what_no_account_can_be_is_refused_without_repeating_it() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    let made = create(client, json!({})).await;
    let path = format!("/admin/accounts/{}", id(&made));
    for (patch, field) in [
        (json!({ "apiKey": "" }), "apiKey"),
        (json!({ "apiKey": "sk canary" }), "apiKey"),
        (json!({ "apiKey": "sk-canary-ü" }), "apiKey"),
        (json!({ "apiUrl": "https://u:canary@h" }), "apiUrl"),
        (json!({ "apiUrl": "canary" }), "apiUrl"),
        (json!({ "name": "" }), "name"),
        (json!({ "priority": 0 }), "priority"),
        (json!({ "priority": 101 }), "priority"),
        (json!({ "userAgent": "canary\r\nx: y" }), "userAgent"),
        (json!({ "supportedModels": "canary" }), "supportedModels"),
        (json!({ "proxy": { "type": "http", "host": "u:canary@h", "port": 1 } }), "proxy"),
        (json!({ "proxy": { "type": "http", "host": "h", "port": 0 } }), "proxy"),
    ] {
        let refused = client.put(&path, patch).await.expect(400);
        assert_eq!(
            (&refused["code"], &refused["success"]),
            (&json!("invalid-field"), &json!(false)),
            "{refused}"
        );
        assert!(refused["detail"].as_str().unwrap().starts_with(field), "{refused}");
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }
    for unreadable in
        [json!({ "api_key": "canary" }), json!({ "proxy": { "password": "canary", "type": 1 } })]
    {
        let refused = client.put(&path, unreadable).await.expect(400);
        assert_eq!(refused["code"], "invalid-json");
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }
    for missing in ["name", "apiUrl", "apiKey"] {
        let mut draft = json!({ "name": "n", "apiUrl": "http://h", "apiKey": "k" });
        draft.as_object_mut().unwrap().remove(missing);
        let refused = client.post("/admin/accounts", draft).await.expect(400);
        assert_eq!(refused["detail"], format!("{missing} is missing"));
    }
    assert_eq!(client.get(&path).await.expect(200)["data"]["version"], made["version"]);
    assert_eq!(client.get("/admin/accounts/none").await.expect(404)["code"], "not-found");
    client.put("/admin/accounts/none", json!({})).await.expect(404);
    client.delete("/admin/accounts/none").await.expect(404);
    host.stop().await;
}

#[tokio::test]
async fn the_store_api_takes_no_credential_in_plain_text() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let path = "/store/v1/records/account/a";
    let plain = [
        json!({ "apiKey": CANARY }),
        json!({ "proxy": r#"{"type":"http","host":"h","port":1,"password":"canary"}"# }),
        json!({ "proxy": "http://u:canary@h" }),
    ];
    for fields in plain {
        let refused = host.client.put(path, json!({ "fields": fields })).await.expect(400);
        assert_eq!(refused["code"], "plain-credential");
        assert!(!refused.to_string().contains("canary"));
    }
    let sealed = json!({ "apiKey": format!("{}:{}", "00".repeat(16), "11".repeat(16)), "proxy": "" });
    host.client.put(path, json!({ "fields": sealed })).await.expect(200);
    host.stop().await;
}

#[tokio::test]
async fn groups_are_made_changed_and_removed() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    let account = id(&create(client, json!({ "accountType": "group" })).await);
    let group =
        client.post("/admin/account-groups", json!({ "name": "g" })).await.expect(201)["data"].clone();
    let path = format!("/admin/account-groups/{}", id(&group));
    let patched = client.put(&path, json!({ "memberIds": [account, "gone"] })).await.expect(200);
    assert_eq!((&patched["data"]["memberCount"], &patched["data"]["name"]), (&json!(2), &json!("g")));
    assert_eq!(client.get("/admin/account-groups").await.expect(200)["data"][0], patched["data"]);
    let bound = format!("group:{}", id(&group));
    assert_eq!(chosen(&host, Wanted { bound: Some(&bound), ..anyone() }).await, account);

    assert_eq!(client.delete(&path).await.expect(409)["code"], "not-empty");
    client.send(Method::PATCH, &path, &[], Body::Json(json!({ "memberIds": [] }))).await.expect(200);
    client.delete(&path).await.expect(200);
    client.get(&path).await.expect(404);
    let other = id(&create(client, json!({})).await);
    let rest = client.get(&format!("/admin/accounts?cursor={account}")).await.expect(200);
    assert_eq!(
        (&rest["data"][0]["id"], &rest["data"][1], &rest["next"]),
        (&json!(other), &Value::Null, &Value::Null)
    );
    for wrong in ["cursor=a%20b", "page=2"] {
        client.get(&format!("/admin/accounts?{wrong}")).await.expect(400);
    }
    for refused in [
        json!({}),
        json!({ "name": "g", "platform": "gemini" }),
        json!({ "name": "g", "memberIds": ["a b"] }),
    ] {
        assert_eq!(client.post("/admin/account-groups", refused).await.expect(400)["code"], "invalid-field");
    }
    host.stop().await;
}

#[tokio::test]
async fn what_people_are_told_never_undoes_what_they_decided() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    let account = id(&create(client, json!({})).await);
    let path = format!("/admin/accounts/{account}");
    let upstream = choose(&host, anyone()).await.unwrap();
    client.put(&path, json!({ "schedulable": false })).await.expect(200);
    host.server().accounts().report_of(&upstream, Outcome::Overloaded);
    let told =
        async |client: &Client| client.get(&path).await.expect(200)["data"]["upstreamStatus"] == "overloaded";
    client.until("told", told).await;
    let shown = client.get(&path).await.expect(200)["data"].clone();
    assert_eq!((&shown["schedulable"], &shown["health"]["status"]), (&json!(false), &json!("overloaded")));
    assert!(shown["errorMessage"].as_str().unwrap().contains("529"), "{shown}");

    client.put(&path, json!({ "schedulable": true })).await.expect(200);
    assert!(matches!(choose(&host, anyone()).await, Err(NoAccount::AllCooling { .. })));
    let reset = client.post(&format!("{path}/reset-status"), json!({})).await.expect(200)["data"].clone();
    assert_eq!((&reset["upstreamStatus"], &reset["errorMessage"]), (&Value::Null, &Value::Null));
    assert_eq!(chosen(&host, anyone()).await, account);

    client.delete(&path).await.expect(200);
    host.server().accounts().report_of(&upstream, Outcome::Unauthorized);
    assert_eq!(choose(&host, anyone()).await.unwrap_err(), NoAccount::None);
    client.get(&path).await.expect(404);
    host.stop().await;
}
