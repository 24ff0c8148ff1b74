//! Signatures of models: whose they are, and whether the bytes are the signed ones.
//!
//! # Design
//!
//! The format is OpenSSF Model Signing v1.0 (OMS), which the Python package `model-signing` writes and reads too.
//!
//! ```text
//! digest      SHA-256, BLAKE2b and BLAKE3 of what is read
//! key         ECDSA keys on P-256, P-384 and P-521
//! certificate X.509 certificates, one by one
//!   chain     the path from the one that signed to one that is trusted
//! bundle      the file of a signature: a Sigstore bundle with an envelope (DSSE)
//!   form      what of its text no signature covers, held to one form
//! statement   what is signed: names, digests and how they were made (in-toto)
//! authority   whose signatures count
//! checked     a reader that hashes what it hands out
//! beside      where the signatures of a file or folder lie
//! signed      one signed file, read while it is checked
//! clock       the time, where it can be known
//! folder      what is in a folder
//! verify      a whole model against its signature
//! sign        a signature of a file or folder
//! error       everything that can be wrong
//! ```
//!
//! A signature has no version, no end and no secrets. What adds them are signed files beside the model:
//!
//! ```text
//! release     release.json: what a model is, for whom, how it proves itself
//! policy      trust.json: whose signatures count for what, and how many it takes
//!   rotation  from one trust file to the next
//! package     model, release and signatures, as a folder or one archive
//!   head      all before the model, also from a stream
//!   carried   all after it, compared with what was signed
//!   plain     the model itself, compared with its release
//!   archive   the one form of the archive
//!   publish   from a model to the folder of a package
//! seal        models sealed with age
//!   identity  the secret keys that open them
//! time        moments, and the earliest time that it can be
//! open        regular files, opened once
//! refusal     why something is refused although it may be signed
//! ```
//!
//! # What is refused
//!
//! A bundle is refused if any byte of it is changed, also those that no signature covers: keys of JSON that are not known,
//! escapes, whitespace that is not the same throughout, Base64 that is not in its one form, a hint that is not the
//! fingerprint of the key, certificates that are not on the path. Bundles made with Sigstore's services are
//! refused: to judge them takes its roots and logs, from the network.

mod archive;
mod authority;
mod beside;
mod bundle;
mod carried;
mod certificate;
mod chain;
mod checked;
mod clock;
mod digest;
mod error;
mod folder;
mod form;
mod head;
mod identity;
mod key;
mod open;
mod package;
mod plain;
mod policy;
mod publish;
mod refusal;
mod release;
mod rotation;
mod seal;
mod sign;
mod signed;
mod statement;
mod time;
mod verify;

#[cfg(test)]
mod release_tests;
#[cfg(test)]
mod tests;

pub use self::authority::Authority;
pub use self::beside::{MAX_SIGNATURES, signatures_beside};
pub use self::bundle::{Bundle, MAX_BUNDLE_BYTES, Material, PAYLOAD_TYPE};
pub use self::carried::Carried;
pub use self::chain::CertificateChain;
pub use self::checked::{CheckedReader, Part};
pub use self::clock::system_clock;
pub use self::digest::{Digest, HashType, Hasher};
pub use self::error::{Differences, TrustError};
pub use self::head::{CheckedHead, Head, MAX_SIGNATURE_BYTES, SIGNATURE_FILES};
pub use self::identity::{Identities, IdentitySource};
pub use self::key::{Curve, PublicKey, SigningKey};
pub use self::package::{CheckedPackage, Package, trust_error};
pub use self::policy::{MAX_POLICY_BYTES, MAX_POLICY_KEYS, POLICY_FILE, Policy, Role};
pub use self::publish::publish;
pub use self::refusal::{PackageProblem, Refusal};
pub use self::release::{
    Blake3, Bounds, MAX_MODEL_BYTES, MAX_RELEASE_BYTES, MAX_SELF_TEST_TOKENS, MAX_VERSION, ModelFile,
    PLAIN_FILE, RELEASE_FILE, Release, ReleaseParts, Runner, SEALED_FILE, SelfTest, Version,
};
pub use self::rotation::{MAX_ROTATIONS, TrustFile, rotate};
pub use self::seal::{MAX_RECIPIENTS, Recipients, SEALED_MAGIC, open_sealed};
pub use self::sign::{DEFAULT_SHARD_BYTES, SignOptions, Signer, sign_path};
pub use self::signed::{SignedFile, open_signed};
pub use self::statement::{Manifest, Method, Resource, SignedBy};
pub use self::time::Time;
pub use self::verify::{Report, VerifyOptions, verify_path};
