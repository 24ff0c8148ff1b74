//! The path from a certificate that signed to one that is trusted.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use super::bundle::{Bundle, Material};
use super::certificate::Certificate;
use super::error::TrustError;
use super::key::{MAX_PEM_BYTES, PemBlock, Sha2, pem_blocks};
use super::statement::{Manifest, SignedBy};
use crate::files::read_text;

/// Most certificates that are trusted.
const MAX_TRUSTED: usize = 64;
/// Longest path.
const MAX_PATH: usize = 8;
/// Most signatures of certificates that are checked to find a path.
const MAX_CHECKS: usize = 64;

/// Certificates that are trusted: those that vouch for themselves (roots), and others that may stand between.
#[derive(Clone)]
pub struct CertificateChain {
    file: String,
    trusted: Vec<Certificate>,
}

impl fmt::Debug for CertificateChain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subjects: Vec<_> = self.trusted.iter().map(Certificate::subject).collect();
        write!(out, "CertificateChain({})", subjects.join("; "))
    }
}

impl CertificateChain {
    /// Reads a file of certificates in PEM, one of them a root.
    ///
    /// # Errors
    /// If there is no such file, or no root in it.
    pub fn read(path: &Path) -> Result<CertificateChain, TrustError> {
        CertificateChain::from_pem(&read_text(path, MAX_PEM_BYTES)?, &path.display().to_string())
    }

    /// Does the same with a text; `file` is for messages.
    ///
    /// # Errors
    /// As [`CertificateChain::read`].
    pub fn from_pem(text: &str, file: &str) -> Result<CertificateChain, TrustError> {
        let trusted = certificates(&pem_blocks(text, file)?, file)?;
        if trusted.len() > MAX_TRUSTED {
            return Err(TrustError::TooManyCertificates { file: file.to_owned(), limit: MAX_TRUSTED });
        }
        let chain = CertificateChain { file: file.to_owned(), trusted };
        if !chain.trusted.iter().any(is_root) {
            return Err(TrustError::NoRoot { file: chain.file });
        }
        Ok(chain)
    }

    /// The file that they were read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether two trust one certificate.
    pub(super) fn overlaps(&self, other: &CertificateChain) -> bool {
        self.trusted.iter().any(|one| other.trusted.iter().any(|another| one.der == another.der))
    }

    /// Judges a bundle: the path from its first certificate to a root of these must hold at the time at which that
    /// certificate began, before which nobody can have signed with it; and at `clock`, where the time is known.
    ///
    /// # Errors
    /// If there is no such path, the signature is wrong, or what was signed makes no sense.
    pub fn verify(&self, bundle: &Bundle, clock: Option<SystemTime>) -> Result<Manifest, TrustError> {
        let file = bundle.file();
        let Material::Certificates(ders) = bundle.material() else {
            let file = file.to_owned();
            return Err(TrustError::OtherMethod { file, found: "key", expected: "certificate" });
        };
        let given: Vec<_> = ders.iter().map(|der| Certificate::parse(der, file)).collect::<Result<_, _>>()?;
        let Some(signer) = given.first() else {
            return Err(TrustError::Incomplete { file: file.to_owned(), missing: "certificate" });
        };
        let mut search =
            Search { file, trusted: &self.trusted, given: &given, path: vec![signer], checks: 0 };
        search.find_root()?;
        let path = search.path;
        check_path(&path, file)?;
        let times = [Some(signer.validity().0), clock];
        times.into_iter().flatten().try_for_each(|at| check_times(&path, at, file))?;
        // No signature would cover one that is not needed.
        let is_used = |one: &Certificate| {
            path.iter().chain(&self.trusted.iter().collect::<Vec<_>>()).any(|used| used.der == one.der)
        };
        let is_twice = |at: usize| given[..at].iter().any(|before| before.der == given[at].der);
        if !given.iter().all(is_used) || (0..given.len()).any(is_twice) {
            let found = "it has a certificate that is not on the path to the root";
            return Err(TrustError::Form { file: file.to_owned(), found });
        }
        let key = signer.key(file).map_err(|fault| TrustError::Certificate {
            file: file.to_owned(),
            subject: signer.subject(),
            why: format!("is of no key that signs models: {fault}"),
        })?;
        let by = SignedBy::Certificate {
            subject: signer.subject(),
            fingerprint: signer.fingerprint(),
            key: key.fingerprint(),
            judged_at: clock,
        };
        // Where version 0.2 of the reference tool signed, it did with SHA-256, whatever the curve.
        bundle.check(&key, Sha2::Sha256, by)
    }
}

