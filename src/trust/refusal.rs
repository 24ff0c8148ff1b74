//! Why a release, a package, a trust file, sealed data or a key is refused.

use super::time::Time;

/// Why something is refused although it may be signed. Sizes are bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Refusal {
    #[error("{file}: is {bytes} bytes long, more than {limit}, the most that is read of it")]
    TooLong { file: String, bytes: u64, limit: u64 },
    #[error("{file}: {message}")]
    Json { file: String, message: String },
    #[error("{file}: {field}: {problem}")]
    Field { file: &'static str, field: &'static str, problem: String },
    #[error("expected a time as 2026-11-28T09:30:00Z, found {found:?}")]
    Time { found: String },
    #[error("expected a version as 1.2.3, found {found:?}")]
    Version { found: String },

    #[error("the release is of {found:?}, expected {expected}")]
    Name { found: String, expected: String },
    #[error("the release is for the architecture {found:?}, which this runner does not know")]
    Architecture { found: String },
    #[error("the release needs smolt {needed} or later, this is {found}")]
    Runner { needed: String, found: String },
    #[error("the release needs {needed} bytes of memory, {available} are there for it")]
    Memory { needed: u64, available: u64 },
    #[error("{what} expired at {expires}, and it is {floor} or later")]
    Expired { what: String, expires: Time, floor: Time },
    #[error("the release was made at {created}, and it is about {floor}; is the clock right?")]
    FromTheFuture { created: Time, floor: Time },
    #[error("version {found} is not newer than version {installed}, which was installed before")]
    NotNewer { found: u64, installed: u64 },
    #[error("version {found} is below {floor}, the lowest that may still be used")]
    BelowFloor { found: u64, floor: u64 },
    #[error("the self-test expected the tokens {expected:?}, the model gave {found:?}")]
    SelfTest { expected: Vec<u32>, found: Vec<u32> },

    #[error("{package}: {problem}")]
    Package { package: String, problem: PackageProblem },
    #[error("the signature says nothing of {file}")]
    NotSigned { file: String },
    #[error("the signature is over {file}, which is no part of a package")]
    Foreign { file: String },
    #[error("{field}: {problem}")]
    Part { field: &'static str, problem: String },
    #[error("{folder}: holds {found} already, expected a new or an empty folder")]
    Occupied { folder: String, found: String },

    #[error("{file}: is not what was signed")]
    Changed { file: String },
    #[error("{file}: ends after {found} bytes, expected {expected}")]
    Truncated { file: String, found: u64, expected: u64 },
    #[error("{file}: goes on after {expected} bytes, where it should end")]
    Overlong { file: String, expected: u64 },

    #[error("{file}: is no age file: {problem}")]
    Sealed { file: String, problem: &'static str },
    #[error("{file}: is sealed to other keys than those given")]
    NoMatchingKey { file: String },
    #[error("{file}: is sealed, and no secret key was given")]
    NeedsKey { file: String },
    #[error("expected a recipient as age1…, found {found:?}: {problem}")]
    Recipient { found: String, problem: &'static str },

    #[error("{name}: {problem}")]
    Identity { name: String, problem: String },

    #[error("{file}: was signed by the {found}, expected {expected}")]
    Signer { file: String, found: String, expected: String },
    #[error("{found} of the {needed} signatures that {role} takes count{}", .why.as_ref().map_or(String::new(), |why| format!(": {why}")))]
    Threshold { role: &'static str, found: usize, needed: usize, why: Option<Box<super::TrustError>> },
    #[error("version {found} of the trust file does not follow version {installed}, expected {expected}")]
    Rotation { found: u64, installed: u64, expected: u64 },
    #[error("more than {limit} trust files in a row")]
    TooManyRotations { limit: usize },
}

impl Refusal {
    /// Whether it is about what a person gave and not about what somebody else sent.
    pub fn is_misuse(&self) -> bool {
        matches!(
            self,
            Self::Part { .. }
                | Self::Occupied { .. }
                | Self::Recipient { .. }
                | Self::Identity { .. }
                | Self::NoMatchingKey { .. }
                | Self::NeedsKey { .. }
        )
    }
}

/// What is wrong with the shape of a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum PackageProblem {
    #[error("there is no {file} in it")]
    Missing { file: &'static str },
    #[error("it holds {found:?}, expected {expected}")]
    Unexpected { found: String, expected: String },
    #[error("{file} is {found}, expected a regular file")]
    NotAFile { file: String, found: &'static str },
    #[error("{file} is {found} bytes long, expected {expected}")]
    Size { file: String, found: u64, expected: String },
    #[error("it is no archive: the header at {at} is none of the format ustar")]
    NotUstar { at: u64 },
    #[error("the header of {file} at {at} is not written in the one way that is accepted")]
    Header { file: String, at: u64 },
    #[error("there is more than zeros between the parts at {at}")]
    Padding { at: u64 },
    #[error("it ends at {at}, before its model")]
    Ends { at: u64 },
    #[error("it ends before its last zeros")]
    EndsInZeros,
    #[error("there is more than zeros after the model")]
    NoZeros,
    #[error("it goes on after its end")]
    GoesOn,
}
