//! Histories, and what the checker says of them.

mod excuses;

use super::*;
use crate::history::{Contents, Excuse, Held, Loss, Truth, Window};
use crate::stage::Store;

/// A history of one record, `key` 0, in seconds.
#[derive(Default)]
struct Story(History);

impl Story {
    fn entry(mut self, host: u8, op: Op, began: u64, ended: u64, outcome: Outcome) -> Self {
        let (began, ended) = (began * SECOND, ended * SECOND);
        let (strategy, detail) = Default::default();
        self.0.entries.push(Entry {
            key: 0,
            client: host.into(),
            host,
            op,
            began,
            ended,
            outcome,
            strategy,
            detail,
        });
        self
    }

    fn acknowledged(self, host: u8, op: Op, at: u64, version: u64, durability: Durability) -> Self {
        self.entry(host, op, at, at + 1, Outcome::Acknowledged { version, durability })
    }

    fn put(self, at: u64, version: u64) -> Self {
        self.acknowledged(0, Op::Put(version), at, version, Durability::Both)
    }

    fn delete(self, at: u64, version: u64) -> Self {
        self.acknowledged(0, Op::Delete, at, version, Durability::Both)
    }

    fn get(self, host: u8, at: u64, version: u64) -> Self {
        self.entry(host, Op::Get, at, at + 1, Outcome::Found { version, write: version })
    }

    fn absent(self, host: u8, at: u64) -> Self {
        self.entry(host, Op::Get, at, at + 1, Outcome::Absent)
    }

    /// An operator's loss, when these records were marked and PostgreSQL had these versions of them.
    fn lost_at(mut self, at: u64, keys: &[(KeyIndex, u64)]) -> Self {
        let (at, keys) = (at * SECOND, keys.iter().copied().collect());
        self.0.losses.push(Loss { from: at, at, keys, events: [7].into() });
        self
    }

    /// A fault that excuses what this says.
    fn fault(mut self, from: u64, to: u64, excuse: Option<Excuse>) -> Self {
        let (name, from, to) = ("any".into(), from * SECOND, to * SECOND);
        self.0.faults.push(Window { name, from, to, cut: None, excuse });
        self
    }

    fn refused(self, host: u8, op: Op, began: u64) -> Self {
        self.entry(host, op, began, began + 1, Outcome::Failed("503 store-unavailable".into()))
    }

    /// Ends with both stores holding this version of the record; a delete if it is negative, nothing if 0.
    fn ends(mut self, version: i64) -> Vec<&'static str> {
        let contents = || {
            let mut contents = Contents::default();
            let write = ("w".to_owned(), version.to_string());
            let fields = if version > 0 { [write].into() } else { Default::default() };
            if version != 0 {
                let held = Held { version: version.unsigned_abs(), deleted: version < 0, fields };
                contents.records.insert(0, held);
            }
            contents.totals = self.0.truth.redis.totals.clone();
            contents
        };
        let events = self.0.truth.events.clone();
        self.0.truth = Truth { redis: contents(), postgres: contents(), events };
        rules(&self.0)
    }
}

fn rules(history: &History) -> Vec<&'static str> {
    check(history).violations.iter().map(|violation| violation.rule).collect()
}

const CLEAN: [&str; 0] = [];
/// Everything on every host, for 15 s.
const ANY: Option<Excuse> =
    Some(Excuse { host: None, store: None, degraded: At::MAX, usage: true, after: 15 * SECOND });

#[test]
fn a_clean_history_is_clean() {
    let story = Story::default().put(0, 1).get(0, 1, 1).put(3, 2).get(0, 5, 2).delete(7, 3).absent(0, 9);
    assert_eq!(story.ends(-3), CLEAN);
}

#[test]
fn a_lost_write_is_i1_in_each_store() {
    assert_eq!(Story::default().put(0, 1).put(2, 2).ends(1), ["I1", "I1"]);
    assert_eq!(Story::default().put(0, 1).ends(0), ["I1", "I1"]);
    assert_eq!(Story::default().put(0, 1).ends(-2), ["I1", "I1"], "deleted by nobody");
    assert_eq!(Story::default().put(0, 1).ends(9), ["I1", "I1"], "written by nobody");
}

