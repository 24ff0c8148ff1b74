//! `smolt sign`: a signature of a model.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde::Serialize;

use super::super::error::{CliError, Exit};
use super::super::memory::parse_bytes;
use super::super::output;
use crate::trust::{HashType, SignOptions, Signer, sign_path};

/// Arguments of `smolt sign`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
The signature is one of OpenSSF Model Signing: smolt verify and the Python package model-signing judge it. Of a folder all
files are signed but what is ignored, what belongs to git and the signatures. A hash other than sha256, and shards, spare time
with files of many gigabytes; model-signing 1.1.1 has to be told of blake2b and of shards before it verifies them.

Examples:
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
  openssl pkey -in key.pem -pubout -out public.pem
  smolt sign model --key key.pem
  smolt verify model --key public.pem"
)]
pub struct SignArgs {
    /// A folder, or a file
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// The private key: ECDSA on P-256, P-384 or P-521, in PEM, without a password
    #[arg(long, value_name = "PEM")]
    key: PathBuf,

    /// The certificate of the key, then those that vouch for it, in one file
    #[arg(long, value_name = "PEM")]
    certificate_chain: Option<PathBuf>,

    /// How files are hashed
    #[arg(long, value_name = "HASH", default_value = "sha256", value_parser = hash())]
    hash: HashType,

    /// Hash files in ranges of SIZE, each by itself, e.g. 1G
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, hide_short_help = true)]
    shard_size: Option<u64>,

    /// Where to write the signature [default: PATH/model.sig of a folder, PATH.sig of a file]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Leave out a path of the folder, with all below it; may be given more than once
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    ignore: Vec<String>,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

fn hash() -> impl clap::builder::TypedValueParser<Value = HashType> {
    let names = PossibleValuesParser::new(HashType::ALL.map(HashType::name));
    names.map(|name| HashType::by_name(&name).unwrap_or_default())
}

/// What was signed, for programs.
#[derive(Serialize)]
struct Signed {
    signature: PathBuf,
    /// Files, or ranges of files.
    resources: usize,
    /// SHA-256 over all digests.
    root: String,
    /// Of the key that judges the signature.
    fingerprint: String,
}

/// Signs and says where.
pub(in super::super) fn execute(args: &SignArgs) -> Result<Exit, CliError> {
    let signer = Signer::read(&args.key, args.certificate_chain.as_deref())?;
    let options = SignOptions {
        hash: args.hash,
        shard_bytes: args.shard_size,
        output: args.output.clone(),
        ignore: args.ignore.clone(),
    };
    let (signature, manifest) = sign_path(&args.path, &signer, &options)?;
    if args.json {
        let (resources, root) = (manifest.resources().len(), manifest.root().hex());
        output::write_json(&Signed {
            signature,
            resources,
            root,
            fingerprint: signer.public().fingerprint(),
        })?;
    } else {
        output::write(format!("{}\n", signature.display()).as_bytes())?;
    }
    Ok(Exit::Ok)
}
