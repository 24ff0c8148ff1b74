//! `release.json`: what a model is, for whom, and how it proves itself.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::time::Time;
use super::{Refusal, TrustError};

/// Most bytes of a `release.json`.
pub const MAX_RELEASE_BYTES: u64 = 64 << 10;
/// Most bytes of a model in a package, as the format of the archive allows.
pub const MAX_MODEL_BYTES: u64 = (8 << 30) - 1;
/// Highest version: what follows is no whole number to every reader of JSON, and nothing could follow the last.
pub const MAX_VERSION: u64 = (1 << 53) - 1;
/// Most tokens of a self-test.
pub const MAX_SELF_TEST_TOKENS: usize = 256;
/// Most bytes of the prompt of a self-test.
const MAX_PROMPT_BYTES: usize = 4 << 10;
/// Most characters of the name of a model.
const MAX_NAME: usize = 64;
/// The name of the file.
pub const RELEASE_FILE: &str = "release.json";
/// The name of a model as it is.
pub const PLAIN_FILE: &str = "model.gguf";
/// The name of a sealed model.
pub const SEALED_FILE: &str = "model.gguf.age";

/// One version of one model, as its publisher signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    format: Format,
    /// What the model is called: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Which of its versions this is, from 1.
    pub version: u64,
    /// Its `general.architecture`.
    pub architecture: String,
    /// The earliest version of this program that can run it.
    pub minimum_runner: Version,
    /// Bytes of memory that it takes.
    pub memory: u64,
    /// When it was made.
    pub created: Time,
    /// From when on it is not to be installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// The lowest version that may be used once this one has proved itself.
    pub floor: u64,
    /// Its file.
    pub model: ModelFile,
    /// What it answers where it works.
    pub self_test: SelfTest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "smolt-release/1")]
    V1,
}

/// The file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Its name: [`PLAIN_FILE`] or [`SEALED_FILE`].
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of the model itself.
    pub plain_bytes: u64,
    /// The BLAKE3 of the model itself, in hexadecimal digits.
    pub plain_blake3: Blake3,
    /// Whether it is sealed.
    pub sealed: bool,
}

/// A prompt and the ids of the tokens that the model then chooses, the likeliest each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// The prompt.
    pub prompt: String,
    /// The ids.
    pub tokens: Vec<u32>,
}

/// A BLAKE3 of 256 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Blake3(pub [u8; 32]);

/// A version of this program: three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version([u32; 3]);

/// What is known of the computer that is to run a model.
#[derive(Clone, Debug)]
pub struct Runner<'a> {
    /// The version of the program.
    pub version: Version,
    /// Architectures of models that it can run.
    pub architectures: &'a [&'a str],
    /// Bytes of memory for the model; unknown where missing.
    pub memory: Option<u64>,
    /// The model that it is there for; any where missing.
    pub name: Option<&'a str>,
}

/// What may be installed, of all that is signed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The highest version that has proved itself here; 0 for none.
    pub installed: u64,
    /// The lowest version that may be used.
    pub floor: u64,
    /// The earliest time that it can be.
    pub time: Time,
}

impl Release {
    /// Makes a release of its parts and its file.
    ///
    /// # Errors
    /// As [`Release::parse`], if a part is out of its bounds.
    pub fn new(parts: ReleaseParts, model: ModelFile) -> Result<Self, TrustError> {
        let release = Self {
            format: Format::V1,
            name: parts.name,
            version: parts.version,
            architecture: parts.architecture,
            minimum_runner: parts.minimum_runner,
            memory: parts.memory,
            created: parts.created,
            expires: parts.expires,
            floor: parts.floor,
            model,
            self_test: parts.self_test,
        };
        release.check()?;
        Ok(release)
    }

