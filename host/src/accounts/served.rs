//! What the accounts of a key serve altogether.

use std::collections::BTreeSet;

use super::{Accounts, NoAccount, pools};
use crate::store::clock::now_ms;

/// Names of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// Whatever it is called: an account does not say.
    Any,
    Only(BTreeSet<String>),
}

impl Served {
    pub fn has(&self, model: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(models) => models.iter().any(|known| known.eq_ignore_ascii_case(model)),
        }
    }

    /// Those that accounts name.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        let named = match self {
            Self::Any => None,
            Self::Only(models) => Some(models),
        };
        named.into_iter().flatten().map(String::as_str)
    }
}

impl Accounts {
    /// What a key with this binding can ask for, whether or not the accounts rest at the moment.
    ///
    /// # Errors
    /// When the accounts cannot be read.
    pub async fn served(&self, bound: Option<&str>) -> Result<Served, NoAccount> {
        let snapshot = self.snapshots.current().await.map_err(NoAccount::Store)?;
        let (mut served, now) = (BTreeSet::new(), now_ms());
        for account in pools(&snapshot, bound)?.into_iter().flatten().filter(|account| account.serves(now)) {
            match account.models() {
                None => return Ok(Served::Any),
                Some(models) => served.extend(models.map(str::to_owned)),
            }
        }
        Ok(Served::Only(served))
    }
}
