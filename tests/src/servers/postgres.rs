//! A real PostgreSQL.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::process::Process;
use super::watch::Watch;
use super::{Setup, program};

/// PostgreSQL refuses to run as root: this is `nobody`.
const UNPRIVILEGED: u32 = 65_534;

/// A PostgreSQL server of its own, with `fsync` on and no password.
pub struct Postgres {
    process: Process,
    databases: AtomicU64,
    /// Removed after the process has ended, because fields are dropped in order.
    folder: TempDir,
}

impl Postgres {
    /// The one that tests share which only need a database. It ends with the test process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        Self::start_as(&Setup::default())
    }

    pub fn start_as(setup: &Setup) -> Self {
        let folder = folder(setup.parent.as_deref());
        let watch = Watch::over(folder.path());
        run(unprivileged(Command::new("cp").arg("-R").arg(template()).arg(folder.path().join("data"))));
        let (path, setup) = (folder.path().to_owned(), setup.clone());
        let command = move |port| command(&path, port, &setup);
        let process = Process::start(folder.path(), watch, command, answers);
        Self { process, databases: AtomicU64::new(0), folder }
    }

    /// Where it keeps everything.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Whether its process runs, be it stopped.
    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url()).await.expect("connecting to PostgreSQL");
        let create = sqlx::AssertSqlSafe(format!("create database {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.expect("creating a database");
        self.url_of(&name)
    }

    pub fn port(&self) -> u16 {
        self.process.port()
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// Ends it in good order, closing every connection.
    pub fn stop(&mut self) {
        self.process.end(libc::SIGINT);
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it with all its sessions: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Starts the ended one again, on the same port and data.
    pub fn start_again(&mut self) {
        self.process.start_again();
    }

    /// Copies what the ended server has on disk, in place of an earlier copy.
    pub fn keep(&self) {
        self.copy("data", "kept");
    }

    /// Puts back what was kept in place of what the ended server has.
    pub fn put_back(&self) {
        self.copy("kept", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|name| self.folder.path().join(name));
        if to.exists() {
            fs::remove_dir_all(&to).expect("removing the data");
        }
        run(unprivileged(Command::new("cp").arg("-R").arg(from).arg(to)));
    }

    /// Ends it in good order, if it still runs, and starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.stop();
        self.process.start_again();
    }
}

/// A data folder as `initdb` leaves it, made once per process: a copy is ten times as fast.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(PathBuf, TempDir, Watch)> = OnceLock::new();
    let (data, ..) = TEMPLATE.get_or_init(|| {
        let folder = folder(None);
        let (watch, data) = (Watch::over(folder.path()), folder.path().join("data"));
        let mut initdb = Command::new(program("initdb", "postgresql"));
        initdb.arg("--pgdata").arg(&data);
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        // An order of text that is not the order of bytes shows a query that forgot to ask for the latter.
        initdb.args(["--locale-provider=icu", "--icu-locale=en"]);
        run(unprivileged(&mut initdb));
        (data, folder, watch)
    });
    data
}

fn command(folder: &Path, port: u16, setup: &Setup) -> Command {
    let mut command = Command::new(program("postgres", "postgresql"));
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    let sockets = format!("unix_socket_directories={}", folder.display());
    for setting in ["listen_addresses=127.0.0.1", "fsync=on", "max_connections=200", &sockets] {
        command.args(["-c", setting]);
    }
    setup.apply(&mut command);
    unprivileged(&mut command);
    command
}

fn answers(port: u16) -> bool {
    let mut ask = Command::new(program("pg_isready", "postgresql"));
    ask.args(["--quiet", "--host=127.0.0.1", "--timeout=1", &format!("--port={port}")]);
    ask.status().is_ok_and(|status| status.success())
}

/// An empty folder that the server's user owns and can reach.
fn folder(parent: Option<&Path>) -> TempDir {
    // Below /tmp for root, whose own temporary folder others may not be able to reach.
    let usual = || if is_root() { "/tmp".into() } else { std::env::temp_dir() };
    let parent = parent.map_or_else(usual, Path::to_owned);
    let folder =
        tempfile::Builder::new().prefix("switchyard-postgres-").tempdir_in(parent).expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("the folder's mode");
    if is_root() {
        chown(folder.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("the folder's owner");
    }
    folder
}

/// Drops the rights of root, which std does with all further groups of its own accord.
fn unprivileged(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command.current_dir("/")
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{errors}");
}