#[test]
fn an_unknown_write_may_have_happened_or_not() {
    let story = || Story::default().put(0, 1).entry(0, Op::Put(5), 2, 3, Outcome::Unknown("late".into()));
    assert_eq!(story().get(0, 4, 1).ends(1), ["I6"], "unknown without a fault, and nothing else");
    assert_eq!(story().get(0, 4, 5).ends(5), ["I6"]);
    let failed = Story::default().put(0, 1).entry(0, Op::Put(5), 2, 3, Outcome::Failed("no".into()));
    assert_eq!(failed.get(0, 4, 5).ends(5), ["I0", "I1", "I1", "I6"], "what was refused is there");
}

#[test]
fn a_write_superseded_by_an_older_one_is_i1() {
    assert_eq!(Story::default().put(0, 5).put(2, 3).ends(5), ["I1", "I3"]);
}

#[test]
fn a_deleted_record_that_is_seen_is_i2_at_once_here_and_later_elsewhere() {
    let story = || Story::default().put(0, 1).delete(2, 2);
    assert_eq!(story().get(0, 4, 1).ends(-2), ["I2", "I3"]);
    assert_eq!(story().get(1, 4, 1).ends(-2), CLEAN, "another host may lag for a moment");
    assert_eq!(story().get(1, 9, 1).ends(-2), ["I2"]);
    assert_eq!(story().put(5, 3).get(0, 7, 3).ends(3), CLEAN, "written again");
    let busy = |host, at: u64| {
        let mut story = story().get(host, at, 1);
        story.0.stalls.push(Window { from: 0, to: 30 * SECOND, ..Window::default() });
        story.ends(-2)
    };
    assert_eq!(busy(1, 9), CLEAN, "a busy machine takes longer");
    assert_eq!(busy(1, 14), ["I2"], "but not for ever");
    assert_eq!(busy(0, 9), ["I2", "I3"]);
    assert_eq!(story().ends(1), ["I2", "I2"], "there again in the end");
}

#[test]
fn in_a_full_split_another_host_may_be_behind_a_delete() {
    let split = |second: (u8, Store), from: u64| {
        let mut story = Story::default().put(0, 1).delete(2, 2);
        for cut in [(0, Store::Postgres), second] {
            let (from, to) = (from * SECOND, (from + 4) * SECOND);
            story.0.faults.push(Window { name: "cut".into(), from, to, cut: Some(cut), excuse: ANY });
        }
        story
    };
    let story = || split((1, Store::Redis), 4);
    assert_eq!(story().get(1, 9, 1).ends(-2), CLEAN);
    let read = story().get(1, 9, 1).get(1, 22, 1);
    assert_eq!(check(&read.0).split_reads, 2, "told, not passed over");
    assert_eq!(story().get(1, 24, 1).ends(-2), ["I2"], "long after it");
    assert_eq!(split((1, Store::Redis), 12).get(1, 9, 1).ends(-2), ["I2"], "before it");
    assert_eq!(story().get(0, 9, 1).ends(-2), ["I2", "I3"], "the host that has deleted it");
    assert_eq!(split((0, Store::Redis), 4).get(1, 9, 1).ends(-2), ["I2"], "one host that has lost both");
    assert_eq!(split((1, Store::Postgres), 4).get(1, 9, 1).ends(-2), ["I2"], "nobody sees PostgreSQL");
    let both = story().acknowledged(1, Op::Delete, 6, 3, Durability::Both);
    assert_eq!(both.get(1, 9, 1).ends(-3), ["I2", "I3"], "it has deleted it, too");
    let newer = Story::default().put(0, 1).acknowledged(1, Op::Delete, 2, 2, Durability::Both);
    let newer = Story(History { faults: story().0.faults, ..newer.0 });
    let newer = newer.acknowledged(0, Op::Delete, 5, 3, Durability::Both);
    assert_eq!(newer.get(1, 9, 1).ends(-3), ["I2", "I3"], "not even its own delete, though another is newer");
}

#[test]
fn a_version_that_falls_is_i3() {
    let story = || Story::default().put(0, 1).put(2, 2);
    assert_eq!(story().get(0, 4, 1).ends(2), ["I3", "I3"], "behind its own host, and its own client");
    let unseen = Story::default().put(0, 1).entry(0, Op::Put(2), 2, 3, Outcome::Unknown("late".into()));
    let mut seen = unseen.get(1, 4, 2).get(1, 6, 1);
    seen = seen.fault(0, 1, ANY);
    assert_eq!(seen.ends(2), CLEAN, "what was seen early may go, and come back");
    let mut seen = Story::default().put(0, 1).entry(0, Op::Put(2), 2, 9, Outcome::Unknown("late".into()));
    seen = seen.acknowledged(0, Op::Put(3), 3, 3, Durability::Both).get(1, 4, 3).get(1, 6, 1);
    seen = seen.fault(0, 1, ANY);
    assert_eq!(seen.ends(3), ["I3"], "it was acknowledged to somebody");
}

