//! What becomes of a server that does not serve.

use std::io;

use super::exit::Exit;
use crate::serve::ServeError;

/// The exit code of a server that does not serve.
pub(super) fn exit(error: &ServeError) -> Exit {
    match error {
        ServeError::Bind { .. }
        | ServeError::Resolve { .. }
        | ServeError::Taken { .. }
        | ServeError::Runtime(_) => Exit::Runtime,
        _ => Exit::Usage,
    }
}

/// What to do about a server that does not serve.
pub(super) fn hint(error: &ServeError) -> Option<&'static str> {
    match error {
        ServeError::Bind { source, .. } => match source.kind() {
            io::ErrorKind::AddrInUse => {
                Some("another program listens there; --port 0 takes a port that is free")
            }
            io::ErrorKind::PermissionDenied => Some("ports below 1024 are for root; --port N takes another"),
            io::ErrorKind::AddrNotAvailable => Some("--host takes an address of this computer"),
            _ => None,
        },
        ServeError::Remote { .. } => {
            Some("--allow-remote and --token-file FILE let it; --host 127.0.0.1 is for this computer only")
        }
        _ => None,
    }
}
