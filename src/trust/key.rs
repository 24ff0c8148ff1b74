//! ECDSA keys in PEM.

use std::fmt;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::digest::{Digest, HashType};
use super::error::TrustError;
use crate::files::read_text;

/// Longest file of keys or certificates.
pub(super) const MAX_PEM_BYTES: u64 = 256 << 10;
/// Columns of Base64 in PEM.
const COLUMNS: usize = 64;

/// The curves of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256, with SHA-256.
    P256,
    /// NIST P-384, with SHA-384.
    P384,
    /// NIST P-521, with SHA-512.
    P521,
}

impl Curve {
    /// What Sigstore's bundles call keys on it, with the hash of signatures.
    pub fn details(self) -> &'static str {
        match self {
            Self::P256 => "PKIX_ECDSA_P256_SHA_256",
            Self::P384 => "PKIX_ECDSA_P384_SHA_384",
            Self::P521 => "PKIX_ECDSA_P521_SHA_512",
        }
    }

    /// The hash of signatures by its keys.
    pub(super) fn hash(self) -> Sha2 {
        match self {
            Self::P256 => Sha2::Sha256,
            Self::P384 => Sha2::Sha384,
            Self::P521 => Sha2::Sha512,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        })
    }
}

/// The hashes of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sha2 {
    Sha256,
    Sha384,
    Sha512,
}

impl Sha2 {
    pub(super) fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// A key that judges signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Verifying);

#[derive(Clone, PartialEq, Eq)]
enum Verifying {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// Reads a file with one public key in PEM (`PUBLIC KEY`).
    ///
    /// # Errors
    /// If there is no such file, or no such key in it.
    pub fn read(path: &Path) -> Result<PublicKey, TrustError> {
        PublicKey::from_pem(&read_text(path, MAX_PEM_BYTES)?, &path.display().to_string())
    }

    /// Reads a text with one public key in PEM; `file` is for messages.
    ///
    /// # Errors
    /// If there is no such key in it.
    pub fn from_pem(text: &str, file: &str) -> Result<PublicKey, TrustError> {
        let blocks = pem_blocks(text, file)?;
        if blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY")) {
            return Err(TrustError::PrivateKey { file: file.to_owned() });
        }
        let keys: Vec<_> = blocks.iter().filter(|block| block.label == "PUBLIC KEY").collect();
        match keys[..] {
            [] => Err(TrustError::NoPem { file: file.to_owned() }),
            [key] => PublicKey::from_der(&key.der, file),
            _ => Err(TrustError::Keys { file: file.to_owned(), found: keys.len() }),
        }
    }

    /// Reads a key in DER (SubjectPublicKeyInfo); `file` is for messages.
    ///
    /// # Errors
    /// If it is no key on one of the curves.
    pub fn from_der(der: &[u8], file: &str) -> Result<PublicKey, TrustError> {
        let p256 = p256::ecdsa::VerifyingKey::from_public_key_der(der).map(Verifying::P256);
        let p384 = || p384::ecdsa::VerifyingKey::from_public_key_der(der).map(Verifying::P384);
        let p521 = || p521::ecdsa::VerifyingKey::from_public_key_der(der).map(Verifying::P521);
        let key = p256.or_else(|_| p384()).or_else(|_| p521());
        key.map(PublicKey).map_err(|_| TrustError::KeyKind { file: file.to_owned(), found: kind_of(der) })
    }

    /// Its curve.
    pub fn curve(&self) -> Curve {
        match self.0 {
            Verifying::P256(_) => Curve::P256,
            Verifying::P384(_) => Curve::P384,
            Verifying::P521(_) => Curve::P521,
        }
    }

    /// Returns it in DER (SubjectPublicKeyInfo), in the one form that a key has.
    pub fn to_der(&self) -> Vec<u8> {
        let der = match &self.0 {
            Verifying::P256(key) => key.to_public_key_der(),
            Verifying::P384(key) => key.to_public_key_der(),
            Verifying::P521(key) => key.to_public_key_der(),
        };
        der.map(|der| der.as_bytes().to_vec()).unwrap_or_default()
    }

    /// Returns it in PEM, as OpenSSL writes it.
    pub fn to_pem(&self) -> String {
        let base64 = Base64::encode_string(&self.to_der());
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        for line in base64.as_bytes().chunks(COLUMNS) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem + "-----END PUBLIC KEY-----\n"
    }

    /// Returns the SHA-256 of its PEM, in hexadecimal digits: the hint that bundles carry.
    pub fn fingerprint(&self) -> String {
        Digest::of(HashType::Sha256, self.to_pem().as_bytes()).hex()
    }

    /// Whether a signature (ECDSA, in DER) of a hash of a message is by this key.
    pub(super) fn verifies(&self, hash: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Verifying::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
            Verifying::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
            Verifying::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok()),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({} {})", self.curve(), self.fingerprint())
    }
}

/// A key that signs. It is wiped when it is dropped.
pub struct SigningKey(Signing);

