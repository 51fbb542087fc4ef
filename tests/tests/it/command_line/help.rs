//! What the help says.

use super::program::run;

#[tokio::test]
async fn the_help_begins_with_what_it_is_and_ends_with_the_exit_status() {
    for flag in ["--help", "-h"] {
        let help = run("http://127.0.0.1:1", &[flag]).await.with(0).stdout;
        assert!(help.starts_with("A relay for Claude clients"), "{help}");
        let last = help.trim_end().split("\n\n").last().expect("a paragraph");
        assert!(
            last.starts_with("Exit status of the commands that talk to a server: 0 all is well"),
            "{help}"
        );
        assert!(last.ends_with("they do nothing and end with 2."), "{help}");
        assert!(!help.contains("placeholder"), "{help}");
    }
}

#[tokio::test]
async fn the_help_says_what_a_deep_check_adds() {
    let help = run("http://127.0.0.1:1", &["check-consistency", "--help"]).await.with(0).stdout;
    let deep = help.lines().skip_while(|line| !line.contains("--deep")).take(2).collect::<String>();
    assert!(deep.contains("what was deleted") && deep.contains("every index"), "{help}");
    assert!(!help.contains("digest"), "{help}");
}
