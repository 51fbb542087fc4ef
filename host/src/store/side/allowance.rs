//! Limits through a side: its breaker learns from them, too.

use super::Side;
use crate::store::allowance::{Allowance, Ask, Ended, Lease, Verdict};
use crate::store::breaker::Circuit;
use crate::store::{Result, StoreError};

impl Side {
    /// Whether nodes share limits here, be the store up or not.
    pub fn shares_limits(&self) -> bool {
        self.backend.allowance().is_some()
    }

    /// As [`Allowance::reserve`].
    pub async fn reserve(&self, asks: &[Ask]) -> Result<Vec<Result<Verdict>>> {
        let allowance = self.allowance()?;
        self.ask(Circuit::Writes, allowance.reserve(asks)).await
    }

    /// As [`Allowance::spend`].
    pub async fn spend(&self, ended: &[Ended]) -> Result<()> {
        let allowance = self.allowance()?;
        self.ask(Circuit::Writes, allowance.spend(ended)).await
    }

    /// As [`Allowance::renew`].
    pub async fn renew(&self, live: &[Lease]) -> Result<()> {
        let allowance = self.allowance()?;
        self.ask(Circuit::Writes, allowance.renew(live)).await
    }

    fn allowance(&self) -> Result<&dyn Allowance> {
        self.breaker.admit(Circuit::Writes)?;
        let alone = || StoreError::Unavailable(format!("{} shares no limits", self.which.name()));
        self.backend.allowance().ok_or_else(alone)
    }
}
