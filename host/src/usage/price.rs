//! What tokens cost, from a table that is data: micro-dollars per million tokens, by model.
//!
//! A model that the table does not name costs nothing and is said to be unknown: no price is ever guessed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tracing::{info, warn};

use self::table::{Price, Table};
use super::Tokens;
use crate::store::usage::model_name;
use crate::telemetry::Metrics;

mod table;

/// What a call has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Millionths of a US dollar.
    pub micro_usd: u64,
    /// False when the table has no price for the model; it then costs 0.
    pub known: bool,
}

/// How often the file is looked at, and how large it may be.
const LOOK: Duration = Duration::from_secs(1);
const LARGEST: u64 = 1 << 20;
/// How many unknown models are remembered by name.
const UNKNOWN: usize = 100;
/// The shipped table.
const SHIPPED: &str = include_str!("prices.json");

/// The prices in force.
pub struct Prices {
    table: ArcSwap<Table>,
    file: Option<PathBuf>,
    /// What the file was when it was last read.
    read: Mutex<Option<Stamp>>,
    refused: Mutex<Option<String>>,
    unknown: Mutex<BTreeMap<String, u64>>,
    unpriced: Counter<u64, AtomicU64>,
}

type Stamp = (SystemTime, u64);

/// How it stands with the prices, for people.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Prices)]
pub struct Status {
    /// `shipped`, or the path of the file.
    pub source: String,
    /// How many models and patterns have a price.
    pub patterns: usize,
    /// Why the file as it is now is not in force; the prices before it are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Models without a price that this node has seen since its start, and how often.
    pub unknown: BTreeMap<String, u64>,
}

impl Prices {
    /// The prices of a file, or the shipped ones.
    ///
    /// # Errors
    /// When the file cannot be read or is no table: a start with the wrong prices would be worse than none.
    pub fn load(file: Option<&Path>, metrics: &Metrics) -> Result<Self> {
        let (text, stamp) = match file {
            Some(path) => {
                let (text, stamp) = read(path).with_context(|| format!("--prices {}", path.display()))?;
                (text, Some(stamp))
            }
            None => (SHIPPED.to_owned(), None),
        };
        let table = Table::parse(&text).context("--prices (SWITCHYARD_PRICES)")?;
        let unpriced = Counter::default();
        let help = "Costs asked for of models that the price table does not name.";
        metrics.register("usage_unpriced", help, unpriced.clone());
        Ok(Self {
            table: ArcSwap::from_pointee(table),
            file: file.map(Path::to_owned),
            read: Mutex::new(stamp),
            refused: Mutex::default(),
            unknown: Mutex::default(),
            unpriced,
        })
    }

    /// What these tokens cost, rounded once to the nearest micro-dollar.
    pub fn cost(&self, model: &str, tokens: &Tokens) -> Cost {
        match price(&self.table.load(), model) {
            Some(price) => Cost { micro_usd: price.cost(tokens), known: true },
            None => Cost::default(),
        }
    }

    /// The models that the table names in full, in its order.
    pub fn models(&self) -> Vec<String> {
        self.table.load().names().to_vec()
    }

    /// Whether the table has a price for the model.
    pub fn knows(&self, model: &str) -> bool {
        price(&self.table.load(), model).is_some()
    }

    /// Notes that a call of this model was recorded without a price.
    pub(super) fn note_unknown(&self, model: &str) {
        self.unpriced.inc();
        let mut unknown = self.unknown.lock();
        if let Some(times) = unknown.get_mut(model) {
            *times += 1;
        } else if unknown.len() < UNKNOWN {
            warn!(model, "a model has no price; it is recorded at no cost until the table names it");
            unknown.insert(model.to_owned(), 1);
        }
    }

    pub fn status(&self) -> Status {
        Status {
            source: self.file.as_ref().map_or("shipped".into(), |file| file.display().to_string()),
            patterns: self.table.load().len(),
            refused: self.refused.lock().clone(),
            unknown: self.unknown.lock().clone(),
        }
    }

    /// Takes the file over whenever it changes, for as long as the task lives.
    pub async fn run(self: Arc<Self>) {
        while self.file.is_some() {
            tokio::time::sleep(LOOK).await;
            let prices = self.clone();
            // A look that fails is followed by the next one.
            let _ = tokio::task::spawn_blocking(move || prices.look()).await;
        }
    }

    /// Takes the file over if it has changed. One that is no table changes nothing but what [`Self::status`] says.
    pub fn look(&self) {
        let Some(path) = &self.file else { return };
        let looked = stamp(path).and_then(|now| match *self.read.lock() == Some(now) {
            true => Ok(None),
            false => read(path).map(Some),
        });
        let taken = match looked {
            Ok(None) => return,
            Ok(Some((text, stamp))) => {
                *self.read.lock() = Some(stamp);
                Table::parse(&text)
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(table) => {
                info!(patterns = table.len(), "the price table was read anew");
                self.table.store(Arc::new(table));
                *self.refused.lock() = None;
            }
            Err(error) => self.refuse(format!("{error:#}")),
        }
    }

    fn refuse(&self, why: String) {
        let mut refused = self.refused.lock();
        if refused.as_ref() != Some(&why) {
            warn!(%why, "the price table is refused; the prices before it stay");
            *refused = Some(why);
        }
    }
}

/// By the model's own name, or by the one under which it is counted: without a region and a version.
fn price<'a>(table: &'a Table, model: &str) -> Option<&'a Price> {
    table.price(model).or_else(|| table.price(&model_name(model)))
}

fn stamp(path: &Path) -> Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len()))
}

/// The stamp is taken first: a change in between is found at the next look.
fn read(path: &Path) -> Result<(String, Stamp)> {
    let stamp = stamp(path)?;
    anyhow::ensure!(stamp.1 <= LARGEST, "a price table has at most {LARGEST} bytes");
    Ok((std::fs::read_to_string(path)?, stamp))
}

#[cfg(test)]
mod tests;