/// The certificates of a PEM text.
pub(super) fn certificates(blocks: &[PemBlock], file: &str) -> Result<Vec<Certificate>, TrustError> {
    let certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE");
    let read: Vec<_> =
        certificates.map(|block| Certificate::parse(&block.der, file)).collect::<Result<_, _>>()?;
    if read.is_empty() { Err(TrustError::NoPem { file: file.to_owned() }) } else { Ok(read) }
}

/// Whether a certificate vouches for itself.
fn is_root(certificate: &Certificate) -> bool {
    certificate.is_self_issued()
        && certificate.may_have_issued(certificate)
        && certificate.signed(certificate)
}

/// Looks for a path, one certificate after another.
struct Search<'a> {
    file: &'a str,
    trusted: &'a [Certificate],
    given: &'a [Certificate],
    path: Vec<&'a Certificate>,
    checks: usize,
}

impl<'a> Search<'a> {
    /// Makes the path longer until it ends in a trusted root.
    fn find_root(&mut self) -> Result<(), TrustError> {
        let last = self.path[self.path.len() - 1];
        if self.trusted.iter().any(|root| root.der == last.der) && is_root(last) {
            return Ok(());
        }
        let mut fault = TrustError::NoIssuer {
            file: self.file.to_owned(),
            subject: last.subject(),
            issuer: last.issuer(),
        };
        if self.path.len() >= MAX_PATH {
            return Err(fault);
        }
        for issuer in self.trusted.iter().chain(self.given) {
            let is_new = self.path.iter().all(|used| used.der != issuer.der);
            if !is_new || !issuer.may_have_issued(last) {
                continue;
            }
            self.checks += 1;
            if self.checks > MAX_CHECKS {
                return Err(fault);
            }
            if !issuer.signed(last) {
                continue;
            }
            self.path.push(issuer);
            match self.find_root() {
                Ok(()) => return Ok(()),
                // What is further along the path says more.
                Err(further) => fault = further,
            }
            self.path.pop();
        }
        Err(fault)
    }
}

/// Whether each may do what it does on the path.
fn check_path(path: &[&Certificate], file: &str) -> Result<(), TrustError> {
    let refuse = |certificate: &Certificate, why: Option<String>| match why {
        None => Ok(()),
        Some(why) => {
            Err(TrustError::Certificate { file: file.to_owned(), subject: certificate.subject(), why })
        }
    };
    let mut between = 0;
    for (at, certificate) in path.iter().enumerate() {
        refuse(certificate, certificate.fault())?;
        if at == 0 {
            refuse(certificate, certificate.fault_as_signer())?;
            continue;
        }
        refuse(certificate, certificate.fault_as_issuer(between))?;
        between += usize::from(!certificate.is_self_issued());
    }
    Ok(())
}

/// Whether all of a path hold at a time.
fn check_times(path: &[&Certificate], at: SystemTime, file: &str) -> Result<(), TrustError> {
    for certificate in path {
        let (from, until) = certificate.validity();
        if at < from || at > until {
            let (from, until) = certificate.validity_shown();
            let (file, subject) = (file.to_owned(), certificate.subject());
            return Err(TrustError::Validity { file, subject, from, until });
        }
    }
    Ok(())
}
