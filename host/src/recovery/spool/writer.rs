//! The one task that writes the spool: what waits together is one write and one sync.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::Held;
use super::files::Files;
use crate::telemetry::Seldom;

/// How often the disk is asked to sync, at most.
const COMMIT: Duration = Duration::from_millis(20);
/// The most batches that share a sync, and their bytes.
const GROUP: usize = 1_024;
const GROUP_BYTES: usize = 8 << 20;

static FAILURES: Seldom = Seldom::new();

pub(super) enum Job {
    Keep {
        frame: Vec<u8>,
        events: u64,
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Lets the growing file grow no more.
    Seal(oneshot::Sender<()>),
}

/// Frames that are written together, and who waits for them.
#[derive(Default)]
struct Group {
    frames: Vec<u8>,
    events: u64,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

/// Writes until the spool is dropped.
pub(super) async fn run(files: Files, mut jobs: mpsc::Receiver<Job>, held: Arc<Held>, capacity: u64) {
    let (mut files, mut last, mut taken) = (Some(files), None::<Instant>, Vec::new());
    while jobs.recv_many(&mut taken, GROUP).await > 0 {
        if let Some(last) = last {
            tokio::time::sleep(COMMIT.saturating_sub(last.elapsed())).await;
        }
        while taken.len() < GROUP
            && let Ok(job) = jobs.try_recv()
        {
            taken.push(job);
        }
        last = Some(Instant::now());
        let mut group = Group::default();
        for job in taken.drain(..) {
            match job {
                Job::Keep { frame, events, done } => {
                    if group.frames.len() + frame.len() > GROUP_BYTES {
                        write(&mut files, std::mem::take(&mut group), &held).await;
                    }
                    group.take(frame, events, done, capacity.saturating_sub(held.bytes.get()));
                }
                Job::Seal(done) => {
                    write(&mut files, std::mem::take(&mut group), &held).await;
                    held.sealed.lock().extend(files.as_mut().and_then(Files::seal));
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
            }
        }
        write(&mut files, group, &held).await;
    }
}

impl Group {
    fn take(&mut self, frame: Vec<u8>, events: u64, done: oneshot::Sender<Result<(), String>>, room: u64) {
        if (self.frames.len() + frame.len()) as u64 > room {
            // Nobody may wait any more.
            let _ = done.send(Err("the local spool is full".into()));
            return;
        }
        self.frames.extend(frame);
        self.events += events;
        self.waiting.push(done);
    }
}

async fn write(files: &mut Option<Files>, group: Group, held: &Held) {
    let Group { frames, events, waiting } = group;
    let Some(mut owned) = files.take_if(|_| !waiting.is_empty()) else { return };
    let bytes = frames.len() as u64;
    let written = tokio::task::spawn_blocking(move || {
        let outcome = owned.append(&frames, events);
        (owned, outcome)
    });
    let Ok((owned, (outcome, sealed))) = written.await else { return };
    *files = Some(owned);
    held.sealed.lock().extend(sealed);
    let outcome = outcome.map_err(|error| {
        if FAILURES.is_due() {
            error!(%error, "the local spool cannot be written");
        }
        format!("the local spool cannot be written: {error}")
    });
    if outcome.is_ok() {
        held.took(events, bytes);
    }
    for done in waiting {
        // Nobody may wait any more.
        let _ = done.send(outcome.clone());
    }
}
