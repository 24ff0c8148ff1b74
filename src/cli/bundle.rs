//! `smolt bundle`: from a model to what is installed elsewhere.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::{CliError, Exit};
use super::load;
use super::memory::show_bytes;
use super::output::{self, note};
use crate::eval::probe::program_bytes;
use crate::files::{Access, write_stream};
use crate::load::{Continued, LoadOptions, Prepared};
use crate::trust::{
    Authority, Identities, IdentitySource, MAX_SELF_TEST_TOKENS, Manifest, Package, Recipients, Refusal,
    Release, ReleaseParts, SelfTest, SignOptions, Signer, SigningKey, Time, TrustError, Version, publish,
    sign_path, system_clock, trust_error,
};

/// How much likelier every token of a self-test must be than the next one: processors round differently.
const MARGIN: f32 = 0.1;

/// Arguments of `smolt bundle`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
A package is a folder, or one archive (.tar) of it, with a model, what it is (release.json) and signatures over both.
It is what a store installs. Its signatures are those of OpenSSF Model Signing: any tool for these checks the
folder. A model may be sealed to X25519 keys of age, so that only their owners can read it.

Examples:
  smolt bundle create model.gguf --name kiosk --version 3 --key release.pem -o kiosk-3 --tar kiosk-3.tar
  smolt bundle create model.gguf --name kiosk --version 3 --seal age1… -o kiosk-3
  smolt bundle pack kiosk-3 kiosk-3.tar
  smolt bundle show kiosk-3.tar --trust trust.json"
)]
pub struct BundleArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Make the folder of a package from a model
    Create(Box<Create>),
    /// Make the archive of a signed folder
    Pack(Pack),
    /// Show what a package says, and whether it is signed
    Show(Show),
}

#[derive(Clone, Debug, clap::Args)]
struct Create {
    /// The model: a GGUF file or the name of an installed model
    model: PathBuf,

    /// The folder to make
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// What the model is called where it is installed
    #[arg(long)]
    name: String,

    /// Its version: a whole number, higher than all before
    #[arg(long, value_name = "N")]
    version: u64,

    /// The lowest version that may still be used once this one has proved itself [default: none]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    floor: u64,

    /// When it is no longer to be installed: 2027-06-30, or 2027-06-30T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires: Option<Time>,

    /// The earliest version of smolt that runs it [default: this one]
    #[arg(long, value_name = "X.Y.Z", value_parser = Version::parse)]
    minimum_runner: Option<Version>,

    /// Context for which memory is planned, in tokens
    #[arg(short, long, value_name = "TOKENS")]
    context: Option<usize>,

    /// The text that it continues to prove itself
    #[arg(long, value_name = "TEXT", default_value = "The sun rises in the")]
    self_test: String,

