//! Lists, under the same conditions as scans; and what is counted, under those of a total.

use std::time::Instant;

use super::Side;
use crate::store::kind::USAGE;
use crate::store::list::ListQuery;
use crate::store::maintenance::Windows;
use crate::store::{Kind, Page, Result};
use crate::telemetry::Operation;

impl Side {
    /// As [`crate::store::Backend::list`].
    ///
    /// # Errors
    /// `Unavailable` when the store is down, or may lack some of what was acknowledged.
    pub async fn list(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        self.admit(Operation::Scan)?;
        let began = Instant::now();
        let page = async {
            self.not_as_a_whole()?;
            let page = self.backend.list(kind, query).await?;
            page.records.iter().for_each(|record| self.note_found(record));
            self.absent(kind, page).await
        };
        let result = self.read(page).await;
        self.measure(Operation::Scan, began, result)
    }

    /// As [`crate::store::Maintenance::windows`], of the totals of all time.
    ///
    /// # Errors
    /// `Unavailable` when the store is down, or may lack some of what was acknowledged.
    pub async fn totals(&self, cursor: Option<&str>, limit: u32) -> Result<Windows> {
        self.admit(Operation::Scan)?;
        let began = Instant::now();
        let windows = async {
            self.not_as_a_whole()?;
            let windows = self.backend.windows(cursor, limit, false).await?;
            self.counted()?;
            self.absent(&USAGE, windows).await
        };
        let result = self.read(windows).await;
        self.measure(Operation::Scan, began, result)
    }
}
