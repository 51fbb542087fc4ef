//! Secrets come and go.

use super::*;

async fn with(data: tempfile::TempDir, secret: char, old: &str) -> Host {
    let secret = secret.to_string().repeat(32);
    let mut flags = vec!["--secret", secret.as_str()];
    if !old.is_empty() {
        flags.extend(["--old-secrets", old]);
    }
    Host::start_in(data, None, &flags).await
}

async fn rewrapped(host: &Host) -> (Value, Value, Value) {
    let report = host.client.post("/admin/accounts/rewrap", json!({})).await.expect(200)["data"].clone();
    (report["rewrapped"].clone(), report["current"].clone(), report["failed"].clone())
}

#[tokio::test]
async fn an_old_secret_can_be_forgotten_after_a_rewrap() {
    let host = with(tempfile::tempdir().unwrap(), 'a', "").await;
    let proxy = json!({ "type": "http", "host": "p", "port": 80, "password": PROXY_CANARY });
    create(&host.client, json!({ "proxy": proxy })).await;

    let host = with(host.stop().await, 'b', &"a".repeat(32)).await;
    assert_eq!(plain(&choose(&host, anyone()).await.unwrap()), CANARY);
    assert_eq!(host.client.get("/admin/accounts").await.expect(200)["data"][0]["sealed"], "older");
    assert_eq!(rewrapped(&host).await, (json!(1), json!(0), json!(0)));
    assert_eq!(rewrapped(&host).await, (json!(0), json!(1), json!(0)));

    let host = with(host.stop().await, 'b', "").await;
    let upstream = choose(&host, anyone()).await.unwrap();
    assert_eq!(plain(&upstream), CANARY);
    assert_eq!(upstream.proxy.as_ref().unwrap().password.as_ref().unwrap().as_str(), PROXY_CANARY);
    drop(upstream);

    let host = with(host.stop().await, 'c', "").await;
    let refused = choose(&host, anyone()).await.unwrap_err();
    let NoAccount::Credential(why) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("--old-secrets") && !why.contains("canary"), "{why}");
    assert_eq!(rewrapped(&host).await, (json!(0), json!(0), json!(1)));
    host.stop().await;
}
