//! What the Hugging Face hub is asked, and where tokens go.
//!
//! Two requests are made: for the files of a revision with their sizes and SHA-256 (`/api/models/…?blobs=true`), and for
//! the bytes of a file (`/ORG/REPO/resolve/COMMIT/FILE`), which is redirected to a server that has it. Redirects are
//! followed here, one by one: the token goes only to the endpoint it belongs to, and never from HTTPS to plain HTTP.

use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::time::Duration;

use hf_hub::{Cache, Repo};
use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::address::{as_sha256, content_range, escape, follow, origin, shown};
use super::environment::{Environment, connection};
use super::files::is_hex;
use super::name::is_safe_file;
use super::{HubName, StoreError};
use crate::files::Sha256Hex;

/// Longest list of a repository's files, in bytes.
const MAX_LIST: u64 = 16 << 20;
const MAX_REDIRECTS: usize = 8;
/// Longest to wait that a server may ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A hub, and how this user is known there.
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    /// The variable that forbids the network.
    offline: Option<&'static str>,
    /// What the hub's own client fetched.
    cache: Option<Cache>,
    agent: Agent,
}

/// What the hub is called for short in names.
const SHORT_HOST: &str = "hf.co";

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

/// What asks any web server, which nothing is told of the user; redirects are followed.
///
/// # Errors
/// If a variable makes no sense, or a file that it names cannot be read.
pub fn web_agent() -> Result<Agent, StoreError> {
    let (stall, roots) = connection()?;
    Ok(agent(stall, roots, MAX_REDIRECTS as u32))
}

fn agent(stall: Duration, roots: Option<Vec<Certificate<'static>>>, redirects: u32) -> Agent {
    let mut tls = TlsConfig::builder();
    if let Some(roots) = roots {
        tls = tls.root_certs(RootCerts::from(roots));
    }
    let config = Agent::config_builder()
        .user_agent(concat!("smolt/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls.build())
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(false)
        .accept_encoding("identity")
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall));
    config.build().new_agent()
}

impl Hub {
    /// The repository or file that somebody means: `ORG/REPO`, `ORG/REPO:FILE`, or their address on this hub, which may
    /// name a revision too.
    ///
    /// # Errors
    /// [`StoreError::BadName`].
    pub fn named(&self, typed: &str) -> Result<(HubName, Option<String>), StoreError> {
        let without_scheme = |text: &str| text.split_once("://").map_or(text, |(_, rest)| rest).to_owned();
        let (typed, host) = (without_scheme(typed), without_scheme(&self.endpoint));
        let path =
            [host.as_str(), SHORT_HOST].iter().find_map(|host| typed.strip_prefix(*host)?.strip_prefix('/'));
        let path = path.map(|path| path.split(['?', '#']).next().unwrap_or(path).trim_end_matches('/'));
        let parts: Vec<&str> = path.unwrap_or_default().split('/').collect();
        Ok(match parts.as_slice() {
            [org, repo, "resolve" | "blob", revision, file @ ..] if !file.is_empty() => {
                let name = format!("{org}/{repo}:{}", file.join("/"));
                (HubName::parse(&name)?, Some((*revision).to_owned()))
            }
            [org, repo, "tree", revision] => {
                (HubName::parse(&format!("{org}/{repo}"))?, Some((*revision).to_owned()))
            }
            _ => (HubName::parse(path.unwrap_or(&typed))?, None),
        })
    }

    /// The hub that the environment names.
    ///
    /// # Errors
    /// If a variable makes no sense, or a file that it names cannot be read.
    pub fn of_user() -> Result<Self, StoreError> {
        let Environment { endpoint, token, offline, cache, stall, roots } = Environment::read()?;
        let cache = cache.map(Cache::new);
        Ok(Self { endpoint, token, offline, cache, agent: agent(stall, roots, 0) })
    }

    /// The variable that forbids the network.
    pub(super) fn offline(&self) -> Option<&'static str> {
        self.offline
    }

    /// What should be the file with this hash among those of the hub's own client: from whatever commit it has it or,
    /// where the file system has no links, the copy of this commit.
    pub(super) fn cached(
        &self,
        name: &HubName,
        sha256: &str,
        (commit, file): (&str, &str),
    ) -> Option<PathBuf> {
        let (cache, repository) = (self.cache.as_ref()?, Repo::model(name.repository()));
        let blob = cache.path().join(repository.folder_name()).join("blobs").join(sha256);
        let copy = cache.repo(repository).pointer_path(commit).join(file);
        [blob, copy].into_iter().find(|path| path.is_file())
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
        let wrong = |problem: String| StoreError::Response { url: shown(&url), problem };
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
        let wrong = |problem: &str| StoreError::Response { url: shown(&url), problem: problem.to_owned() };
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
                url: shown(&url),
                problem: "redirected to no address that can be followed".to_owned(),
            };
            url = next.ok_or_else(wrong)?;
        }
        Err(StoreError::Response {
            url: shown(&url),
            problem: format!("more than {MAX_REDIRECTS} redirects"),
        }
        .into())
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

pub(super) fn unreachable(url: &str, error: ureq::Error) -> Failure {
    let url = shown(url);
    match &error {
        // What rustls has against a server comes as this kind of an error, for example an unknown certificate.
        ureq::Error::Io(cause) if cause.kind() == ErrorKind::InvalidData => {
            StoreError::NotSecure { url, source: Box::new(error) }.into()
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            StoreError::NotSecure { url, source: Box::new(error) }.into()
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            StoreError::Network { url, source: Box::new(error) }.into()
        }
        _ => Failure::Later(StoreError::Network { url, source: Box::new(error) }, Duration::ZERO),
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
