//! The roles.

use crate::store::Receipts;

/// The name of a store in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    Redis,
    Postgres,
}

impl Which {
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }

    /// Its bit among the receipts.
    pub fn receipt(self) -> u8 {
        match self {
            Self::Redis => Receipts::REDIS,
            Self::Postgres => Receipts::POSTGRES,
        }
    }
}
