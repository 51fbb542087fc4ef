//! Lists, by indexes on what they are sorted by.

use sqlx::AssertSqlSafe;

use super::reserve::Reserve;
use super::{failure, row};
use crate::store::clock::now_ms;
use crate::store::list::{self, ListQuery};
use crate::store::{Kind, Page, Result};

/// As [`crate::store::Backend::list`].
pub(super) async fn list(reserve: &Reserve, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
    list::listed(kind)?;
    let statement = query.statement(kind, row::COLUMNS, "strpos", now_ms());
    let mut loan = reserve.lend().await?;
    // Not kept as a prepared statement: the time is a part of its text.
    let mut select = sqlx::query(AssertSqlSafe(statement.sql)).persistent(false);
    for text in statement.texts {
        select = select.bind(text);
    }
    let rows = select.fetch_all(loan.connection()).await;
    let rows = rows.and_then(|rows| rows.iter().map(|row| row::record(kind, row)).collect());
    Ok(query.page_of(loan.end(rows, failure::of_read)?))
}
