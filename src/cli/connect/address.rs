//! Where a server is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where OpenAI's interface begins, where the address does not say it.
const PREFIX: &str = "/v1";
/// The port of a URL that has none.
const HTTP_PORT: u16 = 80;
/// Bytes of an address at most.
const MAX_BYTES: usize = 2048;

/// What a computer is called by itself.
const OWN_NAMES: [&str; 2] = ["localhost", "::1"];

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    pub(super) place: Place,
    /// What paths begin with, without a slash at the end.
    pub(super) prefix: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A host, without brackets, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Address {
    /// What the server is called in requests.
    pub(super) fn host(&self) -> String {
        match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp(host, port) => format!("{host}:{port}"),
        }
    }

    /// Whether what is said stays on this computer.
    pub(in crate::cli) fn is_local(&self) -> bool {
        match &self.place {
            Place::Unix(_) => true,
            Place::Tcp(host, _) => OWN_NAMES.contains(&host.as_str()) || host.starts_with("127."),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "{}", path.display()),
            Place::Tcp(..) => write!(f, "http://{}", self.host()),
        }
    }
}

/// `http://HOST:PORT`, with or without `/v1` or another path; `unix:PATH`, or the path of a socket.
impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if text.len() > MAX_BYTES || text.contains(char::is_control) {
            return Err("expected an address such as http://127.0.0.1:8080".to_owned());
        }
        let socket = text.strip_prefix("unix:").or(text.starts_with(['/', '.']).then_some(text));
        if let Some(path) = socket {
            let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
            if path.is_empty() || cfg!(not(unix)) {
                return Err("expected the path of a UNIX socket".to_owned());
            }
            return Ok(Address { place: Place::Unix(path.into()), prefix: PREFIX.to_owned() });
        }
        if has_scheme(text, "https://") {
            return Err(
                "expected http://HOST:PORT: there is no TLS here; a tunnel (ssh -L) or a proxy on this \
                        computer brings a server behind https near"
                    .to_owned(),
            );
        }
        let rest = if has_scheme(text, "http://") { &text["http://".len()..] } else { text };
        if rest.contains("://") || rest.contains(['?', '#', ' ']) {
            return Err("expected http://HOST:PORT or unix:PATH".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(
                "expected http://HOST:PORT without a name or a password; --token-file names a file with a \
                        token"
                    .to_owned(),
            );
        }
        let place = place(authority).ok_or("expected http://HOST:PORT, with a port from 1 to 65535")?;
        let path = path.trim_end_matches('/');
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("expected http://HOST:PORT".to_owned());
        }
        let prefix = if path.ends_with(PREFIX) { path.to_owned() } else { format!("{path}{PREFIX}") };
        Ok(Address { place, prefix })
    }
}

fn has_scheme(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Host and port of an authority.
fn place(authority: &str) -> Option<Place> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_name) {
        return None;
    }
    let port = match port {
        "" => HTTP_PORT,
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port > 0)?
        }
        _ => return None,
    };
    Some(Place::Tcp(host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, String> {
        text.parse()
    }

    #[test]
    fn addresses_are_urls_or_sockets() {
        for (text, shown, host, prefix) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080", "/v1"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080", "127.0.0.1:8080", "/v1"),
            ("HTTP://LocalHost:1/v1/", "http://localhost:1", "localhost:1", "/v1"),
            ("localhost:8080", "http://localhost:8080", "localhost:8080", "/v1"),
            ("http://pi.local", "http://pi.local:80", "pi.local:80", "/v1"),
            ("http://[::1]:80/api", "http://[::1]:80", "[::1]:80", "/api/v1"),
            ("unix:/run/smolt.sock", "/run/smolt.sock", "localhost", "/v1"),
            ("unix:///run/smolt.sock", "/run/smolt.sock", "localhost", "/v1"),
            ("/run/smolt.sock", "/run/smolt.sock", "localhost", "/v1"),
            ("./smolt.sock", "./smolt.sock", "localhost", "/v1"),
        ] {
            let address = read(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.host().as_str()), (shown, host), "{text}");
            assert_eq!(address.prefix, prefix, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, part) in [
            ("https://127.0.0.1:8080", "no TLS"),
            ("HTTPS://host", "no TLS"),
            ("http://me:secret@host:1", "--token-file"),
            ("ftp://host", "http://HOST"),
            ("http://host:0", "port"),
            ("http://host:99999", "port"),
            ("http://host:+80", "port"),
            ("http://", "HOST"),
            ("http://[::1", "HOST"),
            ("http://[x]:1", "HOST"),
            ("http://host:1?token=x", "http://HOST"),
            ("http://ho st:1", "http://HOST"),
            ("http://host:1\r\nX: y", "address"),
            ("http://höst:1", "HOST"),
            ("unix:", "socket"),
            ("", "HOST"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read(&format!("http://{}", "a".repeat(3000))).is_err());
    }

    #[test]
    fn what_leaves_the_computer_is_known() {
        let is_local = |text: &str| read(text).unwrap().is_local();
        assert!(
            is_local("http://localhost:1") && is_local("http://127.0.0.9:1") && is_local("http://[::1]:1")
        );
        assert!(
            is_local("/run/smolt.sock") && !is_local("http://pi.local:1") && !is_local("http://10.0.0.1")
        );
    }
}
