//! The servers that the other tests rely on do what they are told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use switchyard_tests::servers::{Postgres, Redis};

/// Sends a command to Redis and reads what comes back at once.
fn ask(stream: &mut TcpStream, command: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn connect(redis: &Redis) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port())).expect("a connection")
}

#[test]
fn redis_keeps_its_data_over_a_restart_and_a_crash() {
    let mut redis = Redis::start();
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}/0", redis.port()));
    let mut stream = connect(&redis);
    let policy = ask(&mut stream, "CONFIG GET appendfsync").expect("an answer");
    assert!(policy.contains("everysec"), "{policy}");
    assert_eq!(ask(&mut stream, "SET k v").expect("an answer"), "+OK\r\n");
    redis.restart();
    assert_eq!(ask(&mut connect(&redis), "GET k").expect("an answer"), "$1\r\nv\r\n");
    redis.kill();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port())).is_err());
    redis.restart();
    assert_eq!(ask(&mut connect(&redis), "GET k").expect("an answer"), "$1\r\nv\r\n");
}

#[test]
fn a_paused_redis_is_silent_and_then_goes_on() {
    let mut redis = Redis::start();
    let mut stream = connect(&redis);
    redis.pause();
    let silent = ask(&mut stream, "PING").expect_err("no answer");
    assert!(matches!(silent.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent}");
    redis.resume();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).expect("the late answer");
    assert_eq!(&answer, b"+PONG\r\n");
}

async fn number(url: &str, query: &'static str) -> Result<i32, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar(query).fetch_one(&mut connection).await
}

async fn execute(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("a statement");
}

#[tokio::test]
async fn each_database_is_new() {
    let (one, two) = (Postgres::shared().database().await, Postgres::shared().database().await);
    execute(&one, "create table t (n int)").await;
    execute(&two, "create table t (n int)").await;
    assert_ne!(one, two);
}

#[tokio::test]
async fn postgres_keeps_its_data_over_a_restart_and_a_crash() {
    let mut postgres = Postgres::start();
    let url = postgres.database().await;
    assert_eq!(number(&url, "select 1 where current_setting('fsync') = 'on'").await.expect("a number"), 1);
    execute(&url, "create table t as select 7 as n").await;
    postgres.restart();
    assert_eq!(number(&url, "select n from t").await.expect("a number"), 7);
    postgres.kill();
    assert!(number(&url, "select n from t").await.is_err());
    postgres.restart();
    assert_eq!(number(&url, "select n from t").await.expect("a number"), 7);
}

/// An existing session has a process of its own, which a pause must stop, too.
#[tokio::test]
async fn a_paused_postgres_is_silent_and_then_goes_on() {
    let mut postgres = Postgres::start();
    let mut connection = PgConnection::connect(&postgres.url()).await.expect("a connection");
    postgres.pause();
    let mut query = Box::pin(sqlx::query_scalar::<_, i32>("select 7").fetch_one(&mut connection));
    let silent = tokio::time::timeout(Duration::from_millis(500), &mut query).await;
    assert!(silent.is_err(), "a paused server answered");
    postgres.resume();
    let answer = tokio::time::timeout(Duration::from_secs(10), query).await.expect("the late answer");
    assert_eq!(answer.expect("a number"), 7);
}
