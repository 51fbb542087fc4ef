use std::time::Instant;

use super::*;
use crate::store::postgres::server::{Server, execute, number};
use crate::store::{Store, StoreError};

/// The deadline where a test is about it.
const SHORT: Duration = Duration::from_millis(500);

fn hasty(url: &str) -> Postgres {
    Postgres::connect(PostgresSettings { deadline: SHORT, ..PostgresSettings::new(url) }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_server_is_unavailable_and_comes_back_with_everything() {
    let server = Server::start();
    let store = store(&server.database().await);
    store.put(&write(record("k", 1, &[("a", "b")]), Mark::Dirty)).await.unwrap();
    let key = key("k");
    server.crash();
    let get = || store.get(&key);
    let error = until(get, Result::is_err).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let put = || async { store.put(&write(record("k", 2, &[]), Mark::Dirty)).await };
    let refused = until(put, |outcome| matches!(outcome, Err(StoreError::Unavailable(_)))).await;
    assert!(refused.is_err());
    server.restart();
    let held = until(get, Result::is_ok).await.unwrap().unwrap();
    assert_eq!(held, record("k", 1, &[("a", "b")]));
    until(put, Result::is_ok).await.unwrap();
    server.restart();
    assert_eq!(until(get, Result::is_ok).await.unwrap().unwrap().version, 2);
    until(put, Result::is_ok).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_times_out_and_answers_correctly_afterwards() {
    let server = Server::start();
    let store = hasty(&server.database().await);
    for n in 0..8 {
        let put = || async {
            let id = format!("k{n}");
            store.put(&write(record(&id, 1, &[("id", &id)]), Mark::Clean)).await
        };
        until(put, Result::is_ok).await.unwrap();
    }
    let frozen = server.freeze();
    let began = Instant::now();
    assert_eq!(store.get(&key("k1")).await, Err(StoreError::Timeout));
    assert_eq!(store.put(&write(record("k2", 2, &[]), Mark::Clean)).await, Err(StoreError::Timeout));
    // Not a measurement: without a deadline the calls would never end.
    assert!(began.elapsed() >= SHORT);
    drop(frozen);
    for n in 0..8 {
        let (id, key) = (format!("k{n}"), key(&format!("k{n}")));
        let held = until(|| store.get(&key), Result::is_ok).await.unwrap().unwrap();
        assert_eq!(held.key.id.as_ref(), id);
        if n != 2 {
            assert_eq!(held.fields["id"], id);
        }
    }
}

#[tokio::test]
async fn an_unreachable_server_is_named_without_its_password() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let store = store(&format!("postgres://u:hunter2@127.0.0.1:{port}/d"));
    for error in [store.get(&key("k")).await.unwrap_err(), store.get(&key("k")).await.unwrap_err()] {
        let StoreError::Unavailable(reason) = error else { panic!("{error:?}") };
        assert!(reason.contains(&format!("127.0.0.1:{port}")), "{reason}");
        assert!(reason.contains("refused") && !reason.contains("hunter2"), "{reason}");
    }
    assert_eq!(store.schema_error(), None);
}

#[tokio::test]
async fn foreign_schemas_are_refused_in_words() {
    let changes = [
        ("insert into _sqlx_migrations values (9999, 'new', now(), true, '', 0)", "newer Switchyard"),
        ("update _sqlx_migrations set success = false where version = 2", "migration 2 is half applied"),
        ("update _sqlx_migrations set checksum = '\\x00' where version = 1", "migration 1 in the database"),
    ];
    for (change, words) in changes {
        let url = Server::shared().database().await;
        store(&url).get(&key("k")).await.unwrap();
        execute(&url, change).await;
        let refused = store(&url);
        let error = refused.get(&key("k")).await.unwrap_err();
        let StoreError::Unavailable(reason) = error else { panic!("{error:?}") };
        assert!(reason.contains(words), "{reason}");
        assert_eq!(refused.schema_error(), Some(reason));
    }
}

#[tokio::test]
async fn a_schema_that_was_mended_is_accepted_without_a_restart() {
    let url = Server::shared().database().await;
    execute(&url, "create table api_key ()").await;
    let store = store(&url);
    let error = store.get(&key("k")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(store.schema_error().unwrap().contains("api_key"));
    execute(&url, "drop table api_key").await;
    let key = key("k");
    assert_eq!(until(|| store.get(&key), Result::is_ok).await, Ok(None));
    assert_eq!(store.schema_error(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_start_at_once_migrate_once() {
    let url = Server::shared().database().await;
    let stores: Vec<_> = (0..4).map(|_| store(&url)).collect();
    let key = key("k");
    for outcome in futures::future::join_all(stores.iter().map(|store| store.get(&key))).await {
        assert_eq!(outcome, Ok(None));
    }
    let twice = "select count(*) - count(distinct version) from _sqlx_migrations where success";
    assert_eq!(number(&url, twice).await, 0);
    let migrations = std::fs::read_dir("../migrations/postgres").unwrap().count();
    let applied = number(&url, "select count(*) from _sqlx_migrations where success").await;
    assert_eq!(applied, migrations as i64);
}

#[tokio::test]
async fn a_statement_past_its_limit_closes_the_connection() {
    let url = Server::shared().database().await;
    let store = hasty(&url);
    let key = key("k");
    until(|| store.get(&key), Result::is_ok).await.unwrap();
    let put = async |version| store.put(&write(record("k", version, &[]), Mark::Clean)).await;
    until(|| put(1), Result::is_ok).await.unwrap();
    execute(&url, "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$; create trigger slow before update on api_key for each row execute function slow()").await;
    assert_eq!(put(2).await, Err(StoreError::Timeout));
    execute(&url, "drop trigger slow on api_key").await;
    until(|| put(3), Result::is_ok).await.unwrap();
    assert_eq!(until(|| store.get(&key), Result::is_ok).await.unwrap().unwrap().version, 3);
}

#[tokio::test]
async fn tls_is_as_strict_as_the_url_says() {
    let server = Server::start();
    let url = server.database().await;
    let url = |query: &str| url.replace("sslmode=disable", query);
    let key = key("k");
    let plain = store(&url("sslmode=require"));
    let error = plain.get(&key).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("TLS")), "{error:?}");
    let certificate = server.speak_tls();
    let trusting = store(&url(&format!("sslmode=verify-full&sslrootcert={}", certificate.display())));
    assert_eq!(trusting.get(&key).await, Ok(None));
    let connections = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
                       where ssl and application_name = 'switchyard'";
    assert!(number(&url("sslmode=disable"), connections).await > 0);
    let error = store(&url("sslmode=verify-full")).get(&key).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("certificate")), "{error:?}");
}
