//! A client's socket, TCP or UNIX, and what hyper reads and writes of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::Sleep;

/// Bytes that are read at once.
const PIECE: usize = 4 << 10;

/// A client's socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Calls a method of either kind.
macro_rules! of_either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            #[cfg(unix)]
            Socket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Waits for bytes and adds them to `bytes`: how many, 0 at the end.
    pub(super) async fn read(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            of_either!(self, stream => stream.readable().await)?;
            match self.read_now(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Adds bytes that are there to `bytes`. The buffer is no part of what waits.
    pub(super) fn read_now(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let mut piece = [0; PIECE];
        let count = of_either!(self, stream => stream.try_read(&mut piece))?;
        bytes.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// Writes bytes, which a socket that nothing was written to takes at once.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<()> {
        match of_either!(self, stream => stream.try_write(bytes))? {
            count if count == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Waits until the client has closed its side, whatever it has sent before that nobody has read.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) async fn closed(&self) {
        // Urgent bytes are not asked for, so this is ready at the end only, and reads nothing.
        let ready = of_either!(self, stream => stream.ready(tokio::io::Interest::PRIORITY).await);
        if ready.is_ok_and(|ready| !ready.is_read_closed()) {
            std::future::pending().await
        }
    }

    /// Never tells here: hyper sees the end unless something was sent before it.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) async fn closed(&self) {
        std::future::pending().await
    }

    /// Says that nothing more will be written.
    pub(super) async fn shut_down(&mut self) -> io::Result<()> {
        of_either!(self, stream => stream.shutdown().await)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self, stream => stream.poll_read_ready(context))
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self, stream => stream.poll_write_ready(context))
    }
}

/// A socket of which some bytes have been read, as hyper reads and writes it. Who takes no bytes for too long is cut off.
pub(super) struct Io {
    socket: Arc<Socket>,
    /// Read already, and how much of it was handed on.
    first: Vec<u8>,
    handed: usize,
    write_time: Duration,
    /// Ends when a client has taken nothing for too long.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Io {
    pub(super) fn new(socket: Arc<Socket>, first: Vec<u8>, write_time: Duration) -> Io {
        Io { socket, first, handed: 0, write_time, stalled: None }
    }

    /// Writes what the socket takes.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.poll_write_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let time = self.write_time;
                    let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                    ready!(stalled.as_mut().poll(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.stalled = None;
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.first[self.handed..];
        if !left.is_empty() {
            let count = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..count]);
            self.handed += count;
            if self.handed == self.first.len() {
                (self.first, self.handed) = (vec![], 0);
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            let into = buffer.initialize_unfilled();
            match of_either!(&*self.socket, stream => stream.try_read(into)) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |socket| of_either!(socket, stream => stream.try_write(bytes)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |socket| of_either!(socket, stream => stream.try_write_vectored(parts)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Leaves it open: whoever has the socket shuts it down after this.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
