//! What fails, and in which words: exit status 2, and nothing on stdout.

use std::process::Stdio;

use switchyard_tests::host::TOKEN;
use switchyard_tests::servers::Switchyard;

use super::fake::{Fake, Reply};
use super::program::{self, Ran, run, run_on_a_terminal};
use super::{HEALTH, TO_POSTGRES, shapes};

/// Runs the program with nothing but these variables.
async fn run_with(variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = tokio::process::Command::from(Switchyard::program());
    command.envs(variables.iter().copied()).args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program::end(command.spawn().expect("the program")).await
}

#[tokio::test]
async fn what_changes_something_is_refused_where_nobody_can_be_asked() {
    let fake = Fake::start(&[]).await;
    for command in [
        "sync --source redis --target postgres",
        "check-consistency --fix",
        "switch-strategy dual-write",
        "clear-cache",
        "strategy activate dual_write",
        "strategy rollback",
        "strategy unpin",
        "strategy upload /bin/true mine --activate",
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        let ran = run(&fake.url, &arguments).await.with(2);
        ran.complains(&["no terminal to ask on; nothing was done", "--force"]);
        assert_eq!(ran.stdout, "");
    }
    assert!(fake.lines().is_empty(), "{:?}", fake.lines());
}

#[tokio::test]
async fn a_person_is_asked_and_no_is_what_is_not_yes() {
    let fake = Fake::start(&[(TO_POSTGRES, Reply::Data(shapes::synced(0)))]).await;
    let sync = ["sync", "--source", "redis", "--target", "postgres"];
    for typed in ["\n", "n\n", "nonsense\n", "\u{4}", program::CTRL_C] {
        let ran = run_on_a_terminal(&fake.url, &sync, typed).await;
        assert_eq!(ran.code, Some(2), "{typed:?}: {ran:?}");
        ran.complains(&["nothing was done"]);
        ran.complains(&["Copy everything from Redis to PostgreSQL? [y/N]"]);
        assert!(fake.lines().is_empty(), "{typed:?}");
    }
    run_on_a_terminal(&fake.url, &sync, "Y\n").await.with(0).says(&["Copied 990"]);
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let fake = Fake::start(&[]).await;
    for (command, word) in [
        ("sync --source redis --target redis --force", "same-store"),
        ("sync --source mysql --target redis --force", "mysql"),
        ("sync --source redis", "--target"),
        ("switch-strategy --force", "<NAME>"),
        ("metrics --interval 3", "--watch"),
        ("metrics --watch --interval 0", "--interval"),
        ("check-consistency --force", "--fix"),
        ("health --timeout 0", "SWITCHYARD_TIMEOUT"),
        ("health --lisen x", "--lisen"),
        ("frobnicate", "frobnicate"),
        ("operation show ..", "no id"),
        ("completions tcsh", "tcsh"),
        ("strategy upload /there/is/none mine", "/there/is/none"),
        ("--json serve", "--json"),
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        let ran = run(&fake.url, &arguments).await.with(2);
        ran.complains(&[word]);
        assert_eq!(ran.stdout, "", "{command}");
    }
    assert!(fake.lines().is_empty(), "{:?}", fake.lines());
    let error = run(&fake.url, &["health", "--json", "--lisen"]).await.with(2).error();
    assert_eq!(error["code"], "arguments");
}

