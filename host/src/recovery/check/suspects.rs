//! What differed once. Most of it is a write on its way; what still differs after a while is a difference.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::judge::{Pair, Reason};
use super::report::Difference;
use super::{Check, Stop, totals};
use crate::store::side::Side;
use crate::store::{Key, Record, Result, StoreError, Version};

/// How long a write may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// How many suspects wait at most before the check does.
const WAITING: usize = 10_000;
/// How often something that keeps changing is looked at.
const LOOKS: u32 = 5;
/// How many are looked at at once.
const AT_ONCE: usize = 16;

/// What is in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Record(Key),
    Index(Key),
    Usage(Key),
}

/// What was seen of it last, to tell whether it moves.
#[derive(Debug, Clone)]
pub(super) enum Sight {
    Nothing,
    /// The version of the store that is behind.
    Behind(Version),
    Totals(totals::Pair),
}

struct Suspect {
    subject: Subject,
    last: Sight,
    looks: u32,
    due: Instant,
}

#[derive(Default)]
pub(super) struct Suspects(VecDeque<Suspect>);

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, subjects: Vec<Subject>) {
        // The first look comes at once: it says what the second one is held against.
        let new = |subject| Suspect { subject, last: Sight::Nothing, looks: 0, due: Instant::now() };
        self.0.extend(subjects.into_iter().map(new));
    }
}

/// What a look says.
enum Verdict {
    Innocent,
    /// It differs, and may be on its way.
    Open(Sight),
    Record(Pair, Reason),
    Usage(totals::Pair),
}

impl Check<'_> {
    /// Looks at the suspects that are due; at all, until none is left, at the end of a stage.
    pub(super) async fn judge(&mut self, all: bool) -> Result<(), Stop> {
        loop {
            let now = Instant::now();
            let due = self.suspects.0.iter().take_while(|suspect| suspect.due <= now).count();
            for suspect in self.suspects.0.drain(..due).collect::<Vec<_>>().chunks(AT_ONCE) {
                self.look_at(suspect).await?;
            }
            let Some(next) = self.suspects.0.front() else { return Ok(()) };
            if !all && self.suspects.0.len() < WAITING {
                return Ok(());
            }
            tokio::time::sleep_until(next.due.into()).await;
        }
    }

    async fn look_at(&mut self, suspects: &[Suspect]) -> Result<(), Stop> {
        let this = &*self;
        let look = || futures::future::try_join_all(suspects.iter().map(|suspect| this.look(suspect)));
        let verdicts = self.work.paced(look).await?;
        for (suspect, verdict) in suspects.iter().zip(verdicts) {
            match verdict {
                Verdict::Innocent => {}
                // It changes faster than it can be compared: both stores are being written.
                Verdict::Open(_) if suspect.looks >= LOOKS => {}
                Verdict::Open(last) => {
                    let (subject, looks) = (suspect.subject.clone(), suspect.looks + 1);
                    let due = Instant::now() + ON_ITS_WAY;
                    self.suspects.0.push_back(Suspect { subject, last, looks, due });
                }
                Verdict::Record(pair, reason) => self.found(&suspect.subject, &pair, reason).await?,
                Verdict::Usage(pair) => self.found_usage(&suspect.subject, &pair),
            }
        }
        Ok(())
    }

    async fn look(&self, suspect: &Suspect) -> Result<Verdict> {
        match &suspect.subject {
            Subject::Record(key) => {
                let pair = self.pair(key).await?;
                let Some(reason) = self.reason(key, &pair).await? else { return Ok(Verdict::Innocent) };
                let behind = pair.behind();
                Ok(match suspect.last {
                    Sight::Behind(last) if last == behind => Verdict::Record(pair, reason),
                    _ => Verdict::Open(Sight::Behind(behind)),
                })
            }
            Subject::Index(key) => {
                let pair = self.pair(key).await?;
                if pair.redis != pair.postgres || self.is_indexed(&pair).await? {
                    return Ok(Verdict::Innocent);
                }
                let behind = pair.behind();
                Ok(match suspect.last {
                    Sight::Behind(last) if last == behind => Verdict::Record(pair, Reason::Index),
                    _ => Verdict::Open(Sight::Behind(behind)),
                })
            }
            Subject::Usage(key) => {
                let now = self.totals_of(key).await?;
                Ok(match (&suspect.last, self.totals_differ(key, &now).await?) {
                    (_, false) => Verdict::Innocent,
                    (Sight::Totals(before), true) if now.lacks(before) => Verdict::Usage(now),
                    (_, true) => Verdict::Open(Sight::Totals(now)),
                })
            }
        }
    }

    async fn pair(&self, key: &Key) -> Result<Pair> {
        let ((redis, a), (postgres, b)) = tokio::try_join!(read(self.redis, key), read(self.postgres, key))?;
        Ok(Pair { redis, postgres, unreadable: a || b })
    }

    async fn reason(&self, key: &Key, pair: &Pair) -> Result<Option<Reason>> {
        if pair.redis == pair.postgres && !pair.unreadable {
            return Ok(None);
        }
        let (redis, postgres) = tokio::try_join!(
            self.redis.backend.complete(key.kind),
            self.postgres.backend.complete(key.kind)
        )?;
        Ok(pair.differ((redis, postgres)))
    }

    async fn found(&mut self, subject: &Subject, pair: &Pair, reason: Reason) -> Result<(), Stop> {
        let (Subject::Record(key) | Subject::Index(key) | Subject::Usage(key)) = subject;
        let (redis_version, postgres_version) = pair.versions();
        self.report.differs(Difference { key: key.to_string(), reason, redis_version, postgres_version });
        if self.dry_run.is_some() {
            self.repair(key, pair, reason).await?;
        }
        Ok(())
    }
}

/// What a side holds, and whether that is something unreadable.
async fn read(side: &Side, key: &Key) -> Result<(Option<Arc<Record>>, bool)> {
    match side.backend.get(key).await {
        Err(StoreError::Other(_)) => Ok((None, true)),
        read => read.map(|record| (record, false)),
    }
}
