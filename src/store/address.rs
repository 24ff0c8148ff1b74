//! Addresses and headers of the web, as far as they are needed here.

use ureq::http::Uri;

use super::files::is_hex;
use crate::files::Sha256Hex;

/// An address without what may be secret in it: its query, and a name with a password.
pub(super) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => url.to_owned(),
    }
}

/// Scheme, host and port of an address.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme.to_owned(), uri.host()?.to_ascii_lowercase(), port))
}

/// Where a redirect leads; nowhere if it would leave HTTPS.
pub(super) fn follow(url: &str, location: &str) -> Option<String> {
    let (scheme, _, _) = origin(url)?;
    let target = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        let rest = url.split_once("://")?.1;
        let authority = rest.split(['/', '?', '#']).next()?;
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let (to, _, _) = origin(&target)?;
    (to == scheme || to == "https").then_some(target)
}

/// First byte and whole size, of `bytes 5-9/10`.
pub(super) fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// The SHA-256 that an entity tag is, for files in large-file storage.
pub(super) fn as_sha256(tag: &str) -> Option<Sha256Hex> {
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    is_hex(tag, 64).then(|| tag.to_ascii_lowercase())
}

/// Percent-encodes what a path may not hold.
pub(super) fn escape(text: &str, keep_slashes: bool) -> String {
    let keep =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keep_slashes && byte == b'/');
    let encode = |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_the_right_place() {
        let from = "https://hub.example:8443/a/b?c";
        let cases = [
            ("/x/y?z", Some("https://hub.example:8443/x/y?z")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("https://cdn.example/x", Some("https://cdn.example/x")),
            ("http://cdn.example/x", None),
            ("file:///etc/passwd", None),
            ("x", None),
            ("", None),
        ];
        for (location, target) in cases {
            assert_eq!(follow(from, location).as_deref(), target, "{location}");
        }
        assert!(follow("http://localhost/", "http://localhost:1/").is_some());
        assert!(follow("http://localhost/", "https://cdn.example/").is_some());
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        assert_eq!(origin("https://Hub.example/a"), origin("https://hub.example:443/b?c"));
        let others = [
            "http://hub.example",
            "https://hub.example:444",
            "https://hub.example.org",
            "https://a@evil.org",
        ];
        for other in others {
            assert_ne!(origin("https://hub.example"), origin(other), "{other}");
        }
        assert_eq!(origin("ftp://hub.example"), None);
        assert_eq!(origin("hub.example"), None);
    }

    #[test]
    fn headers_are_understood_or_refused() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in
            ["", "bytes", "bytes 5/10", "bytes -9/10", "items 5-9/10", "bytes 99999999999999999999-1/1"]
        {
            assert_eq!(content_range(bad), None, "{bad}");
        }
        let hash = "A".repeat(64);
        assert_eq!(as_sha256(&format!("W/\"{hash}\"")), Some("a".repeat(64)));
        assert_eq!(as_sha256(&hash[1..]), None);
        assert_eq!(as_sha256(&"g".repeat(64)), None);
        assert_eq!(escape("a b/ä?#%.gguf", true), "a%20b/%C3%A4%3F%23%25.gguf");
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(shown("https://cdn.example/x?signature=secret#y"), "https://cdn.example/x");
        assert_eq!(shown("https://me:secret@hub.example:1/x@y"), "https://hub.example:1/x@y");
        assert_eq!(shown("https://me:secret@hub.example"), "https://hub.example");
    }
}
