//! What the Hugging Face hub is asked, and where tokens go.
//!
//! Two requests are made: for the files of a revision with their sizes and SHA-256 (`/api/models/…?blobs=true`), and for
//! the bytes of a file (`/ORG/REPO/resolve/COMMIT/FILE`), which is redirected to a server that has it. Redirects are
//! followed here, one by one: the token goes only to the endpoint it belongs to, and never from HTTPS to plain HTTP.
//!
//! Environment, as the hub's own client has it: `HF_ENDPOINT`, `HF_TOKEN` (else the file `HF_TOKEN_PATH`, by default
//! `$HF_HOME/token`, unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set), `HF_HUB_OFFLINE`, `HF_HUB_CACHE` (by default
//! `$HF_HOME/hub`), `HF_HUB_DOWNLOAD_TIMEOUT` in seconds; proxies from `HTTPS_PROXY` and the like.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use super::files::{self, Sha256Hex};
use super::name::is_safe_file;
use super::{HubName, StoreError};

const ENDPOINT: &str = "https://huggingface.co";
/// Longest list of a repository's files, in bytes.
const MAX_LIST: u64 = 16 << 20;
/// Longest token, in bytes.
const MAX_TOKEN: u64 = 1 << 12;
const MAX_REDIRECTS: usize = 8;
/// Longest that nothing may come.
const STALL: Duration = Duration::from_secs(30);
/// Longest to wait that a server may ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A hub, and how this user is known there.
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    offline: Option<&'static str>,
    /// Folders of the hub's own client, where a file may be already.
    cache: Option<PathBuf>,
    agent: Agent,
}

/// The files of a revision.
pub(super) struct Revision {
    pub(super) commit: String,
    /// Only those with safe paths.
    pub(super) files: Vec<HubFile>,
}

/// A file on the hub.
#[derive(Clone, Debug)]
pub(super) struct HubFile {
    pub(super) path: String,
    pub(super) bytes: Option<u64>,
    pub(super) sha256: Option<Sha256Hex>,
}

/// Bytes of a file, from where they begin.
pub(super) struct Stream {
    pub(super) from: u64,
    /// Size of the whole file, if it was told.
    pub(super) total: Option<u64>,
    /// From the hub's own answer.
    pub(super) sha256: Option<Sha256Hex>,
    pub(super) url: String,
    pub(super) reader: Box<dyn Read>,
}

