//! What a store cannot hold, whatever it is asked: it stops nothing but itself.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_with_a_nul_is_not_taken_in() {
    let stores = Stores::start().await;
    stores.command(&["HSET", "claude_console_account:nul", "name", "a\0b"]).await;
    let (mut skipped, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let adopted = stores.redis.adopt(cursor.as_deref()).await.expect("a step");
        skipped.extend(adopted.skipped);
        match adopted.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let skipped: Vec<_> = skipped.iter().map(|it| (&*it.key, &*it.reason)).collect();
    assert_eq!(skipped, [("claude_console_account:nul", "a field holds a NUL character")]);
    assert_eq!(stores.redis.backlog().await.expect("a backlog").records, 0);
}