    /// Reads a `release.json`.
    ///
    /// # Errors
    /// If it is too long or not as described: a key is missing, unknown or given twice, a value is out of its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let release: Self = parse_json(bytes, RELEASE_FILE, MAX_RELEASE_BYTES)?;
        release.check()?;
        Ok(release)
    }

    /// Writes it as [`Release::parse`] reads it.
    pub fn to_json(&self) -> String {
        // Of strings and numbers only: nothing that cannot be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    fn check(&self) -> Result<(), Refusal> {
        let fail = |field, problem: String| Err(Refusal::Field { file: RELEASE_FILE, field, problem });
        if let Some(problem) = name_problem(&self.name) {
            return fail("name", problem);
        }
        if let Some(problem) = name_problem(&self.architecture) {
            return fail("architecture", problem);
        }
        if !(1..=MAX_VERSION).contains(&self.version) {
            return fail("version", format!("expected 1 to {MAX_VERSION}, found {}", self.version));
        }
        if self.floor > self.version {
            return fail(
                "floor",
                format!("expected at most {}, the version, found {}", self.version, self.floor),
            );
        }
        if self.memory == 0 {
            return fail("memory", "expected more than 0".into());
        }
        if self.expires.is_some_and(|expires| expires <= self.created) {
            return fail("expires", format!("expected a time after {}, when it was made", self.created));
        }
        self.model.check()?;
        self.self_test.check()
    }

    /// Refuses what this computer cannot run or is not there for.
    ///
    /// # Errors
    /// [`Refusal`] of the name, the architecture, the runner or the memory.
    pub fn check_runner(&self, runner: &Runner<'_>) -> Result<(), Refusal> {
        if let Some(expected) = runner.name.filter(|name| *name != self.name) {
            return Err(Refusal::Name { found: self.name.clone(), expected: format!("{expected:?}") });
        }
        if !runner.architectures.contains(&&self.architecture[..]) {
            return Err(Refusal::Architecture { found: self.architecture.clone() });
        }
        if self.minimum_runner > runner.version {
            let (needed, found) = (self.minimum_runner.to_string(), runner.version.to_string());
            return Err(Refusal::Runner { needed, found });
        }
        match runner.memory {
            Some(available) if available < self.memory => {
                Err(Refusal::Memory { needed: self.memory, available })
            }
            _ => Ok(()),
        }
    }

    /// Refuses what is old, or of a time that is not yet.
    ///
    /// # Errors
    /// [`Refusal`] of the version or the time.
    pub fn check_install(&self, bounds: &Bounds) -> Result<(), Refusal> {
        self.check_floor(bounds.floor)?;
        if self.version <= bounds.installed {
            return Err(Refusal::NotNewer { found: self.version, installed: bounds.installed });
        }
        if let Some(expires) = self.expires.filter(|expires| *expires <= bounds.time) {
            return Err(Refusal::Expired { what: "the release".into(), expires, floor: bounds.time });
        }
        if self.created.is_in_the_future_of(bounds.time) {
            return Err(Refusal::FromTheFuture { created: self.created, floor: bounds.time });
        }
        Ok(())
    }

    /// Refuses a version below the floor, for running and going back too.
    ///
    /// # Errors
    /// [`Refusal::BelowFloor`].
    pub fn check_floor(&self, floor: u64) -> Result<(), Refusal> {
        match self.version.cmp(&floor) {
            Ordering::Less => Err(Refusal::BelowFloor { found: self.version, floor }),
            _ => Ok(()),
        }
    }
}

/// What [`Release::new`] makes a release of; the fields are those of [`Release`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see Release")]
pub struct ReleaseParts {
    pub name: String,
    pub version: u64,
    pub architecture: String,
    pub minimum_runner: Version,
    pub memory: u64,
    pub created: Time,
    pub expires: Option<Time>,
    pub floor: u64,
    pub self_test: SelfTest,
}