/// Why a request failed.
pub(super) enum Failure {
    /// It may work later; how long to wait at least.
    Later(StoreError, Duration),
    Final(StoreError),
    /// There are no bytes from there on.
    PastEnd(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

/// What the hub tells of a repository.
#[derive(Deserialize)]
struct Listing {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// The hub that the environment names.
    ///
    /// # Errors
    /// If a variable makes no sense, or the file of the token cannot be read.
    pub fn of_user() -> Result<Self, StoreError> {
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let bad = |variable, found: &str, problem| StoreError::BadVariable {
            variable,
            found: found.to_owned(),
            problem,
        };
        if origin(&endpoint).is_none() {
            return Err(bad("HF_ENDPOINT", &endpoint, "expected http:// or https:// and a host"));
        }
        let stall = match text("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => STALL,
            Some(seconds) => match seconds.parse() {
                Ok(seconds @ 1..=86_400) => Duration::from_secs(seconds),
                _ => {
                    return Err(bad("HF_HUB_DOWNLOAD_TIMEOUT", &seconds, "expected seconds, from 1 to 86400"));
                }
            },
        };
        let config = Agent::config_builder()
            .user_agent(concat!("smolt/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .timeout_resolve(Some(stall))
            .timeout_connect(Some(stall))
            .timeout_recv_response(Some(stall))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall));
        let offline = ["HF_HUB_OFFLINE", "SMOLT_OFFLINE"].into_iter().find(|name| is_set(name));
        let home = path("HF_HOME").or_else(|| {
            let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
            cache.map(|cache| cache.join("huggingface"))
        });
        Ok(Self {
            endpoint,
            token: token(home.as_deref())?,
            offline,
            cache: path("HF_HUB_CACHE").or_else(|| home.map(|home| home.join("hub"))),
            agent: config.build().new_agent(),
        })
    }

    /// The variable that forbids the network.
    pub(super) fn offline(&self) -> Option<&'static str> {
        self.offline
    }

    /// The file with this hash among those of the hub's own client.
    pub(super) fn cached(&self, name: &HubName, sha256: &str) -> Option<PathBuf> {
        let folder = format!("models--{}", name.repository().replace('/', "--"));
        let blob = self.cache.as_ref()?.join(folder).join("blobs").join(sha256);
        blob.is_file().then_some(blob)
    }

    /// The files of a revision of a repository.
    pub(super) fn files(&self, name: &HubName, revision: &str) -> Result<Revision, Failure> {
        let repository = name.repository();
        let url = format!(
            "{}/api/models/{repository}/revision/{}?blobs=true",
            self.endpoint,
            escape(revision, false)
        );
        let (response, url) = self.get(name, revision, &url, 0)?;
        let mut json = String::new();
        let mut body = response.into_body().into_reader().take(MAX_LIST + 1);
        body.read_to_string(&mut json).map_err(|error| cut(&url, error))?;
        let wrong = |problem: String| StoreError::Response { url: url.clone(), problem };
        if json.len() as u64 > MAX_LIST {
            return Err(wrong(format!("the list of files is longer than {MAX_LIST} bytes")).into());
        }
        let listing: Listing = serde_json::from_str(&json).map_err(|error| wrong(error.to_string()))?;
        let commit = listing.sha.filter(|sha| is_hex(sha, 40)).unwrap_or_else(|| revision.to_owned());
        let siblings = listing.siblings.into_iter().filter(|file| is_safe_file(&file.rfilename));
        let files = siblings.map(|file| HubFile {
            bytes: file.lfs.as_ref().and_then(|lfs| lfs.size).or(file.size),
            sha256: file.lfs.and_then(|lfs| lfs.sha256).and_then(|sha256| as_sha256(&sha256)),
            path: file.rfilename,
        });
        Ok(Revision { commit, files: files.collect() })
    }

    /// The bytes of a file from an offset on, or from its start if the server cannot do that.
    pub(super) fn open(
        &self,
        name: &HubName,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Stream, Failure> {
        let (commit_part, file_part) = (escape(commit, false), escape(file, true));
        let url = format!("{}/{}/resolve/{commit_part}/{file_part}", self.endpoint, name.repository());
        let mut sha256 = None;
        let (response, url) = self.get_with(name, commit, &url, from, &mut |response| {
            let etag = header(response, "x-linked-etag").or_else(|| header(response, "etag"));
            sha256 = sha256.take().or_else(|| as_sha256(etag?));
        })?;
        let wrong = |problem: &str| StoreError::Response { url: url.clone(), problem: problem.to_owned() };
        let (begins, total) = if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = header(&response, "content-range").and_then(content_range);
            range.ok_or_else(|| wrong("part of a file without a Content-Range"))?
        } else {
            (0, header(&response, "content-length").and_then(|length| length.parse().ok()))
        };
        if begins != 0 && begins != from {
            return Err(wrong("the part of a file that was not asked for").into());
        }
        Ok(Stream { from: begins, total, sha256, reader: Box::new(response.into_body().into_reader()), url })
    }

    fn get(
        &self,
        name: &HubName,
        revision: &str,
        url: &str,
        from: u64,
    ) -> Result<(Response<Body>, String), Failure> {
        self.get_with(name, revision, url, from, &mut |_| {})
    }

    /// Follows redirects to an answer that holds what was asked for; `seen` is shown every answer of the endpoint.
    fn get_with(
        &self,
        name: &HubName,
        revision: &str,
        url: &str,
        from: u64,
        seen: &mut dyn FnMut(&Response<Body>),
    ) -> Result<(Response<Body>, String), Failure> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let is_own = origin(&url) == origin(&self.endpoint);
            let token = self.token.as_ref().filter(|_| is_own);
            let mut request = self.agent.get(&url);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| unreachable(&url, error))?;
            if is_own {
                seen(&response);
            }
            let status = response.status();
            if status == StatusCode::OK || (status == StatusCode::PARTIAL_CONTENT && from > 0) {
                return Ok((response, url));
            }
            if !status.is_redirection() {
                return Err(self.refusal(name, revision, &url, &response, is_own));
            }
            let next = header(&response, "location").and_then(|location| follow(&url, location));
            let wrong = || StoreError::Response {
                url: url.clone(),
                problem: "redirected to no address that can be followed".to_owned(),
            };
            url = next.ok_or_else(wrong)?;
        }
        Err(StoreError::Response { url, problem: format!("more than {MAX_REDIRECTS} redirects") }.into())
    }

    /// Why an answer is not what was asked for.
    fn refusal(
        &self,
        name: &HubName,
        revision: &str,
        url: &str,
        response: &Response<Body>,
        is_own: bool,
    ) -> Failure {
        let (repository, status) = (name.repository(), response.status().as_u16());
        match status {
            404 if is_own => StoreError::NoRepository { repository, revision: revision.to_owned() }.into(),
            401 | 403 if is_own => {
                StoreError::Refused { repository, status, with_token: self.token.is_some() }.into()
            }
            416 => Failure::PastEnd(StoreError::Status { url: shown(url), status }),
            // An address to the bytes may expire between two attempts; the next one gets a new one.
            401 | 403 | 408 | 425 | 429 | 500.. => {
                let seconds = header(response, "retry-after").and_then(|seconds| seconds.parse().ok());
                let wait = Duration::from_secs(seconds.unwrap_or(0)).min(MAX_WAIT);
                Failure::Later(StoreError::Status { url: shown(url), status }, wait)
            }
            _ => StoreError::Status { url: shown(url), status }.into(),
        }
    }
}

