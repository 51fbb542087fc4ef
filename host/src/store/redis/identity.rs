//! Who the server and its data are. A restart may have lost what was not on the disk yet: the data counts as verified
//! only in the run for which somebody has said so.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use redis::Value;

use super::call::Effect;
use super::{Redis, layout, script};
use crate::store::Result;
use crate::store::identity::{Identity, Lineage, Recount, Recounted, Seen};

/// How long a right to repair lasts without being renewed, in milliseconds.
pub(super) const CLAIM_MS: u64 = 10_000;

impl Redis {
    async fn identify(&self, effect: Effect, arguments: &[&str]) -> Result<Value> {
        let mut act = script::IDENTITY.key(layout::IDENTITY);
        act.key(layout::HIGH).key(layout::COUNTERPART).key(layout::REPAIR).key(layout::COMPLETE);
        act.arg(arguments);
        self.wire.begin()?.script(effect, &act).await
    }

    /// Whether it was allowed.
    async fn act(&self, arguments: &[&str]) -> Result<bool> {
        let answer = self.identify(Effect::Writes, arguments).await?;
        Ok(layout::integer(&answer) == Some(1))
    }

    async fn remember_as(&self, other: &Seen, replace: &str) -> Result<()> {
        self.act(&["remember", &other.incarnation, &other.mark.to_string(), replace]).await.map(drop)
    }
}

#[async_trait]
impl Lineage for Redis {
    fn contact(&self) -> u64 {
        self.wire.contact.load(Ordering::Acquire)
    }

    async fn identity(&self) -> Result<Option<Identity>> {
        let answer = self.identify(Effect::Reads, &["read"]).await?;
        let [run, identity, high, counterpart] = layout::array(answer)?;
        let (run, mut own, mut other) = (layout::text(run)?, hash(identity)?, hash(counterpart)?);
        let mark = layout::integer(&high).unwrap_or(0).max(0) as u64;
        let verified = own.remove("verified");
        let seen_mark = other.remove("mark").and_then(|mark| mark.parse().ok()).unwrap_or(0);
        Ok(Some(Identity {
            incarnation: own.remove("incarnation"),
            synced: verified.is_some() && own.get("synced") == verified.as_ref(),
            verified: verified.as_ref() == Some(&run),
            run,
            mark,
            beat: mark,
            counterpart: other.remove("incarnation").map(|incarnation| Seen { incarnation, mark: seen_mark }),
        }))
    }

    async fn beat(&self, other: Option<&Seen>) -> Result<u64> {
        if let Some(other) = other {
            self.remember_as(other, "0").await?;
        }
        Ok(0)
    }

    async fn remember(&self, other: &Seen) -> Result<()> {
        self.remember_as(other, "1").await
    }

    async fn claim(&self, holder: &str, renew: bool) -> Result<bool> {
        self.act(&["claim", holder, &CLAIM_MS.to_string(), if renew { "1" } else { "0" }]).await
    }

    async fn doubt(&self, incarnation: &str) -> Result<()> {
        self.act(&["doubt", incarnation]).await.map(drop)
    }

    async fn vouch(&self, holder: Option<&str>, run: &str, _above: u64) -> Result<bool> {
        self.act(&["vouch", holder.unwrap_or_default(), run]).await
    }

    async fn note_synced(&self, synced: bool) -> Result<()> {
        self.act(&["sync", if synced { "1" } else { "0" }]).await.map(drop)
    }

    /// The cursor is the server's own.
    async fn recount(&self, holder: &str, step: Recount) -> Result<Recounted> {
        self.take_recount_step(holder, step).await
    }
}

fn hash(flat: Value) -> Result<HashMap<String, String>> {
    let texts = layout::list(flat)?.into_iter().map(layout::text).collect::<Result<Vec<_>>>()?;
    Ok(texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}
