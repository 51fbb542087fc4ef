//! Lookups: all that wait, of one kind by one column, are one `= any($1)`.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::lane::{Job, Reply};
use super::{failure, row};
use crate::store::clock::now_ms;
use crate::store::usage::COUNTERS;
use crate::store::{Kind, Record, Result, StoreError, kind};

/// The column of the primary key. An index has a column of its own name.
pub(super) const ID: &str = "id";

/// A lookup of one record.
pub(super) struct Read {
    pub(super) kind: &'static Kind,
    pub(super) column: &'static str,
    pub(super) value: Arc<str>,
    pub(super) reply: Reply<Option<Arc<Record>>>,
}

impl Job for Read {
    type Group = (&'static Kind, &'static str);

    fn group(&self) -> Self::Group {
        (self.kind, self.column)
    }

    async fn run((kind, column): Self::Group, reads: Vec<Self>, connection: &mut PgConnection) -> Result<()> {
        let values: Vec<&str> = reads.iter().map(|read| &*read.value).collect();
        let mut query = sqlx::query(AssertSqlSafe(statement(kind, column))).bind(values);
        if *kind != kind::USAGE {
            query = query.bind(now_ms());
        }
        let rows = query.fetch_all(connection).await;
        match rows {
            Ok(rows) => {
                answer(kind, reads, &rows);
                Ok(())
            }
            Err(error) => {
                let error = failure::of_read(&error);
                reads.into_iter().for_each(|read| read.refuse(error.clone()));
                if failure::spares_connection(&error) { Ok(()) } else { Err(error) }
            }
        }
    }

    fn refuse(self, error: StoreError) {
        // Nobody may wait any more.
        let _ = self.reply.send(Err(error));
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The lookup of values ($1), of records at a time ($2). By id it answers tombstones too. Of several live records with
/// one value the last row has the greatest version.
fn statement(kind: &'static Kind, column: &'static str) -> String {
    if *kind == kind::USAGE {
        let counters = COUNTERS.join(", ");
        return format!("select id as value, id, {counters} from usage_total where id = any($1)");
    }
    let (live, order) = if column == ID { ("", "") } else { ("and not deleted", "order by version") };
    format!(
        "select {column} as value, {} from {} \
         where {column} = any($1) {live} and (expires_at is null or expires_at > $2) {order}",
        row::COLUMNS,
        kind.name
    )
}

/// A record that cannot be read spoils its own lookup only.
fn answer(kind: &'static Kind, reads: Vec<Read>, rows: &[PgRow]) {
    let read_row = |row| if *kind == kind::USAGE { row::totals(kind, row) } else { row::record(kind, row) };
    let found: HashMap<&str, &PgRow> =
        rows.iter().filter_map(|row| Some((row.try_get::<&str, _>("value").ok()?, row))).collect();
    for read in reads {
        let record = found.get(&*read.value).map(|row| read_row(row)).transpose();
        // Nobody may wait any more.
        let _ = read.reply.send(record.map_err(|error| failure::of_read(&error)));
    }
}
