//! What is refused at the start, and what becomes of a full disk.

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::*;

/// A short wait for a folder that is never released.
const BRIEF: Duration = Duration::from_millis(50);

/// Changes the database behind the store's back.
async fn tamper(folder: &TempDir, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(folder::database(folder.path()));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn refusal(folder: &TempDir) -> String {
    let opened = Sqlite::open(folder.path(), DEADLINE).await;
    format!("{:#}", opened.err().expect("opened"))
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let (folder, store) = fresh().await;
    let refused = Sqlite::open(folder.path(), BRIEF).await.err().expect("opened").to_string();
    assert!(refused.contains("another Switchyard is using the data folder"), "{refused}");
    store.probe().await.unwrap();
    reopen(store, &folder).await.probe().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_missing_folder_is_created_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data/switchyard");
    Sqlite::open(&folder, DEADLINE).await.unwrap().probe().await.unwrap();
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (folder, store) = fresh().await;
    drop(store);
    tamper(&folder, "insert into _sqlx_migrations values (9999, 'future', current_timestamp, 1, x'00', 1)")
        .await;
    let refused = refusal(&folder).await;
    assert!(refused.contains("written by a newer Switchyard"), "{refused}");
}

#[tokio::test]
async fn a_half_applied_schema_is_refused() {
    let (folder, store) = fresh().await;
    drop(store);
    tamper(&folder, "update _sqlx_migrations set success = 0 where version = 2").await;
    let refused = refusal(&folder).await;
    assert!(refused.contains("only half applied"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder::database(folder.path()), "x".repeat(5_000)).unwrap();
    let refused = refusal(&folder).await;
    assert!(refused.contains("not a database"), "{refused}");
}

#[tokio::test]
async fn the_writer_goes_on_after_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let full = link::writing(&folder::database(folder.path()), DEADLINE).pragma("max_page_count", "500");
    let store = Sqlite::open_with(folder.path(), DEADLINE, full).await.unwrap();
    let large = "x".repeat(4 << 20);
    let refused = store.put(&dirty(record(&kind::ACCOUNT, "large", 1, &[("v", &large)]))).await;
    let Err(StoreError::Unavailable(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("full"), "{reason}");
    store.put(&dirty(record(&kind::ACCOUNT, "small", 1, &[]))).await.unwrap();
    assert_eq!(store.get(&key(&kind::ACCOUNT, "large")).await.unwrap(), None);
    assert!(store.get(&key(&kind::ACCOUNT, "small")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_caller_gives_up_at_the_deadline() {
    let (queue, _never_answered) = Queue::<(), ()>::new(BRIEF);
    assert_eq!(queue.ask(()).await, Err(StoreError::Timeout));
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let (queue, _never_answered) = Queue::<(), ()>::new(BRIEF);
    let outcomes = futures::future::join_all((0..1_025).map(|_| queue.ask(()))).await;
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Overloaded)));
    assert_eq!(refused.count(), 1);
}
