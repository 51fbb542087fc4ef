//! Opening balances: what another store counted before.

use jiff::tz::Offset;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};

use super::super::super::clock::now_ms;
use super::super::super::maintenance::Counted;
use super::super::super::usage::{COUNTERS, Counts, Usage, UsageEvent};
use super::super::row;
use super::Group;

impl Group<'_> {
    /// Raises totals to what is held elsewhere plus what is owed to there; answers how many it raised.
    pub(super) async fn open(&mut self, held: &[Counted], offset: Offset, from: &str) -> sqlx::Result<u64> {
        // What the calls before this one have counted belongs to the totals.
        self.write_totals().await?;
        self.totals.clear();
        let owed = Usage::fold(&self.owed().await?, offset);
        let totals = self.totals_of(held).await?;
        let lacking = held.iter().filter_map(|(id, held)| {
            let of = |counts: Option<&Counts>, i: usize| counts.map_or(0, |counts| counts[i]);
            let less = |i: usize| {
                held[i].saturating_add(of(owed.get(id), i)).saturating_sub(of(totals.get(id), i)).max(0)
            };
            let counts: Counts = std::array::from_fn(less);
            counts.iter().any(|count| *count > 0).then(|| (id.clone(), counts))
        });
        let lacking: std::collections::BTreeMap<String, Counts> = lacking.collect();
        let raised = lacking.len() as u64;
        self.keep_opening(&lacking.iter().collect::<Vec<_>>(), from).await?;
        self.totals = lacking;
        self.write_totals().await?;
        self.totals.clear();
        Ok(raised)
    }

    /// The events that the other store has not counted.
    async fn owed(&mut self) -> sqlx::Result<Vec<UsageEvent>> {
        let select = "select event from usage_event where owed = 1";
        let rows = sqlx::query(select).fetch_all(&mut *self.transaction).await?;
        rows.iter().map(|row| Ok(row.try_get::<Json<UsageEvent>, _>(0)?.0)).collect()
    }

    async fn totals_of(
        &mut self,
        held: &[Counted],
    ) -> sqlx::Result<std::collections::HashMap<String, Counts>> {
        let ids: Vec<_> = held.iter().map(|(id, _)| id).collect();
        let select = format!(
            "select id, {} from usage_total where id in (select value from json_each(?))",
            row::counters()
        );
        let rows =
            sqlx::query(AssertSqlSafe(select)).bind(Json(ids)).fetch_all(&mut *self.transaction).await?;
        rows.iter().map(row::counted).collect()
    }

    async fn keep_opening(&mut self, lacking: &[(&String, &Counts)], from: &str) -> sqlx::Result<()> {
        let values: String = (0..COUNTERS.len()).map(|i| format!(", value ->> '$[1][{i}]'")).collect();
        let sums = COUNTERS.map(|name| format!("{name} = min({name} + excluded.{name}, {})", i64::MAX));
        let insert = format!(
            "insert into usage_opening (id, imported_at, source, {})
             select value ->> 0, ?2, ?3{values} from json_each(?1) where true
             on conflict (id) do update set imported_at = excluded.imported_at, source = excluded.source, {}",
            row::counters(),
            sums.join(", ")
        );
        sqlx::query(AssertSqlSafe(insert))
            .bind(Json(lacking))
            .bind(now_ms())
            .bind(from)
            .execute(&mut *self.transaction)
            .await
            .map(drop)
    }
}
