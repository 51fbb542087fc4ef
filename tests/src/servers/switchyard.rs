//! The program itself, as a process of its own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::Setup;
use super::process::Process;
use super::watch::Watch;
use crate::host::{Client, TOKEN, share_secret};

/// A `switchyard serve` with a data folder of its own, on the same port in all its lives.
pub struct Switchyard {
    process: Process,
    /// Removed after the process has ended, because fields are dropped in order.
    folder: TempDir,
}

impl Switchyard {
    /// Starts one with these flags, without any variable of ours, and waits until it is alive.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_as(&Setup::with_arguments(flags))
    }

    pub fn start_as(setup: &Setup) -> Self {
        let folder = setup.folder("switchyard-");
        let (data, watch, setup) = (folder.path().join("data"), Watch::over(folder.path()), setup.clone());
        share_secret(&data);
        let program = setup.program.clone().unwrap_or_else(Self::built);
        let command = move |port| {
            let mut command = empty(&program);
            command.args(["serve", "--admin-token", TOKEN, "--listen", &format!("127.0.0.1:{port}")]);
            command.arg("--data").arg(&data);
            setup.apply(&mut command);
            command
        };
        Self { process: Process::start(folder.path(), watch, command, answers), folder }
    }

    /// The program that is built beside the tests, with an empty environment.
    pub fn program() -> Command {
        empty(&Self::built())
    }

    fn built() -> PathBuf {
        let tests = std::env::current_exe().expect("the path of the tests");
        let built = tests.parent().and_then(Path::parent).expect("the folder of the build");
        let program = built.join("switchyard");
        assert!(program.is_file(), "no {}; run: cargo build -p switchyard", program.display());
        program
    }

    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.process.port()))
    }

    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to end, and does not wait.
    pub fn terminate(&self) {
        self.process.signal(libc::SIGTERM);
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.process.end(libc::SIGTERM)
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Whether its process runs, be it stopped.
    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// Starts the ended one again, with the same flags and data, and waits until it is alive.
    pub fn start_again(&mut self) {
        self.process.start_again();
    }
}

fn empty(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = [0; 16];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
