//! Lookups by id in PostgreSQL: component and twin of `postgres_only`, the sqlx pool, and pgbench.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::Row;
use sqlx::postgres::PgPoolOptions;
use switchyard::store::Store;
use switchyard::store::memory::Memory;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard_tests::servers;

use crate::load::{self, Measured, better};
use crate::stage::{self, RECORDS, Stage};
use crate::twin;

const TIME: Duration = Duration::from_secs(2);
const IN_FLIGHT: usize = 64;

async fn lookups(name: &str, store: &Arc<dyn Store>) -> Measured {
    let store = store.clone();
    load::run(name, IN_FLIGHT, TIME, move |n| {
        let store = store.clone();
        async move { store.get(&stage::name(n * 7_919 % RECORDS)).await.is_ok_and(|found| found.is_some()) }
    })
    .await
}

async fn pool(pool: &sqlx::PgPool) -> Measured {
    let pool = pool.clone();
    load::run("sqlx pool of 8, same columns", IN_FLIGHT, TIME, move |n| {
        let pool = pool.clone();
        async move {
            let id = format!("key-{:08}", n * 7_919 % RECORDS);
            let row =
                sqlx::query("select version, deleted, expires_at, fields::text from api_key where id = $1")
                    .bind(id)
                    .fetch_one(&pool)
                    .await;
            row.is_ok_and(|row| row.try_get::<String, _>(3).is_ok())
        }
    })
    .await
}

/// Transactions per second of `pgbench -S -M prepared` at the same concurrency.
fn pgbench(url: &str) -> anyhow::Result<f64> {
    let program = ["/usr/lib/postgresql", "/usr/local/lib/postgresql"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin/pgbench")))
        .find(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("pgbench"));
    let run = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(&program).args(arguments).arg(url).output();
        let output = output.context("pgbench; install it with: apt-get install postgresql-contrib")?;
        anyhow::ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    run(&["-i", "-q", "-s", "1"])?;
    let in_flight = IN_FLIGHT.to_string();
    let report = run(&["-S", "-M", "prepared", "-c", &in_flight, "-j", "2", "-T", "2"])?;
    let tps = report.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next());
    tps.and_then(|tps| tps.parse().ok()).context("pgbench printed no rate")
}

pub async fn run() -> anyhow::Result<()> {
    println!("PostgreSQL lookups by id, {IN_FLIGHT} in flight, the better of two turns of {TIME:?}");
    let url = servers::Postgres::shared().database().await;
    let postgres = Postgres::connect(PostgresSettings::new(url.clone()))?;
    let stage = Stage::new(Arc::new(Memory::new(1 << 28)), Arc::new(postgres)).await?;
    stage::fill(&**stage.sides.postgres.as_ref().context("a PostgreSQL side")?).await?;
    let connections = PgPoolOptions::new().max_connections(8).connect(&url).await?;
    let (twin, component) = (twin::postgres_only(&stage.sides), stage.component("postgres_only").await?);
    let mut best: Option<[Measured; 3]> = None;
    let mut tps: f64 = 0.0;
    for _ in 0..2 {
        let turn =
            [pool(&connections).await, lookups("twin", &twin).await, lookups("component", &component).await];
        tps = tps.max(pgbench(&url)?);
        best = Some(match best {
            None => turn,
            Some([a, b, c]) => {
                let [x, y, z] = turn;
                [better(a, x), better(b, y), better(c, z)]
            }
        });
    }
    let best = best.context("a turn")?;
    best.iter().for_each(|line| line.print(Some(&best[0])));
    let ratio = best[2].per_second / tps;
    println!("  {:<44} {tps:>9.0}/s  the component has {ratio:.2} of it", "pgbench -S -M prepared -c 64");
    Ok(())
}
