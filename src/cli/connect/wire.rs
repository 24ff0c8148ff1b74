//! Bytes that come with time, until somebody has enough.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::super::error::ConnectError;
use super::address::{Address, Place};
use crate::generate::CancelHandle;

/// Time for a connection to be made.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How soon it is noticed that somebody has enough.
const POLL: Duration = Duration::from_millis(50);
/// Silence after which nothing more is waited for: other servers say nothing while they read a long prompt.
const SILENCE: Duration = Duration::from_secs(300);
/// Time for a request to be taken.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Bytes that are read at once.
const BUFFER: usize = 8 << 10;

/// A connection.
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    fn connect(address: &Address) -> io::Result<Socket> {
        match &address.place {
            Place::Tcp(host, port) => {
                let mut failure = io::Error::new(ErrorKind::NotFound, "the name leads to no address");
                for at in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&at, CONNECT_TIME) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_read_timeout(Some(POLL))?;
                            stream.set_write_timeout(Some(WRITE_TIME))?;
                            return Ok(Socket::Tcp(stream));
                        }
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(POLL))?;
                stream.set_write_timeout(Some(WRITE_TIME))?;
                Ok(Socket::Unix(stream))
            }
            #[cfg(not(unix))]
            Place::Unix(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.read(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.write_all(bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// A connection with what came and was not taken yet. Dropping it closes it.
pub(super) struct Wire {
    socket: Socket,
    cancel: CancelHandle,
    buffer: Box<[u8]>,
    /// What of the buffer was not taken.
    held: std::ops::Range<usize>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// If nobody is there.
    pub(super) fn open(address: &Address, cancel: &CancelHandle) -> Result<Wire, ConnectError> {
        let socket = Socket::connect(address)
            .map_err(|source| ConnectError::Unreachable { address: address.to_string(), source })?;
        Ok(Wire { socket, cancel: cancel.clone(), buffer: vec![0; BUFFER].into(), held: 0..0 })
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// If the server takes it not.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectError> {
        self.socket.write_all(bytes).map_err(ConnectError::Broken)
    }

    /// What came and was not taken, after waiting for more if that is nothing; empty at the end.
    ///
    /// # Errors
    /// If the connection breaks, nothing comes, or it was cancelled.
    pub(super) fn peek(&mut self) -> Result<&[u8], ConnectError> {
        if self.held.is_empty() {
            let read = self.fill()?;
            self.held = 0..read;
        }
        Ok(&self.buffer[self.held.clone()])
    }

    /// Takes bytes that were seen.
    pub(super) fn take(&mut self, count: usize) {
        self.held.start = self.held.end.min(self.held.start + count);
    }

    fn fill(&mut self) -> Result<usize, ConnectError> {
        let since = Instant::now();
        loop {
            if self.cancel.is_cancelled() {
                return Err(ConnectError::Cancelled);
            }
            match self.socket.read(&mut self.buffer) {
                Ok(read) => return Ok(read),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if since.elapsed() < SILENCE => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        return Err(ConnectError::Silent { seconds: SILENCE.as_secs() });
                    }
                    _ => return Err(ConnectError::Broken(error)),
                },
            }
        }
    }

    /// Takes a line, and its end, into `line`; `false` if all ends before it.
    ///
    /// # Errors
    /// As [`Self::peek`], and if it has more than `limit` bytes.
    pub(super) fn line(
        &mut self,
        line: &mut Vec<u8>,
        what: &'static str,
        limit: usize,
    ) -> Result<bool, ConnectError> {
        line.clear();
        loop {
            let bytes = self.peek()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.map_or(bytes.len(), |at| at + 1)];
            let count = part.len();
            if line.len() + count > limit {
                return Err(ConnectError::TooLong { what, limit });
            }
            line.extend_from_slice(part);
            self.take(count);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}
