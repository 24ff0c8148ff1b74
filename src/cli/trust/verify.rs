//! `smolt verify`: whether a model is what somebody signed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::error::{CliError, Exit};
use super::super::memory::show_bytes;
use super::super::output::{self, note};
use crate::trust::{
    Authority, CertificateChain, Method, PublicKey, Report, SignedBy, VerifyOptions, system_clock,
    verify_path,
};

/// Arguments of `smolt verify`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Signatures are those of OpenSSF Model Signing, as model_signing, NVIDIA and IBM make them, by a key (ECDSA on P-256, P-384
or P-521) or a certificate; nothing is fetched. Of a folder every file must be signed, but what the signature ignores, what
belongs to git and the signatures themselves. The exit code is 7 if it is not what was signed, or not by whom you trust.

Examples:
  smolt verify model --key public.pem
  smolt verify model.gguf --key public.pem
  smolt verify granite --certificate-chain root.pem --json | jq -r .root"
)]
pub struct VerifyArgs {
    /// A folder, or a file
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// The signature [default: PATH/model.sig of a folder, PATH.sig of a file]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,

    #[command(flatten)]
    authority: AuthorityArgs,

    /// Leave out a path of the folder, with all below it; may be given more than once
    #[arg(long, value_name = "PATH")]
    ignore: Vec<String>,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Whose signatures count.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(in super::super) struct AuthorityArgs {
    /// Trust the owner of a public key (PEM)
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,

    /// Trust whom these certificates vouch for: a root, and others that stand between (PEM)
    #[arg(long, value_name = "PEM")]
    certificate_chain: Option<PathBuf>,

    /// Trust whom a file says: a key, certificates, or a trust file
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

impl AuthorityArgs {
    /// Reads who it is.
    ///
    /// # Errors
    /// If the file is not what it is named as.
    pub(in super::super) fn read(&self) -> Result<Authority, CliError> {
        Ok(match (&self.key, &self.certificate_chain, &self.trust) {
            (Some(key), ..) => Authority::Key(PublicKey::read(key)?),
            (_, Some(chain), _) => Authority::Chain(CertificateChain::read(chain)?),
            (.., trust) => Authority::read(trust.as_deref().unwrap_or(Path::new("")))?,
        })
    }
}

/// What was verified, for programs.
#[derive(Serialize)]
struct Verified<'a> {
    path: &'a Path,
    signature: &'a Path,
    signers: Vec<Who<'a>>,
    /// The name that the signer gave.
    name: &'a str,
    files: usize,
    bytes: u64,
    hash: &'static str,
    /// Null where files were hashed whole.
    shard_bytes: Option<u64>,
    /// SHA-256 over all digests.
    root: String,
    ignored: &'a [String],
    /// Whether there was a clock to judge certificates by.
    has_clock: bool,
}

/// Who signed, for programs.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Who<'a> {
    Key { fingerprint: &'a str, curve: String },
    Certificate { subject: &'a str, fingerprint: &'a str, key: &'a str },
}

/// Verifies and says what.
pub(in super::super) fn execute(args: &VerifyArgs) -> Result<Exit, CliError> {
    let authority = args.authority.read()?;
    let clock = system_clock();
    let options = VerifyOptions { signature: args.signature.clone(), ignore: args.ignore.clone(), clock };
    let report = verify_path(&args.path, &authority, &options)?;
    if args.json {
        output::write_json(&Verified::new(&args.path, &report, clock.is_some()))?;
    } else {
        output::table(&text(&args.path, &report))?;
    }
    let has_certificate =
        report.manifest.signers().iter().any(|signer| matches!(signer, SignedBy::Certificate { .. }));
    if has_certificate && clock.is_none() {
        note("there is no clock here: whether the certificate still holds was not judged");
    }
    Ok(Exit::Ok)
}

impl<'a> Verified<'a> {
    fn new(path: &'a Path, report: &'a Report, has_clock: bool) -> Self {
        let manifest = &report.manifest;
        let shard_bytes = match manifest.method() {
            Method::Files => None,
            Method::Shards(bytes) => Some(bytes),
        };
        Verified {
            path,
            signature: &report.signature,
            signers: manifest.signers().iter().map(Who::of).collect(),
            name: manifest.name(),
            files: report.files,
            bytes: report.bytes,
            hash: manifest.hash().name(),
            shard_bytes,
            root: manifest.root().hex(),
            ignored: manifest.ignored(),
            has_clock,
        }
    }
}

impl<'a> Who<'a> {
    fn of(by: &'a SignedBy) -> Who<'a> {
        match by {
            SignedBy::Key { fingerprint, curve } => Who::Key { fingerprint, curve: curve.to_string() },
            SignedBy::Certificate { subject, fingerprint, key, .. } => {
                Who::Certificate { subject, fingerprint, key }
            }
        }
    }
}

fn text(path: &Path, report: &Report) -> String {
    let files = if report.files == 1 { "file" } else { "files" };
    let bytes = show_bytes(report.bytes);
    let mut text = format!("{}: is what was signed, {} {files} ({bytes})\n", path.display(), report.files);
    for by in report.manifest.signers() {
        let _ = writeln!(text, "signed by the {by}");
    }
    let _ = writeln!(text, "digest of all: {}", report.manifest.root());
    text
}
