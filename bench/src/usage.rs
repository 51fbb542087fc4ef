//! Usage events per second through `dual_write`, component and twin, on embedded and on real stores.

use std::sync::Arc;
use std::time::Duration;

use switchyard::store::memory::Memory;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::store::sqlite::Sqlite;
use switchyard::store::{Mark, Store, Usage, UsageEvent};
use switchyard_tests::servers;

use crate::load;
use crate::stage::Stage;
use crate::twin;

const TIME: Duration = Duration::from_secs(2);
const IN_FLIGHT: usize = 64;

fn event(turn: &str, n: u64) -> UsageEvent {
    UsageEvent {
        id: format!("{turn}-{n}"),
        key_id: format!("key-{}", n % 100),
        account_id: None,
        model: "claude-sonnet".into(),
        at: "2026-01-02T03:04:05Z".parse().expect("a time"),
        input_tokens: 1_000,
        output_tokens: 200,
        cache_creation_5m_tokens: 0,
        cache_creation_1h_tokens: 0,
        cache_read_tokens: 5_000,
        cost_micro_usd: 6_000,
        request_id: None,
        partial: false,
    }
}

async fn events(name: &str, batch: u64, store: Arc<dyn Store>) {
    let turn: Arc<str> = format!("{name}-{batch}").into();
    let name = format!("{name}, {batch} a call");
    let mut measured = load::run(&name, IN_FLIGHT, TIME, move |n| {
        let (store, turn) = (store.clone(), turn.clone());
        async move {
            let events = (0..batch).map(|i| event(&turn, n * batch + i)).collect();
            let usage = Usage::new(events, jiff_utc(), Mark::Dirty);
            store.add(&usage).await.is_ok() && usage.receipts.both() && usage.recorded() == batch
        }
    })
    .await;
    measured.per_second *= batch as f64;
    measured.print(None);
}

fn jiff_utc() -> jiff::tz::Offset {
    jiff::tz::Offset::UTC
}

pub async fn run() -> anyhow::Result<()> {
    println!("Usage events recorded in both stores, {IN_FLIGHT} calls in flight, {TIME:?} each (events/s)");
    let folder = tempfile::tempdir()?;
    let sqlite = Sqlite::open(folder.path(), Duration::from_secs(1)).await?;
    let embedded = Stage::new(Arc::new(Memory::new(1 << 30)), Arc::new(sqlite)).await?;
    let server = servers::Redis::start();
    let redis = Redis::connect(RedisSettings::new(server.url())).await?;
    let url = servers::Postgres::shared().database().await;
    let postgres = Postgres::connect(PostgresSettings::new(url))?;
    let real = Stage::new(Arc::new(redis), Arc::new(postgres)).await?;
    for (where_, stage) in [("embedded", &embedded), ("Redis and PostgreSQL", &real)] {
        for batch in [1, 100] {
            events(&format!("twin, {where_}"), batch, twin::dual_write(&stage.sides)).await;
            events(&format!("component, {where_}"), batch, stage.component("dual_write").await?).await;
        }
    }
    Ok(())
}
