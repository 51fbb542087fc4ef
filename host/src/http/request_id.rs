//! An id for every request, on its answer and in its log lines.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::store::ids::Ids;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives requests their ids: the caller's, or a new one.
pub(super) struct RequestIds(Ids);

impl RequestIds {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Ids::new()?))
    }

    /// The caller's id if it has 1 to 128 visible ASCII characters, else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let offered = headers.get(&X_REQUEST_ID).or_else(|| headers.get(&REQUEST_ID));
        match offered.filter(|id| acceptable(id.as_bytes())) {
            Some(offered) => offered.clone(),
            None => self.next(),
        }
    }

    fn next(&self) -> HeaderValue {
        let mut text = Uuid::encode_buffer();
        let text: &str = self.0.next().hyphenated().encode_lower(&mut text);
        // Hexadecimal digits and hyphens are always a header.
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
    }
}

fn acceptable(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ() {
        let ids = RequestIds::new().unwrap();
        let given: HashSet<_> = (0..10_000).map(|_| ids.next()).collect();
        assert_eq!(given.len(), 10_000);
        let id = Uuid::parse_str(ids.next().to_str().unwrap()).unwrap();
        assert_eq!(id.get_version(), Some(uuid::Version::SortRand));
    }

    #[test]
    fn only_a_tame_id_of_the_caller_is_taken() {
        let ids = RequestIds::new().unwrap();
        let taken = |id: &str| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::try_from(id).unwrap())]);
            ids.of(&headers) == id
        };
        assert!(taken("abc-1") && taken(&"x".repeat(128)));
        assert!(!taken("a b") && !taken("é") && !taken("") && !taken(&"x".repeat(129)));
    }
}
