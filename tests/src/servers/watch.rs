//! Ends what a killed test process has left behind.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Reads lists of process ids. At the end of its input, which is the end of the test process whatever
/// ended it, it kills the processes listed last and removes the folder. Removing is repeated because a
/// dying server may still write.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=
while read -r line; do pids=$line; done
[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
tries=0
until rm -rf "$1" 2>/dev/null || [ $tries -ge 50 ]; do tries=$((tries + 1)); sleep 0.1; done
"#;

/// A shell that outlives the test process by a moment. Chosen over the parent-death signal, which comes
/// when a thread ends (each test is a thread) and does not reach the children of a stopped PostgreSQL.
pub(crate) struct Watch(Child);

impl Watch {
    /// Removes `folder` when the test process ends.
    pub(crate) fn over(folder: &Path) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "watch"]).arg(folder);
        // A group of its own, so that a signal for the test's group leaves it to do its work.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(shell.spawn().expect("starting /bin/sh"))
    }

    /// From now on these processes, and no others, end with the test process.
    pub(super) fn set(&mut self, pids: &[u32]) {
        let mut line = String::new();
        for pid in pids {
            let _ = write!(line, "{pid} ");
        }
        line.push('\n');
        let input = self.0.stdin.as_mut().expect("the watcher's input is a pipe");
        input.write_all(line.as_bytes()).expect("the watcher reads until its input ends");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
