//! Where a server listens, what it lets in, and when it ends.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::files::ReadError;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A host or an address of it, and a port; port 0 for any.
    Tcp(String, u16),
    /// A UNIX socket, which nobody else has access to.
    Unix(PathBuf),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and the port that it got.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// As clients are told: a URL, or the path of the socket.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "http://{address}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where a server listens, and what it lets in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Where to listen.
    pub listen: Listen,
    /// Whether an address may be listened at that other computers reach. It takes a file of tokens too.
    pub allow_remote: bool,
    /// Names by which clients may call this computer besides `localhost`, with or without a port.
    pub hosts: Vec<String>,
    /// A file of tokens, one a line, of which each request must have one.
    pub token_file: Option<PathBuf>,
    /// What connections may take.
    pub limits: Limits,
    /// Ends the server.
    pub stop: Stop,
}

impl ServeOptions {
    /// Listens where it is told, for clients of this computer.
    pub fn new(listen: Listen) -> ServeOptions {
        ServeOptions {
            listen,
            allow_remote: false,
            hosts: vec![],
            token_file: None,
            limits: Limits::default(),
            stop: Stop::default(),
        }
    }
}

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at once.
    pub connections: usize,
    /// Connections at once that have not sent the head of a request yet. One more, and the oldest is cut.
    pub waiting: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Time for the head of a request.
    pub head_time: Duration,
    /// Time for its body.
    pub body_time: Duration,
    /// How long a client may take nothing of its answer.
    pub write_time: Duration,
    /// How long answers may go on after the server was told to stop.
    pub end_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 64,
            waiting: 256,
            body_bytes: 1 << 20,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            write_time: Duration::from_secs(10),
            end_time: Duration::from_secs(10),
        }
    }
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    #[default]
    Serving,
    /// What is under way may end.
    Ending,
    /// Nothing is waited for.
    Ended,
}

/// Ends a server; clones end the same one. Safe to use from any thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<watch::Sender<Phase>>);

impl Stop {
    /// Asks for the end: no more requests are taken, and answers under way may end. Asked again, at once.
    pub fn stop(&self) {
        self.0.send_modify(|phase| {
            *phase = match phase {
                Phase::Serving => Phase::Ending,
                Phase::Ending | Phase::Ended => Phase::Ended,
            };
        });
    }

    /// Waits until the end has come so far.
    pub(super) async fn reached(&self, wanted: Phase) {
        // The sender is this handle, so it is there.
        _ = self.0.subscribe().wait_for(|phase| *phase >= wanted).await;
    }
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ServeError {
    #[error("cannot listen at {address}")]
    Bind { address: String, source: io::Error },
    #[error("cannot find the host {host:?}")]
    Resolve { host: String, source: io::Error },
    #[error(
        "{address} can be reached by other computers: that has to be allowed, and takes a file of tokens"
    )]
    Remote { address: SocketAddr },
    #[error("{path}: is there and no socket; it is not replaced")]
    NoSocket { path: String },
    #[error("{path}: another server listens at it")]
    Taken { path: String },
    #[error("{name:?} is no name of a host, with or without a port")]
    HostName { name: String },
    #[error("cannot read the tokens")]
    TokenFile(#[from] ReadError),
    #[error("{file}: cannot tell who may read it")]
    TokenAccess { file: String, source: io::Error },
    #[error("{file}: others can read it or write to it (mode {mode:03o}); make it private: chmod 600 {file}")]
    TokensOpen { file: String, mode: u32 },
    #[error(
        "{file}, line {line}: expected a token of at least {least} letters, digits and signs, without spaces"
    )]
    Token { file: String, line: usize, least: usize },
    #[error("{file}: holds no token; write one, of at least 16 characters, on a line")]
    NoToken { file: String },
    #[error("cannot start the server")]
    Runtime(#[source] io::Error),
}
