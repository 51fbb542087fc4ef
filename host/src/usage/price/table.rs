//! The price table: parsed strictly, looked up by the longest pattern.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Included, Unbounded};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::store::usage::MAX_COUNT;
use crate::usage::Tokens;

/// Prices are per this many tokens.
const PER: u128 = 1_000_000;
/// The highest price there may be: a million dollars per million tokens.
const HIGHEST: u64 = 1_000_000_000_000;
const KINDS: [&str; 5] = ["input", "output", "cache_creation_5m", "cache_creation_1h", "cache_read"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    models: Vec<Map<String, Value>>,
}

/// Prices in micro-dollars per million tokens, in the order of [`KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates([u64; KINDS.len()]);

/// The prices of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    rates: Rates,
    /// From a prompt of more than this many tokens on: these prices for the whole call.
    long_prompt: Option<(u64, Rates)>,
}

impl Price {
    /// In micro-dollars, half of one rounded up, at most what an event may count.
    pub(super) fn cost(&self, tokens: &Tokens) -> u64 {
        let Rates(rates) = match self.long_prompt {
            Some((over, rates)) if tokens.prompt() > over => rates,
            _ => self.rates,
        };
        let Tokens { input, output, cache_creation_5m, cache_creation_1h, cache_read } = *tokens;
        let counts = [input, output, cache_creation_5m, cache_creation_1h, cache_read];
        // At most 5 * 2^64 * 10^12, which is below 2^128.
        let sum: u128 = counts.iter().zip(rates).map(|(n, rate)| u128::from(*n) * u128::from(rate)).sum();
        u64::try_from((sum + PER / 2) / PER).unwrap_or(u64::MAX).min(MAX_COUNT)
    }
}

/// Prices by model, and by what names of models begin with.
pub(super) struct Table {
    exact: HashMap<String, Price>,
    prefixes: BTreeMap<String, Price>,
    /// Those of `exact`, as they stand in the file.
    names: Vec<String>,
}

impl Table {
    /// # Errors
    /// Names what is wrong and where.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let File { models } =
            serde_json::from_str(text).context("the price table is not what it should be")?;
        ensure!(!models.is_empty(), "the price table names no model");
        let mut table = Self { exact: HashMap::new(), prefixes: BTreeMap::new(), names: Vec::new() };
        for (index, model) in models.into_iter().enumerate() {
            table.take(model).with_context(|| format!("models[{index}]"))?;
        }
        Ok(table)
    }

    fn take(&mut self, mut model: Map<String, Value>) -> Result<()> {
        let patterns = match model.remove("match") {
            Some(Value::String(one)) => vec![one],
            Some(patterns) => serde_json::from_value(patterns).context("match is a list of texts")?,
            None => bail!("match is missing"),
        };
        let long_prompt = match model.remove("long_prompt") {
            None => None,
            Some(Value::Object(mut long)) => {
                let over = whole(&mut long, "over").context("long_prompt")?;
                Some((over, rates(long).context("long_prompt")?))
            }
            Some(_) => bail!("long_prompt is an object"),
        };
        let price = Price { rates: rates(model)?, long_prompt };
        ensure!(!patterns.is_empty(), "match is empty");
        patterns.into_iter().try_for_each(|pattern| self.add(pattern, price))
    }

    fn add(&mut self, pattern: String, price: Price) -> Result<()> {
        let held = match pattern.strip_suffix('*') {
            Some(prefix) => self.prefixes.insert(prefix.to_owned(), price),
            None => self.exact.insert(pattern.clone(), price),
        };
        ensure!(held.is_none(), "{pattern:?} is there twice");
        if self.exact.contains_key(&pattern) {
            self.names.push(pattern);
        }
        Ok(())
    }

    /// The price of a model by its name, or else by the longest pattern that it begins with.
    pub(super) fn price(&self, model: &str) -> Option<&Price> {
        let longest = || {
            let before = self.prefixes.range::<str, _>((Unbounded, Included(model)));
            before.rev().find(|(prefix, _)| model.starts_with(prefix.as_str())).map(|(_, price)| price)
        };
        self.exact.get(model).or_else(longest)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn len(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }
}

fn rates(mut object: Map<String, Value>) -> Result<Rates> {
    let mut rates = [0; KINDS.len()];
    for (rate, kind) in rates.iter_mut().zip(KINDS) {
        *rate = whole(&mut object, kind)?;
    }
    match object.keys().next() {
        Some(unknown) => bail!("{unknown} is not a field of a price"),
        None => Ok(Rates(rates)),
    }
}

fn whole(object: &mut Map<String, Value>, field: &str) -> Result<u64> {
    let value = object.remove(field).with_context(|| format!("{field} is missing"))?;
    let whole = value.as_u64().filter(|value| *value <= HIGHEST);
    whole.with_context(|| format!("{field} is {value}, not a whole number from 0 to {HIGHEST}"))
}
