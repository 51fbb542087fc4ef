//! One server process: started, stopped, paused and killed by its id.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::watch::Watch;
use super::{free_port, wait_until};

/// Ports are taken by others now and then between choosing and using one.
const PORTS_TRIED: u32 = 5;
/// How often a server is started again before that counts as failed.
const RESTARTS: u32 = 20;

pub(super) struct Process {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
    watch: Watch,
    command: Box<dyn Fn(u16) -> Command + Send + Sync>,
    ready: fn(u16) -> bool,
}

impl Process {
    /// Starts a server that keeps everything in `folder`, and waits until it answers.
    pub(super) fn start(
        folder: &Path,
        watch: Watch,
        command: impl Fn(u16) -> Command + Send + Sync + 'static,
        ready: fn(u16) -> bool,
    ) -> Self {
        let (folder, command) = (folder.to_owned(), Box::new(command));
        let mut process = Self { folder, port: 0, child: None, watch, command, ready };
        for _ in 0..PORTS_TRIED {
            process.port = free_port();
            if process.try_start() {
                return process;
            }
        }
        panic!("the server does not start:\n{}", process.log());
    }

    /// The number of the process; 0 while there is none.
    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Starts the ended server again, on the same port and data.
    pub(super) fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server still runs");
        // PostgreSQL refuses while a process of the run that was killed still ends.
        assert!((0..RESTARTS).any(|_| self.try_start()), "the server does not start again:\n{}", self.log());
    }

    fn try_start(&mut self) -> bool {
        let log = File::options().create(true).append(true).open(self.log_file()).expect("the log file");
        let mut command = (self.command)(self.port);
        let errors = log.try_clone().expect("the log file");
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        self.watch.set(&[child.id()]);
        let child = self.child.insert(child);
        let (ready, port) = (self.ready, self.port);
        let mut ended = false;
        wait_until(|| {
            ended = !matches!(child.try_wait(), Ok(None));
            ended || ready(port)
        });
        if ended || !ready(port) {
            self.signal_all(libc::SIGKILL);
            self.wait();
            return false;
        }
        true
    }

    /// Sends the main process a signal.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(child) = &self.child {
            send(child.id(), signal);
        }
    }

    /// Sends the main process a signal and waits for its end. None if it had ended before.
    pub(super) fn end(&mut self, signal: i32) -> Option<ExitStatus> {
        self.signal(signal);
        self.wait()
    }

    /// Sends the main process and then all of its children a signal.
    pub(super) fn signal_all(&mut self, signal: i32) -> Vec<u32> {
        let Some(child) = &self.child else { return Vec::new() };
        let main = child.id();
        // A stopped one starts no more children; those of a dead one are nobody's, and would not be found.
        send(main, libc::SIGSTOP);
        let children = children(main);
        send(main, signal);
        children.iter().for_each(|pid| send(*pid, signal));
        [vec![main], children].concat()
    }

    /// Ends everything at once, as a crash does.
    pub(super) fn kill(&mut self) {
        let pids = self.signal_all(libc::SIGKILL);
        self.wait();
        assert!(wait_until(|| !pids.iter().any(|pid| runs(*pid))), "a killed server runs on");
    }

    /// Freezes everything: connections stay open and nothing answers.
    pub(super) fn pause(&mut self) {
        let pids = self.signal_all(libc::SIGSTOP);
        self.watch.set(&pids);
    }

    pub(super) fn resume(&mut self) {
        let pids = self.signal_all(libc::SIGCONT);
        self.watch.set(&pids[..pids.len().min(1)]);
    }

    /// Whether the main process runs, be it stopped.
    pub(super) fn runs(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        if matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        self.wait();
        false
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        if !wait_until(|| !matches!(child.try_wait(), Ok(None))) {
            send(child.id(), libc::SIGKILL);
        }
        let status = child.wait().ok();
        self.watch.set(&[]);
        status
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What it has written to its output, in all its lives.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_all(libc::SIGKILL);
        self.wait();
    }
}

fn send(pid: u32, signal: i32) {
    // SAFETY: kill takes two integers. The process is a child that was not waited for, or a child of one.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// The state and the parent of a process, from `PID (NAME) STATE PARENT ...`.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}
