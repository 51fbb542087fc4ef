//! The forms of URL, each against a server of its kind.

use super::server::Server;
use super::*;
use crate::store::{Backend, StoreError};

#[tokio::test]
async fn sentinels_name_the_primary() {
    let server = Server::start(&[]).await;
    let sentinel = server.start_sentinel().await;
    let hosts = format!("127.0.0.1:1,127.0.0.1:{}", sentinel.port());
    let url = format!("redis+sentinel://{hosts}/main/3");
    let store = Redis::connect(RedisSettings { url, ..settings(&server) }).await.unwrap();
    eventually("a probe", async || store.probe().await.ok()).await;
    store.set_complete(&crate::store::kind::SESSION).await.unwrap();
    assert!(server.other().await.text("INFO keyspace").await.unwrap().contains("db3:"));

    let url = format!("redis+sentinel://{hosts}/another");
    let store = Redis::connect(RedisSettings { url, ..settings(&server) }).await.unwrap();
    assert!(matches!(store.probe().await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn tls_trusts_the_given_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
    let ca_file = folder.path().join("cert.pem");
    std::fs::write(&ca_file, own.cert.pem()).unwrap();
    let arguments = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no", "--save", ""];
    let files = ["--tls-cert-file", "{folder}/cert.pem", "--tls-key-file", "{folder}/key.pem"];
    let server = Server::start_in(
        folder,
        &[&arguments[..], &files, &["--tls-ca-cert-file", "{folder}/cert.pem"]].concat(),
    )
    .await;

    let url = format!("rediss://localhost:{}", server.port());
    let trusting = RedisSettings { url, ca_file: Some(ca_file), ..settings(&server) };
    let store = Redis::connect(trusting.clone()).await.unwrap();
    eventually("a probe", async || store.probe().await.ok()).await;

    let store = Redis::connect(RedisSettings { ca_file: None, ..trusting }).await.unwrap();
    let reason = store.probe().await.unwrap_err().to_string();
    assert!(reason.contains("certificate"), "{reason}");
}
