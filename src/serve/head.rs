//! The head of a request, judged before hyper sees it: a connection that does not send one costs next to nothing.

use std::io;

use axum::http::Uri;
use httparse::{EMPTY_HEADER, Error, Header, Request, Status};

use super::error::ApiError;
use super::guard::PROBES;
use super::headers::too_large_head;
use super::socket::Socket;

/// Bytes of a request's head.
const MOST_BYTES: usize = 8 << 10;
/// Headers of a request.
pub(super) const MOST_HEADERS: usize = 64;

/// The first bytes of a connection, with a whole head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    /// Whether it only asks how the server is.
    pub(super) is_probe: bool,
}

/// Reads the head of a request.
///
/// # Errors
/// If the connection ends before.
pub(super) async fn read(socket: &Socket) -> io::Result<Result<Head, ApiError>> {
    let mut bytes = Vec::new();
    loop {
        let known = bytes.len();
        if socket.read(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(verdict) = judge(&bytes, known) {
            return Ok(verdict.map(|is_probe| Head { bytes, is_probe }));
        }
    }
}

/// Bytes at the start that tell a request from something else, such as the beginning of an encrypted connection.
const FIRST_BYTES: usize = 8;

/// Judges the first bytes of a connection, of which so many have been judged before: whether the request is a probe;
/// nothing if the head is not whole.
fn judge(bytes: &[u8], known: usize) -> Option<Result<bool, ApiError>> {
    let too_long = || Some(Err(too_large_head("the head of the request has more than 8192 bytes")));
    let is_text = |byte: &u8| byte.is_ascii_graphic() || b" \t\r\n".contains(byte);
    if !bytes.iter().take(FIRST_BYTES).all(is_text) {
        return Some(Err(ApiError::invalid("this is no HTTP request")));
    }
    let Some(end) = end(bytes, known) else {
        return if bytes.len() > MOST_BYTES { too_long() } else { None };
    };
    if end > MOST_BYTES {
        return too_long();
    }
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    Some(match request.parse(bytes) {
        Ok(Status::Complete(_)) => check(&request).map(|()| {
            request.method == Some("GET") && request.path.is_some_and(|path| PROBES.contains(&path))
        }),
        Err(Error::TooManyHeaders) => Err(too_large_head("the request has more than 64 headers")),
        Ok(Status::Partial) | Err(_) => Err(ApiError::invalid("this is no HTTP request")),
    })
}

/// Where the head ends: after an empty line that is not before it.
fn end(bytes: &[u8], known: usize) -> Option<usize> {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    // The end may have begun in what was judged before.
    let from = known.saturating_sub(3).max(start);
    let lines = bytes.get(from..)?.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let mut ends = lines.map(|(at, _)| from + at + 1);
    ends.find_map(|at| match &bytes[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    })
}

/// Refuses what hyper would refuse in words of its own.
fn check(request: &Request<'_, '_>) -> Result<(), ApiError> {
    if request.path.is_none_or(|path| Uri::try_from(path).is_err()) {
        return Err(ApiError::invalid("the target of the request is no address"));
    }
    let is_coded = |header: &Header<'_>| header.name.eq_ignore_ascii_case("transfer-encoding");
    if request.version == Some(0) && request.headers.iter().any(is_coded) {
        return Err(ApiError::invalid("HTTP/1.0 has no Transfer-Encoding"));
    }
    check_length(request.headers)
}

/// Makes sure that all who read a request agree on where its body ends.
fn check_length(headers: &[Header<'_>]) -> Result<(), ApiError> {
    let of = |name: &str| {
        let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        values.map(|header| header.value.trim_ascii()).collect::<Vec<_>>()
    };
    let refuse = |message: &str| Err(ApiError::invalid(message));
    match (&of("content-length")[..], &of("transfer-encoding")[..]) {
        ([], []) => Ok(()),
        ([length], []) if is_length(length) => Ok(()),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        ([_], []) => refuse("Content-Length is no number"),
        ([], [_]) => refuse("Transfer-Encoding may only be chunked"),
        (_, []) => refuse("Content-Length is there twice"),
        ([], _) => refuse("Transfer-Encoding is there twice"),
        _ => refuse("Content-Length and Transfer-Encoding exclude each other"),
    }
}

/// Whether this is a number of bytes that there can be.
fn is_length(text: &[u8]) -> bool {
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse::<i64>().ok()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Option<Result<bool, u16>> {
        judge(text.as_bytes(), 0).map(|verdict| verdict.map_err(|error| error.status.as_u16()))
    }

    #[test]
    fn heads_are_whole_wherever_they_are_cut() {
        for text in ["GET /health HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\nGET /health HTTP/1.1\nHost: a\n\n"] {
            assert_eq!(status(text), Some(Ok(true)));
            for cut in 0..text.len() {
                assert_eq!(status(&text[..cut]), None, "{cut}");
                assert!(matches!(judge(text.as_bytes(), cut), Some(Ok(true))), "{cut}");
            }
            assert_eq!(status(&format!("{text}GET / HTTP/1.1")), Some(Ok(true)));
        }
        assert_eq!(status("GET /v1/models HTTP/1.1\r\n\r\n"), Some(Ok(false)));
    }

    #[test]
    fn heads_have_limits() {
        let with = |count: usize, length: usize| {
            let headers = format!("a: {}\r\n", "x".repeat(length)).repeat(count);
            status(&format!("GET / HTTP/1.1\r\n{headers}\r\n"))
        };
        assert_eq!(with(64, 10), Some(Ok(false)));
        assert_eq!(with(65, 10), Some(Err(431)));
        assert_eq!(with(1, 8100), Some(Ok(false)));
        assert_eq!(with(1, 8192), Some(Err(431)));
        assert_eq!(status(&"x".repeat(8192)), None);
        assert_eq!(status(&"x".repeat(8193)), Some(Err(431)));
    }

    #[test]
    fn the_length_of_a_body_is_told_once() {
        let with = |headers: &str| status(&format!("POST / HTTP/1.1\r\n{headers}\r\n"));
        for fine in ["", "Content-Length: 5\r\n", "transfer-encoding: Chunked\r\n"] {
            assert_eq!(with(fine), Some(Ok(false)), "{fine}");
        }
        for wrong in [
            "Content-Length: -1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 5\r\ncontent-length: 5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "no colon\r\n",
            "a\u{0}b: c\r\n",
        ] {
            assert_eq!(with(wrong), Some(Err(400)), "{wrong:?}");
        }
        assert_eq!(status("\u{16}\u{3}\u{1}"), Some(Err(400)));
        assert_eq!(status("\0"), Some(Err(400)));
        assert_eq!(status("GET /<a> HTTP/1.1\r\n\r\n"), Some(Err(400)));
        assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(Err(400)));
        assert_eq!(status("hello\n\n"), Some(Err(400)));
    }
}
