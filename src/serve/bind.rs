//! Where connections come from: a TCP port or a UNIX socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use tokio::net::{TcpListener, TcpSocket};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixSocket};

use super::options::{Address, Listen, ServeError, ServeOptions};
use super::socket::Socket;

/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// Bytes of an answer that the system keeps for a client that does not read.
const SEND_BUFFER: u32 = 64 << 10;

/// Where connections come from.
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix {
        listener: UnixListener,
        /// Gone with it.
        _place: Place,
    },
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the address is none, is taken, or is one that other computers reach and that is not allowed.
    pub(super) fn bind(options: &ServeOptions) -> Result<(Listener, Address), ServeError> {
        match &options.listen {
            Listen::Tcp(host, port) => {
                let address = allowed(host, *port, options)?;
                let listener = bind_tcp(address).map_err(fail(&address))?;
                let address = listener.local_addr().map_err(fail(&address))?;
                Ok((Listener::Tcp(listener), Address::Tcp(address)))
            }
            #[cfg(unix)]
            Listen::Unix(path) => {
                let listener = bind_unix(path)?;
                let place = Place::new(path).map_err(fail(&path.display()))?;
                Ok((Listener::Unix { listener, _place: place }, Address::Unix(path.clone())))
            }
            #[cfg(not(unix))]
            Listen::Unix(path) => Err(fail(&path.display())(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Makes sure that [`Self::bind`] may listen there, as far as that can be known before.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub(super) fn check(options: &ServeOptions) -> Result<(), ServeError> {
        let Listen::Tcp(host, port) = &options.listen else { return Ok(()) };
        let address = allowed(host, *port, options)?;
        std::net::TcpListener::bind(address).map(drop).map_err(fail(&address))
    }

    /// Waits for a connection.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A token is sent when it is there.
                _ = stream.set_nodelay(true);
                Ok(Socket::Tcp(stream))
            }
            #[cfg(unix)]
            Listener::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Socket::Unix(stream))
            }
        }
    }
}

fn fail(address: &dyn std::fmt::Display) -> impl FnOnce(io::Error) -> ServeError + use<> {
    let address = address.to_string();
    move |source| ServeError::Bind { address, source }
}

/// The address of a host, if it may be listened at.
fn allowed(host: &str, port: u16, options: &ServeOptions) -> Result<SocketAddr, ServeError> {
    let address = resolve(host, port)?;
    let is_guarded = options.allow_remote && options.token_file.is_some();
    if address.ip().is_loopback() || is_guarded { Ok(address) } else { Err(ServeError::Remote { address }) }
}

/// The address of a host; of `localhost` one of this computer, whatever others say.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, ServeError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    let fail = |source| ServeError::Resolve { host: host.to_owned(), source };
    let found = (host, port).to_socket_addrs().map_err(fail)?;
    found.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| fail(io::ErrorKind::NotFound.into()))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that is started again need not wait for the connections of the one before.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    // What is accepted has it too, so that a client that does not read is noticed.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens at a socket that nobody else has access to. A socket that a server has left there is replaced.
#[cfg(unix)]
fn bind_unix(path: &std::path::Path) -> Result<UnixListener, ServeError> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let fail = || fail(&path.display());
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail()(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServeError::NoSocket { path: path.display().to_string() });
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(fail())?;
            }
            Ok(_) => return Err(ServeError::Taken { path: path.display().to_string() }),
            Err(error) => return Err(fail()(error)),
        },
    }
    let socket = UnixSocket::new_stream().map_err(fail())?;
    socket.bind(path).map_err(fail())?;
    // Nobody can connect before it listens.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail())?;
    socket.listen(BACKLOG).map_err(fail())
}

/// The name of a socket; removed at the end if it is still that socket's.
#[cfg(unix)]
pub(super) struct Place {
    path: std::path::PathBuf,
    id: (u64, u64),
}

#[cfg(unix)]
impl Place {
    fn new(path: &std::path::Path) -> io::Result<Place> {
        Ok(Place { path: path.to_owned(), id: Place::id(path)? })
    }

    fn id(path: &std::path::Path) -> io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
    }
}

#[cfg(unix)]
impl Drop for Place {
    fn drop(&mut self) {
        if Place::id(&self.path).is_ok_and(|id| id == self.id) {
            _ = std::fs::remove_file(&self.path);
        }
    }
}
