//! The names by which this server may be called: a page of another name that leads here is not let in.

use axum::http::{HeaderMap, HeaderName, Uri, header};

use super::error::ApiError;
use super::options::{Address, ServeError};

/// The names of this computer to itself.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The names by which the server may be called.
#[derive(Debug)]
pub(super) struct Hosts {
    /// The names of this computer to itself, and the port that goes with them.
    own: Vec<(String, u16)>,
    /// Names that the operator added, with the port that goes with them if only one does.
    added: Vec<(String, Option<u16>)>,
    /// Whether names mean nothing, as on a UNIX socket, which no page can reach.
    is_any: bool,
}

impl Hosts {
    /// The names of an address, and those that the operator adds.
    ///
    /// # Errors
    /// If one is no name.
    pub(super) fn new(address: &Address, added: &[String]) -> Result<Hosts, ServeError> {
        let mut hosts = Hosts { own: vec![], added: vec![], is_any: false };
        match address {
            Address::Unix(_) => hosts.is_any = true,
            Address::Tcp(address) => {
                let own = match address {
                    _ if address.ip().is_unspecified() => None,
                    std::net::SocketAddr::V4(address) => Some(address.ip().to_string()),
                    std::net::SocketAddr::V6(address) => Some(format!("[{}]", address.ip())),
                };
                let names = LOCAL.iter().map(|name| (*name).to_owned()).chain(own);
                hosts.own.extend(names.map(|name| (name, address.port())));
            }
        }
        for name in added {
            hosts.added.push(Self::check_name(name)?);
        }
        Ok(hosts)
    }

    /// A name in small letters, and its port if it has one.
    ///
    /// # Errors
    /// If it is no name.
    pub(super) fn check_name(name: &str) -> Result<(String, Option<u16>), ServeError> {
        let lower = name.to_ascii_lowercase();
        let (name, port) = split(&lower).ok_or_else(|| ServeError::HostName { name: name.to_owned() })?;
        Ok((name.to_owned(), port))
    }

    /// Whether a name, with or without a port, is one of this server.
    fn has(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let Some((name, port)) = split(&host) else { return false };
        let is_own = |(ours, its): &(String, u16)| ours == name && port.is_none_or(|port| port == *its);
        self.is_any || self.own.iter().any(is_own) || self.has_added(&host)
    }

    /// Whether a name is one that the operator added.
    fn has_added(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let Some((name, port)) = split(&host) else { return false };
        let goes = |its: Option<u16>| port.is_none() || its.is_none() || port == its;
        self.added.iter().any(|(ours, its)| ours == name && goes(*its))
    }

    /// Makes sure that a request means this server, and that no page of another sent it.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = single(headers, &header::HOST)?;
        match host {
            Some(host) if self.has(host) => {}
            None if self.is_any => {}
            _ => return Err(ApiError::forbidden("the header Host does not name this server")),
        }
        if uri.authority().is_some_and(|authority| !self.has(authority.as_str())) {
            return Err(ApiError::forbidden("the address of the request does not name this server"));
        }
        let Some(origin) = single(headers, &header::ORIGIN)? else { return Ok(()) };
        let host = host.unwrap_or_default();
        let is_host = |of: &str| !of.is_empty() && of.eq_ignore_ascii_case(host);
        // Only somebody between, whom the operator knows of, can have added the encryption.
        let is_ours = match origin.strip_prefix("https://") {
            Some(of) => is_host(of) && self.has_added(of),
            None => origin.strip_prefix("http://").is_some_and(is_host),
        };
        match is_ours {
            true => Ok(()),
            false => Err(ApiError::forbidden("the page that asks is of another server")),
        }
    }
}

/// A header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str());
    match (first, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err(ApiError::forbidden(format!("the header {name} is there twice, or is no text"))),
    }
}

