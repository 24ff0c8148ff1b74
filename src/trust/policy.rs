//! The trust file: whose signatures count for what, and how many it takes.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::release::{MAX_VERSION, name_problem, parse_json};
use super::time::Time;
use super::{Bundle, CertificateChain, Manifest, PublicKey, Refusal, SignedBy, TrustError};

/// Most bytes of a trust file.
pub const MAX_POLICY_BYTES: u64 = 16 << 10;
/// Most keys in it.
pub const MAX_POLICY_KEYS: usize = 32;
/// Most names of models in it.
const MAX_NAMES: usize = 64;
/// The name of the file.
pub const POLICY_FILE: &str = "trust.json";

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Models and their releases.
    Release,
    /// The next trust file.
    Trust,
}

/// Whose signatures count, as a trust file says.
#[derive(Clone, Debug)]
pub struct Policy {
    version: u64,
    expires: Option<Time>,
    keys: Vec<Entry>,
    release: usize,
    trust: usize,
    names: Option<Vec<String>>,
}

/// One who may sign.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    roles: Vec<Role>,
    signer: Signer,
}

/// How one who may sign is known.
#[derive(Clone, Debug)]
enum Signer {
    Key(PublicKey),
    /// One with a certificate from here, of this subject where one is named.
    Certificate(CertificateChain, Option<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[expect(dead_code, reason = "only its value is checked")]
    format: Format,
    version: u64,
    #[serde(default)]
    expires: Option<Time>,
    keys: Vec<RawKey>,
    roles: RawRoles,
    #[serde(default)]
    names: Option<Vec<String>>,
}

#[derive(Deserialize)]
enum Format {
    #[serde(rename = "smolt-trust/1")]
    V1,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    name: String,
    roles: Vec<Role>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    identity: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoles {
    release: RawRole,
    trust: RawRole,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRole {
    threshold: usize,
}

impl Role {
    /// What it is called in trust files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Trust => "trust",
        }
    }
}

impl Policy {
    /// Returns whether a text is meant to be a trust file: an object of JSON.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with('{')
    }

    /// Reads a trust file.
    ///
    /// # Errors
    /// If it is too long or not as described: a key of JSON is missing, unknown or given twice, a public key is given
    /// twice or is none, or a role can never be fulfilled.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let raw: Raw = parse_json(bytes, POLICY_FILE, MAX_POLICY_BYTES)?;
        if !(1..=MAX_VERSION).contains(&raw.version) {
            return Err(fail("version", format!("expected 1 to {MAX_VERSION}, found {}", raw.version)));
        }
        if raw.keys.is_empty() || raw.keys.len() > MAX_POLICY_KEYS {
            return Err(fail("keys", format!("expected 1 to {MAX_POLICY_KEYS}, found {}", raw.keys.len())));
        }
        let mut keys: Vec<Entry> = vec![];
        for raw in raw.keys {
            let entry = raw.read()?;
            if let Some(same) = keys.iter().find(|other| other.name == entry.name) {
                return Err(fail("keys", format!("two are called {:?}", same.name)));
            }
            if let Some(same) = keys.iter().find(|other| other.signer.is_same(&entry.signer)) {
                return Err(fail("keys", format!("{:?} and {:?} are the same key", same.name, entry.name)));
            }
            keys.push(entry);
        }
        let names = raw.names.map(check_names).transpose()?;
        let [release, trust] = [raw.roles.release.threshold, raw.roles.trust.threshold];
        let policy = Self { version: raw.version, expires: raw.expires, keys, release, trust, names };
        for role in [Role::Release, Role::Trust] {
            let (needed, most) = (policy.threshold(role), policy.signers(role).count());
            if needed == 0 || needed > most {
                let problem =
                    format!("the threshold of {} is {needed}, and {most} keys have that role", role.name());
                return Err(fail("roles", problem));
            }
        }
        Ok(policy)
    }

    /// Returns its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns from when on nothing is to be installed by it.
    pub fn expires(&self) -> Option<Time> {
        self.expires
    }

    /// Returns the names of models that it is for; all where missing.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// Returns how many signatures a role takes.
    pub fn threshold(&self, role: Role) -> usize {
        match role {
            Role::Release => self.release,
            Role::Trust => self.trust,
        }
    }

    /// Returns the names of those with a role.
    pub fn signers(&self, role: Role) -> impl Iterator<Item = &str> {
        self.keys.iter().filter(move |entry| entry.roles.contains(&role)).map(|entry| &entry.name[..])
    }

    /// Refuses models that it is not for.
    ///
    /// # Errors
    /// [`Refusal::Name`].
    pub fn check_name(&self, name: &str) -> Result<(), Refusal> {
        match &self.names {
            Some(names) if !names.iter().any(|known| known == name) => {
                Err(Refusal::Name { found: name.into(), expected: format!("one of {names:?}") })
            }
            _ => Ok(()),
        }
    }

    /// Refuses to go by it once it has expired; what was installed before goes on running.
    ///
    /// # Errors
    /// [`Refusal::Expired`].
    pub fn check_time(&self, floor: Time) -> Result<(), Refusal> {
        match self.expires.filter(|expires| *expires <= floor) {
            Some(expires) => Err(Refusal::Expired { what: "the trust file".into(), expires, floor }),
            None => Ok(()),
        }
    }

    /// Judges the signatures of one thing. Those that do not count are passed over; each key counts once, whatever it is
    /// called and however often it signed.
    ///
    /// # Errors
    /// If fewer count than the role takes, or those that count are over different contents.
    pub fn check(
        &self,
        role: Role,
        bundles: &[Bundle],
        clock: Option<SystemTime>,
    ) -> Result<Manifest, TrustError> {
        let mut signed: Option<(Manifest, &Bundle)> = None;
        let (mut entries, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let mut why = None;
        for bundle in bundles {
            let (entry, manifest) = match self.judge(role, bundle, clock) {
                Ok(found) => found,
                Err(fault) => {
                    why.get_or_insert(fault);
                    continue;
                }
            };
            let Some(by) = manifest.signers().first().cloned() else { continue };
            match &mut signed {
                None => signed = Some((manifest, bundle)),
                Some((first, _)) if first.is_of_same(&manifest) => {
                    if !first.signers.contains(&by) {
                        first.signers.push(by.clone());
                    }
                }
                Some((_, other)) => {
                    let (file, other) = (bundle.file().into(), other.file().into());
                    return Err(TrustError::OtherContents { file, other });
                }
            }
            let key = match by {
                SignedBy::Key { fingerprint, .. } => fingerprint,
                SignedBy::Certificate { key, .. } => key,
            };
            // A certificate is one of many of its issuer, and its key may be listed as such: neither makes two of one.
            if !entries.contains(&entry) && keys.insert(key) {
                entries.insert(entry);
            }
        }
        let (found, needed) = (entries.len(), self.threshold(role));
        match signed {
            Some((manifest, _)) if found >= needed => Ok(manifest),
            _ => Err(Refusal::Threshold { role: role.name(), found, needed, why: why.map(Box::new) }.into()),
        }
    }

    /// Finds who of a role signed a bundle.
    fn judge(
        &self,
        role: Role,
        bundle: &Bundle,
        clock: Option<SystemTime>,
    ) -> Result<(usize, Manifest), TrustError> {
        let mut first_fault = None;
        for (at, entry) in self.keys.iter().enumerate().filter(|(_, entry)| entry.roles.contains(&role)) {
            match entry.signer.judge(bundle, clock) {
                Ok(manifest) => return Ok((at, manifest)),
                Err(fault) => _ = first_fault.get_or_insert(fault),
            }
        }
        // There is one of every role.
        Err(first_fault.unwrap_or_else(|| fail("roles", format!("nobody is there for {}", role.name()))))
    }
}

