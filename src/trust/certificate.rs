//! X.509 certificates, one by one.

use std::time::{SystemTime, UNIX_EPOCH};

use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use sha2::{Sha256, Sha384, Sha512};
use x509_cert::Certificate as Parsed;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode, Encode as _, Reader, SliceReader};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::digest::{Digest, HashType};
use super::error::TrustError;
use super::key::{PublicKey, Sha2};

/// Longest certificate.
const MAX_BYTES: usize = 16 << 10;
/// Fewest and most bits of an RSA key; more take long.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;
/// The purpose to sign code.
const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
/// Which names another certificate may be for, which nothing here judges.
const NAME_CONSTRAINTS: &str = "2.5.29.30";
/// Extensions that a certificate may insist on: constraints, usages, key identifiers, other names, policies.
const KNOWN: [&str; 7] =
    ["2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.14", "2.5.29.35", "2.5.29.17", "2.5.29.32"];

/// A certificate, read once.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) der: Vec<u8>,
    /// What its issuer signed.
    signed: Vec<u8>,
    parsed: Parsed,
    extensions: Extensions,
}

/// What it says about what it may be used for.
#[derive(Clone)]
struct Extensions {
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    purposes: Option<ExtendedKeyUsage>,
    own_id: Option<SubjectKeyIdentifier>,
    issuer_id: Option<AuthorityKeyIdentifier>,
    /// Something in it that is not known, and that must be.
    unknown: Option<String>,
}

impl Certificate {
    /// Reads a certificate; `file` is for messages.
    pub(super) fn parse(der: &[u8], file: &str) -> Result<Certificate, TrustError> {
        let parsed = (der.len() <= MAX_BYTES).then(|| parse(der)).and_then(Result::ok);
        parsed.ok_or_else(|| TrustError::NotCertificate { file: file.to_owned() })
    }

    /// Whom it names.
    pub(super) fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// Who issued it.
    pub(super) fn issuer(&self) -> String {
        self.parsed.tbs_certificate().issuer().to_string()
    }

    /// SHA-256 of its bytes, in hexadecimal digits.
    pub(super) fn fingerprint(&self) -> String {
        Digest::of(HashType::Sha256, &self.der).hex()
    }

    /// The key that it vouches for, if it is one that signs models.
    pub(super) fn key(&self, file: &str) -> Result<PublicKey, TrustError> {
        PublicKey::from_der(&self.key_der(), file)
    }

    fn key_der(&self) -> Vec<u8> {
        self.parsed.tbs_certificate().subject_public_key_info().to_der().unwrap_or_default()
    }

    /// From when on it holds, and until when.
    pub(super) fn validity(&self) -> (SystemTime, SystemTime) {
        let validity = self.parsed.tbs_certificate().validity();
        let since = |time: x509_cert::time::Time| UNIX_EPOCH + time.to_unix_duration();
        (since(validity.not_before), since(validity.not_after))
    }

    /// The same, to be shown.
    pub(super) fn validity_shown(&self) -> (String, String) {
        let validity = self.parsed.tbs_certificate().validity();
        let shown = |time: x509_cert::time::Time| time.to_date_time().to_string();
        (shown(validity.not_before), shown(validity.not_after))
    }

    /// Whether it names itself as its issuer.
    pub(super) fn is_self_issued(&self) -> bool {
        let tbs = self.parsed.tbs_certificate();
        tbs.subject() == tbs.issuer()
    }

    /// Whether it is the issuer of another, by names, and identifiers where there are some.
    pub(super) fn may_have_issued(&self, other: &Certificate) -> bool {
        let names = self.parsed.tbs_certificate().subject() == other.parsed.tbs_certificate().issuer();
        let issuer_id = other.extensions.issuer_id.as_ref().and_then(|id| id.key_identifier.as_ref());
        let ids = issuer_id.zip(self.extensions.own_id.as_ref());
        names && ids.is_none_or(|(expected, own)| *expected == own.0)
    }

    /// Whether the key of this one signed another.
    pub(super) fn signed(&self, other: &Certificate) -> bool {
        let Some(signature) = other.parsed.signature().as_bytes() else { return false };
        let Some((kind, sha2)) = algorithm(other.parsed.signature_algorithm()) else { return false };
        let hash = sha2.of(&other.signed);
        let key = self.key_der();
        match kind {
            Kind::Ecdsa => PublicKey::from_der(&key, "").is_ok_and(|key| key.verifies(&hash, signature)),
            Kind::Rsa => {
                let Ok(key) = rsa::PublicKey::from_public_key_der(&key) else { return false };
                let scheme = match sha2 {
                    Sha2::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
                    Sha2::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
                    Sha2::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
                };
                RSA_BITS.contains(&key.n().bit_width()) && key.verify(scheme, &hash, signature).is_ok()
            }
        }
    }

