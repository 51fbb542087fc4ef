//! Request bodies: bounded in size, in silence and in time.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Problem, Result};

/// The largest body of the API, in bytes. Uploads of components have their own limit.
pub(super) const MAX_BODY: usize = 1 << 20;
/// How much of an announced body is made room for before any of it has come, in bytes.
const FIRST: u64 = 1 << 20;
/// How long a body may stay silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a body may take altogether.
pub(super) const WHOLE: Duration = Duration::from_secs(30);
/// How long a component may take altogether.
pub(super) const WHOLE_UPLOAD: Duration = Duration::from_secs(60);
/// How much of a refused body is read and dropped, so that the refusal is not lost with the connection.
const DISCARDED: usize = 128 << 20;
const DISCARDING: Duration = Duration::from_secs(5);

/// Reads a whole body of at most `limit` bytes within `whole`.
///
/// # Errors
/// 413 before anything is read when the announced length is too large; 408 when it takes too long.
pub(super) async fn read(body: Body, limit: usize, whole: Duration) -> Result<Bytes> {
    read_into(body, limit, whole, |_| Ok(())).await
}

/// As [`read`], while there is `room` for so many bytes.
pub(super) async fn read_into<E: From<Problem>>(
    mut body: Body,
    limit: usize,
    whole: Duration,
    mut room: impl FnMut(usize) -> Result<(), E>,
) -> Result<Bytes, E> {
    let too_large = || Problem::too_large(format!("a body here has at most {}", size(limit)));
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        discard(body);
        return Err(too_large().into());
    }
    let deadline = Instant::now() + whole;
    // What is announced may never come.
    let mut bytes = BytesMut::with_capacity(announced.min(FIRST) as usize);
    while let Some(piece) = next(&mut body, deadline).await? {
        if bytes.len() + piece.len() > limit {
            discard(body);
            return Err(too_large().into());
        }
        if let Err(full) = room(bytes.len() + piece.len()) {
            discard(body);
            return Err(full);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// As people say it.
fn size(bytes: usize) -> String {
    match bytes % (1 << 20) {
        0 => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

/// The next piece.
async fn next(body: &mut Body, deadline: Instant) -> Result<Option<Bytes>> {
    let slow = |detail| Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail).closing();
    loop {
        let piece = timeout_at(deadline, timeout(SILENCE, body.frame())).await;
        let piece = piece.map_err(|_| slow("the body took too long"))?;
        match piece.map_err(|_| slow("the body stayed silent for ten seconds"))? {
            None => return Ok(None),
            Some(Err(_)) => return Err(Problem::bad("broken-body", "the body ended too early").closing()),
            Some(Ok(frame)) => {
                // Trailers say nothing here.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads on for a while without keeping anything: a client that is still sending would otherwise find its
/// connection reset before it has read the answer.
pub(super) fn discard(mut body: Body) {
    if body.is_end_stream() {
        return;
    }
    let reading = async move {
        let mut dropped = 0;
        while let Some(Ok(frame)) = body.frame().await
            && dropped < DISCARDED
        {
            dropped += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    tokio::spawn(timeout(DISCARDING, reading));
}

/// # Errors
/// 415 when the body is encoded: nothing here decodes.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<()> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        if text.split(',').any(|coding| !coding.trim().eq_ignore_ascii_case("identity")) {
            let shown: String = text.chars().take(80).collect();
            let detail = format!("a body is not to be encoded; Content-Encoding is {shown:?}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", detail));
        }
    }
    Ok(())
}

/// Reads a JSON body.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    parse(&read(body, MAX_BODY, WHOLE).await?)
}

/// # Errors
/// Says what was expected and where, and never what was found: it may be a secret.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // A derived reader would also take an array, as the list of its fields.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::bad("invalid-json", "expected an object as the body"));
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::bad("invalid-json", without_value(&error)))
}

/// What does not fit is quoted before what was expected; errors of syntax quote nothing.
fn without_value(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> =
            pieces.iter().map(|p| Ok::<_, std::io::Error>(Bytes::from_static(p.as_bytes()))).collect();
        Body::from_stream(futures::stream::iter(pieces))
    }

    #[tokio::test]
    async fn pieces_are_put_together_up_to_the_limit() {
        assert_eq!(read(pieces(&["ab", "", "cd"]), 4, WHOLE).await.unwrap(), "abcd");
        assert_eq!(read(pieces(&[]), 4, WHOLE).await.unwrap(), "");
        assert_eq!(read(pieces(&["ab", "cde"]), 4, WHOLE).await.unwrap_err().code, "too-large");
        assert_eq!(read(Body::from("abcde"), 4, WHOLE).await.unwrap_err().code, "too-large");
    }

    #[test]
    fn a_refusal_says_what_was_expected_and_not_what_was_found() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Shape {
            #[serde(rename = "number")]
            _number: u8,
        }
        for (body, expected) in [
            (r#"{"number": "sk-secret"}"#, "expected u8 at line 1 column 22"),
            (r#"{"number": "sk-secret, expected sk-secret"}"#, "expected u8 at line 1 column 42"),
            ("{\n\"number\": 4711}", "expected u8 at line 2 column 14"),
            (r#"{"sk-secret": 1}"#, "expected `number` at line 1 column 12"),
            (r#"{"number": sk-secret}"#, "expected value at line 1 column 12"),
            (r#"{"number": 1} sk-secret"#, "trailing characters at line 1 column 15"),
            ("{}", "missing field `number` at line 1 column 2"),
            ("[1]", "expected an object as the body"),
            ("\"sk-secret\"", "expected an object as the body"),
            ("", "expected an object as the body"),
        ] {
            let refused = parse::<Shape>(body.as_bytes()).unwrap_err();
            assert_eq!(refused, Problem::bad("invalid-json", expected), "{body}");
        }
    }
}
