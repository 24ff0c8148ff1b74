//! What is signed: a statement (in-toto) of names and digests.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::digest::{Digest, HashType, Hasher};
use super::error::TrustError;
use super::key::Curve;

/// The type of statements.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The kind of statements about models.
const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// The kind that version 0.2 of the reference tool wrote.
const OLD_PREDICATE: &str = "https://model_signing/Digests/v0.1";
/// What stands for the file where a single one is signed.
pub(super) const SINGLE: &str = ".";
/// Longest name of a file.
const MAX_NAME_BYTES: usize = 4096;

/// How files are cut before they are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Each is hashed whole.
    Files,
    /// Each is hashed in ranges of so many bytes.
    Shards(u64),
}

/// A file or a range of one, with its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The path from the folder that is signed; `.` for the file that alone is signed.
    pub path: String,
    /// The first byte, and the one after the last, where files are cut.
    pub range: Option<(u64, u64)>,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl Resource {
    /// Its name in statements.
    pub fn name(&self) -> String {
        match self.range {
            None => self.path.clone(),
            Some((start, end)) => format!("{}:{start}:{end}", self.path),
        }
    }
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignedBy {
    /// The owner of a key.
    Key {
        /// [`PublicKey::fingerprint`](super::PublicKey::fingerprint).
        fingerprint: String,
        /// The curve of the key.
        curve: Curve,
    },
    /// The owner of a certificate.
    Certificate {
        /// Whom it names.
        subject: String,
        /// SHA-256 of the certificate, in hexadecimal digits.
        fingerprint: String,
        /// The fingerprint of its key.
        key: String,
        /// The time at which the path was judged, where there is a clock.
        judged_at: Option<SystemTime>,
    },
}

impl fmt::Display for SignedBy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { fingerprint, curve } => write!(out, "key {fingerprint} ({curve})"),
            Self::Certificate { subject, fingerprint, .. } => {
                write!(out, "certificate of {subject} ({fingerprint})")
            }
        }
    }
}

/// What was signed, and by whom.
#[derive(Clone, Debug)]
pub struct Manifest {
    name: String,
    method: Method,
    hash: HashType,
    allows_links: bool,
    ignored: Vec<String>,
    resources: Vec<Resource>,
    root: Digest,
    pub(super) signers: Vec<SignedBy>,
}

impl Manifest {
    /// Makes one to be signed; resources are put in order.
    pub(super) fn new(
        name: String,
        method: Method,
        hash: HashType,
        ignored: Vec<String>,
        mut resources: Vec<Resource>,
    ) -> Manifest {
        resources.sort_by(|a, b| (&a.path, a.range).cmp(&(&b.path, b.range)));
        let root = root(&resources);
        Manifest { name, method, hash, allows_links: false, ignored, resources, root, signers: vec![] }
    }

