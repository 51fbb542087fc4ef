//! The client's key: where it stands, and where it must not.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::refusal::Refusal;

/// What a key may stand in, beside `Authorization: Bearer`.
const HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// The key that the client presents; none when it presents none.
///
/// # Errors
/// When there are two that differ, or one that is no text.
pub fn presented(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let named = HEADERS.iter().flat_map(|name| headers.get_all(*name)).map(text);
    let bearer = headers.get_all(AUTHORIZATION).iter().map(|value| text(value).map(without_scheme));
    let mut found = None;
    for key in named.chain(bearer) {
        let key = key?;
        match found {
            _ if key.is_empty() => {}
            None => found = Some(key),
            Some(other) if other == key => {}
            Some(_) => {
                let message = "This request carries two API keys that differ; send one. In Claude Code set either \
                               ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN.";
                return Err(Refusal::new(401, "ambiguous_api_key", message));
            }
        }
    }
    Ok(found)
}

fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    let malformed =
        |_| Refusal::new(401, "malformed_api_key", "This API key has characters that no key has.");
    value.to_str().map(str::trim).map_err(malformed)
}

fn without_scheme(value: &str) -> &str {
    match value.split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer ") => key.trim(),
        // The space after it was trimmed.
        None if value.eq_ignore_ascii_case("bearer") => "",
        _ => value,
    }
}

/// # Errors
/// When the key also stands in the query, however it is written: the query goes upstream as it is.
pub(super) fn keep_out_of(query: Option<&str>, key: &str) -> Result<(), Refusal> {
    let decoded = |query: &str| {
        url::form_urlencoded::parse(query.as_bytes())
            .any(|(name, value)| name.contains(key) || value.contains(key))
    };
    match query {
        Some(query) if query.contains(key) || decoded(query) => {
            let message = "The API key stands in the URL, where it would be passed on and logged; send it as \
                           x-api-key or Authorization: Bearer only.";
            Err(Refusal::bad("api_key_in_query", message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Result<Option<String>, &'static str> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = headers.iter().map(pair).collect();
        presented(&headers).map(|key| key.map(str::to_owned)).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_key_is_taken_from_each_of_four_headers() {
        for name in HEADERS {
            assert_eq!(of(&[(name, "cr_1")]), Ok(Some("cr_1".into())));
        }
        for value in ["Bearer cr_1", "bearer  cr_1", "cr_1"] {
            assert_eq!(of(&[("authorization", value)]), Ok(Some("cr_1".into())), "{value}");
        }
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("x-api-key", ""), ("authorization", "Bearer ")]), Ok(None));
    }

    #[test]
    fn two_keys_may_only_be_the_same_one() {
        assert_eq!(of(&[("x-api-key", "cr_1"), ("authorization", "Bearer cr_1")]), Ok(Some("cr_1".into())));
        assert_eq!(of(&[("x-api-key", "cr_1"), ("authorization", "Bearer cr_2")]), Err("ambiguous_api_key"));
        assert_eq!(of(&[("api-key", "cr_1"), ("x-goog-api-key", "cr_2")]), Err("ambiguous_api_key"));
    }

    #[test]
    fn a_key_in_the_query_is_refused() {
        assert!(keep_out_of(Some("beta=true"), "cr_1").is_ok() && keep_out_of(None, "cr_1").is_ok());
        for query in ["key=cr_1", "key=cr%5F1", "%63%72_1", "a=b&c=d+cr%5f1+e"] {
            assert!(keep_out_of(Some(query), "cr_1").is_err(), "{query}");
        }
        assert!(
            keep_out_of(Some("key=a%20b"), "a b").is_err() && keep_out_of(Some("key=a+b"), "a b").is_err()
        );
    }
}