impl ModelFile {
    fn check(&self) -> Result<(), Refusal> {
        let fail = |field, problem: String| Err(Refusal::Field { file: RELEASE_FILE, field, problem });
        let name = if self.sealed { SEALED_FILE } else { PLAIN_FILE };
        if self.file != name {
            return fail("model.file", format!("expected {name:?}, found {:?}", self.file));
        }
        if !(1..=MAX_MODEL_BYTES).contains(&self.bytes) {
            return fail("model.bytes", format!("expected 1 to {MAX_MODEL_BYTES}, found {}", self.bytes));
        }
        match self.plain_bytes.cmp(&self.bytes) {
            Ordering::Equal if !self.sealed => Ok(()),
            Ordering::Less if self.sealed && self.plain_bytes > 0 => Ok(()),
            _ => fail("model.plain_bytes", format!("{} do not suit {}", self.plain_bytes, self.bytes)),
        }
    }
}

impl SelfTest {
    fn check(&self) -> Result<(), Refusal> {
        let fail = |field, problem: String| Err(Refusal::Field { file: RELEASE_FILE, field, problem });
        if self.prompt.is_empty() || self.prompt.len() > MAX_PROMPT_BYTES {
            return fail(
                "self_test.prompt",
                format!("expected 1 to {MAX_PROMPT_BYTES} bytes, found {}", self.prompt.len()),
            );
        }
        if self.tokens.is_empty() || self.tokens.len() > MAX_SELF_TEST_TOKENS {
            return fail(
                "self_test.tokens",
                format!("expected 1 to {MAX_SELF_TEST_TOKENS}, found {}", self.tokens.len()),
            );
        }
        Ok(())
    }

    /// Compares what a model answered.
    ///
    /// # Errors
    /// [`Refusal::SelfTest`] if a token differs or is missing.
    pub fn judge(&self, answered: &[u32]) -> Result<(), Refusal> {
        match answered == self.tokens {
            true => Ok(()),
            false => Err(Refusal::SelfTest { expected: self.tokens.clone(), found: answered.into() }),
        }
    }
}

impl Version {
    /// Returns the version of this program.
    pub fn own() -> Self {
        Self::parse(env!("CARGO_PKG_VERSION")).unwrap_or(Self([0, 0, 0]))
    }

    /// Reads three numbers with dots.
    ///
    /// # Errors
    /// [`Refusal::Version`] if it is anything else.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let fail = || Refusal::Version { found: text.into() };
        let mut numbers = [0; 3];
        let mut parts = text.split('.');
        for number in &mut numbers {
            let part = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            let part = part.filter(|part| *part == "0" || !part.starts_with('0')).ok_or_else(fail)?;
            *number = part.parse().map_err(|_| fail())?;
        }
        parts.next().is_none().then_some(Self(numbers)).ok_or_else(fail)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.0;
        write!(out, "{major}.{minor}.{patch}")
    }
}

impl TryFrom<String> for Version {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Self::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Blake3 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Capital digits would be a second way to write the same.
        let hash = blake3::Hash::from_hex(&text).ok().filter(|hash| hash.to_hex().as_str() == text);
        hash.map(|hash| Self(*hash.as_bytes())).ok_or("expected 64 hexadecimal digits, small ones")
    }
}

impl From<Blake3> for String {
    fn from(hash: Blake3) -> Self {
        hash.to_string()
    }
}

impl std::fmt::Display for Blake3 {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// Reads JSON of a fixed shape whose types refuse unknown keys; keys given twice are refused by what is derived.
pub(super) fn parse_json<T: for<'de> Deserialize<'de>>(
    bytes: &[u8],
    file: &str,
    limit: u64,
) -> Result<T, Refusal> {
    let found = bytes.len() as u64;
    if found > limit {
        return Err(Refusal::TooLong { file: file.into(), bytes: found, limit });
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal::Json { file: file.into(), message: error.to_string() })
}

/// Says what is wrong with a name that is used in messages and compared byte for byte.
pub(super) fn name_problem(name: &str) -> Option<String> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(is_usual)
        && name.as_bytes()[0].is_ascii_alphanumeric();
    (!is_name).then(|| {
        format!("expected 1 to {MAX_NAME} letters, digits, '.', '_' and '-', a letter or digit first, found {name:?}")
    })
}
