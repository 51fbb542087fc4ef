//! Does a fault to the stage, and undoes it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use switchyard_tests::proxy;
use tokio::task::block_in_place;

use crate::fault::{Fault, Target};
use crate::history::Loss;
use crate::stage::{Disk, Stage, Store};
use crate::truth;

/// How long a command to a store may take: it may be ill from another fault.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for what only makes an excuse smaller.
const VERSIONS: Duration = Duration::from_secs(1);
/// How often a setting is taken back until that has worked.
const TRIES: usize = 5;

/// What must be kept until the fault is healed, and what the checker must know of it.
#[derive(Default)]
pub struct Inflicted {
    pub loss: Option<Loss>,
    /// Redis has crashed: its late class may have lost something.
    pub crashed: bool,
    connections: Vec<PgConnection>,
}

/// Does it.
///
/// # Errors
/// When a store would not be told; nothing has happened then that heals badly.
pub async fn inflict(stage: &mut Stage, fault: Fault) -> Result<Inflicted> {
    let mut done = Inflicted::default();
    match fault {
        Fault::Kill(target) => {
            done.crashed = target == Target::Store(Store::Redis);
            block_in_place(|| kill(stage, target));
        }
        Fault::Pause(target) => block_in_place(|| pause(stage, target)),
        Fault::Restart(host) => block_in_place(|| {
            let process = &mut stage.hosts[host].process;
            process.stop();
            process.start_again();
        }),
        Fault::KillBackend => {
            let one = "select pg_terminate_backend(pid) from pg_stat_activity \
                       where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1";
            sql(stage, one).await?;
        }
        Fault::Net(host, store, fault) => set_proxies(stage, host, store, fault),
        Fault::FullDisk(store) => disk(stage, store).as_ref().context("no right to mount a disk")?.fill()?,
        Fault::MaxMemory => config(stage, &["maxmemory", "1mb"]).await?,
        Fault::Misconf => misconf(stage).await?,
        Fault::ReadOnly => {
            sql(stage, "alter system set default_transaction_read_only = on").await?;
            sql(stage, "select pg_reload_conf()").await?;
        }
        Fault::Connections => {
            done.connections = use_up_connections(stage).await;
            ensure!(!done.connections.is_empty(), "PostgreSQL gave none");
        }
        Fault::ScriptFlush => command(stage, &["SCRIPT", "FLUSH"]).await?,
        Fault::FlushAll => {
            done.loss = Some(only_in_redis(stage, true).await?);
        }
        Fault::OlderData => {
            done.loss = Some(only_in_redis(stage, false).await?);
            done.crashed = true;
            block_in_place(|| stage.redis.kill());
        }
        Fault::SlowFsync(store, ms) => shim(stage, store).slow_fsync(Duration::from_millis(ms)),
        Fault::Clock(host, ms) => stage.hosts[host].shim.step_clock(ms),
        // The run does these: they need a caller.
        Fault::Switches | Fault::Admin(_) => {}
    }
    Ok(done)
}

