//! Prices, from the shipped table and from files.

use proptest::prelude::*;

use super::*;

fn shipped() -> Prices {
    Prices::load(None, &Metrics::default()).unwrap()
}

fn table(price: &str) -> String {
    let kinds = r#""output":2,"cache_creation_5m":3,"cache_creation_1h":4,"cache_read":5"#;
    format!(r#"{{"models":[{{"match":["m","m-2*"],"input":{price},{kinds}}}]}}"#)
}

#[test]
fn each_kind_of_token_has_its_own_price() {
    let prices = shipped();
    let tokens = Tokens {
        input: 1_000_000,
        output: 1_000_000,
        cache_creation_5m: 1_000_000,
        cache_creation_1h: 1_000_000,
        cache_read: 1_000_000,
    };
    let cost = prices.cost("claude-opus-4-5-20251101", &tokens);
    assert_eq!(cost, Cost { micro_usd: 46_750_000, known: true });
    let alone = |tokens| prices.cost("claude-sonnet-4-5", &tokens).micro_usd;
    assert_eq!(alone(Tokens { input: 1_000_000, ..Tokens::default() }), 3_000_000);
    assert_eq!(alone(Tokens { output: 1_000_000, ..Tokens::default() }), 15_000_000);
    assert_eq!(alone(Tokens { cache_creation_5m: 1_000_000, ..Tokens::default() }), 3_750_000);
    assert_eq!(alone(Tokens { cache_creation_1h: 1_000_000, ..Tokens::default() }), 6_000_000);
    assert_eq!(alone(Tokens { cache_read: 1_000_000, ..Tokens::default() }), 300_000);
}

#[test]
fn a_model_of_the_future_is_not_taken_for_an_older_one() {
    let prices = shipped();
    let tokens = Tokens { input: 1_000, ..Tokens::default() };
    for model in ["claude-opus-4-9", "claude-opus-55", "claude-opus-6", "gpt-5", "", "claude"] {
        assert_eq!(prices.cost(model, &tokens), Cost::default(), "{model}");
    }
    assert!(prices.knows("claude-opus-4-20250514") && prices.knows("claude-opus-4-1-20250805"));
    prices.note_unknown("gpt-5");
    prices.note_unknown("gpt-5");
    assert_eq!(prices.status().unknown["gpt-5"], 2);
}

/// It is counted, and flagged, by that name.
#[test]
fn a_model_without_a_price_of_its_own_has_that_of_the_name_it_is_counted_by() {
    let prices = shipped();
    let (named, tokens) = ("claude-sonnet-4-20250514", Tokens { input: 1_000, ..Tokens::default() });
    let expected = prices.cost(named, &tokens);
    assert!(expected.known && expected.micro_usd > 0);
    for model in ["us.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4-20250514-v1:0"] {
        assert_eq!(prices.cost(model, &tokens), expected, "{model}");
        assert!(prices.knows(model), "{model}");
    }
}

#[test]
fn a_long_prompt_has_its_own_prices() {
    let prices = shipped();
    let cost = |input, cache_read| {
        prices.cost("claude-haiku-5-5", &Tokens { input, cache_read, ..Tokens::default() }).micro_usd
    };
    assert_eq!(cost(100_000, 0), 10_000);
    assert_eq!(cost(100_001, 0), 50_001);
    assert_eq!(cost(1_000, 100_000), 500 + 5_000);
}

#[test]
fn a_sum_is_rounded_once() {
    let prices = shipped();
    // 1 * 0.3 + 1 * 3 + 1 * 15 micro-dollars.
    let tokens = Tokens { input: 1, output: 1, cache_read: 1, ..Tokens::default() };
    assert_eq!(prices.cost("claude-sonnet-4-5", &tokens).micro_usd, 18);
    assert_eq!(prices.cost("claude-sonnet-4-5", &Tokens { cache_read: 2, ..Tokens::default() }).micro_usd, 1);
}

proptest! {
    #[test]
    fn any_count_has_a_cost_and_more_never_costs_less(
        counts in any::<[u64; 5]>(), more in any::<u64>(), which in 0_usize..5,
    ) {
        let prices = shipped();
        let cost = |[input, output, cache_creation_5m, cache_creation_1h, cache_read]: [u64; 5]| {
            let tokens = Tokens { input, output, cache_creation_5m, cache_creation_1h, cache_read };
            prices.cost("claude-opus-4-5", &tokens).micro_usd
        };
        let mut risen = counts;
        risen[which] = risen[which].saturating_add(more);
        prop_assert!(cost(risen) >= cost(counts));
    }
}

#[test]
fn a_table_that_is_wrong_says_where() {
    for (text, says) in [
        (table("-1"), "models[0]: input is -1"),
        (table("1.5"), "models[0]: input is 1.5"),
        (table("\"3\""), "input is \"3\""),
        (table("null"), "input is null"),
        (table("9000000000000"), "input is 9000000000000"),
        (table("1").replace("output", "outputs"), "output is missing"),
        (table("1").replace("\"m-2*\"", "\"m\""), "\"m\" is there twice"),
        (table("1").replace("\"match\"", "\"model\""), "match is missing"),
        (table("1").replace("\"input\"", "\"extra\":1,\"input\""), "extra is not a field"),
        ("{".into(), "not what it should be"),
        (r#"{"models":[]}"#.into(), "names no model"),
    ] {
        let error = Table::parse(&text).err().map(|error| format!("{error:#}"));
        assert!(error.as_ref().is_some_and(|error| error.contains(says)), "{text}: {error:?}");
    }
}

#[test]
fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.json");
    let write = |text: &str| {
        std::fs::write(&path, text).unwrap();
    };
    write(&table("1000000"));
    let prices = Prices::load(Some(&path), &Metrics::default()).unwrap();
    let cost = || prices.cost("m-20260101", &Tokens { input: 7, ..Tokens::default() }).micro_usd;
    assert_eq!(cost(), 7);
    write(&table("10000000"));
    prices.look();
    assert_eq!(cost(), 70);
    for bad in [table("-10000000"), "not JSON".into(), String::new()] {
        write(&bad);
        prices.look();
        assert_eq!(cost(), 70);
        assert!(prices.status().refused.is_some());
    }
    std::fs::remove_file(&path).unwrap();
    prices.look();
    assert_eq!(cost(), 70);
    write(&table("2000000"));
    prices.look();
    assert_eq!((cost(), prices.status().refused), (14, None));
    write(&table("-1"));
    assert!(Prices::load(Some(&path), &Metrics::default()).is_err(), "no start with such a table");
}