#[tokio::test]
async fn the_settings_of_serve_keep_their_status_and_take_no_flags_of_the_clients() {
    for flags in [["serve", "--url", "http://x"], ["serve", "--listen", "nonsense"]] {
        let ran = run_with(&[], &flags).await.with(1);
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    let help = run_with(&[], &["serve", "--help"]).await.with(0);
    assert!(help.stdout.contains("--listen") && !help.stdout.contains("--timeout"), "{help:?}");
    let help = run_with(&[], &["sync", "--help"]).await.with(0);
    help.says(&["--url", "--token", "--json", "--timeout", "SWITCHYARD_TOKEN", "--force"]);
    assert!(!help.stdout.contains("server-admin-token"), "{help:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let ran = run(&url, &["health"]).await.with(2);
    ran.complains(&[&url, "refused", "is the server running?", "--url"]);
    assert_eq!(run(&url, &["health", "--json"]).await.with(2).error()["code"], "unreachable");
    let ran = run("https://127.0.0.1:1", &["health"]).await.with(2);
    ran.complains(&["https:// is not spoken here", "ssh -L"]);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_at_the_deadline() {
    let fake = Fake::start(&[(HEALTH, Reply::Silence), (TO_POSTGRES, Reply::Silence)]).await;
    let ran = run(&fake.url, &["health", "--timeout", "1"]).await.with(2);
    ran.complains(&["within 1 s", "--timeout"]);
    let sync = ["sync", "--source", "redis", "--target", "postgres", "--force", "--timeout", "1"];
    // A deadline does not undo what was asked for.
    run(&fake.url, &sync).await.with(2).complains(&["may have happened"]);
}

#[tokio::test]
async fn an_answer_that_is_not_the_servers_is_recognised() {
    for status in [200, 302, 404, 502] {
        let fake = Fake::start(&[(HEALTH, Reply::Page(status))]).await;
        let ran = run(&fake.url, &["health"]).await.with(2);
        ran.complains(&["not as Switchyard does", &status.to_string(), "--url"]);
        assert!(!ran.stderr.contains("<html>"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_problem_is_told_with_its_code_and_what_to_do() {
    let fake = Fake::start(&[(TO_POSTGRES, Reply::Problem(409, "operation-running"))]).await;
    let sync = ["sync", "--source", "redis", "--target", "postgres", "--force"];
    let ran = run(&fake.url, &sync).await.with(2);
    ran.complains(&["operation-running", "the detail of operation-running", "switchyard operation list"]);
    let json = run(&fake.url, &[&sync[..], &["--json"]].concat()).await.with(2);
    let error = json.error();
    assert_eq!((&error["code"], &error["status"]), (&"operation-running".into(), &409.into()));
    assert_eq!(json.stdout, "");
    let activate = "POST /admin/strategies/redis_only/activate";
    let fake = Fake::start(&[(activate, Reply::Problem(409, "store-down"))]).await;
    let ran = run(&fake.url, &["switch-strategy", "redis-only", "--force"]).await.with(2);
    ran.complains(&["store-down", "--even-if-down"]);
}

#[tokio::test]
async fn the_token_is_looked_for_in_order_and_a_wrong_one_says_where_it_is_from() {
    let fake = Fake::start(&[(HEALTH, Reply::Data(shapes::health("healthy")))]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8").to_owned();
    let at = ["health", "--json", "--url", &fake.url];
    let none = run_with(&[("SWITCHYARD_DATA", &data)], &at[..]).await.with(2);
    none.complains(&["no token was sent", "SWITCHYARD_TOKEN", "admin-token"]);
    std::fs::write(folder.path().join("admin-token"), format!("{TOKEN}\n")).expect("the token");
    run_with(&[("SWITCHYARD_DATA", &data)], &at[..]).await.with(0);
    let variables = [("SWITCHYARD_DATA", &*data), ("SWITCHYARD_ADMIN_TOKEN", "wrong")];
    run_with(&variables, &at[..]).await.with(2).complains(&["from SWITCHYARD_ADMIN_TOKEN"]);
    let variables = [("SWITCHYARD_TOKEN", TOKEN), ("SWITCHYARD_ADMIN_TOKEN", "wrong")];
    run_with(&variables, &at[..]).await.with(0);
    let wrong = run_with(&variables, &[&at[..], &["--token", "canary-4711"]].concat()).await.with(2);
    wrong.complains(&["unauthorized", "from --token"]);
    assert!(!wrong.stderr.contains("canary"), "{wrong:?}");
}
