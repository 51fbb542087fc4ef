//! Usage events, each counted once.

use std::collections::HashSet;

use jiff::tz::Offset;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};

use super::super::super::Mark;
use super::super::super::usage::{COUNTERS, Usage, UsageEvent};
use super::super::row;
use super::Group;

/// Each event is `[id, key_id, at, event]`.
const INSERT: &str = "insert into usage_event (id, key_id, at, owed, event)
    select value ->> 0, value ->> 1, value ->> 2, ?2, value -> 3 from json_each(?1)
    where true on conflict do nothing returning id";

impl Group<'_> {
    /// Records the events and answers how many of them were new.
    pub(super) async fn count(
        &mut self,
        events: &[UsageEvent],
        offset: Offset,
        mark: Mark,
    ) -> sqlx::Result<u64> {
        let rows: Vec<_> =
            events.iter().map(|event| (&event.id, &event.key_id, event.at.as_millisecond(), event)).collect();
        let inserted = sqlx::query(INSERT)
            .bind(Json(rows))
            .bind(mark == Mark::Dirty)
            .fetch_all(&mut *self.transaction)
            .await?;
        let mut ids = inserted.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<HashSet<&str>>>()?;
        // Of two events with one id the first was inserted, and it counts.
        let new = events.iter().filter(|event| ids.remove(event.id.as_str()));
        for (id, counts) in Usage::fold(new, offset) {
            let total = self.totals.entry(id).or_default();
            total.iter_mut().zip(counts).for_each(|(total, count)| *total = total.saturating_add(count));
        }
        Ok(inserted.len() as u64)
    }

    /// Adds what the group counted to the stored totals.
    pub(super) async fn write_totals(&mut self) -> sqlx::Result<()> {
        if self.totals.is_empty() {
            return Ok(());
        }
        let totals: Vec<_> = self.totals.iter().collect();
        let statement = sqlx::query(AssertSqlSafe(add_totals())).bind(Json(totals));
        statement.execute(&mut *self.transaction).await.map(drop)
    }
}

/// Each total is `[id, [count, ...]]`.
fn add_totals() -> String {
    let values: String = (0..COUNTERS.len()).map(|i| format!(", value ->> '$[1][{i}]'")).collect();
    // SQLite turns an overflow into a double, which is greater than the greatest integer.
    let sums = COUNTERS.map(|name| format!("{name} = min({name} + excluded.{name}, {})", i64::MAX));
    format!(
        "insert into usage_total (id, {}) select value ->> 0{values} from json_each(?) where true
         on conflict (id) do update set {}",
        row::counters(),
        sums.join(", ")
    )
}
