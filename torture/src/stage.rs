//! The real processes: hosts, Redis, PostgreSQL, and a proxy between each host and each store.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use switchyard_tests::proxy::{Fault, Proxy};
use switchyard_tests::servers::{Postgres, Redis, Setup, Switchyard, copy_folder};
use switchyard_tests::shim::Shim;

use crate::call::Caller;

/// Size of the disk of each store, when it has one of its own, in MiB.
const DISK_MIB: u32 = 768;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    Redis,
    Postgres,
}

pub struct Host {
    pub process: Switchyard,
    pub shim: Shim,
    redis: Proxy,
    postgres: Proxy,
}

impl Host {
    /// The proxy to a store.
    pub fn to(&self, store: Store) -> &Proxy {
        match store {
            Store::Redis => &self.redis,
            Store::Postgres => &self.postgres,
        }
    }
}

/// What the processes are started as.
#[derive(Debug, Clone)]
pub struct Cast {
    pub hosts: usize,
    /// The program of the hosts.
    pub program: PathBuf,
    /// Its environment, such as which fault is planted in it.
    pub environment: Vec<(String, std::ffi::OsString)>,
    pub appendfsync: &'static str,
}

/// Fields are dropped in order: the hosts first.
pub struct Stage {
    pub hosts: Vec<Host>,
    pub redis: Redis,
    pub postgres: Postgres,
    pub redis_shim: Shim,
    pub postgres_shim: Shim,
    pub redis_disk: Option<Disk>,
    pub postgres_disk: Option<Disk>,
    /// A copy of what Redis had on disk a while ago.
    pub older: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Starts everything and waits until it answers.
    ///
    /// # Errors
    /// When a proxy has no port.
    pub async fn start(cast: &Cast) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (redis_disk, postgres_disk) = (Disk::new(), Disk::new());
        let (redis_shim, postgres_shim) = (Shim::new(), Shim::new());
        let parent = |disk: &Option<Disk>| disk.as_ref().map(|disk| disk.folder().to_owned());
        let redis = Redis::start_as(&Setup {
            arguments: ["--appendfsync", cast.appendfsync].map(str::to_owned).to_vec(),
            environment: redis_shim.environment(),
            parent: parent(&redis_disk),
            program: None,
        });
        // Little log, so that a small disk will do; few connections, so that they can be used up.
        let settings = ["max_connections=50", "max_wal_size=64MB", "min_wal_size=32MB"];
        let postgres = Postgres::start_as(&Setup {
            arguments: settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]).collect(),
            environment: postgres_shim.environment(),
            parent: parent(&postgres_disk),
            program: None,
        });
        let mut hosts = Vec::new();
        for node in 0..cast.hosts {
            hosts.push(host(node, cast, &redis, &postgres).await?);
        }
        let older = folder.path().join("older");
        let stage = Self {
            hosts,
            redis,
            postgres,
            redis_shim,
            postgres_shim,
            redis_disk,
            postgres_disk,
            older,
            _folder: folder,
        };
        Ok(stage)
    }

    pub fn caller(&self) -> Result<Caller> {
        Caller::new(self.hosts.iter().map(|host| host.process.client().base).collect())
    }

    /// Keeps a copy of what Redis has on disk now.
    pub fn keep_older(&self) {
        copy_folder(&self.redis.data(), &self.older);
    }

    /// Starts the ended Redis again on what it had on disk when that was last kept.
    pub fn return_to_older(&mut self) {
        copy_folder(&self.older, &self.redis.data());
        self.redis.start_again();
    }
}

async fn host(node: usize, cast: &Cast, redis: &Redis, postgres: &Postgres) -> Result<Host> {
    let (to_redis, to_postgres) = (Proxy::start(redis.port()).await?, Proxy::start(postgres.port()).await?);
    let urls = [
        format!("redis://127.0.0.1:{}/0", to_redis.port()),
        format!("postgres://postgres@127.0.0.1:{}/postgres", to_postgres.port()),
    ];
    let name = format!("node-{node}");
    let arguments =
        ["--redis-url", &urls[0], "--postgres-url", &urls[1], "--node-id", &name, "--log", "warn"];
    let shim = Shim::new();
    let environment = [shim.environment(), cast.environment.clone()].concat();
    let arguments = arguments.map(str::to_owned).to_vec();
    let setup = Setup { arguments, environment, parent: None, program: Some(cast.program.clone()) };
    let process = tokio::task::block_in_place(|| Switchyard::start_as(&setup));
    Ok(Host { process, shim, redis: to_redis, postgres: to_postgres })
}

impl Stage {
    /// Ends every fault that a proxy, a disk or a clock can have, and starts what does not run.
    pub fn heal(&mut self) {
        for host in &mut self.hosts {
            host.to(Store::Redis).set(Fault::Pass);
            host.to(Store::Postgres).set(Fault::Pass);
            host.shim.step_clock(0);
            if !host.process.runs() {
                host.process.start_again();
            }
        }
        for (shim, disk) in [(&self.redis_shim, &self.redis_disk), (&self.postgres_shim, &self.postgres_disk)]
        {
            shim.slow_fsync(std::time::Duration::ZERO);
            disk.iter().for_each(Disk::free);
        }
        if !self.redis.runs() {
            self.redis.start_again();
        }
        if !self.postgres.runs() {
            self.postgres.start_again();
        }
    }
}

/// A file system in memory, so large and no larger.
pub struct Disk {
    folder: tempfile::TempDir,
}

/// Takes mounts of its own for this process, so that they end with it, whatever ends it. To be called
/// before there are threads. False without the rights to do so.
pub fn own_mounts() -> bool {
    // SAFETY: unshare takes flags only; it concerns the calling thread, which is the only one.
    let alone = unsafe { libc::geteuid() == 0 && libc::unshare(libc::CLONE_NEWNS) == 0 };
    alone && mount(&["--make-rprivate", "/"])
}

fn mount(arguments: &[&str]) -> bool {
    Command::new("mount").args(arguments).status().is_ok_and(|status| status.success())
}

impl Disk {
    /// None without the rights to mount one.
    fn new() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("switchyard-disk-").tempdir_in("/tmp").ok()?;
        let size = format!("size={DISK_MIB}m,mode=755");
        let path = folder.path().to_str()?;
        let mounted = HAS_MOUNTS.get().copied().unwrap_or(false)
            && mount(&["-t", "tmpfs", "-o", &size, "torture", path]);
        mounted.then_some(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    /// When the file that fills it cannot be made.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.filler()).context("filling a disk")?;
        let megabyte = vec![0; 1 << 20];
        // Ends with the error that is wanted.
        while file.write_all(&megabyte).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
        Ok(())
    }

    pub fn free(&self) {
        // It may not be there.
        let _ = std::fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is still busy goes with the process.
        let _ = Command::new("umount").args(["--lazy"]).arg(self.folder.path()).status();
    }
}

/// Whether [`own_mounts`] has succeeded.
pub static HAS_MOUNTS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
