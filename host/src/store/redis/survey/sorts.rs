//! What the keys of that program are, by how they begin, and what becomes of them.

use crate::store::takeover::USAGE;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    ApiKey,
    Account,
    Group,
    /// Used as it is, or made anew from what is taken over.
    Taken,
    Left,
}

/// A sort of keys.
pub(super) struct Sort {
    pub(super) what: &'static str,
    pub(super) fate: Fate,
    pub(super) why: &'static str,
    /// How the keys begin. A longer beginning decides before a shorter one.
    begin: &'static [&'static str],
}

const fn taken(what: &'static str, why: &'static str, begin: &'static [&'static str]) -> Sort {
    Sort { what, fate: Fate::Taken, why, begin }
}

const fn left(what: &'static str, why: &'static str, begin: &'static [&'static str]) -> Sort {
    Sort { what, fate: Fate::Left, why, begin }
}

const OTHER_PLATFORM: &str = "of another platform: only upstreams that speak the Anthropic API are served";

pub(super) static SORTS: [Sort; 25] = [
    Sort { what: "API keys", fate: Fate::ApiKey, why: "served as they are", begin: &["apikey:"] },
    taken(
        "lists of API keys",
        "follow from the keys",
        &[
            "apikey:hash_map",
            "apikey:idx:",
            "apikey:set:",
            "apikey:tag:",
            "apikey:tags:",
            "apikey:index:",
            "apikey_hash:",
        ],
    ),
    Sort {
        what: "Claude Console accounts",
        fate: Fate::Account,
        why: "served as they are",
        begin: &["claude_console_account:"],
    },
    taken(
        "lists of accounts",
        "follow from the accounts",
        &["claude_console_account:index", "shared_claude_console_accounts"],
    ),
    Sort { what: "account groups", fate: Fate::Group, why: "served as they are", begin: &["account_group:"] },
    taken(
        "lists of account groups",
        "follow from the groups",
        &["account_groups", "account_group_members:", "account_groups_reverse:"],
    ),
    taken("sessions", "kept to their end", &["session:"]),
    taken(USAGE, "goes on from what is counted", &["usage:", "account_usage:"]),
    taken("limits in force", "go on", &["rate_limit:", "concurrency:"]),
    left("lists for sorting by cost", "made anew by that program", &["cost_rank"]),
    left(
        "Claude accounts with OAuth tokens",
        "their tokens are for Claude's own clients: enter an API key as an account instead",
        &["claude:account:"],
    ),
    left("Bedrock accounts", OTHER_PLATFORM, &["bedrock_account:"]),
    left(
        "Gemini accounts",
        OTHER_PLATFORM,
        &["gemini_account:", "gemini_api_account:", "shared_gemini_accounts"],
    ),
    left(
        "OpenAI accounts",
        OTHER_PLATFORM,
        &[
            "openai:account",
            "openai_responses_account:",
            "shared_openai_accounts",
            "shared_openai_responses_accounts",
        ],
    ),
    left("Azure OpenAI accounts", OTHER_PLATFORM, &["azure_openai:account", "shared_azure_openai_accounts"]),
    left("CCR accounts", OTHER_PLATFORM, &["ccr_account:", "shared_ccr_accounts"]),
    left("Droid accounts", OTHER_PLATFORM, &["droid:account", "shared_droid_accounts"]),
    left("the admin's login", "there is a token instead", &["session:admin_credentials"]),
    left("users", "there are no users, only keys", &["user:", "username:", "user_session:"]),
    left("logins under way", "of another platform's accounts", &["oauth:", "oauth_session:"]),
    left(
        "which account a conversation is on",
        "decided anew with its next request",
        &[
            "sticky_session:",
            "unified_",
            "gemini_session_account_mapping:",
            "openai_session_account_mapping:",
            "azure_openai_session_account_mapping:",
            "original_session_binding:",
        ],
    ),
    left(
        "health of accounts and locks",
        "found out anew",
        &[
            "ratelimit:",
            "account:overload:",
            "temp_unavailable:",
            "error_history:",
            "claude_account:",
            "user_msg_queue_",
            "token_refresh_lock:",
            "lock:account:",
            "account:test_",
            "account_balance",
        ],
    ),
    left(
        "settings, cards and metrics of that program",
        "stay for it",
        &[
            "claude_relay_config",
            "webhook_config",
            "system:",
            "claude_code_",
            "quota_card",
            "redemption",
            "billing:events",
            "request_detail:",
        ],
    ),
    left("Switchyard's own", "has been here before", &["switchyard:"]),
    left("other keys", "unknown; left alone", &[""]),
];

/// The sort of a key, as its place in [`SORTS`].
pub(super) fn sort_of(key: &str) -> usize {
    let begins = |sort: &Sort| {
        sort.begin.iter().filter(|begin| key.starts_with(**begin)).map(|begin| begin.len()).max()
    };
    let longest = SORTS.iter().enumerate().filter_map(|(at, sort)| Some((begins(sort)?, at)));
    longest.max_by_key(|(length, at)| (*length, std::cmp::Reverse(*at))).map_or(SORTS.len() - 1, |(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_sort() {
        for (key, what) in [
            ("apikey:0b5f", "API keys"),
            ("apikey:hash_map", "lists of API keys"),
            ("apikey:tag:team", "lists of API keys"),
            ("apikey_hash:00ff", "lists of API keys"),
            ("claude_console_account:a", "Claude Console accounts"),
            ("claude_console_account:index", "lists of accounts"),
            ("claude:account:a", "Claude accounts with OAuth tokens"),
            ("session:admin_credentials", "the admin's login"),
            ("session:00", "sessions"),
            ("usage:k", "usage and cost"),
            ("unified_claude_session_mapping:a", "which account a conversation is on"),
            ("something", "other keys"),
        ] {
            assert_eq!(SORTS[sort_of(key)].what, what, "{key}");
        }
    }
}
