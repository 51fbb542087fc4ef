//! Calls that ask, and end, in one script: as if one after the other.

use std::time::Duration;

use super::allowance::{reserve, reserve_all, spent};
use super::server::{Other, Server};
use super::*;
use crate::store::allowance::{Ask, Caps, Ended, Lease, Refusal, Size, Totals, Verdict};
use crate::store::{Allowance as _, StoreError};

/// What usage counters are said to have.
const GIVEN: Option<Totals> = Some(Totals { daily: 5, weekly: 5, total: 5 });

/// Five calls of a key, of different size.
fn calls(key: &str, caps: Caps) -> Vec<Lease> {
    let estimates = [(60, 30), (10, 10), (50, 50), (30, 20), (5, 5)];
    let call = |(n, (tokens, cost)): (usize, (u64, u64))| Lease {
        key_id: key.into(),
        lease: format!("{key}-{n}"),
        caps,
        estimate: spent(tokens, cost),
        size: Size::CALL,
    };
    estimates.into_iter().enumerate().map(call).collect()
}

fn mixed<T>(one: Vec<T>, other: Vec<T>) -> Vec<T> {
    one.into_iter().zip(other).flat_map(|(a, b)| [a, b]).collect()
}

/// When a window resets is not the same for those that came later.
fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Refused(refusal) => format!("{:?}", Refusal { reset: None, ..*refusal }),
        other => format!("{other:?}"),
    }
}

/// What Redis holds of a key.
async fn kept(crs: &mut Other, key: &str) -> Vec<String> {
    let mut kept = vec![
        crs.number(&format!("ZCARD concurrency:{key}")).await.to_string(),
        crs.number(&format!("ZCARD switchyard:reserved:{key}")).await.to_string(),
    ];
    for field in ["tokens", "cost", "held"] {
        let sum = crs.text(&format!("HGET switchyard:reserved:sums:{key} {field}")).await;
        kept.push(sum.unwrap_or_else(|| "0".into()));
    }
    for part in ["requests", "tokens", "cost"] {
        kept.push(crs.text(&format!("GET rate_limit:{part}:{key}")).await.unwrap_or_default());
    }
    kept
}

/// Those of one key one by one, those of two others mixed and all at once.
async fn compare(store: &Redis, crs: &mut Other, n: usize, caps: Caps) {
    let keys = ["one", "two", "three"].map(|key| format!("{key}{n}"));
    let [one, two, three] = keys.each_ref().map(|key| calls(key, caps));
    let mut by_turns = Vec::new();
    for call in &one {
        by_turns.push(told(&reserve(store, call, GIVEN).await));
    }
    assert!(by_turns[0] == "Admitted" && by_turns.iter().any(|verdict| verdict != "Admitted"), "{caps:?}");
    let together = reserve_all(store, &mixed(two.clone(), three.clone()), GIVEN).await;
    for turn in [0, 1] {
        let verdicts = together.iter().skip(turn).step_by(2).flatten().map(told).collect::<Vec<_>>();
        assert_eq!(verdicts, by_turns, "{caps:?}");
    }
    same(crs, &keys, caps).await;
    let ended = |call: Lease| Ended::call(call, spent(7, 7));
    for call in one {
        store.spend(&[ended(call)]).await.unwrap();
    }
    let both: Vec<_> = mixed(two, three).into_iter().map(ended).collect();
    store.spend(&both).await.unwrap();
    let kept = same(crs, &keys, caps).await;
    assert_eq!(kept[0], "0", "nothing is in flight any more: {caps:?}");
}

/// The three keys are kept alike: what is kept of each.
async fn same(crs: &mut Other, keys: &[String; 3], caps: Caps) -> Vec<String> {
    let expected = kept(crs, &keys[0]).await;
    for key in keys {
        assert_eq!(kept(crs, key).await, expected, "{caps:?}");
    }
    expected
}

/// With a limit of each kind in the way.
#[tokio::test]
async fn calls_that_ask_together_are_judged_as_if_one_after_the_other() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let window = Some(Duration::from_secs(3_600));
    let none = Caps::default();
    let all = [
        Caps { concurrency: 3, ..none },
        Caps { window, window_requests: 2, ..none },
        Caps { window, window_tokens: 100, concurrency: 9, ..none },
        Caps { window, window_cost_micro: 90, window_requests: 9, ..none },
        Caps { daily_cost_micro: 70, total_cost_micro: 1_000, ..none },
        Caps { weekly_cost_micro: 50, concurrency: 4, ..none },
    ];
    for (n, caps) in all.into_iter().enumerate() {
        compare(&store, &mut crs, n, caps).await;
    }
}

/// As when an answer was lost on its way.
#[tokio::test]
async fn what_is_asked_and_told_again_counts_once() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let window = Some(Duration::from_secs(3_600));
    let caps =
        Caps { window, window_tokens: 9_000, total_cost_micro: 9_000, concurrency: 9, ..Caps::default() };
    let again = |key: &str| [0, 0, 1, 1, 2].map(|n| calls(key, caps)[n].clone());
    let ended = |call: &Lease| Ended::call(call.clone(), spent(7, 8));
    let (one, two) = (again("one"), again("two"));
    for call in &one {
        assert_eq!(reserve(&store, call, GIVEN).await, Verdict::Admitted);
    }
    for part in [&two[..3], &two[3..]] {
        assert!(reserve_all(&store, part, GIVEN).await.into_iter().all(|said| said == Ok(Verdict::Admitted)));
    }
    let reserved = kept(&mut crs, "two").await;
    assert_eq!(reserved, kept(&mut crs, "one").await);
    assert_eq!(reserved[..5], ["3", "3", "120", "90", "0"]);
    for call in &one {
        store.spend(&[ended(call)]).await.unwrap();
    }
    for part in [&two[..3], &two[3..]] {
        store.spend(&part.iter().map(ended).collect::<Vec<_>>()).await.unwrap();
    }
    let spent = kept(&mut crs, "two").await;
    assert_eq!(spent, kept(&mut crs, "one").await);
    assert_eq!((&spent[..5], &*spent[6]), (&["0", "3", "0", "0", "24"].map(String::from)[..], "21"));
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_in_nobody_elses_way() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let caps = Caps { concurrency: 9, total_cost_micro: 1_000, ..Caps::default() };
    crs.run("SET switchyard:reserved:bad text").await;
    let all = mixed(calls("bad", caps), calls("good", caps));
    let verdicts = reserve_all(&store, &all, GIVEN).await;
    for pair in verdicts.chunks(2) {
        let Err(StoreError::Other(why)) = &pair[0] else { panic!("{pair:?}") };
        assert!(why.contains("WRONGTYPE"), "{why}");
        assert_eq!(pair[1], Ok(Verdict::Admitted));
    }
    // What Redis has lost of a sound one is there again with the next renewal.
    crs.run("DEL concurrency:good").await;
    store.renew(&all).await.unwrap();
    assert_eq!(kept(&mut crs, "good").await[..2], ["5", "5"]);
    let ended: Vec<_> = all.into_iter().map(|call| Ended::call(call, spent(1, 1))).collect();
    store.spend(&ended).await.unwrap();
    assert_eq!(kept(&mut crs, "good").await[..3], ["0", "5", "0"], "five costs are held");
    // What concerns Redis as a whole is an error of all.
    crs.run("CONFIG SET maxmemory 1").await;
    let caps = Caps { concurrency: 0, ..caps };
    let ask = Ask { call: calls("good", caps).remove(0), today: "2025-09-16".into(), hour: 1, totals: GIVEN };
    let refused = store.reserve(&[ask]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}
