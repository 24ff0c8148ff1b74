//! The file of a signature: a Sigstore bundle with an envelope (DSSE).

use std::io::Read as _;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::error::TrustError;
use super::form;
use super::key::{PublicKey, Sha2};
use super::statement::{Manifest, SignedBy};
use crate::files::{ReadError, open};

/// Longest bundle that is read.
pub const MAX_BUNDLE_BYTES: u64 = 1 << 20;
/// The type of what is signed.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of bundles.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Most certificates of a bundle.
const MAX_CERTIFICATES: usize = 8;

/// What a bundle says about who signed. Nothing of it is to be relied on: it only helps to find who may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// The owner of a key.
    Key {
        /// The fingerprint of the key.
        hint: Option<String>,
        /// The key in PEM, as older signers put it there.
        pem: Option<Vec<u8>>,
        /// The kind of the key.
        details: Option<String>,
    },
    /// The owner of the first certificate (DER), for which the others may vouch.
    Certificates(Vec<Vec<u8>>),
}

/// A signature of a model, as it lies in a file.
#[derive(Clone, Debug)]
pub struct Bundle {
    file: String,
    material: Material,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    media_type: String,
    verification_material: Option<RawMaterial>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawMaterial {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<RawKey>,
    #[serde(rename = "x509CertificateChain", skip_serializing_if = "Option::is_none")]
    certificates: Option<RawChain>,
    #[serde(skip_serializing)]
    certificate: Option<IgnoredAny>,
    #[serde(serialize_with = "no_entries")]
    tlog_entries: Option<Vec<IgnoredAny>>,
    #[serde(skip_serializing)]
    timestamp_verification_data: Option<IgnoredAny>,
}

/// Writes the list of entries of a log, which has none.
fn no_entries<S: serde::Serializer>(_: &Option<Vec<IgnoredAny>>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(std::iter::empty::<()>())
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawKey {
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_details: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawChain {
    certificates: Vec<RawCertificate>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawCertificate {
    raw_bytes: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawSignature {
    sig: String,
    keyid: Option<String>,
}

impl Bundle {
    /// Reads the file of a signature.
    ///
    /// # Errors
    /// If there is no such file, or it is no bundle by a key or a certificate.
    pub fn read(path: &Path) -> Result<Bundle, TrustError> {
        let name = path.display().to_string();
        let mut bytes = vec![];
        let read = open(path)?.take(MAX_BUNDLE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| ReadError::Io { name: name.clone(), source })?;
        Bundle::parse(&bytes, &name)
    }

    /// Reads a bundle from memory; `file` is for messages.
    ///
    /// # Errors
    /// If it is no bundle by a key or a certificate.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Bundle, TrustError> {
        let name = || file.to_owned();
        if bytes.len() as u64 > MAX_BUNDLE_BYTES {
            return Err(ReadError::TooLong { name: name(), limit: MAX_BUNDLE_BYTES }.into());
        }
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|source| TrustError::NotBundle { file: name(), source })?;
        if raw.media_type != MEDIA_TYPE {
            return Err(TrustError::MediaType { file: name(), expected: MEDIA_TYPE, found: raw.media_type });
        }
        let missing = |missing| TrustError::Incomplete { file: name(), missing };
        let material = raw.verification_material.ok_or_else(|| missing("verification material"))?;
        let envelope = raw.dsse_envelope.ok_or_else(|| missing("envelope (DSSE)"))?;
        let material = material.read(file)?;
        let form = |found| TrustError::Form { file: name(), found };
        let text = std::str::from_utf8(bytes).map_err(|_| form("it is not UTF-8"))?;
        if let Some(found) = form::fault(text) {
            return Err(form(found));
        }
        if envelope.payload_type != PAYLOAD_TYPE {
            let found = envelope.payload_type;
            return Err(TrustError::PayloadType { file: name(), expected: PAYLOAD_TYPE, found });
        }
        let [signature] = &envelope.signatures[..] else {
            return Err(TrustError::Signatures { file: name(), found: envelope.signatures.len() });
        };
        if signature.keyid.as_ref().is_some_and(|keyid| !keyid.is_empty()) {
            return Err(form("there is a keyid, which no signature covers"));
        }
        Ok(Bundle {
            payload: decode(&envelope.payload, "payload", file)?,
            signature: decode(&signature.sig, "signature", file)?,
            file: name(),
            material,
        })
    }

    /// Puts one together from what was signed.
    pub(super) fn new(file: String, material: Material, payload: Vec<u8>, signature: Vec<u8>) -> Bundle {
        Bundle { file, material, payload, signature }
    }

    /// The same with other material.
    #[cfg(test)]
    pub(super) fn with_material(&self, material: Material) -> Bundle {
        Bundle { material, ..self.clone() }
    }

    /// Writes it as the reference tool does.
    pub fn to_json(&self) -> String {
        let mut material = RawMaterial::default();
        match &self.material {
            Material::Key { hint, pem, details } => {
                let raw_bytes = pem.as_ref().map(|pem| Base64::encode_string(pem));
                material.public_key =
                    Some(RawKey { hint: hint.clone(), raw_bytes, key_details: details.clone() });
            }
            Material::Certificates(chain) => {
                let raw = |der: &Vec<u8>| RawCertificate { raw_bytes: Base64::encode_string(der) };
                material.certificates = Some(RawChain { certificates: chain.iter().map(raw).collect() });
            }
        }
        let raw = Raw {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: Some(material),
            dsse_envelope: Some(Envelope {
                payload: Base64::encode_string(&self.payload),
                payload_type: PAYLOAD_TYPE.to_owned(),
                signatures: vec![RawSignature {
                    sig: Base64::encode_string(&self.signature),
                    keyid: Some(String::new()),
                }],
            }),
        };
        serde_json::to_string(&raw).unwrap_or_default()
    }

    /// The file that it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What it says about who signed.
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// Judges it by a key, and returns what was signed.
    ///
    /// # Errors
    /// If it is not by that key, was changed, or makes no sense.
    pub fn verify_by_key(&self, key: &PublicKey) -> Result<Manifest, TrustError> {
        let Material::Key { hint, pem, details } = &self.material else {
            let file = self.file.clone();
            return Err(TrustError::OtherMethod { file, found: "certificate", expected: "key" });
        };
        let fingerprint = key.fingerprint();
        if let Some(found) = hint.as_ref().filter(|hint| **hint != fingerprint) {
            let (file, found) = (self.file.clone(), found.clone());
            return Err(TrustError::OtherKey { file, expected: fingerprint, found });
        }
        if pem.as_ref().is_some_and(|pem| *pem != key.to_pem().as_bytes())
            || details.as_ref().is_some_and(|details| details != key.curve().details())
        {
            let (file, found) = (self.file.clone(), "another one in the signature".to_owned());
            return Err(TrustError::OtherKey { file, expected: fingerprint, found });
        }
        let by = SignedBy::Key { fingerprint, curve: key.curve() };
        self.check(key, key.curve().hash(), by)
    }

    /// Checks the signature alone, and reads what was signed. `old` is the hash where the first versions of the reference
    /// tool signed.
    pub(super) fn check(&self, key: &PublicKey, old: Sha2, by: SignedBy) -> Result<Manifest, TrustError> {
        let hash = key.curve().hash().of(&encoded(&self.payload));
        let is_by_key = key.verifies(&hash, &self.signature)
            || key.verifies(&old.of(&old_encoded(&self.payload)), &self.signature);
        if !is_by_key {
            return Err(TrustError::WrongSignature { file: self.file.clone(), by: by.to_string() });
        }
        let mut manifest = Manifest::parse(&self.payload, &self.file)?;
        manifest.signers.push(by);
        Ok(manifest)
    }
}

impl RawMaterial {
    fn read(self, file: &str) -> Result<Material, TrustError> {
        let incomplete = |missing| TrustError::Incomplete { file: file.to_owned(), missing };
        let form = |found| TrustError::Form { file: file.to_owned(), found };
        let entries = self.tlog_entries.map_or(0, |entries| entries.len());
        let material = match (self.public_key, self.certificates, self.certificate) {
            (None, None, Some(_)) if entries > 0 => {
                return Err(TrustError::Sigstore { file: file.to_owned() });
            }
            (None, None, Some(_)) => return Err(incomplete("entry of a transparency log")),
            (Some(key), None, None) => key.read(file)?,
            (None, Some(chain), None) => chain.read(file)?,
            (None, None, None) => return Err(incomplete("key, certificate or chain of certificates")),
            _ => return Err(form("it names more than one way of signing")),
        };
        if entries > 0 || self.timestamp_verification_data.is_some() {
            return Err(form("it has entries of a log, or times, which no signature covers"));
        }
        Ok(material)
    }
}

impl RawKey {
    fn read(self, file: &str) -> Result<Material, TrustError> {
        if self.hint.is_none() && self.raw_bytes.is_none() {
            return Err(TrustError::Incomplete { file: file.to_owned(), missing: "hint of the key" });
        }
        let pem = self.raw_bytes.map(|raw| decode(&raw, "key", file)).transpose()?;
        Ok(Material::Key { hint: self.hint, pem, details: self.key_details })
    }
}

impl RawChain {
    fn read(self, file: &str) -> Result<Material, TrustError> {
        if self.certificates.is_empty() {
            return Err(TrustError::Incomplete { file: file.to_owned(), missing: "certificate" });
        }
        if self.certificates.len() > MAX_CERTIFICATES {
            let found = "it has more certificates than a path needs";
            return Err(TrustError::Form { file: file.to_owned(), found });
        }
        let certificates = self.certificates.iter();
        let read = certificates.map(|raw| decode(&raw.raw_bytes, "certificate", file));
        Ok(Material::Certificates(read.collect::<Result<_, _>>()?))
    }
}

/// Decodes Base64 in its one form: padded, in one piece, without bits that say nothing.
fn decode(base64: &str, part: &'static str, file: &str) -> Result<Vec<u8>, TrustError> {
    let decoded = Base64::decode_vec(base64).ok().filter(|bytes| !bytes.is_empty());
    decoded.ok_or_else(|| TrustError::Base64 { file: file.to_owned(), part })
}

/// What is signed of a payload (the pre-authentication encoding of DSSE).
pub(super) fn encoded(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// What version 0.2 of the reference tool signed in its place: bytes as Python shows them.
fn old_encoded(payload: &[u8]) -> Vec<u8> {
    let quote = if payload.contains(&b'\'') && !payload.contains(&b'"') { b'"' } else { b'\'' };
    let mut shown = vec![b'b', quote];
    for &byte in payload {
        match byte {
            b'\\' => shown.extend(b"\\\\"),
            b'\t' => shown.extend(b"\\t"),
            b'\n' => shown.extend(b"\\n"),
            b'\r' => shown.extend(b"\\r"),
            byte if byte == quote => shown.extend([b'\\', quote]),
            b' '..=b'~' => shown.push(byte),
            byte => shown.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    shown.push(quote);
    let head = format!("DSSEV1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), &shown].concat()
}
