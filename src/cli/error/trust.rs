//! What becomes of an error of [`trust`](crate::trust).

use super::exit::Exit;
use crate::files::WriteError;
use crate::trust::{Refusal, TrustError};

/// The exit code of an error.
pub(super) fn exit(error: &TrustError) -> Exit {
    match error {
        error if error.is_refusal() => Exit::Untrusted,
        TrustError::Io { .. } => Exit::Runtime,
        TrustError::Write(WriteError::Foreign { .. } | WriteError::Link { .. }) => Exit::Usage,
        TrustError::Write(_) => Exit::Runtime,
        _ => Exit::Usage,
    }
}

/// What to do about an error.
pub(super) fn hint(error: &TrustError) -> Option<String> {
    let hint = match error {
        TrustError::NoSignature { .. } => {
            "smolt sign makes one; smolt verify takes one that lies elsewhere with --signature FILE"
        }
        TrustError::OtherMethod { found: "certificate", .. } => {
            "what judges it is the certificate of the root that you trust: smolt verify --certificate-chain FILE, or name that file in place of the key"
        }
        TrustError::OtherMethod { .. } => {
            "what judges it is the public key: smolt verify --key FILE, or name that file in place of the certificates"
        }
        TrustError::Sigstore { .. } => {
            "verify it with model_signing on a computer with a network, then sign it with a key of your own: smolt sign"
        }
        TrustError::PrivateKey { file } => {
            return Some(format!("openssl pkey -in {file} -pubout -out public.pem writes it"));
        }
        TrustError::EncryptedKey { file } => {
            return Some(format!(
                "openssl pkey -in {file} takes the password off; keep what it prints to yourself"
            ));
        }
        TrustError::KeyKind { .. } | TrustError::NoPem { .. } => {
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem makes a key, openssl pkey -in key.pem -pubout its public one"
        }
        TrustError::NoRoot { .. } => "add the certificate of the root to the file",
        TrustError::Validity { .. } => {
            "check the clock of this computer; else the signer has to renew it, and sign again"
        }
        TrustError::Differs { differences, .. }
            if differences.changed.is_empty() && differences.missing.is_empty() =>
        {
            "remove what is not signed; --ignore PATH leaves it out, if you know what it is"
        }
        TrustError::Differs { .. } | TrustError::Digest { .. } | TrustError::Length { .. } => {
            "fetch it again; what was changed on its way is not to be used"
        }
        TrustError::Refused(Refusal::NeedsKey { .. }) => {
            "--identity names the secret keys: a file, fd:N or credential:NAME"
        }
        TrustError::Refused(Refusal::Part { field: "self_test.tokens", .. }) => {
            "choose another text with --self-test"
        }
        TrustError::Link { .. } => "put the file itself in the place of the link",
        _ => return None,
    };
    Some(hint.to_owned())
}