    /// Reads the payload of a bundle; `file` is for messages.
    pub(super) fn parse(payload: &[u8], file: &str) -> Result<Manifest, TrustError> {
        let fault = |source| TrustError::NotStatement { file: file.to_owned(), source };
        let head: Head<'_> = serde_json::from_slice(payload).map_err(fault)?;
        let of_kind = |expected: &'static str, found: &str| {
            let found = found.to_owned();
            TrustError::Predicate { file: file.to_owned(), expected, found }
        };
        if head.kind != STATEMENT {
            return Err(of_kind(STATEMENT, &head.kind));
        }
        match &*head.predicate_type {
            PREDICATE => {
                let raw: Raw = serde_json::from_slice(payload).map_err(fault)?;
                raw.manifest(file)
            }
            OLD_PREDICATE => {
                let raw: OldRaw = serde_json::from_slice(payload).map_err(fault)?;
                raw.manifest(file)
            }
            found => Err(of_kind(PREDICATE, found)),
        }
    }

    /// Reads a payload that nobody may have signed: for what looks for faults of the reader, and nothing else.
    ///
    /// # Errors
    /// If it makes no sense.
    #[doc(hidden)]
    pub fn read_unsigned(payload: &[u8], file: &str) -> Result<Manifest, TrustError> {
        Manifest::parse(payload, file)
    }

    /// Writes the payload of a bundle.
    pub(super) fn payload(&self) -> Vec<u8> {
        let algorithm = algorithm(self.hash, self.method);
        let resources: Vec<_> = self
            .resources
            .iter()
            .map(|resource| RawResource {
                name: resource.name(),
                algorithm: algorithm.clone(),
                digest: resource.digest.hex(),
            })
            .collect();
        let shard_size = match self.method {
            Method::Files => None,
            Method::Shards(bytes) => Some(Number::from(bytes)),
        };
        let raw = Raw {
            kind: STATEMENT.to_owned(),
            subject: vec![Subject {
                name: self.name.clone(),
                digest: BTreeMap::from([(HashType::Sha256.name().to_owned(), self.root.hex())]),
            }],
            predicate_type: PREDICATE.to_owned(),
            predicate: Predicate {
                serialization: Serialization {
                    method: if shard_size.is_some() { "shards" } else { "files" }.to_owned(),
                    hash_type: self.hash.name().to_owned(),
                    shard_size,
                    allow_symlinks: self.allows_links,
                    ignore_paths: Some(self.ignored.clone()),
                },
                resources,
            },
        };
        serde_json::to_vec(&raw).unwrap_or_default()
    }

    /// The name of the signed folder or file, as its signer called it: to be shown, not to be relied on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How files were cut.
    pub fn method(&self) -> Method {
        self.method
    }

    /// How they were hashed.
    pub fn hash(&self) -> HashType {
        self.hash
    }

    /// Whether symbolic links to files are followed.
    pub fn allows_links(&self) -> bool {
        self.allows_links
    }

    /// Paths that were left out, with all below them.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Files and ranges, as they were signed.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The SHA-256 over all digests: one number for the whole model.
    pub fn root(&self) -> &Digest {
        &self.root
    }

    /// Who signed, those that count.
    pub fn signers(&self) -> &[SignedBy] {
        &self.signers
    }

    /// The resources of one file, in order.
    pub fn of_file(&self, path: &str) -> Vec<&Resource> {
        let mut found: Vec<_> = self.resources.iter().filter(|resource| resource.path == path).collect();
        found.sort_by_key(|resource| resource.range);
        found
    }

    /// Whether it is of a single file and not of a folder.
    pub fn is_single(&self) -> bool {
        self.resources.iter().all(|resource| resource.path == SINGLE)
    }

    /// Whether two are of the same contents.
    pub fn is_of_same(&self, other: &Manifest) -> bool {
        let sorted = |manifest: &Manifest| {
            let mut all = manifest.resources.clone();
            all.sort_by(|a, b| (&a.path, a.range).cmp(&(&b.path, b.range)));
            all
        };
        self.allows_links == other.allows_links && sorted(self) == sorted(other)
    }

    /// Whether a path is left out.
    pub fn ignores(&self, path: &str) -> bool {
        self.ignored.iter().any(|ignored| is_within(path, ignored))
    }
}

/// Whether a path is another one or below it.
pub(super) fn is_within(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !folder.is_empty()
}

/// The SHA-256 over the digests, in their order.
fn root(resources: &[Resource]) -> Digest {
    let mut hasher = Hasher::new(HashType::Sha256);
    resources.iter().for_each(|resource| hasher.update(resource.digest.bytes()));
    hasher.finish()
}

/// What the reference tool calls a hash where files are cut.
fn algorithm(hash: HashType, method: Method) -> String {
    match method {
        Method::Files => hash.name().to_owned(),
        Method::Shards(bytes) => format!("{}-sharded-{bytes}", hash.name()),
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "_type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(rename = "predicateType", borrow)]
    predicate_type: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize, Serialize)]
struct Raw {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize, Serialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<RawResource>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_size: Option<Number>,
    allow_symlinks: bool,
    ignore_paths: Option<Vec<String>>,
}

#[derive(Deserialize, Serialize)]
struct RawResource {
    name: String,
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct OldRaw {
    subject: Vec<Subject>,
}

impl Raw {
    fn manifest(self, file: &str) -> Result<Manifest, TrustError> {
        let fault = |found: String| TrustError::Statement { file: file.to_owned(), found };
        let Serialization { method, hash_type, shard_size, allow_symlinks, ignore_paths } =
            self.predicate.serialization;
        let hash = HashType::by_name(&hash_type)
            .ok_or_else(|| fault(format!("{hash_type:?} is no hash that is known")))?;
        let method = match (&method[..], shard_size.as_ref().map(whole)) {
            ("files", None) => Method::Files,
            ("shards", Some(Some(bytes))) if bytes > 0 => Method::Shards(bytes),
            _ => return Err(fault(format!("{method:?} with shards of {shard_size:?} bytes"))),
        };
        let resources = self.predicate.resources.into_iter();
        let resources: Vec<_> =
            resources.map(|raw| raw.resource(hash, method, file)).collect::<Result<_, _>>()?;
        check(&resources, method, file)?;
        let found = root(&resources);
        let [subject] = &self.subject[..] else {
            return Err(fault(format!("it is about {} models", self.subject.len())));
        };
        match subject.digest.get(HashType::Sha256.name()) {
            Some(expected) if *expected == found.hex() => {}
            expected => {
                let expected = expected.map_or("not there", String::as_str).to_owned();
                return Err(TrustError::RootDigest { file: file.to_owned(), expected, found: found.hex() });
            }
        }
        Ok(Manifest {
            name: subject.name.clone(),
            method,
            hash,
            allows_links: allow_symlinks,
            ignored: ignore_paths.unwrap_or_default(),
            resources,
            root: found,
            signers: vec![],
        })
    }
}

impl OldRaw {
    fn manifest(self, file: &str) -> Result<Manifest, TrustError> {
        let hash = HashType::Sha256;
        let resources = self.subject.into_iter().map(|mut subject| {
            let digest = subject.digest.remove(hash.name()).unwrap_or_default();
            let raw = RawResource { name: subject.name, algorithm: hash.name().to_owned(), digest };
            raw.resource(hash, Method::Files, file)
        });
        let resources: Vec<_> = resources.collect::<Result<_, _>>()?;
        check(&resources, Method::Files, file)?;
        Ok(Manifest::new(String::new(), Method::Files, hash, vec![], resources))
    }
}

/// A number of bytes; what wrote it may have known only fractions.
fn whole(number: &Number) -> Option<u64> {
    /// From here on fractions are not exact.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_u64().or_else(|| {
        let value =
            number.as_f64().filter(|value| value.fract() == 0.0 && (0.0..MAX_EXACT).contains(value))?;
        Some(value as u64)
    })
}

