//! Everything that can be wrong with a signature, or with what it is of.

use std::fmt;
use std::io;

use super::digest::Digest;
use super::refusal::Refusal;
use crate::files::{ReadError, WriteError};

/// Most names of a kind that a message gives.
const MAX_NAMED: usize = 5;

/// Why something is not trusted, or could not be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TrustError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{file}: cannot {action}")]
    Io { file: String, action: &'static str, source: io::Error },

    #[error("{file}: holds no key and no certificate in PEM")]
    NoPem { file: String },
    #[error("{file}: its {label} is damaged")]
    Pem { file: String, label: String },
    #[error("{file}: holds {found} keys, expected one")]
    Keys { file: String, found: usize },
    #[error("{file}: is a private key; the public one belongs here")]
    PrivateKey { file: String },
    #[error("{file}: is a public key; to sign takes the private one")]
    PublicKey { file: String },
    #[error("{file}: the private key is encrypted with a password")]
    EncryptedKey { file: String },
    #[error("{file}: expected an ECDSA key on P-256, P-384 or P-521, found {found}")]
    KeyKind { file: String, found: String },
    #[error("{file}: the key of the certificate is not that of {key}")]
    CertificateOfOtherKey { file: String, key: String },

    #[error("{file}: is no signature of a model (Sigstore bundle)")]
    NotBundle { file: String, source: serde_json::Error },
    #[error("{file}: is no signature of a model: there is no {missing}")]
    Incomplete { file: String, missing: &'static str },
    #[error("{file}: expected a bundle of type {expected}, found {found:?}")]
    MediaType { file: String, expected: &'static str, found: String },
    #[error(
        "{file}: was signed through Sigstore's services; judging that takes their roots and logs from the network, and only signatures by a key or a certificate are judged"
    )]
    Sigstore { file: String },
    #[error("{file}: was changed, or written by no known signer: {found}")]
    Form { file: String, found: &'static str },
    #[error("{file}: its {part} is not Base64 in its one form")]
    Base64 { file: String, part: &'static str },
    #[error("{file}: expected one signature in a bundle, found {found}")]
    Signatures { file: String, found: usize },
    #[error("{file}: what is signed is of type {found:?}, expected {expected}")]
    PayloadType { file: String, expected: &'static str, found: String },
    #[error("{file}: was signed with a {found}, and there is a {expected} to judge it by")]
    OtherMethod { file: String, found: &'static str, expected: &'static str },
    #[error("{file}: was signed with another key: expected that of {expected}, found {found}")]
    OtherKey { file: String, expected: String, found: String },
    #[error("{file}: the signature is wrong: it is not by {by}, or what was signed was changed")]
    WrongSignature { file: String, by: String },

    #[error("{file}: what is signed is no statement about a model")]
    NotStatement { file: String, source: serde_json::Error },
    #[error("{file}: what is signed is of the kind {found:?}, expected {expected}")]
    Predicate { file: String, expected: &'static str, found: String },
    #[error("{file}: what is signed makes no sense: {found}")]
    Statement { file: String, found: String },
    #[error("{file}: the digests listed hash to {found}, and the signed one is {expected}")]
    RootDigest { file: String, expected: String, found: String },
    #[error("{file}: {name:?} cannot be the name of a file: {why}")]
    Name { file: String, name: String, why: &'static str },
    #[error("{file} and {other}: are signatures of different contents")]
    OtherContents { file: String, other: String },

    #[error("{file}: is no certificate")]
    NotCertificate { file: String },
    #[error("{file}: the certificate of {subject} {why}")]
    Certificate { file: String, subject: String, why: String },
    #[error(
        "{file}: the certificate of {subject} holds from {from} to {until}, and not at the time it is judged at"
    )]
    Validity { file: String, subject: String, from: String, until: String },
    #[error("{file}: holds no certificate that vouches for itself (a root)")]
    NoRoot { file: String },
    #[error("{file}: no certificate that is trusted vouches for that of {subject}, issued by {issuer}")]
    NoIssuer { file: String, subject: String, issuer: String },

    #[error("{model}: there is no signature {expected}")]
    NoSignature { model: String, expected: String },
    #[error("{signature}: lists no file {name}; it is of {listed}")]
    NotListed { signature: String, name: String, listed: String },
    #[error("{path}: is a symbolic link, which the signature does not allow")]
    Link { path: String },
    #[error("{path}: is neither a file nor a folder")]
    Special { path: String },
    #[error("{path}: its name is not UTF-8, as signed names are")]
    NotUtf8 { path: String },
    #[error("{folder}: holds more than {limit} files and folders")]
    TooMany { folder: String, limit: usize },
    #[error("{folder}: holds folders in folders more than {limit} deep")]
    TooDeep { folder: String, limit: usize },
    #[error(
        "{file}: the signature would have {bytes} bytes, and no more than {limit} are read; larger shards make it shorter"
    )]
    TooLong { file: String, bytes: u64, limit: u64 },
    #[error("{file}: holds more than {limit} certificates")]
    TooManyCertificates { file: String, limit: usize },
    #[error("{path}: there is nothing to sign")]
    Nothing { path: String },
    #[error("{model}: is not what was signed: {differences}")]
    Differs { model: String, differences: Differences },
    #[error("{file}: is not what was signed: {part} has the digest {found}, expected {expected}")]
    Digest { file: String, part: String, expected: Digest, found: Digest },
    #[error("{file}: is not what was signed: it has {found} bytes, expected {expected}")]
    Length { file: String, expected: u64, found: u64 },
}

impl TrustError {
    /// Whether something that should be trusted was found not to be what was signed, rather than unreadable or misused.
    pub fn is_refusal(&self) -> bool {
        if let Self::Refused(refusal) = self {
            return !refusal.is_misuse();
        }
        !matches!(
            self,
            Self::Read(_)
                | Self::Write(_)
                | Self::Io { .. }
                | Self::NoPem { .. }
                | Self::Pem { .. }
                | Self::Keys { .. }
                | Self::PrivateKey { .. }
                | Self::PublicKey { .. }
                | Self::EncryptedKey { .. }
                | Self::KeyKind { .. }
                | Self::CertificateOfOtherKey { .. }
                | Self::NoRoot { .. }
                | Self::TooLong { .. }
                | Self::TooManyCertificates { .. }
                | Self::Nothing { .. }
        )
    }
}

/// How a folder differs from what was signed: names, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Other contents than those signed.
    pub changed: Vec<String>,
    /// Signed, and not there.
    pub missing: Vec<String>,
    /// There, and neither signed nor ignored.
    pub unsigned: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.missing.is_empty() && self.unsigned.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("changed", &self.changed), ("missing", &self.missing), ("not signed", &self.unsigned)];
        let mut separator = "";
        for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            let named = names.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            write!(out, "{separator}{kind}: {named}")?;
            if names.len() > MAX_NAMED {
                write!(out, " and {} more", names.len() - MAX_NAMED)?;
            }
            separator = "; ";
        }
        Ok(())
    }
}
