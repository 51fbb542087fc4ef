//! Answers as they were observed, cut in any way.

use proptest::prelude::*;

use super::*;

/// A stream of Claude Code's: pings, an unknown event, content that speaks of usage, a cumulative delta.
const STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","#,
    r#""model":"claude-opus-4-5-20251101","content":[],"stop_reason":null,"usage":{"input_tokens":12,"#,
    r#""cache_creation_input_tokens":300,"cache_read_input_tokens":4000,"cache_creation":"#,
    r#"{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":1,"#,
    r#""service_tier":"standard"}}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
    ": a comment\n\nevent: of_tomorrow\ndata: {\"type\":\"of_tomorrow\",\"usage\":{\"output_tokens\":9}}\n\n",
    "event: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\"output_tokens\": 7"}}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":40}}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{},"usage":{"input_tokens":13,"output_tokens":57}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

fn whole() -> Metered {
    Metered {
        model: Some("claude-opus-4-5-20251101".into()),
        tokens: Tokens {
            input: 13,
            output: 57,
            cache_creation_5m: 100,
            cache_creation_1h: 200,
            cache_read: 4_000,
        },
        untold: 0,
        told: true,
        began: true,
        stopped: true,
        error: None,
        message_id: Some("msg_1".into()),
    }
}

fn fed(bytes: &[u8]) -> Metered {
    let mut meter = Meter::new();
    meter.feed(bytes);
    meter.seen().clone()
}

#[test]
fn a_stream_counts_what_its_last_delta_says() {
    assert_eq!(fed(STREAM.as_bytes()), whole());
    assert_eq!(fed(STREAM.replace('\n', "\r\n").as_bytes()), whole());
    assert_eq!(fed(STREAM.replace('\n', "\r").as_bytes()), whole());
}

#[test]
fn a_stream_counts_from_its_first_event() {
    let first = STREAM.split_inclusive("\n\n").next().unwrap();
    let seen = fed(first.as_bytes());
    assert!(seen.began && !seen.stopped);
    assert_eq!((seen.tokens.input, seen.tokens.output, seen.tokens.cache_read), (12, 1, 4_000));
    assert!(!fed(first.trim_end().as_bytes()).began, "an event ends with an empty line");
}

fn content(delta: &str) -> String {
    format!("data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{delta}}}\n\n")
}

#[test]
fn output_that_nobody_has_told_counts_by_its_bytes() {
    let first = STREAM.split_inclusive("\n\n").next().unwrap();
    let text = content(r#"{"type":"text_delta","text":"hello"}"#);
    let seen = fed(format!("{first}{}", text.repeat(19)).as_bytes());
    assert_eq!((seen.tokens.output, seen.tokens.input, seen.stopped), (24, 12, false), "95 bytes");
    assert_eq!(fed(format!("{first}{text}").as_bytes()).tokens.output, 2);
    let all = [
        text.clone(),
        content(r#"{"type":"thinking_delta","thinking":"\u00e4\n"}"#),
        content(r#"{"type":"input_json_delta","partial_json":"{\"a\": 1}"}"#),
        content(
            r#"{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk"}"#,
        ),
        content("7"),
    ];
    assert_eq!(fed(format!("{first}{}", all.concat()).as_bytes()).tokens.output, 4, "5, 3 and 8 bytes");
    let told = r#"data: {"type":"message_delta","usage":{"output_tokens":3}}"#;
    let seen = fed(format!("{first}{}{told}\n\n{text}", text.repeat(19)).as_bytes());
    assert_eq!(seen.tokens.output, 3, "what is told is exact");
}

proptest! {
    /// However the bytes are cut, the same is seen.
    #[test]
    fn the_slicing_makes_no_difference(
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30), line in 0_usize..3,
    ) {
        let stream = STREAM.replace('\n', ["\n", "\r\n", "\r"][line]).into_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let (mut meter, mut at) = (Meter::new(), 0);
        for cut in cuts {
            meter.feed(&stream[at..cut]);
            at = cut;
        }
        prop_assert_eq!(meter.seen(), &whole());
    }

    /// Garbage before, after and in between neither panics nor grows without bound.
    #[test]
    fn garbage_is_skipped(garbage in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = garbage.clone();
        bytes.extend(b"\n\n");
        bytes.extend(STREAM.as_bytes());
        bytes.extend(&garbage);
        prop_assert_eq!(fed(&bytes).tokens, whole().tokens);
        Meter::plain(&garbage);
    }
}

#[test]
fn an_event_that_is_too_long_is_skipped_and_the_next_one_read() {
    let mut meter = Meter::new();
    let long = vec![b'x'; 3 << 20];
    meter.feed(b"data: {\"type\":\"message_stop\",\"text\":\"");
    for part in long.chunks(16_384) {
        meter.feed(part);
    }
    meter.feed(b"\"}\n\n");
    assert_eq!(meter.seen(), &Metered::default());
    for _ in 0..40 {
        meter.feed(format!("data: {}\n", "y".repeat(65_536)).as_bytes());
    }
    meter.feed(b"\n");
    meter.feed(STREAM.as_bytes());
    assert_eq!(meter.seen(), &whole());
}

#[test]
fn an_error_in_a_stream_is_seen_beside_what_was_used() {
    let first = STREAM.split_inclusive("\n\n").next().unwrap();
    let error =
        r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#.to_owned();
    let seen = fed(format!("{first}event: error\n{error}\n\n").as_bytes());
    assert_eq!(seen.error.as_deref(), Some("overloaded_error"));
    assert!(seen.began && !seen.stopped && seen.tokens.cache_read == 4_000);
}

#[test]
fn a_plain_body_is_read_whole() {
    let body = br#"{"id":"msg_2","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[],
        "usage":{"input_tokens":5,"output_tokens":6,"cache_creation_input_tokens":7,
        "cache_read_input_tokens":null}}"#;
    let seen = Meter::plain(body);
    let tokens = Tokens { input: 5, output: 6, cache_creation_5m: 7, ..Tokens::default() };
    assert_eq!((seen.tokens, seen.began, seen.stopped), (tokens, true, true));
    assert_eq!(seen.model.as_deref(), Some("claude-haiku-4-5"));
    let refused = Meter::plain(
        br#"{"type":"error","error":{"type":"rate_limit_error","message":"no"},"request_id":"r"}"#,
    );
    assert_eq!((refused.error.as_deref(), refused.began), (Some("rate_limit_error"), false));
}

/// Figures that no upstream should send spoil no other, and never count more than an event may.
#[test]
fn odd_values_are_left_out() {
    let start = |usage: &str| {
        fed(format!("data: {{\"type\":\"message_start\",\"message\":{{\"model\":7,\"usage\":{usage}}}}}\n\n")
            .as_bytes())
    };
    let seen = start(r#"{"input_tokens":-5,"output_tokens":3,"cache_read_input_tokens":"many"}"#);
    assert_eq!(seen.tokens, Tokens { output: 3, ..Tokens::default() });
    assert_eq!((seen.model, seen.began), (None, true));
    assert_eq!(start(r#"{"input_tokens":18446744073709551615}"#).tokens.input, 1_000_000_000_000);
    assert_eq!(start("null").tokens, Tokens::default());
    assert_eq!(start("[]").tokens, Tokens::default());
    // The sum is what counts where it and its parts disagree.
    let seen =
        start(r#"{"cache_creation_input_tokens":10,"cache_creation":{"ephemeral_1h_input_tokens":30}}"#);
    assert_eq!((seen.tokens.cache_creation_5m, seen.tokens.cache_creation_1h), (0, 10));
}
