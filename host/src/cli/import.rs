//! `import --check`: what a Redis of Claude Relay Service holds.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::failure::{Failure, Outcome, Result};
use super::table::table;
use super::terminal;
use crate::accounts::handing::Handing;
use crate::store::StoreError;
use crate::store::redis::Direct;
use crate::store::takeover::{Counted, Survey, Takeover as _, USAGE};
use crate::{config, secrets};

/// How long Redis may take for one step of many keys.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many findings are printed; --json has more.
const PRINTED: usize = 20;

/// Days that begin at another hour would go on from nothing.
const NO_OFFSET: &str = "that program's days of usage begin at midnight of TIMEZONE_OFFSET, which is 8 hours unless it \
    is told otherwise; here it is 0. Start `serve` with that program's TIMEZONE_OFFSET, or what today has used and \
    cost, and the limits of a day, begin at 0";

/// Where the database is.
#[derive(Args)]
pub(super) struct Database {
    #[command(flatten)]
    redis: config::RedisServer,
    #[command(flatten)]
    secret: config::Secret,
}

impl Database {
    pub(super) async fn open(&self) -> Result<Direct> {
        let invalid = |error: anyhow::Error| Failure::new("arguments", format!("{error:#}"));
        let config::Source::Url(url) = self.redis.source().map_err(invalid)? else {
            let detail =
                "which Redis? Name it as for `serve`: --redis-url (SWITCHYARD_REDIS_URL) or REDIS_HOST";
            return Err(Failure::new("arguments", detail));
        };
        let opened = Direct::connect(&url, self.redis.redis_ca_file.as_deref(), DEADLINE).await;
        opened.map_err(failure)
    }

    /// With the secrets that are given or in the data folder. None are made here: what needs one does not open.
    pub(super) fn credentials(&self, data: &Path) -> Result<Handing> {
        let mut secret = self.secret.clone();
        if secret.secret.as_ref().is_none_or(String::is_empty) && !data.join(secrets::FILE).exists() {
            secret.secret = Some(uuid::Uuid::now_v7().to_string());
        }
        let loaded = secret.load(data).map_err(|error| Failure::new("secrets", format!("{error:#}")))?;
        Ok(Handing::new(&loaded))
    }
}

pub(super) fn failure(error: StoreError) -> Failure {
    let (code, detail) = match error {
        StoreError::Unsupported(detail) => ("arguments", detail),
        StoreError::Paused(detail) => ("still-serving", detail),
        StoreError::Unavailable(detail) | StoreError::Other(detail) => ("redis", detail),
        error => ("redis", error.to_string()),
    };
    Failure::new(code, detail)
}

#[derive(Args)]
pub(super) struct Import {
    /// Look, and change nothing. There is nothing else to do: a server serves the keys as they are.
    #[arg(long)]
    check: bool,
    /// That program's.
    #[arg(long, env = "TIMEZONE_OFFSET", allow_hyphen_values = true)]
    timezone_offset: Option<i8>,
    #[command(flatten)]
    database: Database,
}

pub(super) async fn run(import: Import, settings: &config::Client) -> Result {
    if !import.check {
        let detail = "no import is needed: `switchyard serve --redis-url URL` serves the keys as they are";
        let hint = "`switchyard import --check` says beforehand what is there";
        return Err(Failure::new("nothing-to-import", detail).hint(hint));
    }
    let credentials = import.database.credentials(&settings.server_data)?;
    let mut survey = import.database.open().await?.survey(&credentials).await.map_err(failure)?;
    if import.timezone_offset.is_none() && survey.taken_over.iter().any(|one| one.what == USAGE) {
        survey.notes.push(NO_OFFSET);
    }
    match settings.json {
        true => terminal::print_json(&json!(survey))?,
        false => terminal::print(&report(&survey))?,
    }
    Ok(Outcome::finding_if(survey.broken > 0))
}

fn report(survey: &Survey) -> String {
    let (keys, accounts) = (&survey.api_keys, &survey.accounts);
    let rows = |list: &[Counted]| {
        let row = |one: &Counted| [one.what.to_owned(), one.keys.to_string(), one.why.to_owned()];
        list.iter().map(row).collect::<Vec<_>>()
    };
    let mut text = format!(
        "{} API keys: {} active, {} disabled, {} deleted, {} expired\n{} accounts: {} active",
        keys.all, keys.active, keys.disabled, keys.deleted, keys.expired, accounts.all, accounts.active
    );
    if keys.bound_elsewhere > 0 {
        text += &format!(
            "\n{} keys are bound to an account that is not taken over: the shared accounts serve them",
            keys.bound_elsewhere
        );
    }
    if keys.without_claude > 0 {
        text += &format!("\n{} keys may not use Claude, and will be refused", keys.without_claude);
    }
    if keys.ours > 0 {
        text += &format!("\n{} keys have been taken over before", keys.ours);
    }
    text += &format!("\n\n{}", table(["TAKEN OVER", "KEYS", ""], rows(&survey.taken_over)));
    if !survey.not_taken_over.is_empty() {
        text += &format!("\n\n{}", table(["NOT TAKEN OVER", "KEYS", ""], rows(&survey.not_taken_over)));
    }
    for note in &survey.notes {
        text += &format!("\n\nNOTE: {note}");
    }
    if survey.broken == 0 {
        return text + "\n\nNothing is broken.";
    }
    let broken = survey.findings.iter().take(PRINTED).map(|one| [one.key.clone(), one.reason.clone()]);
    text += &format!("\n\n{}", table(["BROKEN", ""], broken));
    let shown = survey.findings.len().min(PRINTED);
    text + &format!("\n\n{shown} of {} broken; --json has more", survey.broken)
}