enum Signing {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

impl SigningKey {
    /// Reads a file with one private key in PEM (`PRIVATE KEY` or `EC PRIVATE KEY`), without a password.
    ///
    /// # Errors
    /// If there is no such file, or no such key in it.
    pub fn read(path: &Path) -> Result<SigningKey, TrustError> {
        let text = Zeroizing::new(read_text(path, MAX_PEM_BYTES)?);
        SigningKey::from_pem(&text, &path.display().to_string())
    }

    /// Reads a text with one private key in PEM; `file` is for messages.
    ///
    /// # Errors
    /// If there is no such key in it.
    pub fn from_pem(text: &str, file: &str) -> Result<SigningKey, TrustError> {
        let file = || file.to_owned();
        let blocks = pem_blocks(text, &file())?;
        if blocks.iter().any(|block| block.label == "ENCRYPTED PRIVATE KEY") {
            return Err(TrustError::EncryptedKey { file: file() });
        }
        let keys: Vec<_> = blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY")).collect();
        let key = match keys[..] {
            [] if blocks.iter().any(|block| block.label == "PUBLIC KEY") => {
                return Err(TrustError::PublicKey { file: file() });
            }
            [] => return Err(TrustError::NoPem { file: file() }),
            [key] => key,
            _ => return Err(TrustError::Keys { file: file(), found: keys.len() }),
        };
        let found = || match key.label.as_str() {
            "PRIVATE KEY" | "EC PRIVATE KEY" => "another kind".to_owned(),
            label => label.to_owned(),
        };
        let der = &key.der[..];
        let is_sec1 = key.label == "EC PRIVATE KEY";
        let signing = p256_key(der, is_sec1)
            .or_else(|| p384_key(der, is_sec1))
            .or_else(|| p521_key(der, is_sec1))
            .ok_or_else(|| TrustError::KeyKind { file: file(), found: found() })?;
        Ok(SigningKey(signing))
    }

    /// The key that judges its signatures.
    pub fn public(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Signing::P256(key) => Verifying::P256(*key.verifying_key()),
            Signing::P384(key) => Verifying::P384(*key.verifying_key()),
            Signing::P521(key) => Verifying::P521(*key.verifying_key()),
        })
    }

    /// Signs a message, with the hash of the curve; always the same for the same message (RFC 6979). Gives ECDSA in DER.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let hash = self.public().curve().hash().of(message);
        Some(match &self.0 {
            Signing::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(&hash).ok()?;
                signature.to_der().as_bytes().to_vec()
            }
            Signing::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign_prehash(&hash).ok()?;
                signature.to_der().as_bytes().to_vec()
            }
            Signing::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign_prehash(&hash).ok()?;
                signature.to_der().as_bytes().to_vec()
            }
        })
    }
}

fn p256_key(der: &[u8], is_sec1: bool) -> Option<Signing> {
    let key = if is_sec1 {
        p256::SecretKey::from_sec1_der(der).ok()
    } else {
        p256::SecretKey::from_pkcs8_der(der).ok()
    };
    key.map(|key| Signing::P256(key.into()))
}

fn p384_key(der: &[u8], is_sec1: bool) -> Option<Signing> {
    let key = if is_sec1 {
        p384::SecretKey::from_sec1_der(der).ok()
    } else {
        p384::SecretKey::from_pkcs8_der(der).ok()
    };
    key.map(|key| Signing::P384(key.into()))
}

fn p521_key(der: &[u8], is_sec1: bool) -> Option<Signing> {
    let key = if is_sec1 {
        p521::SecretKey::from_sec1_der(der).ok()
    } else {
        p521::SecretKey::from_pkcs8_der(der).ok()
    };
    key.map(|key| Signing::P521(key.into()))
}

/// Says what kind of key a DER is of.
fn kind_of(der: &[u8]) -> String {
    use p256::pkcs8::SubjectPublicKeyInfoRef;
    match SubjectPublicKeyInfoRef::try_from(der) {
        Err(_) => "no key".to_owned(),
        Ok(key) => match key.algorithm.oid.to_string().as_str() {
            "1.2.840.113549.1.1.1" => "an RSA key".to_owned(),
            "1.3.101.112" => "an Ed25519 key".to_owned(),
            "1.2.840.10045.2.1" => "a key on another curve, or a damaged one".to_owned(),
            other => format!("a key of the kind {other}"),
        },
    }
}

/// One part of a PEM text.
pub(super) struct PemBlock {
    pub(super) label: String,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// The parts of a PEM text, in order; other text around them is passed over, as OpenSSL does.
pub(super) fn pem_blocks(text: &str, file: &str) -> Result<Vec<PemBlock>, TrustError> {
    let mut blocks = vec![];
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|line| line.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let fault = || TrustError::Pem { file: file.to_owned(), label: label.to_owned() };
        let end = format!("-----END {label}-----");
        let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            match lines.next() {
                None => return Err(fault()),
                Some(line) if line == end => break,
                // What only old files have, and only with a password.
                Some(line) if line.starts_with("Proc-Type:") => {
                    return Err(TrustError::EncryptedKey { file: file.to_owned() });
                }
                Some(line) => base64.push_str(line.trim_start()),
            }
        }
        let der = Base64::decode_vec(&base64).map_err(|_| fault())?;
        blocks.push(PemBlock { label: label.to_owned(), der: der.into() });
    }
    Ok(blocks)
}
