//! Real servers on free ports of 127.0.0.1, in a temporary folder each. Linux only.
//!
//! A server ends when its value is dropped, and also when the test process is killed: see [`watch`].

mod postgres;
mod process;
mod redis;
mod switchyard;
mod watch;

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub use postgres::Postgres;
pub use redis::{Kept, Redis};
pub use switchyard::Switchyard;
pub(crate) use watch::Watch;

/// How long a server may take to start or to end.
const DEADLINE: Duration = Duration::from_secs(30);

/// Debian keeps the server programs of PostgreSQL out of the search path.
const VERSIONED: &str = "/usr/lib/postgresql";

/// What a server is started with beyond its defaults, in all its lives.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, OsString)>,
    /// Where its folder is made, if not among the temporary ones.
    pub parent: Option<PathBuf>,
    /// The program, if not the one that is found by itself.
    pub program: Option<PathBuf>,
}

impl Setup {
    pub fn with_arguments(arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(), ..Self::default() }
    }

    fn folder(&self, prefix: &str) -> tempfile::TempDir {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(prefix);
        let made =
            self.parent.as_ref().map_or_else(|| builder.tempdir(), |parent| builder.tempdir_in(parent));
        made.expect("a folder")
    }

    fn apply(&self, command: &mut Command) {
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}

/// Makes `to` what `from` is now: files, folders, owners and modes.
///
/// # Panics
/// When something cannot be copied or removed.
pub fn copy_folder(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("removing the older copy");
    }
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "copying {}", from.display());
}

/// The path of a program; a panic that says what installs it if there is none.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let listed = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    listed.or_else(|| newest(name)).unwrap_or_else(|| {
        panic!("the tests need {name}; run `make install-tools`, or: apt-get install {package}")
    })
}

/// The program of the newest PostgreSQL that Debian's packages have installed.
fn newest(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONED).ok()?.flatten().map(|entry| entry.path());
    let number = |path: &PathBuf| path.file_name().and_then(OsStr::to_str)?.parse::<u32>().ok();
    let installed = versions.filter(|version| version.join("bin").join(name).is_file());
    installed.max_by_key(number).map(|version| version.join("bin").join(name))
}

/// A port that was free a moment ago. Whoever starts a server on it tries again if it no longer is.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("the port").port()
}

/// Asks every few milliseconds until the answer is yes; false when the deadline has passed.
fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < DEADLINE {
        if done() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}
