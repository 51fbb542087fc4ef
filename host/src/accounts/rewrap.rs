//! Seals every credential with the secret in use, so that older ones can be forgotten; or as Claude Relay Service
//! does, so that it can take over again.
//!
//! What Claude Relay Service left in plain text is sealed in the background, soon after it was taken in.
//!
//! Goes through the accounts one by one and leaves alone what is done: when it is cut short, it is begun again.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Accounts;
use super::account::{CREDENTIAL, plain_credential};
use super::edit::EditError;
use super::handing::{Passwords, seal_plain, theirs};
use super::proxy::{self, Stored};
use super::seal::{Place, SealError};
use crate::store::kind::ACCOUNT;
use crate::store::{Expect, Fields, Record};

/// How often an account is tried that others change meanwhile.
const ATTEMPTS: usize = 4;
/// The most accounts that are named of those that could not be done.
const NAMED: usize = 100;

/// How often it is looked for what is in plain text: another program may have written since.
const LOOK: Duration = Duration::from_secs(60);
/// How soon after a look that the stores did not answer; twice as long each time.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Who is to open the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    Switchyard,
    RelayService,
    /// Whoever can: only what is in plain text is sealed.
    Anyone,
}

/// What became of the accounts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rewrapped {
    pub seen: u64,
    /// Sealed anew.
    pub rewrapped: u64,
    /// Sealed as wanted before.
    pub current: u64,
    /// Without a credential.
    pub without: u64,
    pub failed: u64,
    /// The first hundred that failed.
    pub failures: Vec<Failure>,
}

/// One account that could not be done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = NotRewrapped)]
pub struct Failure {
    pub id: String,
    pub reason: String,
}

impl Rewrapped {
    fn note(&mut self, record: &Record, done: Result<Done, EditError>) {
        match done {
            Ok(Done::Rewrapped) => self.rewrapped += 1,
            Ok(Done::Current) => self.current += 1,
            Ok(Done::Without) => self.without += 1,
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < NAMED {
                    let (id, reason) = (record.key.id.to_string(), error.to_string());
                    self.failures.push(Failure { id, reason });
                }
            }
        }
    }
}

enum Done {
    Rewrapped,
    Current,
    Without,
}

impl Accounts {
    /// Seals anew what this opener could not open, or only with an older secret. Harmless to repeat.
    ///
    /// # Errors
    /// When the stores do not answer; what is done by then stays done.
    pub async fn rewrap(&self, opener: Opener) -> Result<Rewrapped, EditError> {
        let (mut report, mut cursor) = (Rewrapped::default(), None::<String>);
        loop {
            let page = self.page(&ACCOUNT, cursor.as_deref()).await?;
            for record in &page.records {
                report.seen += 1;
                match self.rewrap_one(record, opener).await {
                    Err(EditError::Store(error)) => return Err(error.into()),
                    done => report.note(record, done),
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(report);
            }
        }
    }

    /// Seals what is found in plain text, and goes on looking.
    pub async fn keep_sealed(self: Arc<Self>) {
        let mut pause = LOOK_AGAIN;
        loop {
            match self.rewrap(Opener::Anyone).await {
                Ok(Rewrapped { rewrapped: sealed, failures, .. }) => {
                    if sealed > 0 {
                        info!(sealed, "sealed credentials of accounts that were in plain text");
                    }
                    if let Some(Failure { id, reason }) = failures.first() {
                        warn!(account = id, reason, "a credential in plain text could not be sealed");
                    }
                    pause = LOOK;
                }
                // The stores are not there yet, or are being filled.
                Err(_) => pause = (pause * 2).min(LOOK),
            }
            sleep(pause).await;
        }
    }

    async fn rewrap_one(&self, listed: &Record, opener: Opener) -> Result<Done, EditError> {
        if opener == Opener::Anyone && plain_credential(&listed.fields).is_none() {
            return Ok(Done::Current);
        }
        for _ in 0..ATTEMPTS {
            let record = match self.live(&listed.key).await {
                Err(EditError::NotFound) => return Ok(Done::Without),
                record => record?,
            };
            let changed = match opener {
                Opener::Switchyard => self.ours(&record).await?,
                Opener::RelayService => {
                    theirs(&self.seals, &record.key, &record.fields, Passwords::Refused).await?
                }
                Opener::Anyone => self.in_plain_text(&record)?,
            };
            if changed.is_empty() {
                let has = record.fields.get(CREDENTIAL).is_some_and(|sealed| !sealed.is_empty());
                return Ok(if has { Done::Current } else { Done::Without });
            }
            let mut fields = record.fields.clone();
            fields.extend(changed);
            // As it is: that program could not open a password that is sealed now.
            match self.put(&record.key, fields, Expect::AtMost(record.version), record.expires_at).await {
                Err(EditError::Conflict) => {}
                written => return written.map(|_| Done::Rewrapped),
            }
        }
        Err(EditError::Conflict)
    }

    /// What has to be sealed because it is in plain text.
    fn in_plain_text(&self, record: &Record) -> Result<Fields, SealError> {
        let mut fields = record.fields.clone();
        seal_plain(&record.key, &self.seals, &mut fields)?;
        fields.retain(|name, value| record.fields.get(name) != Some(value));
        Ok(fields)
    }

    /// What has to be sealed anew with the secret in use.
    async fn ours(&self, record: &Record) -> Result<Fields, SealError> {
        let (key, mut changed) = (&record.key, Fields::new());
        let sealed = record.fields.get(CREDENTIAL).filter(|sealed| !sealed.is_empty());
        if let Some(sealed) = sealed
            && let Some(renewed) = self.seals.renew(Place { key, field: CREDENTIAL }, sealed).await?
        {
            changed.insert(CREDENTIAL.into(), renewed);
        }
        let stored = record.fields.get(proxy::FIELD).and_then(|field| Stored::parse(field).ok().flatten());
        if let Some(stored) = stored
            && let Some(renewed) = stored.renew(key, &self.seals).await?
        {
            changed.insert(proxy::FIELD.into(), renewed.to_field());
        }
        Ok(changed)
    }
}