    /// Tokens that it continues it with
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=MAX_SELF_TEST_TOKENS as i64))]
    self_test_tokens: u16,

    /// Seal the model to a recipient, as age-keygen prints it; may be given several times
    #[arg(long, value_name = "age1…")]
    seal: Vec<String>,

    /// Sign with the private key in this file (PEM)
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,

    /// Write the archive too
    #[arg(long, value_name = "FILE", requires = "key")]
    tar: Option<PathBuf>,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Pack {
    /// The folder
    folder: PathBuf,

    /// The archive to write
    archive: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
struct Show {
    /// A folder or an archive
    package: PathBuf,

    /// Check it: a public key, certificates (PEM) or a trust file
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,

    /// Open a sealed model too, with secret keys of age: a file, fd:N or credential:NAME
    #[arg(long, value_name = "KEYS", requires = "trust", value_parser = IdentitySource::parse)]
    identity: Option<IdentitySource>,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What is said of a package.
#[derive(Serialize)]
struct Report<'a> {
    release: &'a Release,
    /// Signatures in it, good or not.
    signatures: usize,
    /// Those that count; null where that was not asked.
    signed_by: Option<Vec<String>>,
    archive_bytes: u64,
}

/// Makes, packs or shows.
pub(super) fn execute(args: &BundleArgs) -> Result<Exit, CliError> {
    match &args.action {
        Action::Create(args) => create(args),
        Action::Pack(args) => pack(&Package::open(&args.folder)?, &args.archive),
        Action::Show(args) => show(args),
    }
}

fn create(args: &Create) -> Result<Exit, CliError> {
    let recipients = match &args.seal[..] {
        [] => None,
        recipients => Some(Recipients::parse(recipients).map_err(TrustError::from)?),
    };
    // Before the model is loaded for nothing.
    let key = args.key.as_deref().map(SigningKey::read).transpose()?;
    let model = load::file(&args.model)?;
    let parts = parts(args, &model)?;
    let release = publish(&model, &args.output, recipients.as_ref(), parts)?;
    let mut report = Report { release: &release, signatures: 0, signed_by: None, archive_bytes: 0 };
    if let Some(key) = key {
        let authority = Authority::Key(key.public());
        sign_path(&args.output, &Signer::Key(key), &SignOptions::default())?;
        let package = Package::open(&args.output)?;
        report.archive_bytes = package.head().archive_bytes();
        report.signatures = package.head().signatures();
        if let Some(tar) = &args.tar {
            pack(&package, tar)?;
        }
        // What was written is what was meant.
        let package = Package::open(args.tar.as_ref().unwrap_or(&args.output))?.check(&authority, None)?;
        package.check_model()?;
        report.signed_by = Some(signers(package.head().manifest()));
    }
    say(&report, args.json)
}

/// Loads the model, to learn what it needs and what it says.
fn parts(args: &Create, model: &Path) -> Result<ReleaseParts, CliError> {
    let options =
        LoadOptions { context: args.context, program_bytes: program_bytes(), ..LoadOptions::default() };
    let prepared = Prepared::open(model, &options)?;
    let most = usize::from(args.self_test_tokens);
    let continued = prepared.load()?.continued(&args.self_test, most)?;
    let tokens = certain(&continued);
    if tokens.len() < most {
        note(format_args!(
            "the self-test has {} of {most} tokens: after them the model ends, or two are almost as likely",
            tokens.len()
        ));
    }
    Ok(ReleaseParts {
        name: args.name.clone(),
        version: args.version,
        architecture: prepared.spec().family.architecture.to_owned(),
        minimum_runner: args.minimum_runner.unwrap_or_else(Version::own),
        memory: prepared.plan().total,
        created: Time::now(),
        expires: args.expires,
        floor: args.floor,
        self_test: SelfTest { prompt: args.self_test.clone(), tokens },
    })
}

/// The tokens up to the first that another processor might not choose.
fn certain(continued: &[Continued]) -> Vec<u32> {
    let certain = continued.iter().take_while(|token| token.margin >= MARGIN);
    certain.map(|token| token.id).collect()
}

fn pack(package: &Package, archive: &Path) -> Result<Exit, CliError> {
    write_stream(archive, Access::Usual, |to| io::copy(&mut package.archive(), to).map(|_| ()))?;
    Ok(Exit::Ok)
}

fn show(args: &Show) -> Result<Exit, CliError> {
    let package = Package::open(&args.package)?;
    let (signatures, archive_bytes) = (package.head().signatures(), package.head().archive_bytes());
    let Some(trust) = &args.trust else {
        let release = package.head().unchecked_release();
        return say(&Report { release, signatures, signed_by: None, archive_bytes }, args.json);
    };
    let package = package.check(&Authority::read(trust)?, system_clock())?;
    package.check_model()?;
    let identities = args.identity.as_ref().map(Identities::read).transpose()?;
    if identities.is_some() || !package.release().model.sealed {
        let mut model = package.model(identities.as_ref())?;
        io::copy(&mut model.reader, &mut io::sink()).map_err(|error| trust_error(error, &model.name))?;
    }
    let signed_by = Some(signers(package.head().manifest()));
    say(&Report { release: package.release(), signatures, signed_by, archive_bytes }, args.json)
}

fn signers(manifest: &Manifest) -> Vec<String> {
    manifest.signers().iter().map(ToString::to_string).collect()
}

fn say(report: &Report<'_>, json: bool) -> Result<Exit, CliError> {
    if json {
        output::write_json(report)?;
        return Ok(Exit::Ok);
    }
    let Report { release, signatures, .. } = report;
    let model = &release.model;
    let sealed = if model.sealed { ", sealed" } else { "" };
    let signed = match &report.signed_by {
        Some(by) => by.join("\n               "),
        None => format!("not checked ({signatures} in it)"),
    };
    let expires = release.expires.map_or_else(|| "never".to_owned(), |time| time.to_string());
    output::table(&format!(
        "name           {}\nversion        {} (floor {})\narchitecture   {}\nneeds          smolt {}, {}\nmodel          {} ({}{sealed})\nBLAKE3         {}\ncreated        {}\nexpires        {expires}\nself-test      {} tokens\nsignatures     {signed}\n",
        release.name,
        release.version,
        release.floor,
        release.architecture,
        release.minimum_runner,
        show_bytes(release.memory),
        model.file,
        show_bytes(model.plain_bytes),
        model.plain_blake3,
        release.created,
        release.self_test.tokens.len(),
    ))?;
    Ok(Exit::Ok)
}

/// A day, or a moment of it.
fn parse_time(text: &str) -> Result<Time, Refusal> {
    Time::parse(text).or_else(|refusal| Time::parse(&format!("{text}T00:00:00Z")).map_err(|_| refusal))
}
