//! Whose signatures count.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::bundle::Bundle;
use super::chain::CertificateChain;
use super::error::TrustError;
use super::key::{MAX_PEM_BYTES, PublicKey, pem_blocks};
use super::policy::{Policy, Role};
use super::statement::Manifest;
use crate::files::read_text;

/// Whose signatures count.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Authority {
    /// Those by one key.
    Key(PublicKey),
    /// Those with a certificate for which others vouch.
    Chain(CertificateChain),
    /// Those that a trust file names.
    Policy(Arc<Policy>),
}

impl Authority {
    /// Reads a file that says whose signatures count: a public key or certificates in PEM, or a trust file, told by what
    /// is in it.
    ///
    /// # Errors
    /// If there is no such file, or nothing of the kind in it.
    pub fn read(path: &Path) -> Result<Authority, TrustError> {
        Authority::parse(&read_text(path, MAX_PEM_BYTES)?, &path.display().to_string())
    }

    /// Does the same with a text; `file` is for messages.
    ///
    /// # Errors
    /// As [`Authority::read`].
    pub fn parse(text: &str, file: &str) -> Result<Authority, TrustError> {
        if Policy::is_meant(text) {
            return Ok(Authority::Policy(Policy::parse(text.as_bytes())?.into()));
        }
        let is_chain = pem_blocks(text, file)?.iter().any(|block| block.label == "CERTIFICATE");
        if is_chain {
            return CertificateChain::from_pem(text, file).map(Authority::Chain);
        }
        PublicKey::from_pem(text, file).map(Authority::Key)
    }

    /// Judges the signatures of one thing. All that count are of the same contents; those that do not are passed over,
    /// unless none counts. `clock` is the time, where it is known.
    ///
    /// # Errors
    /// If none counts, with the reason of the first; or if they are of different contents.
    pub fn check(&self, bundles: &[Bundle], clock: Option<SystemTime>) -> Result<Manifest, TrustError> {
        if let Self::Policy(policy) = self {
            return policy.check(Role::Release, bundles, clock);
        }
        let mut found: Option<(Manifest, &Bundle)> = None;
        let mut first_fault = None;
        for bundle in bundles {
            match (self.judge(bundle, clock), &mut found) {
                (Err(fault), _) => _ = first_fault.get_or_insert(fault),
                (Ok(manifest), None) => found = Some((manifest, bundle)),
                (Ok(manifest), Some((first, of))) => {
                    if !first.is_of_same(&manifest) {
                        let (file, other) = (of.file().to_owned(), bundle.file().to_owned());
                        return Err(TrustError::OtherContents { file, other });
                    }
                    let new = manifest.signers.into_iter().filter(|by| !first.signers.contains(by));
                    first.signers.extend(new.collect::<Vec<_>>());
                }
            }
        }
        match (found, first_fault) {
            (Some((manifest, _)), _) => Ok(manifest),
            (None, Some(fault)) => Err(fault),
            (None, None) => Err(TrustError::NoSignature { model: String::new(), expected: String::new() }),
        }
    }

    fn judge(&self, bundle: &Bundle, clock: Option<SystemTime>) -> Result<Manifest, TrustError> {
        match self {
            Self::Key(key) => bundle.verify_by_key(key),
            Self::Chain(chain) => chain.verify(bundle, clock),
            Self::Policy(policy) => policy.check(Role::Release, std::slice::from_ref(bundle), clock),
        }
    }
}
