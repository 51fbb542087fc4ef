//! Preconditions: entity tags are versions of records, or generations.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::{Problem, Result};
use crate::store::{Expect, Version};

/// The entity tag of a version.
pub(super) fn etag(version: Version) -> HeaderValue {
    // Digits and quotes are always a header.
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// `If-Match: "N"`, for a record's version or a generation.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = only(headers, &IF_MATCH)? else { return Ok(None) };
    let malformed = || invalid("If-Match takes one number in quotes, as the ETag or the generation has it");
    strong(value).map(Some).ok_or_else(malformed)
}

/// What a PUT demands of the record it replaces.
pub(super) fn put(headers: &HeaderMap) -> Result<Expect> {
    let seen = if_match(headers)?;
    match (seen, only(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok(Expect::Anything),
        (Some(version), None) => Ok(Expect::AtMost(version)),
        (None, Some(b"*")) => Ok(Expect::Absent),
        (Some(_), Some(_)) => Err(invalid("If-Match and If-None-Match contradict each other")),
        (None, Some(_)) => Err(invalid("If-None-Match takes only * here")),
    }
}

/// What a DELETE demands of the record it removes.
pub(super) fn delete(headers: &HeaderMap) -> Result<Expect> {
    match put(headers)? {
        Expect::Absent => Err(invalid("If-None-Match has no meaning for a DELETE")),
        expect => Ok(expect),
    }
}

/// Whether a reader that sent If-None-Match has this version already. Weak tags count, as RFC 9110 has it.
pub(super) fn has_already(headers: &HeaderMap, version: Version) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    tags.map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || strong(tag.strip_prefix(b"W/").unwrap_or(tag)) == Some(version))
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(|value| value.as_bytes().trim_ascii())),
        _ => Err(invalid("a precondition may be sent only once")),
    }
}

fn strong(tag: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(tag).ok()?.strip_prefix('"')?.strip_suffix('"')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn invalid(detail: &str) -> Problem {
    Problem::bad("invalid-precondition", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let parse = |(name, value): &(HeaderName, &str)| (name.clone(), value.parse().unwrap());
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn a_put_takes_one_version_or_a_star() {
        assert_eq!(put(&headers(&[])), Ok(Expect::Anything));
        assert_eq!(put(&headers(&[(IF_MATCH, "\"12\"")])), Ok(Expect::AtMost(12)));
        assert_eq!(put(&headers(&[(IF_NONE_MATCH, "*")])), Ok(Expect::Absent));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for value in ["*", "12", "W/\"12\"", "\"\"", "\"x\"", "\"+1\"", "\"-1\"", "\"1\", \"2\"", "\"1", ""] {
            let refused = put(&headers(&[(IF_MATCH, value)]));
            assert_eq!(refused.unwrap_err().code, "invalid-precondition", "{value:?}");
        }
        let huge = format!("\"{}\"", "9".repeat(30));
        assert!(put(&headers(&[(IF_MATCH, &huge)])).is_err());
        assert!(put(&headers(&[(IF_NONE_MATCH, "\"12\"")])).is_err());
        assert!(put(&headers(&[(IF_MATCH, "\"1\""), (IF_NONE_MATCH, "*")])).is_err());
        assert!(delete(&headers(&[(IF_NONE_MATCH, "*")])).is_err());
    }

    #[test]
    fn a_precondition_sent_twice_is_refused() {
        let mut twice = headers(&[(IF_MATCH, "\"1\"")]);
        twice.append(IF_MATCH, "\"2\"".parse().unwrap());
        assert!(put(&twice).is_err());
    }

    #[test]
    fn a_reader_may_name_several_versions() {
        for (value, has) in [
            ("\"7\"", true),
            ("W/\"7\"", true),
            ("\"6\", \"7\"", true),
            ("*", true),
            ("\"8\"", false),
            ("7", false),
        ] {
            assert_eq!(has_already(&headers(&[(IF_NONE_MATCH, value)]), 7), has, "{value}");
        }
    }
}
