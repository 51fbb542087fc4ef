//! A killed process loses nothing that it acknowledged.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Set for the process that is to be killed: the folder it writes to.
const VICTIM: &str = "SWITCHYARD_TEST_VICTIM_FOLDER";
const THIS_TEST: &str = "store::sqlite::tests::crash::a_killed_process_loses_nothing_acknowledged";
const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_acknowledged() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        return write_until_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = kill_a_writing_process(folder.path());
    assert!(acknowledged.len() >= 500);
    let store = Sqlite::open(folder.path(), DEADLINE).await.unwrap();
    for id in &acknowledged {
        let held = store.get(&key(&kind::ACCOUNT, id)).await.unwrap();
        assert!(held.is_some(), "{id} was acknowledged and is lost");
    }
    assert!(store.backlog().await.unwrap().records >= acknowledged.len() as u64);
}

/// Kills it after 500 acknowledgements, and returns all of them.
fn kill_a_writing_process(folder: &Path) -> Vec<String> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([THIS_TEST, "--exact", "--nocapture"])
        .env(VICTIM, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(victim.stdout.take().unwrap()).lines() {
        acknowledged.extend(line.unwrap().strip_prefix("ack ").map(str::to_owned));
        if acknowledged.len() == 500 {
            victim.kill().unwrap();
        }
    }
    assert!(!victim.wait().unwrap().success());
    acknowledged
}

#[allow(clippy::print_stdout, reason = "the way in which the killed process acknowledges")]
async fn write_until_killed(folder: &Path) {
    let store = Sqlite::open(folder, DEADLINE).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let store = &store;
        async move {
            for n in 0.. {
                let id = format!("{writer}-{n}");
                store.put(&dirty(record(&kind::ACCOUNT, &id, 1, &[("v", "x")]))).await.unwrap();
                println!("\nack {id}");
            }
        }
    });
    futures::future::join_all(writers).await;
}