/// A host and its port, if this is one.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match host.find(']') {
        Some(end) if host.starts_with('[') => {
            let (name, rest) = host.split_at(end + 1);
            (name, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        _ => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let of_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.chars().all(of_name),
    };
    let is_number = |port: &&str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    match port {
        _ if !is_name => None,
        None => Some((name, None)),
        Some(port) => Some((name, Some(Some(port).filter(is_number)?.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn check(hosts: &Hosts, uri: &str, lines: &[(&str, &str)]) -> Result<(), u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::try_from(*value).unwrap());
        }
        hosts.check(&uri.parse().unwrap(), &headers).map_err(|error| error.status.as_u16())
    }

    fn tcp(address: &str, added: &[&str]) -> Hosts {
        let added: Vec<String> = added.iter().map(|name| (*name).to_owned()).collect();
        Hosts::new(&Address::Tcp(address.parse().unwrap()), &added).unwrap()
    }

    #[test]
    fn names_of_this_server_are_let_in() {
        let hosts = tcp("127.0.0.1:80", &["kiosk.lan", "Proxy:8443"]);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "kiosk.lan:1",
            "proxy:8443",
            "proxy",
        ] {
            assert_eq!(check(&hosts, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost:81",
            "localhost:",
            "localhost:+80",
            "localhost.",
            "localhost.evil.example",
            "127.0.0.2",
            "[::1",
            "[::1]80",
            "[::2]",
            "user@localhost",
            "localhost:80:80",
            "localhost:99999999",
            "proxy:80",
            "localhost, evil.example",
            "127.1",
            "2130706433",
        ] {
            assert_eq!(check(&hosts, "/", &[("host", host)]), Err(403), "{host}");
        }
        assert_eq!(check(&hosts, "/", &[]), Err(403));
        assert_eq!(check(&hosts, "/", &[("host", "localhost"), ("host", "localhost")]), Err(403));
        assert_eq!(check(&tcp("192.0.2.7:80", &[]), "/", &[("host", "192.0.2.7:80")]), Ok(()));
        assert_eq!(check(&tcp("0.0.0.0:80", &[]), "/", &[("host", "0.0.0.0:80")]), Err(403));
        for name in ["", "a b", "http://a", "a:b", "*", "[a]"] {
            assert!(Hosts::new(&Address::Unix("s".into()), &[name.to_owned()]).is_err(), "{name}");
        }
    }

    #[test]
    fn absolute_targets_are_names_too() {
        let hosts = tcp("127.0.0.1:80", &[]);
        for (uri, wanted) in [
            ("http://localhost/health", Ok(())),
            ("http://127.0.0.1:80/health", Ok(())),
            ("http://evil.example/health", Err(403)),
            ("http://localhost@evil.example/health", Err(403)),
            ("http://evil.example@localhost/health", Err(403)),
        ] {
            assert_eq!(check(&hosts, uri, &[("host", "localhost")]), wanted, "{uri}");
        }
        assert_eq!(check(&hosts, "http://localhost/", &[("host", "evil.example")]), Err(403));
    }

    #[test]
    fn pages_of_others_are_not_let_in() {
        let hosts = tcp("127.0.0.1:80", &["kiosk.lan"]);
        let from = |origin: &str| check(&hosts, "/", &[("host", "localhost:80"), ("origin", origin)]);
        assert_eq!((from("http://localhost:80"), from("http://LOCALHOST:80")), (Ok(()), Ok(())));
        for (origin, wanted) in
            [("https://kiosk.lan", Ok(())), ("http://kiosk.lan", Ok(())), ("https://kiosk.lan:1", Err(403))]
        {
            assert_eq!(check(&hosts, "/", &[("host", "kiosk.lan"), ("origin", origin)]), wanted, "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://localhost:80",
            "https://kiosk.lan",
            "http://evil.example",
            "http://localhost",
            "http://127.0.0.1:80",
            "localhost:80",
            "file://",
            "http://localhost:80/",
            "http://localhost:80.evil.example",
        ] {
            assert_eq!(from(origin), Err(403), "{origin}");
        }
        let twice =
            [("host", "localhost:80"), ("origin", "http://localhost:80"), ("origin", "http://localhost:80")];
        assert_eq!(check(&hosts, "/", &twice), Err(403));
    }

    #[test]
    fn a_unix_socket_has_no_name() {
        let hosts = Hosts::new(&Address::Unix("s".into()), &[]).unwrap();
        assert_eq!(check(&hosts, "/", &[]), Ok(()));
        assert_eq!(check(&hosts, "/", &[("host", "anything")]), Ok(()));
        assert_eq!(check(&hosts, "/", &[("host", "a"), ("origin", "http://evil.example")]), Err(403));
        assert_eq!(check(&hosts, "/", &[("host", "a"), ("host", "b")]), Err(403));
    }
}
