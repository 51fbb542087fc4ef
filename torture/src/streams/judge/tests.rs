use super::*;

const KILL: Kill = Kill { at: 1_000, until: 1_500 };

fn whole(ask: &Ask) -> Answer {
    let told = Some((ask.input, ask.output));
    Answer { told, stopped: true, closed: true, ..Answer::default() }
}

/// The first stream that is to end so.
fn ask(wanted: impl Fn(End) -> bool) -> Ask {
    (0..1_000).map(|number| Ask::new(number, 1)).find(|ask| wanted(ask.end)).expect("a stream")
}

fn attempt(request_id: &str, ask: &Ask, saw: Saw) -> Attempt {
    Attempt { request_id: request_id.into(), ask: ask.clone(), saw, began: 0, ended: 10 }
}

fn row(id: &str, request_id: &str, (input, output): (u64, u64), partial: bool) -> Row {
    Row { id: id.into(), request_id: request_id.into(), input, output, cost: output, partial, ours: true }
}

/// Both stores with these events and nothing wrong.
fn held(rows: Vec<Row>) -> Held {
    let mut sums = Counts::default();
    for row in &rows {
        let counts = [1, row.input, row.output, row.cost];
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let totals = Totals { key: sums, account: sums };
    let in_redis = rows.iter().map(|row| row.id.clone()).collect();
    Held { rows, in_redis, redis: totals, postgres: totals, owed: (0, 0) }
}

/// A stream that came to its end and its event; and one that was killed after `message_start`.
fn fine() -> (Vec<Attempt>, Held) {
    let ask = ask(|end| end == End::Whole);
    let broken = Answer { told: Some((ask.input, 1)), broken: true, ..Answer::default() };
    let killed = Attempt { ended: 1_010, ..attempt("1.0", &ask, Saw::Answer(broken)) };
    let rows = vec![row("a", "0.0", (ask.input, ask.output), false), row("b", "1.0", (ask.input, 1), true)];
    (vec![attempt("0.0", &ask, Saw::Answer(whole(&ask))), killed], held(rows))
}

#[track_caller]
fn assert_found(attempts: &[Attempt], held: &Held, (lost, doubled): (u64, u64), what: &str) {
    let verdict = judge(attempts, &[KILL], held);
    assert_eq!((verdict.lost, verdict.doubled), (lost, doubled), "{:?}", verdict.violations);
    assert!(verdict.violations.iter().any(|violation| violation.contains(what)), "{:?}", verdict.violations);
    assert!(!verdict.is_clean());
}

#[test]
fn what_is_right_is_clean() {
    let (attempts, held) = fine();
    let verdict = judge(&attempts, &[KILL], &held);
    assert!(verdict.is_clean(), "{:?}", verdict.violations);
    assert_eq!(verdict.attempts[&Due::Must], (2, 2));
}

#[test]
fn an_event_that_is_missing_is_lost() {
    let (attempts, held) = fine();
    let held = super::tests::held(held.rows[..1].to_vec());
    assert_found(&attempts, &held, (1, 0), "1.0 is not counted");
}

#[test]
fn a_second_event_of_a_request_is_doubled_whatever_its_id() {
    let (attempts, held) = fine();
    let again = Row { id: "c".into(), ..held.rows[0].clone() };
    let held = super::tests::held([held.rows, vec![again]].concat());
    assert_found(&attempts, &held, (0, 1), "0.0 is counted 2 times");
}

#[test]
fn a_store_that_lacks_an_event_or_has_counted_one_twice_is_found() {
    let (attempts, fine) = fine();
    let mut held = fine.clone();
    held.in_redis.remove("b");
    assert_found(&attempts, &held, (1, 0), "Redis does not have the event b");
    held = fine.clone();
    held.in_redis.insert("z".into());
    assert_found(&attempts, &held, (1, 0), "PostgreSQL does not have the event z");
    held = fine.clone();
    held.redis.key[0] += 1;
    assert_found(&attempts, &held, (0, 1), "Redis's total of the key");
    held = fine.clone();
    held.postgres.account[0] -= 1;
    assert_found(&attempts, &held, (1, 0), "PostgreSQL's total of the account");
    held = fine;
    held.redis.key[2] += 1;
    assert_found(&attempts, &held, (0, 0), "Redis's total of the key");
}

#[test]
fn tokens_are_those_of_the_answer() {
    let (attempts, fine) = fine();
    let with = |change: &dyn Fn(&mut Row)| {
        let mut rows = fine.rows.clone();
        change(&mut rows[0]);
        held(rows)
    };
    assert_found(&attempts, &with(&|row| row.input += 1), (0, 0), "other input");
    assert_found(&attempts, &with(&|row| row.output += 1), (0, 0), "never told");
    assert_found(&attempts, &with(&|row| row.output = 1), (0, 0), "less output than the client was told");
    assert_found(&attempts, &with(&|row| row.partial = true), (0, 0), "partial, though");
    assert_found(&attempts, &with(&|row| row.ours = false), (0, 0), "another key's");
}

#[test]
fn what_the_upstream_cut_is_partial_and_has_what_it_told() {
    let ask = ask(|end| end == End::Cut);
    let error = Some("api_error".to_owned());
    let cut = Answer { told: Some((ask.input, 1)), closed: true, error, ..Answer::default() };
    let attempts = [attempt("0.0", &ask, Saw::Answer(cut))];
    let of = |output, partial| held(vec![row("a", "0.0", (ask.input, output), partial)]);
    assert!(judge(&attempts, &[], &of(1, true)).is_clean());
    assert_found(&attempts, &of(1, false), (0, 0), "whole, though");
    assert!(judge(&attempts, &[], &of(ask.most_untold(), true)).is_clean());
    assert_found(&attempts, &of(ask.most_untold() + 1, true), (0, 0), "never told");
}

#[test]
fn what_may_be_counted_is_counted_at_most_once() {
    let ask = ask(|end| matches!(end, End::Leave(_)));
    let attempts = [attempt("0.0", &ask, Saw::Nothing { hung_up: true })];
    let rows: Vec<_> = ["a", "b"].map(|id| row(id, "0.0", (ask.input, 1), true)).into();
    assert!(judge(&attempts, &[], &held(Vec::new())).is_clean());
    assert!(judge(&attempts, &[], &held(rows[..1].to_vec())).is_clean());
    assert_found(&attempts, &held(rows), (0, 1), "counted 2 times");
}

#[test]
fn what_was_refused_is_not_counted_and_not_the_last() {
    let ask = ask(|end| end == End::Whole);
    let refused = attempt("0.0", &ask, Saw::Refused("503 storage".into()));
    let again = attempt("0.1", &ask, Saw::Answer(whole(&ask)));
    let of = |id: &str| row(id, id, (ask.input, ask.output), false);
    let attempts = [refused, again];
    assert!(judge(&attempts, &[], &held(vec![of("0.1")])).is_clean());
    assert_found(&attempts, &held(vec![of("0.0"), of("0.1")]), (0, 0), "was refused, and is counted");
    assert_found(&attempts[..1], &held(Vec::new()), (0, 0), "refused to the last");
}

#[test]
fn an_event_that_nobody_asked_for_is_found() {
    let (attempts, held) = fine();
    let other = Row { id: "c".into(), request_id: "9.0".into(), ..held.rows[0].clone() };
    let held = super::tests::held([held.rows, vec![other]].concat());
    assert_found(&attempts, &held, (0, 0), "nobody has asked");
}

#[test]
fn a_stream_that_ends_otherwise_needs_a_kill_that_explains_it() {
    let (mut attempts, held) = fine();
    attempts[1].ended = 900;
    assert_found(&attempts, &held, (0, 0), "was to end as Whole");
    assert_found(&attempts, &held, (0, 0), "kill 1 has met no stream");
    attempts[1].ended = 1_000;
    assert!(judge(&attempts, &[KILL], &held).is_clean());
}
