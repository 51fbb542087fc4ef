//! The bearer token, compared in constant time.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::{Problem, Result};

/// What is kept of the token: enough to recognise it.
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Lets a request with the right token pass.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<()> {
        let refuse = |code, detail| Err(Problem::new(StatusCode::UNAUTHORIZED, code, detail));
        let Some(offered) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else {
            return refuse("missing-token", "send the admin token as `authorization: Bearer TOKEN`");
        };
        let offered: [u8; 32] = Sha256::digest(offered).into();
        match bool::from(offered.ct_eq(&self.0)) {
            true => Ok(()),
            false => refuse("wrong-token", "this is not the admin token"),
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(authorization: Option<&'static str>) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        Token::new("right").check(&headers).err().map(|problem| problem.code)
    }

    #[test]
    fn only_the_whole_token_passes() {
        assert_eq!(code(Some("Bearer right")), None);
        assert_eq!(code(Some("bearer right")), None);
        assert_eq!(code(Some("Bearer righ")), Some("wrong-token"));
        assert_eq!(code(Some("Bearer right ")), Some("wrong-token"));
        assert_eq!(code(Some("Bearer ")), Some("wrong-token"));
        assert_eq!(code(Some("Basic right")), Some("missing-token"));
        assert_eq!(code(None), Some("missing-token"));
    }
}
