//! What usage counters say, read as every record is.

use crate::store::allowance::Totals;
use crate::store::kind::USAGE;
use crate::store::usage::Window;
use crate::store::{Key, Result, StoreError};
use crate::strategy::records::Records;

use super::calendar::Calendar;

/// What a key has cost today, in its week and ever.
///
/// # Errors
/// When a store that is to be read may lack something.
pub(super) async fn read(records: &Records, key_id: &str, now: &Calendar) -> Result<Totals> {
    let week = now.week().into_iter().map(|window| cost(records, key_id, window));
    let (daily, week, total) = tokio::join!(
        cost(records, key_id, Window::Daily(now.today().to_owned())),
        futures::future::try_join_all(week),
        cost(records, key_id, Window::Total),
    );
    Ok(Totals { daily: daily?, weekly: week?.iter().sum(), total: total? })
}

async fn cost(records: &Records, key_id: &str, window: Window) -> Result<u64> {
    let key = Key::new(&USAGE, &format!("{key_id}:{window}"));
    let key = key.map_err(|error| StoreError::Unsupported(error.to_string()))?;
    let counted = records.get(&key).await?.value;
    Ok(counted.and_then(|record| record.fields.get("cost_micro_usd")?.parse().ok()).unwrap_or(0))
}
