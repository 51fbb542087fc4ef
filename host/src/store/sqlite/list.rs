//! Lists, by indexes on what they are sorted by.

use sqlx::AssertSqlSafe;

use super::{Sqlite, row};
use crate::store::clock::now_ms;
use crate::store::list::{self, ListQuery};
use crate::store::{Kind, Page, Result};

impl Sqlite {
    pub(super) async fn list_records(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        list::listed(kind)?;
        let statement = query.statement(kind, row::COLUMNS, "instr", now_ms());
        // Not kept as a prepared statement: the time is a part of its text.
        let mut select = sqlx::query(AssertSqlSafe(statement.sql)).persistent(false);
        for text in statement.texts {
            select = select.bind(text);
        }
        let rows = self.list(select).await?;
        let records = rows.iter().map(|row| row::record(kind, row)).collect::<Result<_>>()?;
        Ok(query.page_of(records))
    }
}
