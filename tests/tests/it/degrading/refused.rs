//! A record that one of the stores cannot hold.

use super::*;

/// PostgreSQL takes no NUL. An older version of this server has taken such a record in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_postgres_cannot_hold_does_not_keep_the_chosen_strategy_away() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("n1", &["--strategy", "dual_write"]).await;
    put(&client, "a", 1).await.expect(200);
    servers.postgres.stop();
    until_in_force(&client, "redis_only").await;
    put(&client, "b", 2).await.expect(200);
    let (key, version) = ("claude_console_account:nul", "1700000000000000");
    servers.redis_command(&["HSET", key, "_version", version, "n", "a\0b"]).await;
    servers.redis_command(&["ZADD", "switchyard:dirty", version, "account/nul"]).await;
    servers.redis_command(&["ZADD", "switchyard:ids:account", "0", "nul"]).await;
    servers.postgres.start_again();
    until_in_force(&client, "dual_write").await;
    client.activate("postgres_only").await;
    for (id, n) in [("a", "1"), ("b", "2")] {
        assert_eq!(eventually(&client, id).await.expect(200)["fields"]["n"], n);
    }
    assert_eq!(get(&client, "nul").await.status, 503, "it is not absent");
}
