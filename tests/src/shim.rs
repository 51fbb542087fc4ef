//! Slow disks and wrong clocks for one process: a small library that is preloaded into it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::servers::{Watch, program};

const SOURCE: &str = include_str!("shim.c");

/// What one process, and the processes it starts, see of their disk and of the time.
pub struct Shim {
    state: File,
    folder: TempDir,
}

impl Shim {
    /// One that changes nothing yet.
    ///
    /// # Panics
    /// Without a C compiler, naming the package that has it.
    pub fn new() -> Self {
        let folder = readable_folder();
        let path = folder.path().join("state");
        fs::write(&path, [0; 16]).expect("the state's file");
        let state = File::options().write(true).open(&path).expect("the state's file");
        Self { state, folder }
    }

    /// What a process must have in its environment from its start.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let state = self.folder.path().join("state");
        vec![("LD_PRELOAD".into(), library().into()), ("SWITCHYARD_SHIM".into(), state.into())]
    }

    /// From now on each fsync takes this much longer.
    pub fn slow_fsync(&self, by: Duration) {
        self.set(0, by.as_millis() as i64);
    }

    /// From now on the wall clock is off by this many milliseconds; the monotonic one is not.
    pub fn step_clock(&self, ms: i64) {
        self.set(8, ms);
    }

    fn set(&self, at: u64, value: i64) {
        self.state.write_all_at(&value.to_ne_bytes(), at).expect("the state's file");
    }
}

impl Default for Shim {
    fn default() -> Self {
        Self::new()
    }
}

/// The library, compiled once per process.
fn library() -> PathBuf {
    static LIBRARY: OnceLock<(PathBuf, TempDir, Watch)> = OnceLock::new();
    let (library, ..) = LIBRARY.get_or_init(|| {
        let folder = readable_folder();
        let watch = Watch::over(folder.path());
        let (source, library) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
        fs::write(&source, SOURCE).expect("the source's file");
        let mut compiler = Command::new(program("cc", "gcc libc6-dev"));
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
        let output = compiler.arg("-ldl").output().expect("running cc");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler:?} failed; apt-get install gcc libc6-dev\n{errors}");
        (library, folder, watch)
    });
    library.clone()
}

/// PostgreSQL does not run as root, and must be able to read it.
fn readable_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("switchyard-shim-").tempdir_in("/tmp").expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("the folder's mode");
    folder
}
