//! An open load: requests begin when their time has come, whether or not others have ended.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::call::Caller;
use crate::history::{At, Entry, KeyIndex, Op, Outcome, SECOND, Window};
use crate::keys::{HOT, KEYS, has_index, subject};
use crate::random::Random;

/// Clients of each host. Each has at most one call of each record in its mind, the newest.
const CLIENTS: usize = 12;
/// Calls of one host that may be under way: more than it gets while it is stopped, until clients give up.
const IN_FLIGHT: usize = 1_000;
/// A wait of a few milliseconds that took this much longer means that the machine was busy.
const STALL: At = SECOND / 4;

/// Keeps what came of every call.
pub struct Recorder {
    pub caller: Caller,
    entries: Mutex<Vec<Entry>>,
    stalls: Mutex<Vec<Window>>,
    writes: AtomicU64,
    events: AtomicU64,
    in_flight: AtomicUsize,
    dropped: AtomicU64,
}

impl Recorder {
    pub fn new(caller: Caller) -> Arc<Self> {
        let (entries, stalls) = Default::default();
        let (writes, events) = (AtomicU64::new(1), AtomicU64::new(1));
        let (in_flight, dropped) = Default::default();
        Arc::new(Self { caller, entries, stalls, writes, events, in_flight, dropped })
    }

    pub fn put(&self) -> Op {
        Op::Put(self.writes.fetch_add(1, Ordering::Relaxed))
    }

    pub fn add(&self, events: u64) -> Op {
        let first = self.events.fetch_add(events, Ordering::Relaxed);
        Op::Add((first..first + events).collect())
    }

    /// Calls that were due and did not begin.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls, and keeps what came of it.
    pub async fn record(&self, host: u8, client: u16, key: KeyIndex, op: Op) -> Entry {
        let writes = usize::from(op.changes());
        self.in_flight.fetch_add(writes, Ordering::Relaxed);
        let entry = self.caller.call(host, client, key, op).await;
        self.in_flight.fetch_sub(writes, Ordering::Relaxed);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry.clone());
        entry
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What ended at or after a moment.
    pub fn since(&self, at: At) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter()
            .rev()
            .take_while(|entry| entry.ended + SECOND >= at)
            .filter(|e| e.ended >= at)
            .cloned()
            .collect()
    }

    /// How much time there was since a moment in which others left enough of the machine.
    pub fn time_since(&self, at: At) -> At {
        let now = self.caller.now();
        let busy = |stall: &Window| stall.to.min(now).saturating_sub(stall.from.max(at));
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        (now - at).saturating_sub(stalls.iter().map(busy).sum())
    }

    /// Others use much of the machine.
    pub fn note_busy(&self, from: At, to: At) {
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        match stalls.last_mut().filter(|last| last.to + STALL >= from) {
            Some(last) => last.to = last.to.max(to),
            None => {
                stalls.push(Window { name: "the machine was busy".into(), from, to, ..Window::default() })
            }
        }
    }

    pub fn stalls(&self) -> Vec<Window> {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the load does.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub per_second: u64,
    /// Of a hundred; the rest are reads.
    pub puts: usize,
    pub deletes: usize,
    pub adds: usize,
}

impl Default for Mix {
    fn default() -> Self {
        Self { per_second: 350, puts: 15, deletes: 3, adds: 12 }
    }
}

/// A load under way.
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    pub fn begin(recorder: Arc<Recorder>, mix: Mix, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(run(recorder, mix, Random::new(seed), stop.clone()));
        Self { stop, task }
    }

    /// Begins no more calls, and waits for those under way.
    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A task that has panicked has left its entries.
        let _ = self.task.await;
    }
}

async fn run(recorder: Arc<Recorder>, mix: Mix, mut random: Random, stop: Arc<AtomicBool>) {
    let slots: Vec<_> = (0..recorder.caller.hosts()).map(|_| Arc::new(Semaphore::new(IN_FLIGHT))).collect();
    let pause = Duration::from_micros(1_000_000 / mix.per_second.max(1));
    let mut ticks = tokio::time::interval(pause);
    let mut last = recorder.caller.now();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let now = recorder.caller.now();
        note_stall(&recorder, last, now);
        last = now;
        let (host, client) = (random.below(recorder.caller.hosts()) as u8, random.below(CLIENTS) as u16);
        let (key, op) = draw(&recorder, mix, &mut random);
        let again = random.percent(50);
        let Ok(slot) = slots[usize::from(host)].clone().try_acquire_owned() else {
            recorder.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let recorder = recorder.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let entry = recorder.record(host, client, key, op).await;
            // A client that does not know repeats usage on any host: its ids make that harmless.
            if again && let (Op::Add(_), Outcome::Unknown(_)) = (&entry.op, &entry.outcome) {
                let other = (host + 1) % recorder.caller.hosts() as u8;
                recorder.record(other, client, key, entry.op).await;
            }
        });
    }
    // Each call has a deadline, so that all slots come back.
    for slots in slots {
        let _ = slots.acquire_many(IN_FLIGHT as u32).await;
    }
}

/// The bench shares its machine: what waits too long here waits there as well.
fn note_stall(recorder: &Recorder, last: At, now: At) {
    if now - last > STALL {
        recorder.note_busy(last, now);
    }
}

fn draw(recorder: &Recorder, mix: Mix, random: &mut Random) -> (KeyIndex, Op) {
    let most = if random.percent(40) { HOT } else { KEYS };
    let key = random.below(usize::from(most)) as KeyIndex;
    let at = random.below(100);
    if at < mix.puts {
        (key, recorder.put())
    } else if at < mix.puts + mix.deletes {
        (key, Op::Delete)
    } else if at < mix.puts + mix.deletes + mix.adds {
        (subject(random.below(usize::MAX)), recorder.add(1 + random.below(4) as u64))
    } else if has_index(key) && random.percent(20) {
        (key, Op::Find)
    } else {
        (key, Op::Get)
    }
}
