//! Tells systemd how the server is, if it asked: ready, alive, ending.

use std::time::Duration;

/// Who is told.
#[cfg(unix)]
pub(super) struct Notifier {
    socket: std::os::unix::net::UnixDatagram,
    address: std::os::unix::net::SocketAddr,
    /// How often it must be heard that all is well, if it must.
    watchdog: Option<Duration>,
}

#[cfg(unix)]
impl Notifier {
    /// Whoever started this process, if they asked.
    pub(super) fn of_environment() -> Option<Notifier> {
        let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        let of_us = |id: String| id.parse() == Ok(std::process::id());
        let is_ours = std::env::var("WATCHDOG_PID").map_or(true, of_us);
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok());
        let watchdog = micros.filter(|micros| is_ours && *micros > 0).map(Duration::from_micros);
        Notifier::new(&path, watchdog)
    }

    fn new(path: &std::ffi::OsStr, watchdog: Option<Duration>) -> Option<Notifier> {
        let socket = std::os::unix::net::UnixDatagram::unbound().ok()?;
        // It is never waited for.
        socket.set_nonblocking(true).ok()?;
        Some(Notifier { socket, address: address(path)?, watchdog })
    }

    pub(super) fn tell(&self, what: &str) {
        // Who does not listen is not told.
        _ = self.socket.send_to_addr(what.as_bytes(), &self.address);
    }

    /// How often to say that all is well: twice as often as it must be heard.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }
}

/// The address of a path; one that begins with `@` is in Linux' space of names without files.
#[cfg(unix)]
fn address(path: &std::ffi::OsStr) -> Option<std::os::unix::net::SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;
    match path.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name).ok()
        }
        _ => SocketAddr::from_pathname(path).ok(),
    }
}

/// There is nobody to tell.
#[cfg(not(unix))]
pub(super) struct Notifier;

#[cfg(not(unix))]
impl Notifier {
    pub(super) fn of_environment() -> Option<Notifier> {
        None
    }

    pub(super) fn tell(&self, _: &str) {}

    pub(super) fn interval(&self) -> Option<Duration> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn who_asked_is_told() {
        let name = format!("smolt-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let abstract_name = format!("@{name}");
        for at in [path.as_os_str(), abstract_name.as_ref()] {
            let listener = UnixDatagram::bind_addr(&address(at).unwrap()).unwrap();
            let notifier = Notifier::new(at, Some(Duration::from_secs(20))).unwrap();
            notifier.tell("READY=1");
            let mut heard = [0; 64];
            let count = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..count], b"READY=1");
            assert_eq!(notifier.interval(), Some(Duration::from_secs(10)));
        }
        std::fs::remove_file(&path).unwrap();
        Notifier::new(path.as_os_str(), None).unwrap().tell("nobody hears this");
    }
}
