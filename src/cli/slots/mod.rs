//! `smolt store`: a folder with two slots for a signed model, which is updated in one and never lost in the other.

mod export;
mod show;
mod source;
#[cfg(feature = "pull")]
mod url;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::source::Shown;
use super::error::{CliError, Exit, SlotsError};
use super::memory::show_bytes;
use super::output::{self, note};
use super::stored::{self, Slots};
use crate::files;
use crate::trust::{Package, TrustFile};
use crate::updates::{MAX_TRUST, PackageId, StartError, UpdateError, trust_text};

/// Standard input as a source.
const STDIN: &str = "-";
/// Where the system has bytes that nobody can foresee.
const RANDOM: &str = "/dev/urandom";

/// Arguments of `smolt store`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
A store holds a model in one of two slots. A new version is written to the other slot, and is on trial until it has passed its
self-test and completed an answer (under smolt serve it must also have run for a minute); if it fails, or ends the process
twice, the former version runs again. Commands that answer take the model of a store with --store DIR or SMOLT_STORE, and no
other then.

Exit codes, beside those of smolt --help:
  7 not signed by whom the store trusts, or damaged    8 signed, but not for this store: old, expired, another model
  9 another process changes the store    10 no space on its disk    11 no version may run
  12 the new version failed its trial

Examples:
  smolt store init --store /var/lib/smolt --trust trust.json
  smolt store install --store /var/lib/smolt /media/usb/kiosk-3.tar
  smolt store update --store /var/lib/smolt https://updates.example.org/kiosk.tar
  smolt serve --store /var/lib/smolt"
)]
pub struct SlotsArgs {
    #[command(subcommand)]
    action: Action,
}

/// Which store.
#[derive(Clone, Debug, clap::Args)]
struct Where {
    /// Folder of the store
    #[arg(long = "store", value_name = "DIR", env = "SMOLT_STORE")]
    folder: PathBuf,
}

impl Where {
    fn slots(&self) -> Slots {
        stored::slots(&self.folder)
    }
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Make a store
    Init(Init),
    /// Install a version, which is then on trial
    Install(Install),
    /// Install what a web server has, if it is new
    Update(Update),
    /// Show what is installed, and what starts next
    Status(Status),
    /// Let the version on trial prove itself, and commit it
    Commit(Commit),
    /// Give up the version on trial, or go back to the one before
    Rollback(Rollback),
    /// Verify all of a store, and mend what can be mended
    Fsck(Fsck),
    /// Write the package in use to a folder
    Export(Export),
    /// Put the next trust file in force
    Trust(Trust),
}

#[derive(Clone, Debug, clap::Args)]
struct Init {
    /// Whose packages are trusted: a trust file, or a public key or certificates (PEM)
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,

