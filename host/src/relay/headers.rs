//! Which headers go upstream, and which come back. Anything else stays here.

use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE,
    HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};

use super::refusal::SHOULD_RETRY;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

const UP: [HeaderName; 5] =
    [ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, USER_AGENT, HeaderName::from_static("x-app")];
const UP_PREFIXES: [&str; 3] = ["anthropic-", "x-stainless-", "x-claude-code-"];

const BACK: [HeaderName; 7] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CACHE_CONTROL,
    RETRY_AFTER,
    REQUEST_ID,
    SHOULD_RETRY,
    HeaderName::from_static("retry-after-ms"),
];
/// Whose account it is, is nobody's business.
const PRIVATE: &str = "anthropic-organization-id";

/// What every request has: sent where the client has left it out, as Claude Relay Service does.
const DEFAULTS: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("anthropic-version"), "2023-06-01"),
    (CONTENT_TYPE, "application/json"),
    (USER_AGENT, concat!("switchyard/", env!("CARGO_PKG_VERSION"))),
];

/// What the client sends, without its key, and nothing compressed in return: the answer is read on its way.
pub(super) fn up(client: &HeaderMap, key: &str) -> HeaderMap {
    let wanted = |name: &HeaderName| {
        UP.contains(name) || UP_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    let mut headers: HeaderMap = client
        .iter()
        .filter(|(name, value)| wanted(name) && !holds(value, key))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// Signs with an API key.
pub(super) fn sign_with_key(headers: &mut HeaderMap, mut key: HeaderValue) {
    key.set_sensitive(true);
    headers.insert(X_API_KEY, key);
}

/// Signs with a bearer token.
pub(super) fn sign_with_token(headers: &mut HeaderMap, mut token: HeaderValue) {
    token.set_sensitive(true);
    headers.insert(AUTHORIZATION, token);
}

/// What the upstream sends, as far as it is the client's business.
pub(super) fn back(upstream: &HeaderMap) -> HeaderMap {
    let wanted = |name: &HeaderName| {
        BACK.contains(name) || (name.as_str().starts_with("anthropic-") && name.as_str() != PRIVATE)
    };
    let of_the_client = upstream.iter().filter(|(name, _)| wanted(name));
    of_the_client.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a secret stands in a value.
pub(super) fn holds(value: &HeaderValue, secret: &str) -> bool {
    contains(value.as_bytes(), secret)
}

/// Whether a secret stands in these bytes.
pub(super) fn contains(bytes: &[u8], secret: &str) -> bool {
    !secret.is_empty() && bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(pair).collect()
    }

    #[test]
    fn what_the_upstream_needs_goes_up_and_the_key_never() {
        let client = map(&[
            ("anthropic-version", "2026-10-21"),
            ("anthropic-beta", "a-1,b-2"),
            ("anthropic-beta", "c-3"),
            ("x-stainless-retry-count", "1"),
            ("x-claude-code-session-id", "s"),
            ("x-app", "cli"),
            ("user-agent", "claude-cli/2"),
            ("x-api-key", "cr_1"),
            ("authorization", "Bearer cr_1"),
            ("x-stainless-note", "it is cr_1"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "10.0.0.1"),
            ("accept-encoding", "gzip"),
        ]);
        let up = up(&client, "cr_1");
        assert_eq!(up.get_all("anthropic-beta").iter().collect::<Vec<_>>(), ["a-1,b-2", "c-3"]);
        assert_eq!(
            (&up["anthropic-version"], &up["accept-encoding"]),
            (&"2026-10-21".parse().unwrap(), &"identity".parse().unwrap())
        );
        assert_eq!(
            (&up["user-agent"], up["content-type"].as_bytes()),
            (&client["user-agent"], &b"application/json"[..])
        );
        assert_eq!(up.len(), 9);
        assert!(up.values().all(|value| !holds(value, "cr_1")));
    }

    #[test]
    fn limits_and_ids_come_back_and_the_account_does_not() {
        let upstream = map(&[
            ("request-id", "req_1"),
            ("retry-after", "3"),
            ("x-should-retry", "false"),
            ("anthropic-ratelimit-unified-status", "allowed"),
            ("anthropic-organization-id", "org"),
            ("set-cookie", "a=b"),
            ("connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
        ]);
        let back = back(&upstream);
        let mut names: Vec<_> = back.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["anthropic-ratelimit-unified-status", "request-id", "retry-after", "x-should-retry"]
        );
    }
}
