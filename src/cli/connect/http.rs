//! One request and its response, over HTTP/1.1.

use httparse::{EMPTY_HEADER, Status};

use super::super::error::ConnectError;
use super::address::Address;
use super::wire::Wire;
use crate::generate::CancelHandle;

/// Bytes of a response's head.
const MAX_HEAD: usize = 16 << 10;
/// Headers of a response.
const MAX_HEADERS: usize = 100;
/// Bytes of the line before a chunk, with its extensions, and of the lines behind the last.
const MAX_CHUNK_LINE: usize = 4 << 10;
/// Lines behind the last chunk.
const MAX_TRAILERS: usize = 64;

/// What is asked.
pub(super) struct Request<'a> {
    /// GET without a body, POST with one.
    pub(super) body: Option<&'a [u8]>,
    /// Behind the address's prefix.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
}

/// The head of a response, with what follows it.
pub(super) struct Response {
    pub(super) status: u16,
    /// Seconds after which it may be asked again.
    pub(super) retry_after: Option<u64>,
    /// Whether server-sent events follow.
    pub(super) is_stream: bool,
    pub(super) body: Body,
}

/// Sends a request and reads the head of its response.
///
/// # Errors
/// If nobody is there, or what is there speaks no HTTP/1.1.
pub(super) fn ask(
    address: &Address,
    request: &Request<'_>,
    cancel: &CancelHandle,
) -> Result<Response, ConnectError> {
    let mut wire = Wire::open(address, cancel)?;
    let method = if request.body.is_some() { "POST" } else { "GET" };
    let mut head = format!(
        "{method} {}{} HTTP/1.1\r\nHost: {}\r\nAccept: application/json, text/event-stream\r\nConnection: close\r\n",
        address.prefix,
        request.path,
        address.host()
    );
    if let Some(body) = request.body {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    if let Some(token) = request.token {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    head += "\r\n";
    // A server that refuses may answer before it has read all.
    let sent = wire.send(head.as_bytes()).and_then(|()| wire.send(request.body.unwrap_or_default()));
    match (head_of(wire), sent) {
        (Err(ConnectError::Broken(_) | ConnectError::NotHttp { .. }), Err(error)) => Err(error),
        (response, _) => response,
    }
}

fn head_of(mut wire: Wire) -> Result<Response, ConnectError> {
    loop {
        let bytes = head_bytes(&mut wire)?;
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(&bytes);
        let status = match parsed {
            Ok(Status::Complete(_)) => head.code.unwrap_or(0),
            Ok(Status::Partial) => return Err(not_http("it ends before its first headers do")),
            Err(error) => return Err(not_http(error.to_string())),
        };
        if !matches!(status, 100..=199) {
            return response(status, head.headers, wire);
        }
        if status == 101 {
            return Err(not_http("it changes the protocol"));
        }
    }
}

fn not_http(reason: impl Into<String>) -> ConnectError {
    ConnectError::NotHttp { reason: reason.into() }
}

/// Reads up to the empty line behind the headers.
fn head_bytes(wire: &mut Wire) -> Result<Vec<u8>, ConnectError> {
    let (mut head, mut line) = (vec![], vec![]);
    loop {
        let is_whole = wire.line(&mut line, "headers", MAX_HEAD - head.len())?;
        head.extend_from_slice(&line);
        if head.len() >= 5 && !head.starts_with(b"HTTP/") {
            return Err(not_http("it begins otherwise"));
        }
        if !is_whole {
            return Err(not_http("it ends before its first headers do"));
        }
        if line == b"\r\n" || line == b"\n" {
            return Ok(head);
        }
    }
}

fn response(status: u16, headers: &[httparse::Header<'_>], wire: Wire) -> Result<Response, ConnectError> {
    let all = |name: &str| {
        let found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        found
            .map(|header| String::from_utf8_lossy(header.value.trim_ascii()).into_owned())
            .collect::<Vec<_>>()
    };
    let number = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let framing = match (&all("transfer-encoding")[..], &all("content-length")[..]) {
        _ if matches!(status, 204 | 304) => Framing::Length(0),
        ([], []) => Framing::End,
        ([], [length]) => Framing::Length(number(length).ok_or_else(|| not_http("its length is no number"))?),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => {
            Framing::Chunk { left: 0, is_first: true }
        }
        _ => return Err(not_http("it is not clear where its response ends")),
    };
    let kind = all("content-type").first().map(|kind| kind.to_ascii_lowercase()).unwrap_or_default();
    Ok(Response {
        status,
        retry_after: all("retry-after").first().and_then(number),
        is_stream: kind.starts_with("text/event-stream"),
        body: Body { wire, framing, line: vec![] },
    })
}

/// How a body ends.
enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// After so many bytes of this chunk more, and those behind it.
    Chunk {
        left: u64,
        is_first: bool,
    },
    /// With the connection.
    End,
    Ended,
}

/// What follows the head of a response.
pub(super) struct Body {
    wire: Wire,
    framing: Framing,
    line: Vec<u8>,
}

impl Body {
    /// Takes the next bytes into `bytes`, up to the end of a line; `false` at the end.
    ///
    /// # Errors
    /// If the connection ends before the body, or breaks, or it was cancelled.
    pub(super) fn next(&mut self, bytes: &mut Vec<u8>) -> Result<bool, ConnectError> {
        if let Framing::Chunk { left: 0, .. } = self.framing {
            self.chunk()?;
        }
        let most = match self.framing {
            Framing::Ended | Framing::Length(0) => return Ok(false),
            Framing::Length(left) | Framing::Chunk { left, .. } => {
                usize::try_from(left).unwrap_or(usize::MAX)
            }
            Framing::End => usize::MAX,
        };
        let found = self.wire.peek()?;
        if found.is_empty() {
            return if matches!(self.framing, Framing::End) { Ok(false) } else { Err(ConnectError::Cut) };
        }
        let found = &found[..found.len().min(most)];
        let count = found.iter().position(|byte| *byte == b'\n').map_or(found.len(), |at| at + 1);
        bytes.extend_from_slice(&found[..count]);
        self.wire.take(count);
        if let Framing::Length(left) | Framing::Chunk { left, .. } = &mut self.framing {
            *left -= count as u64;
        }
        Ok(true)
    }

    /// Reads the line before a chunk, and the end of the one before it.
    fn chunk(&mut self) -> Result<(), ConnectError> {
        if !matches!(self.framing, Framing::Chunk { is_first: true, .. }) {
            self.line("the end of a chunk")?;
            if !self.line.trim_ascii().is_empty() {
                return Err(not_http("a chunk is longer than it says"));
            }
        }
        self.line("the size of a chunk")?;
        let digits = self.line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_hex = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex);
        let left = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let left = left.ok_or_else(|| not_http("the size of a chunk is no number"))?;
        self.framing = Framing::Chunk { left, is_first: false };
        if left == 0 {
            for _ in 0..MAX_TRAILERS {
                self.line("a line behind the last chunk")?;
                if self.line.trim_ascii().is_empty() {
                    self.framing = Framing::Ended;
                    return Ok(());
                }
            }
            return Err(not_http("too many lines follow the last chunk"));
        }
        Ok(())
    }

    fn line(&mut self, what: &'static str) -> Result<(), ConnectError> {
        let is_whole = self.wire.line(&mut self.line, what, MAX_CHUNK_LINE)?;
        if is_whole { Ok(()) } else { Err(ConnectError::Cut) }
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// As [`Self::next`], and if it is longer than `limit`.
    pub(super) fn read_all(mut self, what: &'static str, limit: usize) -> Result<Vec<u8>, ConnectError> {
        let mut bytes = vec![];
        while self.next(&mut bytes)? {
            if bytes.len() > limit {
                return Err(ConnectError::TooLong { what, limit });
            }
        }
        Ok(bytes)
    }
}
