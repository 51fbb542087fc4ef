//! Lists, under the same conditions as scans.

use std::time::Instant;

use super::Side;
use crate::store::list::ListQuery;
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
            self.absent(kind, page).await
        };
        let result = self.read(page).await;
        self.measure(Operation::Scan, began, result)
    }
}
