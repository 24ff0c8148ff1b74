//! What the environment says of the hub and its user, in the words of the hub's own client.
//!
//! `HF_ENDPOINT`, `HF_TOKEN` (else the file `HF_TOKEN_PATH`, by default `$HF_HOME/token`, unless
//! `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set), `HF_HUB_OFFLINE`, `HF_HUB_CACHE` (by default `$HF_HOME/hub`),
//! `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, `SSL_CERT_FILE`; proxies from `HTTPS_PROXY`, `NO_PROXY` and the like.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, parse_pem};

use super::StoreError;
use super::address::{origin, shown};
use crate::files::read_text_if_there;

const ENDPOINT: &str = "https://huggingface.co";
/// Longest token, in bytes.
const MAX_TOKEN: u64 = 1 << 12;
/// Longest file of certificates, in bytes.
const MAX_CERTIFICATES: u64 = 16 << 20;
/// Longest that nothing may come.
const STALL: Duration = Duration::from_secs(30);

/// What was found, checked.
pub(super) struct Environment {
    /// Without a slash at its end.
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    /// The variable that forbids the network.
    pub(super) offline: Option<&'static str>,
    /// Folders of the hub's own client, where a file may be already.
    pub(super) cache: Option<PathBuf>,
    /// Longest that nothing may come.
    pub(super) stall: Duration,
    /// Who is trusted in place of those that Mozilla trusts.
    pub(super) roots: Option<Vec<Certificate<'static>>>,
}

/// How long nothing may come, and who is trusted in place of those that Mozilla trusts.
///
/// # Errors
/// As [`Environment::read`].
pub(super) fn connection() -> Result<(Duration, Option<Vec<Certificate<'static>>>), StoreError> {
    Ok((stall()?, path("SSL_CERT_FILE").map(|file| certificates(&file)).transpose()?))
}

impl Environment {
    /// Reads all of it.
    ///
    /// # Errors
    /// If a variable makes no sense, or a file that it names cannot be read.
    pub(super) fn read() -> Result<Self, StoreError> {
        let home = path("HF_HOME").or_else(|| {
            let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
            cache.map(|cache| cache.join("huggingface"))
        });
        Ok(Self {
            endpoint: endpoint()?,
            token: token(home.as_deref())?,
            offline: Some("HF_HUB_OFFLINE").filter(|name| is_set(name)),
            cache: path("HF_HUB_CACHE").or_else(|| home.map(|home| home.join("hub"))),
            stall: stall()?,
            roots: path("SSL_CERT_FILE").map(|file| certificates(&file)).transpose()?,
        })
    }
}

fn endpoint() -> Result<String, StoreError> {
    let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    if origin(&endpoint).is_none() || endpoint.contains(['?', '#']) {
        let problem = "expected http:// or https:// and a host";
        return Err(StoreError::BadVariable { variable: "HF_ENDPOINT", found: shown(&endpoint), problem });
    }
    Ok(endpoint)
}

fn stall() -> Result<Duration, StoreError> {
    let Some(found) = text("HF_HUB_DOWNLOAD_TIMEOUT") else { return Ok(STALL) };
    match found.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => {
            let problem = "expected seconds, from 1 to 86400";
            Err(StoreError::BadVariable { variable: "HF_HUB_DOWNLOAD_TIMEOUT", found, problem })
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, StoreError> {
    let mut pem = vec![];
    let read = File::open(file).and_then(|from| from.take(MAX_CERTIFICATES).read_to_end(&mut pem));
    read.map_err(StoreError::io("read", file))?;
    let mut found = vec![];
    for item in parse_pem(&pem) {
        let problem = |error: ureq::Error| StoreError::BadRecord {
            file: file.to_owned(),
            problem: format!("named by SSL_CERT_FILE, is not PEM ({error})"),
        };
        if let PemItem::Certificate(certificate) = item.map_err(problem)? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        let problem = "named by SSL_CERT_FILE, has no certificate".to_owned();
        return Err(StoreError::BadRecord { file: file.to_owned(), problem });
    }
    Ok(found)
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
            Some(file) => read_text_if_there(&file, MAX_TOKEN)?,
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
