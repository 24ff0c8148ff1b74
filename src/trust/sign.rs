//! A signature of a file or folder.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::beside::{MAX_SIGNATURES, OF_FOLDER, of_file, signatures_beside};
use super::bundle::{Bundle, MAX_BUNDLE_BYTES, Material, encoded};
use super::chain::certificates;
use super::digest::{Digest, HashType};
use super::error::TrustError;
use super::folder::{Found, files};
use super::key::{MAX_PEM_BYTES, PublicKey, SigningKey, pem_blocks};
use super::statement::{Manifest, Method, Resource, SINGLE, is_within};
use super::verify::GIT;
use crate::files::{ReadError, WriteError, open, read_text, write_whole};

/// Bytes of a range where files are cut and nothing else is said.
pub const DEFAULT_SHARD_BYTES: u64 = 1_000_000_000;

/// Who signs.
pub enum Signer {
    /// The owner of a key.
    Key(SigningKey),
    /// The owner of a certificate.
    Certificate {
        /// The key that the certificate vouches for.
        key: SigningKey,
        /// The certificate, and those that vouch for it, in DER.
        chain: Vec<Vec<u8>>,
    },
}

/// How something is signed.
#[derive(Clone, Debug, Default)]
pub struct SignOptions {
    /// How files are hashed.
    pub hash: HashType,
    /// Cuts files into ranges of so many bytes, each with a digest.
    pub shard_bytes: Option<u64>,
    /// Where the signature is written [default: `FILE.sig` or `FOLDER/model.sig`].
    pub output: Option<PathBuf>,
    /// Paths from the folder that are left out, with all below them.
    pub ignore: Vec<String>,
}

/// Signs a file, or all files of a folder but what is ignored, what belongs to git and the signatures. Returns where the
/// signature was written, and what was signed.
///
/// # Errors
/// If there is nothing to sign, it cannot be read, or the signature cannot be written.
pub fn sign_path(
    path: &Path,
    signer: &Signer,
    options: &SignOptions,
) -> Result<(PathBuf, Manifest), TrustError> {
    let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let usual = if is_folder { path.join(OF_FOLDER) } else { of_file(path) };
    let output = options.output.clone().unwrap_or(usual);
    check_output(&output)?;
    let mut ignored = vec![];
    let found = if is_folder {
        ignored = ignored_names(path, &output, &options.ignore);
        files(path, false, &|name| ignored.iter().any(|ignored| is_within(name, ignored)))?
    } else {
        vec![Found { name: SINGLE.to_owned(), path: path.to_owned() }]
    };
    let method = options.shard_bytes.map_or(Method::Files, Method::Shards);
    let mut resources = vec![];
    for file in &found {
        hash_file(file, options.hash, method, &mut resources)?;
    }
    if resources.is_empty() {
        return Err(TrustError::Nothing { path: path.display().to_string() });
    }
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name =
        whole.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    let manifest = Manifest::new(name, method, options.hash, ignored, resources);
    let bundle = signer.sign(&manifest, &output.display().to_string())?;
    let json = bundle.to_json();
    if json.len() as u64 > MAX_BUNDLE_BYTES {
        let (file, bytes) = (output.display().to_string(), json.len() as u64);
        return Err(TrustError::TooLong { file, bytes, limit: MAX_BUNDLE_BYTES });
    }
    write_whole(&output, json.as_bytes())?;
    Ok((output, manifest))
}

impl Signer {
    /// Reads the private key of a signer, and its certificate with those that vouch for it, all of one PEM file, in any
    /// order but that the certificate is the first.
    ///
    /// # Errors
    /// If one of the files cannot be read, or the certificate is of another key.
    pub fn read(key: &Path, chain: Option<&Path>) -> Result<Signer, TrustError> {
        let signing = SigningKey::read(key)?;
        let Some(path) = chain else { return Ok(Signer::Key(signing)) };
        let file = path.display().to_string();
        let chain = certificates(&pem_blocks(&read_text(path, MAX_PEM_BYTES)?, &file)?, &file)?;
        if chain.first().is_none_or(|first| first.key(&file).ok() != Some(signing.public())) {
            return Err(TrustError::CertificateOfOtherKey { file, key: key.display().to_string() });
        }
        Ok(Signer::Certificate { key: signing, chain: chain.into_iter().map(|one| one.der).collect() })
    }

    /// The key that judges its signatures.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Key(key) | Self::Certificate { key, .. } => key.public(),
        }
    }

    /// Signs what a manifest says.
    fn sign(&self, manifest: &Manifest, file: &str) -> Result<Bundle, TrustError> {
        let payload = manifest.payload();
        let (key, material) = match self {
            Self::Key(key) => {
                let hint = Some(key.public().fingerprint());
                (key, Material::Key { hint, pem: None, details: None })
            }
            Self::Certificate { key, chain } => (key, Material::Certificates(chain.clone())),
        };
        let signature = key.sign(&encoded(&payload)).ok_or_else(|| TrustError::WrongSignature {
            file: file.to_owned(),
            by: "this key, which cannot sign".to_owned(),
        })?;
        Ok(Bundle::new(file.to_owned(), material, payload, signature))
    }
}

/// Refuses to replace what is no signature.
fn check_output(output: &Path) -> Result<(), TrustError> {
    match Bundle::read(output) {
        Ok(_) | Err(TrustError::Sigstore { .. }) => Ok(()),
        Err(TrustError::Read(error)) if error.is_absence() => Ok(()),
        // The words for what is no file are those of writing.
        Err(TrustError::Read(ReadError::Folder { .. } | ReadError::NotAFile { .. })) => Ok(()),
        Err(_) => Err(WriteError::Foreign { file: output.display().to_string() }.into()),
    }
}

/// What a signature of a folder leaves out: all that may become a signature of it, git's own, and what is said.
fn ignored_names(folder: &Path, output: &Path, more: &[String]) -> Vec<String> {
    let mut ignored: Vec<String> = GIT.iter().map(|name| (*name).to_owned()).collect();
    let usual = signatures_beside(Path::new(OF_FOLDER));
    debug_assert_eq!(usual.len(), MAX_SIGNATURES);
    ignored.extend(usual.iter().map(|path| path.display().to_string()));
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(folder), Ok(parent), Some(name)) =
        (fs::canonicalize(folder), fs::canonicalize(parent), output.file_name())
        && let Ok(below) = parent.join(name).strip_prefix(&folder)
    {
        ignored.extend(signatures_beside(below).iter().map(|path| path.display().to_string()));
    }
    ignored.extend(more.iter().map(|path| path.trim_end_matches('/').trim_start_matches("./").to_owned()));
    ignored.sort();
    ignored.dedup();
    ignored
}

fn hash_file(
    file: &Found,
    hash: HashType,
    method: Method,
    resources: &mut Vec<Resource>,
) -> Result<(), TrustError> {
    let mut source = open(&file.path)?;
    let io = |source| TrustError::Io { file: file.path.display().to_string(), action: "read it", source };
    let path = || file.name.clone();
    let Method::Shards(most) = method else {
        let (digest, _) = Digest::read(hash, &mut source).map_err(io)?;
        resources.push(Resource { path: path(), range: None, digest });
        return Ok(());
    };
    let mut start = 0;
    loop {
        let (digest, bytes) = Digest::read(hash, &mut (&mut source).take(most)).map_err(io)?;
        if bytes == 0 {
            return Ok(());
        }
        resources.push(Resource { path: path(), range: Some((start, start + bytes)), digest });
        start += bytes;
    }
}
