//! Names of models on the hub.

use std::fmt;

use super::StoreError;

/// Longest part of a name, in bytes: what file systems allow, less what temporary names add.
const MAX_PART: usize = 200;
/// Most folders in the path of a file.
const MAX_DEPTH: usize = 4;

/// `ORG/REPO` or `ORG/REPO:FILE`, in which no part can leave the folder of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    org: String,
    repo: String,
    file: Option<String>,
}

impl HubName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`StoreError::BadName`].
    pub fn parse(name: &str) -> Result<Self, StoreError> {
        let bad = |problem| StoreError::BadName { name: name.to_owned(), problem };
        if let Some(address) = of_address(name) {
            return match address {
                (name, None | Some("main")) => Self::parse(&name),
                _ => Err(bad(
                    "the address is of another revision than main; give ORG/REPO:FILE and the revision",
                )),
            };
        }
        let (repository, file) = match name.split_once(':') {
            Some((repository, file)) => (repository, Some(file)),
            None => (name, None),
        };
        let (org, repo) = repository.split_once('/').ok_or_else(|| bad("expected ORG/REPO"))?;
        for part in [org, repo] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !is_safe_part(part) || !part.chars().all(allowed) {
                return Err(bad("ORG and REPO have letters, digits, '_', and inside '-' and '.'"));
            }
        }
        if let Some(file) = file
            && !is_safe_file(file)
        {
            return Err(bad("FILE must be a path inside of the repository"));
        }
        Ok(Self { org: org.to_owned(), repo: repo.to_owned(), file: file.map(str::to_owned) })
    }

    /// `ORG/REPO`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.org, self.repo)
    }

    /// `FILE`, the path of a file or what its name says of its quantization, such as `Q4_0`.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The name of a file in the same repository.
    ///
    /// # Errors
    /// If the path is not safe.
    #[cfg(feature = "pull")]
    pub(super) fn with_file(&self, file: &str) -> Result<Self, StoreError> {
        Self::parse(&format!("{}:{file}", self.repository()))
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.repo)?;
        self.file.as_ref().map_or(Ok(()), |file| write!(f, ":{file}"))
    }
}

/// `ORG/REPO` or `ORG/REPO:FILE` of the address of a page or file of the hub, and the revision if it has one.
pub(super) fn of_address(address: &str) -> Option<(String, Option<&str>)> {
    let mut rest = address;
    let mut is_address = false;
    for (start, names_hub) in [
        ("https://", false),
        ("http://", false),
        ("www.", false),
        ("huggingface.co/", true),
        ("hf.co/", true),
        ("hf://", true),
    ] {
        if rest.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start)) {
            rest = &rest[start.len()..];
            is_address |= names_hub;
        }
    }
    if !is_address {
        return None;
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let parts = if parts.first() == Some(&"models") { &parts[1..] } else { &parts[..] };
    match parts {
        [org, repo, "blob" | "resolve" | "raw", revision, file @ ..] if !file.is_empty() => {
            Some((format!("{org}/{repo}:{}", file.join("/")), Some(revision)))
        }
        [org, repo, "tree", revision, ..] => Some((format!("{org}/{repo}"), Some(revision))),
        [org, repo, ..] => Some((format!("{org}/{repo}"), None)),
        _ => Some((path.to_owned(), None)),
    }
}

/// Whether a path with `/` names a file below a folder, on every system.
pub(super) fn is_safe_file(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    parts.len() <= MAX_DEPTH && parts.iter().all(|part| is_safe_part(part))
}

fn is_safe_part(part: &str) -> bool {
    let forbidden =
        |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    // A dot first is "..", or hidden; a dash first is an option.
    let first = part.chars().next().is_some_and(|c| !matches!(c, '.' | '-' | ' '));
    let last = !part.ends_with(['.', ' ']);
    first && last && part.len() <= MAX_PART && !part.contains(forbidden)
}