/// A connection that ended too early.
pub(super) fn cut(url: &str, error: std::io::Error) -> Failure {
    Failure::Later(StoreError::Network { url: shown(url), source: Box::new(error) }, Duration::ZERO)
}

fn unreachable(url: &str, error: ureq::Error) -> Failure {
    let for_good = matches!(
        error,
        ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_)
            | ureq::Error::InvalidProxyUrl
    );
    let error = StoreError::Network { url: shown(url), source: Box::new(error) };
    if for_good { Failure::Final(error) } else { Failure::Later(error, Duration::ZERO) }
}

/// An address without its query, which may be a secret.
fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or(url).to_owned()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme.to_owned(), uri.host()?.to_ascii_lowercase(), port))
}

/// Where a redirect leads; nowhere if it would leave HTTPS.
fn follow(url: &str, location: &str) -> Option<String> {
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
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// The SHA-256 that an entity tag is, for files in large-file storage.
fn as_sha256(tag: &str) -> Option<Sha256Hex> {
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    is_hex(tag, 64).then(|| tag.to_ascii_lowercase())
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Percent-encodes what a path may not hold.
fn escape(text: &str, keep_slashes: bool) -> String {
    let keep =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keep_slashes && byte == b'/');
    let encode = |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

fn text(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether a switch is on, as the hub's own client reads it.
fn is_set(variable: &str) -> bool {
    text(variable)
        .is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

/// The token of this user.
fn token(home: Option<&Path>) -> Result<Option<String>, StoreError> {
    let given = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
    let token = match given {
        Some(token) => Some(token),
        None if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
        None => match path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token"))) {
            Some(file) => files::read_small(&file, MAX_TOKEN)?,
            None => None,
        },
    };
    let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    match token {
        // What is no header value must not be shown either.
        Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => Err(StoreError::BadVariable {
            variable: "HF_TOKEN",
            found: format!("{} bytes", token.len()),
            problem: "a token has only visible ASCII characters",
        }),
        token => Ok(token),
    }
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
    }
}