    /// Says why nothing is to be relied on that it vouches for, on a path of certificates or at the end of one.
    pub(super) fn fault(&self) -> Option<String> {
        if let Some(unknown) = &self.extensions.unknown {
            return Some(format!("has the extension {unknown}, which is not known and must be"));
        }
        let kind = self.parsed.signature_algorithm();
        algorithm(kind)
            .is_none()
            .then(|| format!("is signed in the way {}, which is not known or too weak", kind.oid))
    }

    /// Says why it may not vouch for others, with so many others between it and the last.
    pub(super) fn fault_as_issuer(&self, between: usize) -> Option<String> {
        let Some(constraints) = self.extensions.constraints.as_ref().filter(|constraints| constraints.ca)
        else {
            return Some("is not one that may vouch for others".to_owned());
        };
        if self.extensions.usage.as_ref().is_some_and(|usage| !usage.key_cert_sign()) {
            return Some("may not sign other certificates".to_owned());
        }
        constraints
            .path_len_constraint
            .filter(|most| usize::from(*most) < between)
            .map(|most| format!("may have {most} others between it and the last, and there are {between}"))
    }

    /// Says why it may not sign models.
    pub(super) fn fault_as_signer(&self) -> Option<String> {
        let signs = self.extensions.usage.as_ref().is_some_and(KeyUsage::digital_signature);
        let is_code =
            |purposes: &ExtendedKeyUsage| purposes.0.iter().any(|oid| oid.to_string() == CODE_SIGNING);
        let may = signs || self.extensions.purposes.as_ref().is_some_and(is_code);
        (!may).then(|| "may not sign: its usage is neither digital signature nor code signing".to_owned())
    }
}

enum Kind {
    Ecdsa,
    Rsa,
}

/// How a certificate is signed, if that is known.
fn algorithm(id: &AlgorithmIdentifierOwned) -> Option<(Kind, Sha2)> {
    let is_null = id.parameters.as_ref().map(|any| AnyRef::from(any) == AnyRef::NULL);
    Some(match (&*id.oid.to_string(), is_null) {
        ("1.2.840.10045.4.3.2", None) => (Kind::Ecdsa, Sha2::Sha256),
        ("1.2.840.10045.4.3.3", None) => (Kind::Ecdsa, Sha2::Sha384),
        ("1.2.840.10045.4.3.4", None) => (Kind::Ecdsa, Sha2::Sha512),
        ("1.2.840.113549.1.1.11", Some(true)) => (Kind::Rsa, Sha2::Sha256),
        ("1.2.840.113549.1.1.12", Some(true)) => (Kind::Rsa, Sha2::Sha384),
        ("1.2.840.113549.1.1.13", Some(true)) => (Kind::Rsa, Sha2::Sha512),
        _ => return None,
    })
}

/// Reads a certificate, of which no byte may be other than it is.
fn parse(der: &[u8]) -> x509_cert::der::Result<Certificate> {
    let failed = || x509_cert::der::Error::from(x509_cert::der::ErrorKind::Failed);
    let parsed = Parsed::from_der(der)?;
    let mut reader = SliceReader::new(der)?;
    let signed = reader.sequence(|inner| {
        let signed = inner.tlv_bytes()?.to_vec();
        inner.tlv_bytes()?;
        inner.tlv_bytes()?;
        x509_cert::der::Result::Ok(signed)
    })?;
    reader.finish()?;
    let tbs = parsed.tbs_certificate();
    // No signature covers the outer one.
    if parsed.signature_algorithm() != tbs.signature() || tbs.version() != Version::V3 {
        return Err(failed());
    }
    let all = tbs.extensions().map_or(&[][..], |all| &all[..]);
    let unknown = all.iter().find(|extension| {
        let id = extension.extn_id.to_string();
        id == NAME_CONSTRAINTS || (extension.critical && !KNOWN.contains(&&id[..]))
    });
    let extensions = Extensions {
        constraints: tbs.get_extension()?.map(|(_, value)| value),
        usage: tbs.get_extension()?.map(|(_, value)| value),
        purposes: tbs.get_extension()?.map(|(_, value)| value),
        own_id: tbs.get_extension()?.map(|(_, value)| value),
        issuer_id: tbs.get_extension()?.map(|(_, value)| value),
        unknown: unknown.map(|extension| extension.extn_id.to_string()),
    };
    Ok(Certificate { der: der.to_vec(), signed, extensions, parsed })
}
