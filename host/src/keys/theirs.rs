//! Keys that Claude Relay Service has hashed, where nothing here can recognise them.

use std::sync::Arc;
use std::time::Duration;

use super::Keys;
use crate::store::kind::API_KEY;
use crate::store::takeover::is_theirs;
use crate::store::{MAX_PAGE, Record, Result};

/// How often it is looked while the stores cannot say, and how long it waits in between.
const ATTEMPTS: u32 = 120;
const PAUSE: Duration = Duration::from_secs(5);
/// How many pages are looked through: a hundred thousand keys.
const MAX_PAGES: u32 = 100;

impl Keys {
    /// Warns once if there are keys that only `ENCRYPTION_KEY` would let in. For where it is not given.
    pub async fn warn_of_theirs(self: Arc<Self>, known: bool) {
        if known {
            return;
        }
        for _ in 0..ATTEMPTS {
            match self.has_theirs().await {
                Ok(false) => return,
                Ok(true) => {
                    tracing::warn!(
                        "API keys of Claude Relay Service are here, and ENCRYPTION_KEY is not given: clients that \
                         present them are answered 401. Start with that program's ENCRYPTION_KEY"
                    );
                    return;
                }
                // The stores are not there yet, or are being filled.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn has_theirs(&self) -> Result<bool> {
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = self.records.scan(&API_KEY, cursor.as_deref(), MAX_PAGE).await?.value;
            if page.records.iter().any(|record| needs_their_key(record)) {
                return Ok(true);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(false)
    }
}

fn needs_their_key(record: &Record) -> bool {
    let field = |name: &str| record.fields.get(name).map_or("", String::as_str);
    field("apiKey").len() == 64 && field("isDeleted") != "true" && is_theirs(&record.key.id)
}