    /// Package of last resort, on a file system that nobody writes
    #[arg(long, value_name = "PACKAGE")]
    golden: Option<PathBuf>,

    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Install {
    /// The package: an archive (.tar), a folder, http:// or https://, or - for an archive on standard input
    #[arg(value_name = "PACKAGE")]
    source: String,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Update {
    /// Where the newest package is: the address of an archive (.tar) on any web server
    url: String,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Status {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Commit {
    /// Secret keys of age for a sealed model: a file, fd:N or credential:NAME
    #[arg(long, value_name = "KEYS", env = "SMOLT_IDENTITY")]
    identity: Option<String>,

    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Rollback {
    /// Only give up the version on trial; do nothing where there is none
    #[arg(long)]
    trial: bool,

    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Fsck {
    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Export {
    /// The folder to make
    #[arg(id = "target", value_name = "FOLDER")]
    folder: PathBuf,

    #[command(flatten)]
    at: Where,
}

#[derive(Clone, Debug, clap::Args)]
struct Trust {
    /// The next trust file, its signatures beside it (FILE.sig, FILE.2.sig …); several follow one another
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    at: Where,
}

/// What was installed.
#[derive(Serialize)]
struct Installed<'a> {
    /// Nothing if there was nothing new.
    installed: Option<&'a PackageId>,
}

/// Does what is asked of a store.
pub(super) fn execute(args: &SlotsArgs) -> Result<Exit, CliError> {
    match &args.action {
        Action::Init(args) => init(args),
        Action::Install(args) => {
            let installed = install(&args.at.slots(), &args.source)?;
            tell(Some(&installed), args.json)
        }
        Action::Update(args) => {
            let installed = update(&args.at.slots(), &args.url)?;
            tell(installed.as_ref(), args.json)
        }
        Action::Status(args) => show::execute(&args.at.slots(), args.json),
        Action::Commit(args) => commit(args),
        Action::Rollback(args) => {
            let slots = args.at.slots();
            if args.trial {
                match slots.give_up_trial()? {
                    Some(package) => note(format_args!("{package} is given up")),
                    None => note("there is no version on trial"),
                }
                return Ok(Exit::Ok);
            }
            let package = slots.rollback()?;
            note(format_args!("{package} runs at the next start"));
            Ok(Exit::Ok)
        }
        Action::Fsck(args) => fsck(args),
        Action::Export(args) => export(args),
        Action::Trust(args) => trust(args),
    }
}

fn init(args: &Init) -> Result<Exit, CliError> {
    let mut text = vec![];
    let read = files::open(&args.trust)?.take(MAX_TRUST as u64 + 1).read_to_end(&mut text);
    read.map_err(|source| files::ReadError::Io { name: args.trust.display().to_string(), source })?;
    if text.len() > MAX_TRUST {
        return Err(UpdateError::TooLong { what: "the trust file", most: MAX_TRUST }.into());
    }
    let golden = args.golden.as_deref().map(golden).transpose()?;
    let mut key = [0; 32];
    File::open(RANDOM).and_then(|mut from| from.read_exact(&mut key)).map_err(SlotsError::Random)?;
    let folder = stored::folder(&args.at.folder);
    folder.make().map_err(|source| UpdateError::Io {
        file: args.at.folder.display().to_string(),
        action: "make this folder",
        source,
    })?;
    let slots = args.at.slots();
    slots.init(&text, golden.as_deref(), &key)?;
    let next = if golden.is_some() { "the golden package runs" } else { "install a package" };
    note(format_args!("{} is a store; {next}", args.at.folder.display()));
    Ok(Exit::Ok)
}

/// The path of a golden package, which is found from every folder.
fn golden(path: &Path) -> Result<String, CliError> {
    let path = std::path::absolute(path).map_err(SlotsError::Golden)?;
    Package::open(&path)?;
    path.into_os_string().into_string().map_err(|path| CliError::NotUtf8Path { path: path.into() })
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

fn install(slots: &Slots, source: &str) -> Result<PackageId, CliError> {
    if is_url(source) {
        return match update(slots, source)? {
            Some(package) => Ok(package),
            None => Err(SlotsError::NothingNew { url: source.to_owned() }.into()),
        };
    }
    if source == STDIN {
        return Ok(slots.install(&mut Shown::new(io::stdin().lock(), None))?);
    }
    let path = Path::new(source);
    if path.is_dir() {
        let package = Package::open(path)?;
        let bytes = package.head().archive_bytes();
        return Ok(slots.install(&mut Shown::new(package.archive(), Some(bytes)))?);
    }
    let file = files::open(path)?;
    let bytes = file.metadata().ok().map(|found| found.len());
    Ok(slots.install(&mut Shown::new(file, bytes))?)
}

#[cfg(feature = "pull")]
fn update(slots: &Slots, url: &str) -> Result<Option<PackageId>, CliError> {
    if !is_url(url) {
        return Err(SlotsError::NotUrl { url: url.to_owned() }.into());
    }
    url::update(slots, url)
}

#[cfg(not(feature = "pull"))]
fn update(_: &Slots, url: &str) -> Result<Option<PackageId>, CliError> {
    Err(SlotsError::WithoutNetwork { url: url.to_owned() }.into())
}

fn tell(installed: Option<&PackageId>, json: bool) -> Result<Exit, CliError> {
    match installed {
        Some(package) => note(format_args!(
            "{package} is installed, {}; it is on trial at the next start",
            show_bytes(package.bytes)
        )),
        None => note("there is nothing new"),
    }
    if json {
        output::write_json(&Installed { installed })?;
    }
    Ok(Exit::Ok)
}

/// Commits the version on trial if it proves itself, or says how the last trial went.
fn commit(args: &Commit) -> Result<Exit, CliError> {
    let slots = args.at.slots();
    let trial = match slots.on_trial() {
        Err(UpdateError::NoTrial) => return ended(&slots),
        trial => trial?,
    };
    let mut start =
        |found: stored::Found<'_>| stored::prove(&args.at.folder, args.identity.as_deref(), found);
    let started = slots.begin(&mut start).map_err(|error| match error {
        StartError::Store(error) => CliError::Update(error),
        StartError::Caller(error) => error,
    })?;
    stored::note_failures(&started);
    if started.package != trial {
        let (version, reason) = (trial.version, started.failed.into_iter().map(|(_, why)| why).next());
        return Err(SlotsError::Failed { version, reason: reason.unwrap_or_default() }.into());
    }
    slots.commit(&trial)?;
    note(format_args!("{trial} has proved itself and is committed"));
    Ok(Exit::Ok)
}

/// How the last trial ended, where none goes on.
fn ended(slots: &Slots) -> Result<Exit, CliError> {
    let status = slots.status()?;
    let failed = [&status.a, &status.b].into_iter().find_map(|slot| {
        let package = slot.package.as_ref().filter(|package| package.version > status.highest)?;
        Some((package.version, slot.reason.clone()?))
    });
    if let Some((version, reason)) = failed {
        return Err(SlotsError::Failed { version, reason }.into());
    }
    match status.highest {
        0 => Err(UpdateError::NoTrial.into()),
        version => {
            note(format_args!("version {version} is committed already"));
            Ok(Exit::Ok)
        }
    }
}

fn fsck(args: &Fsck) -> Result<Exit, CliError> {
    let slots = args.at.slots();
    let check = slots.check()?;
    let mut text = String::new();
    for package in &check.verified {
        text += &format!("verified  {package}\n");
    }
    for finding in &check.findings {
        let what = if finding.is_mended { "mended  " } else { "found   " };
        text += &format!("{what}  {}: {}\n", finding.file, finding.what);
    }
    output::write(text.as_bytes())?;
    match slots.status()?.next.is_empty() {
        true => Err(UpdateError::NoModel { tried: vec![] }.into()),
        false => Ok(Exit::Ok),
    }
}

/// Writes the parts of the archive of the slot in use.
fn export(args: &Export) -> Result<Exit, CliError> {
    let slots = args.at.slots();
    let (id, package) = stored::in_use(&slots)?;
    let fail = |action| {
        let file = args.folder.display().to_string();
        move |source| UpdateError::Io { file, action, source }
    };
    fs::create_dir(&args.folder).map_err(fail("make this folder"))?;
    export::unpack(&package, &args.folder).map_err(fail("write into this folder"))?;
    note(format_args!("{id} is in {}", args.folder.display()));
    Ok(Exit::Ok)
}

fn trust(args: &Trust) -> Result<Exit, CliError> {
    let next: Result<Vec<TrustFile>, _> = args.files.iter().map(|path| TrustFile::read(path)).collect();
    let next = next?;
    let version = args.at.slots().update_trust(&|now| trust_text(now, &next))?;
    note(format_args!("trust file {version} is in force"));
    Ok(Exit::Ok)
}
