//! A switch reaches nodes that hear of nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use switchyard_tests::timing::is_kept_once;

use super::{PROMISED, Shared, activate, active, soon};

/// The connections that have begun to listen in this database, and were not silent for long yet; ends them if asked to.
async fn listeners(postgres: &str, end: bool) -> Vec<i32> {
    let mut connection = PgConnection::connect(postgres).await.expect("a connection");
    let listening = sqlx::query_scalar(
        "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
         and query like 'LISTEN%' and (not $1 or pg_terminate_backend(pid))",
    );
    listening.bind(end).fetch_all(&mut connection).await.expect("the rights")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_reaches_the_others_by_the_poll_when_nobody_can_listen() {
    let shared = Shared::start().await;
    let ended = Arc::new(AtomicUsize::new(0));
    let (postgres, count) = (shared.postgres.clone(), ended.clone());
    let ending = tokio::spawn(async move {
        loop {
            count.fetch_add(listeners(&postgres, true).await.len(), Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    soon("they have tried to listen", async || ended.load(Relaxed) >= 2).await;
    let mut names = ["cache_first", "dual_write"].iter().cycle();
    for _ in 0..2 {
        let once = async || {
            let name = *names.next().expect("one of the two");
            // The answer would wait for the other node.
            let follow = async {
                soon("in force here", async || active(&a.client).await == name).await;
                soon("in force on the other node", async || active(&b.client).await == name).await
            };
            tokio::join!(activate(&a.client, name), follow).1
        };
        is_kept_once("a switch is in force on the other node", PROMISED, once).await;
    }
    ending.abort();
    let _ = ending.await;
    let seen = RefCell::new(BTreeSet::new());
    soon("both listen again", async || {
        let now = listeners(&shared.postgres, false).await;
        seen.borrow_mut().extend(now);
        seen.borrow().len() >= 2
    })
    .await;
    a.stop().await;
    b.stop().await;
}