impl RawResource {
    fn resource(self, hash: HashType, method: Method, file: &str) -> Result<Resource, TrustError> {
        let fault = |found: String| TrustError::Statement { file: file.to_owned(), found };
        if self.algorithm != hash.name() && self.algorithm != algorithm(hash, method) {
            return Err(fault(format!("{:?} is hashed with {}", self.name, self.algorithm)));
        }
        let digest = Digest::from_hex(hash, &self.digest)
            .ok_or_else(|| fault(format!("the digest of {:?} is {:?}", self.name, self.digest)))?;
        let (path, range) = match method {
            Method::Files => (self.name, None),
            Method::Shards(_) => {
                let (path, range) =
                    cut(&self.name).ok_or_else(|| fault(format!("{:?} is no range of a file", self.name)))?;
                (path.to_owned(), Some(range))
            }
        };
        check_name(&path, file)?;
        Ok(Resource { path, range, digest })
    }
}

/// Takes a name apart that ends in the first byte and the one after the last.
fn cut(name: &str) -> Option<(&str, (u64, u64))> {
    let number = |digits: &str| {
        let value: u64 = digits.parse().ok()?;
        (value.to_string() == digits).then_some(value)
    };
    let mut parts = name.rsplitn(3, ':');
    let (end, start, path) = (number(parts.next()?)?, number(parts.next()?)?, parts.next()?);
    Some((path, (start, end)))
}

/// Refuses names that lead out of the folder, or that several names of one file could be.
fn check_name(path: &str, file: &str) -> Result<(), TrustError> {
    let why = match () {
        () if path == SINGLE => return Ok(()),
        () if path.len() > MAX_NAME_BYTES => "it is too long",
        () if path.contains('\0') => "it holds a NUL",
        () if path.split('/').any(|part| matches!(part, "" | "." | "..")) => {
            "it is not a plain path from the folder"
        }
        () => return Ok(()),
    };
    Err(TrustError::Name { file: file.to_owned(), name: path.to_owned(), why })
}

/// Refuses lists that name nothing, or something twice, or ranges that leave out bytes.
fn check(resources: &[Resource], method: Method, file: &str) -> Result<(), TrustError> {
    let fault = |found: String| TrustError::Statement { file: file.to_owned(), found };
    if resources.is_empty() {
        return Err(fault("it lists no file".to_owned()));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = resources.iter().find(|resource| !seen.insert((&resource.path, resource.range))) {
        return Err(fault(format!("{:?} is listed twice", twice.name())));
    }
    let is_single = |resource: &Resource| resource.path == SINGLE;
    if resources.iter().any(is_single) && !resources.iter().all(is_single) {
        return Err(fault("it lists a file without a name among others".to_owned()));
    }
    let Method::Shards(bytes) = method else { return Ok(()) };
    let mut sorted: Vec<_> =
        resources.iter().filter_map(|resource| Some((&resource.path, resource.range?))).collect();
    sorted.sort();
    for (at, (path, (start, end))) in sorted.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &sorted[at]).filter(|before| before.0 == *path);
        // Only the last of a file may be shorter.
        let is_next = match before {
            None => *start == 0,
            Some((_, (from, to))) => to == start && to - from == bytes,
        };
        if !is_next || end <= start || end - start > bytes {
            return Err(fault(format!("{path:?} is not cut into ranges of {bytes} bytes")));
        }
    }
    Ok(())
}