impl Signer {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(a), Self::Key(b)) => a == b,
            // Where one names nobody, whoever the other names is one of its own.
            (Self::Certificate(a, by), Self::Certificate(b, other)) => {
                a.overlaps(b) && (by == other || by.is_none() || other.is_none())
            }
            _ => false,
        }
    }

    fn judge(&self, bundle: &Bundle, clock: Option<SystemTime>) -> Result<Manifest, TrustError> {
        match self {
            Self::Key(key) => bundle.verify_by_key(key),
            Self::Certificate(chain, identity) => {
                let manifest = chain.verify(bundle, clock)?;
                let expected = identity.as_ref().filter(|identity| !is_by(&manifest, identity));
                match expected {
                    None => Ok(manifest),
                    Some(expected) => {
                        let found = manifest.signers().iter().map(ToString::to_string).collect();
                        let (file, expected) = (bundle.file().into(), expected.clone());
                        Err(Refusal::Signer { file, found, expected }.into())
                    }
                }
            }
        }
    }
}

impl RawKey {
    fn read(self) -> Result<Entry, TrustError> {
        if let Some(problem) = name_problem(&self.name) {
            return Err(fail("keys.name", problem));
        }
        let mut roles = self.roles;
        roles.sort();
        let count = roles.len();
        roles.dedup();
        if roles.is_empty() || roles.len() != count {
            return Err(fail("keys.roles", format!("{:?} has none, or one twice", self.name)));
        }
        let file = format!("key {:?} of {POLICY_FILE}", self.name);
        let signer = match (self.key, self.certificate, self.identity) {
            (Some(pem), None, None) => Signer::Key(PublicKey::from_pem(&pem, &file)?),
            (None, Some(pem), identity) => {
                Signer::Certificate(CertificateChain::from_pem(&pem, &file)?, identity)
            }
            _ => {
                let problem =
                    format!("{:?} takes a key, or a certificate with or without identity", self.name);
                return Err(fail("keys", problem));
            }
        };
        Ok(Entry { name: self.name, roles, signer })
    }
}

/// Whether what was signed was by the owner of a certificate of this subject.
fn is_by(manifest: &Manifest, identity: &str) -> bool {
    manifest
        .signers()
        .iter()
        .all(|by| matches!(by, SignedBy::Certificate { subject, .. } if subject == identity))
}

fn check_names(names: Vec<String>) -> Result<Vec<String>, TrustError> {
    let distinct: BTreeSet<_> = names.iter().collect();
    if names.is_empty() || names.len() > MAX_NAMES || distinct.len() != names.len() {
        return Err(fail("names", format!("expected 1 to {MAX_NAMES} different ones")));
    }
    match names.iter().find_map(|name| name_problem(name)) {
        Some(problem) => Err(fail("names", problem)),
        None => Ok(names),
    }
}

fn fail(field: &'static str, problem: String) -> TrustError {
    Refusal::Field { file: POLICY_FILE, field, problem }.into()
}
