//! What is stored stays out of the log, and nobody without the token gets at it.

use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use switchyard_tests::host::{Behind, Host};
use switchyard_tests::servers::{Postgres, Switchyard};

/// Who needs no token: what tells nothing about what is stored, and what Claude clients ask without a key.
const OPEN: [&str; 9] = [
    "/",
    "/livez",
    "/readyz",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/api/hello",
    "/api/event_logging/batch",
];

/// PostgreSQL names the values of a row that it refuses, and a statement that fails is of interest, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_postgres_brings_nothing_stored_into_the_log() {
    let url = Postgres::shared().database().await;
    let flags = ["--postgres-url", &url, "--strategy", "postgres_only", "--log", "debug"];
    let mut node = Switchyard::start(&flags);
    let client = node.client();
    client.until_ready().await;
    let key = |n: u64| format!("/store/v1/records/api_key/k{n}");
    let fields = json!({ "fields": { "apiKey": "hash-that-is-secret", "note": "field-that-is-secret" } });
    client.put(&key(1), fields.clone()).await.expect(200);

    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let refuse = "alter table api_key add constraint no_second check (id <> 'k2')";
    sqlx::raw_sql(refuse).execute(&mut connection).await.expect(refuse);
    let mut answers = vec![client.put(&key(2), fields.clone()).await];
    let rename = "alter table api_key rename column fields to veiled";
    sqlx::raw_sql(rename).execute(&mut connection).await.expect(rename);
    let search = "/store/v1/records/api_key?index=hash&value=hash-that-is-secret";
    answers.push(client.put(&key(3), fields).await);
    answers.push(client.get(&key(1)).await);
    answers.push(client.get(search).await);
    for answer in &answers {
        assert!(answer.status.is_server_error(), "{answer:?}");
        assert!(!answer.body.to_string().contains("that-is-secret"), "{answer:?}");
    }
    node.stop();
    let log = node.log();
    assert!(log.contains("failed") && log.contains("answered"), "the errors are in the log: {log}");
    let told: Vec<_> = log.lines().filter(|line| line.contains("that-is-secret")).collect();
    assert_eq!(told, Vec::<&str>::new());
}

/// A path of the description with something in place of its parameters.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{kind}" => "account",
        "{pair}" => "redis-to-postgres",
        part if part.starts_with('{') => "x",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn a_wrong_token_opens_nothing() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let document = host.client.get("/openapi.json").await.expect(200);
    let http = reqwest::Client::new();
    let ask = async |method: &Method, path: &str, token: Option<&str>| {
        let request = http.request(method.clone(), format!("{}{}", host.client.base, filled(path)));
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.expect("an answer").status().as_u16()
    };
    let (mut refused, mut open) = (0, Vec::new());
    for (path, item) in document["paths"].as_object().expect("paths") {
        let methods = ["get", "put", "post", "delete", "patch"].into_iter();
        for method in methods.filter(|method| item.get(method).is_some()) {
            let method: Method = method.to_uppercase().parse().expect("a method");
            if OPEN.contains(&path.as_str()) {
                assert!(![401, 403].contains(&ask(&method, path, None).await), "{method} {path}");
                open.push(path.as_str());
                continue;
            }
            for token in [None, Some("wrong"), Some("")] {
                assert_eq!(ask(&method, path, token).await, 401, "{method} {path} with {token:?}");
            }
            refused += 1;
        }
    }
    open.sort_unstable();
    open.dedup();
    assert!(open.len() == OPEN.len() && refused > 50, "{open:?}, and {refused} that are not open");
    host.stop().await;
}