/// Undoes it.
///
/// # Errors
/// When a store does not take a setting back, though it had some time.
pub async fn heal(stage: &mut Stage, fault: Fault, done: Inflicted) -> Result<()> {
    drop(done);
    for _ in 1..TRIES {
        if undo(stage, fault).await.is_ok() {
            return Ok(());
        }
        // It may still be ill from another fault; a setting that stays would be one that nobody knows of.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    undo(stage, fault).await
}

async fn undo(stage: &mut Stage, fault: Fault) -> Result<()> {
    match fault {
        Fault::Kill(target) => block_in_place(|| start(stage, target)),
        Fault::Pause(target) => block_in_place(|| resume(stage, target)),
        Fault::Net(host, store, _) => set_proxies(stage, host, store, proxy::Fault::Pass),
        Fault::FullDisk(store) => {
            disk(stage, store).iter().for_each(Disk::free);
            block_in_place(|| start_if_ended(stage, store));
        }
        Fault::MaxMemory => config(stage, &["maxmemory", "0"]).await?,
        Fault::Misconf => {
            config(stage, &["stop-writes-on-bgsave-error", "no"]).await?;
            config(stage, &["save", ""]).await?;
        }
        Fault::ReadOnly => {
            sql(
                stage,
                "set default_transaction_read_only = off; alter system reset default_transaction_read_only",
            )
            .await?;
            sql(stage, "select pg_reload_conf()").await?;
        }
        Fault::OlderData => block_in_place(|| stage.return_to_older()),
        Fault::SlowFsync(store, _) => shim(stage, store).slow_fsync(Duration::ZERO),
        Fault::Clock(host, _) => stage.hosts[host].shim.step_clock(0),
        Fault::Restart(_)
        | Fault::KillBackend
        | Fault::Connections
        | Fault::ScriptFlush
        | Fault::FlushAll
        | Fault::Switches
        | Fault::Admin(_) => {}
    }
    Ok(())
}

async fn only_in_redis(stage: &Stage, destroy: bool) -> Result<Loss> {
    // One that does not answer may lack everything that is marked.
    let had = tokio::time::timeout(VERSIONS, truth::versions(&stage.postgres.url())).await;
    let had = had.ok().and_then(Result::ok).unwrap_or_default();
    tokio::time::timeout(PATIENCE, truth::only_in_redis(&stage.redis.url(), &had, destroy)).await?
}

pub fn kill(stage: &mut Stage, target: Target) {
    match target {
        Target::Host(host) => stage.hosts[host].process.kill(),
        Target::Store(Store::Redis) => stage.redis.kill(),
        Target::Store(Store::Postgres) => stage.postgres.kill(),
    }
}

pub fn start(stage: &mut Stage, target: Target) {
    match target {
        Target::Host(host) => stage.hosts[host].process.start_again(),
        Target::Store(Store::Redis) => stage.redis.start_again(),
        Target::Store(Store::Postgres) => stage.postgres.start_again(),
    }
}

fn pause(stage: &mut Stage, target: Target) {
    match target {
        Target::Host(host) => stage.hosts[host].process.pause(),
        Target::Store(Store::Redis) => stage.redis.pause(),
        Target::Store(Store::Postgres) => stage.postgres.pause(),
    }
}

fn resume(stage: &mut Stage, target: Target) {
    match target {
        Target::Host(host) => stage.hosts[host].process.resume(),
        Target::Store(Store::Redis) => stage.redis.resume(),
        Target::Store(Store::Postgres) => stage.postgres.resume(),
    }
}

/// A full disk may have ended it.
fn start_if_ended(stage: &mut Stage, store: Store) {
    match store {
        Store::Redis if !stage.redis.runs() => stage.redis.start_again(),
        Store::Postgres if !stage.postgres.runs() => stage.postgres.start_again(),
        _ => {}
    }
}

fn set_proxies(stage: &Stage, host: Option<usize>, store: Store, fault: proxy::Fault) {
    let concerned = |number: &usize| host.is_none_or(|host| host == *number);
    let hosts = stage.hosts.iter().enumerate().filter(|(number, _)| concerned(number));
    hosts.for_each(|(_, host)| host.to(store).set(fault));
}

fn disk(stage: &Stage, store: Store) -> &Option<Disk> {
    match store {
        Store::Redis => &stage.redis_disk,
        Store::Postgres => &stage.postgres_disk,
    }
}

fn shim(stage: &Stage, store: Store) -> &switchyard_tests::shim::Shim {
    match store {
        Store::Redis => &stage.redis_shim,
        Store::Postgres => &stage.postgres_shim,
    }
}

/// Redis refuses writes after a save has failed: its folder for saving is none.
async fn misconf(stage: &Stage) -> Result<()> {
    config(stage, &["stop-writes-on-bgsave-error", "yes"]).await?;
    config(stage, &["save", "3600 1"]).await?;
    let folder = stage.redis.data().with_file_name("dump.rdb");
    // A folder in the place of the file makes the save fail.
    let _ = std::fs::create_dir(&folder);
    let _ = std::fs::write(folder.join("in the way"), b"");
    // While the append-only file is rewritten it waits for that.
    command(stage, &["BGSAVE", "SCHEDULE"]).await
}

async fn config(stage: &Stage, setting: &[&str]) -> Result<()> {
    command(stage, &[&["CONFIG", "SET"], setting].concat()).await
}

async fn command(stage: &Stage, words: &[&str]) -> Result<()> {
    let run = async {
        let mut redis = truth::connect(&stage.redis.url()).await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec_async(&mut redis).await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, run).await?
}

async fn sql(stage: &Stage, statement: &str) -> Result<()> {
    let run = async {
        let mut postgres = PgConnection::connect(&stage.postgres.url()).await?;
        // One by one: some cannot be part of a transaction.
        for statement in statement.split(';') {
            sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut postgres).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, run).await?
}

/// Takes what is free, ends the others' connections, and takes those.
async fn use_up_connections(stage: &Stage) -> Vec<PgConnection> {
    let url = stage.postgres.url();
    let mut taken = Vec::new();
    for round in 0..2 {
        while let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, PgConnection::connect(&url)).await {
            taken.push(connection);
        }
        let Some(first) = taken.first_mut().filter(|_| round == 0) else { break };
        let others = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' \
                      and application_name = 'switchyard'";
        let _ = sqlx::query(others).execute(first).await;
    }
    taken
}
