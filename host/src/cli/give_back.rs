//! `give-back`: leaves a Redis as Claude Relay Service wants it.

use clap::Args;
use serde_json::json;

use super::failure::{Outcome, Result};
use super::import::{Database, failure};
use super::terminal;
use crate::config;
use crate::store::takeover::{GivenBack, Takeover as _};

#[derive(Args)]
pub(super) struct GiveBack {
    #[command(flatten)]
    database: Database,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(give_back: GiveBack, settings: &config::Client) -> Result {
    let GiveBack { database, force } = give_back;
    terminal::confirm(force, "Leave this Redis to Claude Relay Service? No Switchyard may run on it.")
        .await?;
    let credentials = database.credentials(&settings.server_data)?;
    let given = database.open().await?.give_back(&credentials).await.map_err(failure)?;
    match settings.json {
        true => terminal::print_json(&json!(given))?,
        false => terminal::print(&report(&given))?,
    }
    Ok(Outcome::finding_if(!given.credentials.is_empty() || !given.incomplete.is_empty()))
}

fn report(given: &GivenBack) -> String {
    let GivenBack { api_keys, accounts, groups, sessions, credentials, incomplete } = given;
    let mut text = format!(
        "{api_keys} API keys expire again after a year without a write; that program makes its lists of them anew.\n\
         {accounts} accounts and {groups} groups are in its lists; what was sealed here is sealed as it does.\n\
         {sessions} sessions end when they should.\n\
         Usage, cost and limits are counted where it counts them. Claude Relay Service may be started."
    );
    if !incomplete.is_empty() {
        let kinds = incomplete.join(", ");
        text += &format!(
            "\n\nRedis may not hold every record of: {kinds}. Start Switchyard, let `switchyard sync --source postgres \
             --target redis` end, stop it, and give back again."
        );
    }
    for one in credentials {
        text += &format!("\n{}: {}", terminal::clean(&one.key), terminal::clean(&one.reason));
    }
    text
}
