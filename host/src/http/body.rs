//! Request bodies: bounded in size, in silence and in time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Problem, Result};

/// The largest body of the API, in bytes. Uploads of components have their own limit.
pub(super) const MAX_BODY: usize = 1 << 20;
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
pub(super) async fn read(mut body: Body, limit: usize, whole: Duration) -> Result<Bytes> {
    let too_large = || Problem::too_large(format!("a body here has at most {limit} bytes"));
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        discard(body);
        return Err(too_large());
    }
    let deadline = Instant::now() + whole;
    let mut bytes = BytesMut::with_capacity(announced as usize);
    while let Some(piece) = next(&mut body, deadline).await? {
        if bytes.len() + piece.len() > limit {
            discard(body);
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
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

/// Reads a JSON body.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    parse(&read(body, MAX_BODY, WHOLE).await?)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Problem::bad("invalid-json", error.to_string()))
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
}
