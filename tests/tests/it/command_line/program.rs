//! The program, run with arguments, with and without a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use switchyard_tests::host::TOKEN;
use switchyard_tests::servers::Switchyard;

/// More than any command here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// How the program ended, and what it said.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ran {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Itself, if it ended with this status.
    #[track_caller]
    pub(super) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Fails unless stdout has each of these.
    #[track_caller]
    pub(super) fn says(&self, words: &[&str]) {
        words.iter().for_each(|word| assert!(self.stdout.contains(word), "no {word} in {self:?}"));
    }

    /// Fails unless stderr has each of these.
    #[track_caller]
    pub(super) fn complains(&self, words: &[&str]) {
        words.iter().for_each(|word| assert!(self.stderr.contains(word), "no {word} in {self:?}"));
    }

    /// Stdout as one JSON value.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Stderr as one JSON value.
    #[track_caller]
    pub(super) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// The program with these arguments, the token and this server, and no terminal.
pub(super) fn command(url: &str, arguments: &[&str]) -> tokio::process::Command {
    let mut command = Switchyard::program();
    command.env("SWITCHYARD_URL", url).env("SWITCHYARD_TOKEN", TOKEN).args(arguments);
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub(super) async fn run(url: &str, arguments: &[&str]) -> Ran {
    end(command(url, arguments).spawn().expect("the program")).await
}

/// Waits for the end.
pub(super) async fn end(child: tokio::process::Child) -> Ran {
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
    Ran::new(&output.await.expect("an end in time").expect("its output"))
}

/// What Ctrl-C does.
pub(super) fn interrupt(pid: u32) {
    let pid = libc::pid_t::try_from(pid).expect("an id of a process");
    // SAFETY: a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
}

/// Runs it on a terminal, where `typed` is typed when it asks. Stderr has what the terminal showed of it.
pub(super) async fn run_on_a_terminal(url: &str, arguments: &[&str], typed: &'static str) -> Ran {
    let (ours, theirs) = terminal();
    let mut command = command(url, arguments);
    command.env("TERM", "xterm");
    command.stdin(Stdio::from(theirs.try_clone().expect("a copy"))).stderr(Stdio::from(theirs));
    let child = command.spawn().expect("the program");
    // Our copies of its end: what it shows ends when it does.
    drop(command);
    let pid = child.id().expect("its id");
    let shown = tokio::task::spawn_blocking(move || answer(File::from(ours), pid, typed));
    let ran = end(child).await;
    Ran { stderr: shown.await.expect("what was shown"), ..ran }
}

/// What is typed for Ctrl-C.
pub(super) const CTRL_C: &str = "\u{3}";

/// Types this when asked, and gives all that was shown.
fn answer(mut terminal: File, pid: u32, typed: &str) -> String {
    let (mut shown, mut part, mut asked) = (Vec::new(), [0; 1_024], false);
    // Ends with an error once nobody has the other end.
    while let Ok(length @ 1..) = terminal.read(&mut part) {
        shown.extend_from_slice(&part[..length]);
        if !asked && String::from_utf8_lossy(&shown).contains("[y/N] ") {
            asked = true;
            match typed {
                // The program does not own the terminal: its end would throw away what was shown last.
                CTRL_C => interrupt(pid),
                typed => terminal.write_all(typed.as_bytes()).expect("typing"),
            }
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}

/// Both ends of a terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: two places for the descriptors, and nothing else asked for.
    let opened = unsafe { libc::openpty(&mut ours, &mut theirs, none, none.cast(), none.cast()) };
    assert_eq!(opened, 0, "no terminal: {}", std::io::Error::last_os_error());
    // SAFETY: both are new and ours alone.
    unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}
