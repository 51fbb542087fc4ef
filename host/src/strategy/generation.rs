//! What is active: one generation behind an atomic pointer, and the drain of the one before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::engine::{Digest, Needs};
use crate::store::Store;
use crate::store::memory::Memory;
use crate::store::side::Sides;

/// One activation of one version of a strategy. A request holds the generation it began with to its end;
/// when the last holder lets go, the generation is drained.
pub struct Generation {
    /// Counts activations, across restarts.
    pub number: u64,
    pub name: String,
    pub digest: Digest,
    pub needs: Needs,
    pub store: Arc<dyn Store>,
    /// A successor is on its way: what this generation acknowledges from now on is in both stores, as far
    /// as they can be reached, so that the successor reads it wherever it looks.
    pub handover: bool,
    drained: Drained,
}

impl Generation {
    pub fn new(number: u64, name: &str, digest: Digest, needs: Needs, store: Arc<dyn Store>) -> Self {
        let drained = Drained::default();
        Self { number, name: name.to_owned(), digest, needs, store, handover: false, drained }
    }

    /// What is active before anything is: it is never asked, because serving begins afterwards.
    pub(super) fn before_any(sides: &Sides) -> Self {
        let side = sides.postgres.as_ref().or(sides.redis.as_ref());
        let store: Arc<dyn Store> = match side {
            Some(side) => side.clone(),
            None => Arc::new(Memory::new(0)),
        };
        Self::new(0, "", Digest::of(b""), Needs { redis: false, postgres: false }, store)
    }

    /// The same activation, which from now on hands over.
    pub fn handing_over(&self) -> Self {
        Self {
            number: self.number,
            name: self.name.clone(),
            digest: self.digest.clone(),
            needs: self.needs,
            store: self.store.clone(),
            handover: true,
            drained: Drained::default(),
        }
    }

    /// `NAME@GENERATION`, as answers carry it.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.number)
    }
}

/// Tells, when dropped, that the last holder of a generation has let go.
#[derive(Default)]
struct Drained(parking_lot::Mutex<Option<oneshot::Sender<()>>>);

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.get_mut().take() {
            // Whoever waited has given up when this fails.
            let _ = waiting.send(());
        }
    }
}

/// What became of the requests of a generation after it was replaced.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct DrainReport {
    /// Requests in flight at the moment of the switch.
    pub in_flight: usize,
    /// Whether all of them ended before the deadline.
    pub drained: bool,
    /// Until the last one ended, or the deadline.
    pub after_ms: f64,
}

/// The pointer to the active generation.
pub struct Active {
    current: ArcSwap<Generation>,
    switching: AtomicBool,
}

impl Active {
    pub fn new(first: Generation) -> Self {
        Self { current: ArcSwap::from_pointee(first), switching: AtomicBool::new(false) }
    }

    /// The active generation, held for as long as the request lasts.
    pub fn enter(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Replaces the active generation, and waits at most `deadline` for the requests of the old one.
    pub async fn replace(&self, next: Generation, deadline: Duration) -> DrainReport {
        let began = Instant::now();
        let (sender, drained) = oneshot::channel();
        let old = self.current.swap(Arc::new(next));
        *old.drained.0.lock() = Some(sender);
        let in_flight = Arc::strong_count(&old) - 1;
        drop(old);
        let drained = tokio::time::timeout(deadline, drained).await.is_ok();
        DrainReport { in_flight, drained, after_ms: began.elapsed().as_secs_f64() * 1_000.0 }
    }

    /// Claims the right to switch; none while another switch is under way.
    pub fn begin_switch(&self) -> Option<Switching<'_>> {
        let claimed = self.switching.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        claimed.ok().map(|_| Switching(self))
    }
}

/// The right to switch, given back when dropped.
pub struct Switching<'a>(&'a Active);

impl Drop for Switching<'_> {
    fn drop(&mut self) {
        self.0.switching.store(false, Ordering::Release);
    }
}
