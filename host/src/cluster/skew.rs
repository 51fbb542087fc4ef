//! This node's clock beside those of the stores: a node that no store agrees with gives no versions.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::store::clock::Reading;
use crate::store::side::{Side, Sides};
use crate::store::{Clock, StoreError};

/// How often the clocks are compared, and how often as long as none could be.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));

/// Until the clocks have been compared once, no version is given: one from a wrong clock would stay for long.
pub fn doubt(clock: &Clock, sides: &Sides) {
    if shared(sides).next().is_some() {
        let why = "this node's clock has not yet been held against a store's";
        clock.refuse(StoreError::Unavailable(why.into()));
    }
}

/// Compares for ever.
pub async fn run(clock: Arc<Clock>, sides: Sides) {
    let mut pause = EVERY.1;
    while shared(&sides).next().is_some() {
        if compare(&clock, &sides).await {
            pause = EVERY.0;
        }
        sleep(pause).await;
    }
}

/// Compares the clock with every store that can be reached, and allows or refuses writes accordingly. Answers
/// whether one could be reached; if not, nothing changes.
///
/// One store that agrees is enough: then the clock of the other one is wrong, and no version is taken from a
/// store's clock.
pub async fn compare(clock: &Clock, sides: &Sides) -> bool {
    let readings = shared(sides).map(|side| async move { (side, clock.read(side.backend.time()).await) });
    let readings = futures::future::join_all(readings).await;
    let reached = readings.iter().filter_map(|(side, reading)| Some((&***side, *reading.as_ref().ok()?)));
    let (off, agreeing): (Vec<_>, Vec<_>) = reached.partition(|(_, reading)| reading.is_skewed());
    match (agreeing.first(), off.first()) {
        (Some((right, _)), odd) => trust(clock, right, odd),
        (None, Some((side, reading))) => refuse(clock, side, reading),
        (None, None) => {}
    }
    !(agreeing.is_empty() && off.is_empty())
}

/// This clock is right by one store. Another that is off is named.
fn trust(clock: &Clock, right: &Side, odd: Option<&(&Side, Reading)>) {
    if clock.check().is_err() {
        tracing::info!(store = right.which.name(), "the clock agrees with the store's clock");
    }
    clock.trust();
    let why = odd.map(|(side, reading)| {
        let (odd, right) = (side.which.name(), right.which.name());
        let (by, direction) = (seconds(reading), if reading.ahead > 0 { "behind" } else { "ahead of" });
        format!(
            "the clock of {odd} is {by:.1} s {direction} those of this node and of {right}: records are written \
             by theirs; let NTP set the clock of {odd} (chrony, systemd-timesyncd)"
        )
    });
    match (clock.odd_store(), &why) {
        (None, Some(why)) => tracing::error!("{why}"),
        (Some(_), None) => tracing::info!("no store's clock is off any more"),
        _ => {}
    }
    clock.set_odd_store(why);
}

fn refuse(clock: &Clock, side: &Side, reading: &Reading) {
    let direction = if reading.ahead > 0 { "ahead of" } else { "behind" };
    let why = format!(
        "this node's clock is {:.1} s {direction} that of {}: it writes no records until they agree; let NTP \
         set the clock (chrony, systemd-timesyncd)",
        seconds(reading),
        side.which.name()
    );
    if !matches!(clock.check(), Err(StoreError::ClockSkewed(_))) {
        tracing::error!("{why}");
    }
    clock.refuse(StoreError::ClockSkewed(why));
}

/// How far two clocks are apart.
fn seconds(reading: &Reading) -> f64 {
    reading.ahead.unsigned_abs() as f64 / 1_000_000.0
}

/// The stores that have a clock of their own.
fn shared(sides: &Sides) -> impl Iterator<Item = &Arc<Side>> {
    [&sides.redis, &sides.postgres].into_iter().flatten().filter(|side| side.backend.board().is_some())
}
