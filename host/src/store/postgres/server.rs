//! A real PostgreSQL server for the tests, on a free port, with its data in a temporary folder.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

/// Who runs the server, which refuses to be root.
const NOBODY: u32 = 65534;

/// Waits for its standard input to end, as it does when the tests' process dies in whatever way, and then
/// leaves nothing behind.
const KEEPER: &str = r#"
read -r _
kill -CONT $(head -n 1 "$2/postmaster.pid")
"$1" -D "$2" -m immediate -w stop
rm -rf "$2"
"#;

pub(super) struct Server {
    pub(super) port: u16,
    programs: PathBuf,
    data: PathBuf,
    keeper: Child,
    databases: AtomicU32,
}

impl Server {
    /// The server that all tests of this process share, except those that stop theirs.
    pub(super) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub(super) fn start() -> Self {
        let programs = programs();
        let data = tempfile::Builder::new().prefix("switchyard-postgres-").tempdir().unwrap().keep();
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
        if is_root() {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let keeper = as_nobody("sh")
            .args(["-c", KEEPER, "sh"])
            .args([&programs.join("pg_ctl"), &data])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { port, programs, data, keeper, databases: AtomicU32::new(0) };
        server.run("initdb", &["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]);
        drop(free);
        server.restart();
        server
    }

    /// The URL of a new, empty database.
    pub(super) async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        execute(&self.url("postgres"), &format!("create database {name}")).await;
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Starts the server; one that runs is ended before, as a crash does.
    pub(super) fn restart(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off",
            self.port
        );
        self.run("pg_ctl", &["-m", "immediate", "-w", "-o", &options, "-l", "/dev/null", "restart"]);
    }

    /// Makes the server speak TLS, and answers the file with the certificate that vouches for it.
    pub(super) fn speak_tls(&self) -> PathBuf {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let files = [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())];
        for (name, text) in files {
            let file = self.data.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            if is_root() {
                chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        std::fs::write(self.data.join("postgresql.auto.conf"), "ssl = on\n").unwrap();
        self.restart();
        self.data.join("server.crt")
    }

    /// Ends the server as a crash does.
    pub(super) fn crash(&self) {
        self.run("pg_ctl", &["-m", "immediate", "-w", "stop"]);
    }

    /// Stops every process of the server where it is, until the answer is dropped.
    pub(super) fn freeze(&self) -> Frozen {
        let pid = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        let postmaster = pid.lines().next().unwrap().to_owned();
        // The one that makes new processes first.
        signal("-STOP", &postmaster);
        let mut pids = vec![postmaster.clone()];
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            // PID (NAME) STATE PARENT
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if parent == Some(&postmaster) {
                let pid = process.file_name().into_string().unwrap();
                signal("-STOP", &pid);
                pids.push(pid);
            }
        }
        Frozen(pids)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = as_nobody(self.programs.join(program).to_str().unwrap());
        let status = command
            .arg("-D")
            .arg(&self.data)
            .args(arguments)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The processes of a server that does not move.
pub(super) struct Frozen(Vec<String>);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal("-CONT", pid));
    }
}

fn signal(signal: &str, pid: &str) {
    let _ = Command::new("kill").args([signal, pid]).stderr(Stdio::null()).status();
}

/// Runs statements outside of the store.
pub(super) async fn execute(url: &str, statements: &str) {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    connection.execute(AssertSqlSafe(statements)).await.unwrap();
}

/// A number that a statement answers, outside of the store.
pub(super) async fn number(url: &str, statement: &str) -> i64 {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut connection).await.unwrap()
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

fn as_nobody(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
    command
}

/// The folder of the newest server installed.
fn programs() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.splice(0..0, std::env::split_paths(&path));
    let has_server = |folder: &PathBuf| Path::new(folder).join("initdb").exists();
    folders
        .into_iter()
        .rfind(has_server)
        .expect("these tests need a PostgreSQL server; run: apt-get install postgresql")
}