#[test]
fn another_host_may_be_behind_a_put_for_long_only_while_something_is_wrong() {
    let story = || Story::default().put(0, 1).put(2, 2);
    assert_eq!(story().get(1, 4, 1).ends(2), CLEAN);
    assert_eq!(story().get(1, 9, 1).ends(2), ["late"]);
    let mut excused = story().get(1, 9, 1);
    excused = excused.fault(0, 1, ANY);
    assert_eq!(excused.ends(2), CLEAN);
}

#[test]
fn absence_of_what_was_written_is_i6() {
    assert_eq!(Story::default().put(0, 1).absent(0, 2).ends(1), ["I6"]);
    assert_eq!(Story::default().put(0, 1).absent(1, 2).ends(1), CLEAN, "another host may lag");
    assert_eq!(Story::default().put(0, 1).absent(1, 9).ends(1), ["I6"]);
    assert_eq!(Story::default().absent(0, 2).ends(0), CLEAN);
}

#[test]
fn a_value_of_another_record_or_another_time_is_i0() {
    assert_eq!(Story::default().put(0, 1).get(0, 2, 7).ends(1), ["I0"]);
    let wrong = Story::default().put(0, 1).entry(0, Op::Get, 2, 3, Outcome::Wrong("t2".into()));
    assert_eq!(wrong.ends(1), ["I0"]);
}

/// Counted events, and what both stores say they amount to.
fn counting(story: Story, counted: &[u64], requests: u64) -> Vec<&'static str> {
    let mut story = story;
    let tokens = counted.iter().map(|event| crate::keys::tokens(*event)).sum();
    story.0.truth.events = [(0, counted.iter().copied().collect())].into();
    story.0.truth.redis.totals = [(0, (requests, tokens))].into();
    story.ends(0)
}

#[test]
fn events_are_counted_once_and_for_all() {
    let add = |events: &[u64], outcome: Outcome| {
        let mut story = Story::default().entry(0, Op::Add(events.to_vec()), 1, 2, outcome);
        story = story.fault(0, 1, ANY);
        story
    };
    let ok = || Outcome::Acknowledged { version: 0, durability: Durability::Both };
    assert_eq!(counting(add(&[1, 2], ok()), &[1, 2], 2), CLEAN);
    assert_eq!(counting(add(&[1, 2], ok()), &[1], 1), ["I4"], "one is lost");
    assert_eq!(
        counting(add(&[1, 2], ok()), &[1, 2], 3),
        ["I4", "I4"],
        "one is counted twice, in both stores"
    );
    assert_eq!(counting(add(&[1, 2], ok()), &[1, 2, 3], 3), ["I4"], "one is invented");
    let unknown = || Outcome::Unknown("late".into());
    assert_eq!(counting(add(&[1, 2], unknown()), &[1], 1), CLEAN);
    assert_eq!(counting(add(&[1, 2], unknown()), &[], 0), CLEAN);
    let lost = || Outcome::Acknowledged { version: 0, durability: Durability::Redis };
    assert_eq!(counting(add(&[7], lost()).lost_at(4, &[]), &[], 0), CLEAN, "an operator's loss");
    let local = || Outcome::Acknowledged { version: 0, durability: Durability::Local };
    assert_eq!(counting(add(&[7], local()).lost_at(4, &[]), &[], 0), CLEAN, "carried to Redis before");
    assert_eq!(counting(add(&[8], local()).lost_at(4, &[]), &[], 0), ["I4"], "not in what was lost");
}

#[test]
fn stores_that_differ_are_i5() {
    let mut history = History::default();
    let held = |version| Held { version, deleted: false, fields: Default::default() };
    history.truth.redis.records.insert(3, held(1));
    history.truth.postgres.records.insert(3, held(2));
    assert_eq!(rules(&history), ["I5"]);
    history.truth.redis.records.insert(3, held(2));
    assert_eq!(rules(&history), CLEAN);
    history.truth.redis.owed = (0, 1);
    assert_eq!(rules(&history), ["I5"], "an event is still owed");
    history.truth.redis.owed = (0, 0);
    history.truth.postgres.records.insert(4, Held { version: 9, deleted: true, fields: Default::default() });
    assert_eq!(rules(&history), CLEAN, "deleted is as good as absent");
    history.truth.redis.records.insert(4, held(8));
    assert_eq!(rules(&history), ["I5"], "deleted in one of them");
}
