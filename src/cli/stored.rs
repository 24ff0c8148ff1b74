//! `--store DIR`: the model of a store, and no other.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{CliError, SlotsError};
use super::opened::Opened;
use super::output::{note, with_causes};
use crate::eval::probe::total_bytes;
use crate::files;
use crate::generate::tally;
use crate::kernels::Kernels;
use crate::load::{LoadError, LoadOptions, Loaded, Prepared};
use crate::model::FAMILIES;
use crate::runtime::Secrecy;
use crate::trust::{CheckedPackage, Identities, IdentitySource, SelfTest, TrustError};
use crate::updates::{
    self, Candidate, DEVICE_KEY, Failure, Folder, HeadError, PackageId, Packages, Place, StartError, Started,
};

/// A store of signed packages.
pub(super) type Slots = updates::Store<Folder, Packages>;
/// A version that may be started.
pub(super) type Found<'a> = Candidate<'a, Folder, Packages>;

/// How often it is asked whether a version has proved itself.
const LOOK: Duration = Duration::from_millis(100);
/// Of a command that answers nothing.
const NEVER: u64 = u64::MAX;
/// The file of counts in a store.
const STATS: &str = "stats";
/// Bytes of the key of a device.
const KEY_BYTES: usize = 32;

/// After so many seconds an answer of this command proves a version.
static PROVES_AFTER: AtomicU64 = AtomicU64::new(NEVER);
/// The version on trial that this process runs.
static TRIAL: Mutex<Option<Trial>> = Mutex::new(None);

/// A version on trial that has started.
struct Trial {
    slots: Slots,
    package: PackageId,
    since: Instant,
    /// To ask it again where nobody does.
    model: Loaded,
    test: SelfTest,
}

/// The store whose model is used.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct StoredArgs {
    /// Use the model of this store and no other: see smolt store
    #[arg(long, value_name = "DIR", env = "SMOLT_STORE", hide_short_help = true)]
    store: Option<PathBuf>,

    /// Secret keys of age for a sealed model: a file, fd:N or credential:NAME
    #[arg(long, value_name = "KEYS", env = "SMOLT_IDENTITY", hide_short_help = true)]
    identity: Option<String>,
}

/// The folder of a store.
pub(super) fn folder(path: &Path) -> Folder {
    Folder::new(path)
}

/// The architectures of models that this program runs.
pub(super) fn architectures() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.architecture).collect()
}

/// The store in a folder, for what this computer can run.
pub(super) fn slots(path: &Path) -> Slots {
    Slots::new(folder(path), Packages::new(architectures(), total_bytes()), path.display().to_string())
}

/// Notes after how many seconds an answer of the command that begins proves a version, if it does.
pub(super) fn note_command(proves_after: Option<u64>) {
    PROVES_AFTER.store(proves_after.unwrap_or(NEVER), Ordering::Relaxed);
}

impl StoredArgs {
    /// Whether a store is used.
    pub(super) fn is_some(&self) -> bool {
        self.store.is_some()
    }

    /// Where the secret keys for a sealed model are.
    pub(super) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// The file of counts of the store that is used, if it is one.
    pub(super) fn counts(&self) -> Option<PathBuf> {
        let folder = self.store.as_deref().filter(|folder| folder.join(DEVICE_KEY).is_file());
        folder.map(|folder| folder.join(STATS))
    }

    /// Refuses every other model where a store is used.
    fn check(folder: &Path, named: Option<String>) -> Result<(), CliError> {
        let Some(model) = named else { return Ok(()) };
        Err(SlotsError::OtherModel { store: folder.display().to_string(), model }.into())
    }

    /// Opens the good version of the store, if one is used; one on trial is left alone.
    ///
    /// # Errors
    /// If it has none, or another model is named.
    pub(super) fn open(&self, named: Option<String>) -> Result<Option<Opened>, CliError> {
        let Some(folder) = &self.store else { return Ok(None) };
        Self::check(folder, named)?;
        let source = Source { folder, identity: self.identity.as_deref() };
        let started = slots(folder)
            .begin_good(&mut |mut found: Found<'_>| source.open(&mut found).map(|(opened, _)| opened));
        let started = started.map_err(cli_error)?;
        note_failures(&started);
        Ok(Some(started.value))
    }

    /// Loads the model of the store, if one is used: a version on trial if its answers would prove it, and it passes its
    /// self-test; else a good one.
    ///
    /// # Errors
    /// If it has none that runs, or another model is named.
    pub(super) fn load(
        &self,
        named: Option<String>,
        options: &LoadOptions,
    ) -> Result<Option<(Prepared, Loaded)>, CliError> {
        let Some(folder) = &self.store else { return Ok(None) };
        Self::check(folder, named)?;
        let source = Source { folder, identity: self.identity.as_deref() };
        let (slots, after) = (slots(folder), PROVES_AFTER.load(Ordering::Relaxed));
        let mut start = |found: Found<'_>| source.load(found, options);
        let started = if after == NEVER { slots.begin_good(&mut start) } else { slots.begin(&mut start) };
        let started = started.map_err(cli_error)?;
        note_failures(&started);
        if started.is_on_trial {
            note(format_args!("{} is on trial", started.package));
            let ((prepared, loaded), test) = &started.value;
            let (model, test) = (prepared.renew(loaded)?, test.clone());
            let trial = Trial { slots, package: started.package, since: Instant::now(), model, test };
            watch(trial, Duration::from_secs(after));
        }
        Ok(Some(started.value.0))
    }
}

/// Lets a version on trial prove itself without an answer that anybody asked for.
pub(super) fn prove(
    folder: &Path,
    identity: Option<&str>,
    found: Found<'_>,
) -> Result<(), Failure<CliError>> {
    let kernels = Kernels::detect().map_err(|error| Failure::Caller(error.into()))?;
    let options = LoadOptions { kernels: Some(kernels), ..LoadOptions::default() };
    Source { folder, identity }.load(found, &options).map(|_| ())
}

/// The package of the slot in use, verified as it is read.
pub(super) fn in_use(slots: &Slots) -> Result<(PackageId, CheckedPackage), CliError> {
    let started = slots.begin_good(&mut |mut found: Found<'_>| found.open().map_err(failure));
    let started = started.map_err(cli_error)?;
    Ok((started.package, started.value))
}

/// Says which versions did not start.
pub(super) fn note_failures<T>(started: &Started<T>) {
    for (place, why) in &started.failed {
        note(format_args!("{place}: {why}"));
    }
    if !started.failed.is_empty() {
        note(format_args!("{} runs instead, from the {}", started.package, started.place));
    }
}

/// Commits a version once an answer was completed, and it has run for so long. A server that nobody asks anything asks
/// itself then.
fn watch(trial: Trial, after: Duration) {
    *TRIAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(trial);
    // Without a thread it is looked at when the command ends.
    _ = std::thread::Builder::new().spawn(move || {
        while !settle(after) {
            std::thread::sleep(LOOK);
        }
    });
}

/// Commits the version on trial if it has proved itself; says whether there is nothing more to do.
fn settle(after: Duration) -> bool {
    let mut trial = TRIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Trial { slots, package, since, model, test }) = &*trial else { return true };
    if since.elapsed() < after {
        return false;
    }
    let answers = tally();
    if answers.stop + answers.length == 0 {
        if after.is_zero() {
            return false;
        }
        if let Err(why) = ask(model, test) {
            note(format_args!("{package} is not committed: {why}"));
            *trial = None;
            return true;
        }
    }
    match slots.commit(package) {
        Ok(()) => note(format_args!("{package} has proved itself and is committed")),
        Err(error) => note(format_args!("{package} is not committed: {}", with_causes(&error))),
    }
    *trial = None;
    true
}

/// Commits the version on trial at the end of a command, if it has proved itself.
pub(super) fn end() {
    settle(Duration::from_secs(PROVES_AFTER.load(Ordering::Relaxed)));
}

/// A model that was loaded, and how it proves itself.
type Tried = ((Prepared, Loaded), SelfTest);

/// Lets a model answer as its release says.
fn ask(model: &Loaded, test: &SelfTest) -> Result<(), Failure<CliError>> {
    let said =
        model.continued(&test.prompt, test.tokens.len()).map_err(|error| model_failure(error.into()))?;
    let ids: Vec<u32> = said.iter().map(|token| token.id).collect();
    test.judge(&ids).map_err(|refusal| Failure::Package(refusal.to_string()))
}

/// Where packages are opened from.
struct Source<'a> {
    folder: &'a Path,
    identity: Option<&'a str>,
}

impl Source<'_> {
    /// Opens a package to read its model.
    fn open(&self, found: &mut Found<'_>) -> Result<(Opened, CheckedPackage), Failure<CliError>> {
        let package = found.open().map_err(failure)?;
        let sealed = package.release().model.sealed;
        let identities = match self.identity.filter(|_| sealed) {
            Some(text) => Some(identities(text).map_err(Failure::Caller)?),
            None => None,
        };
        let signed = package.model(identities.as_ref()).map_err(|error| self.trust_failure(&error))?;
        let key = self.key().map_err(Failure::Caller)?;
        let secrecy = if sealed { Secrecy::Secret } else { Secrecy::Plain };
        let name = match found.place {
            Place::Slot(slot) => slot.file(),
            Place::Golden => "golden",
        };
        let opened =
            Opened::signed(signed, &self.folder.join(name), secrecy, Some(key)).map_err(model_failure)?;
        Ok((opened, package))
    }

    /// Loads a package; one on trial must answer as its release says.
    fn load(&self, mut found: Found<'_>, options: &LoadOptions) -> Result<Tried, Failure<CliError>> {
        let (Opened { file, verified }, package) = self.open(&mut found)?;
        let options = LoadOptions { verified, ..options.clone() };
        let prepared = Prepared::new(file, &options).map_err(|error| model_failure(error.into()))?;
        let loaded = prepared.load().map_err(|error| model_failure(error.into()))?;
        let test = package.release().self_test.clone();
        if found.is_on_trial {
            ask(&loaded, &test)?;
        }
        Ok(((prepared, loaded), test))
    }

    /// A key that is missing is the device's fault.
    fn trust_failure(&self, error: &TrustError) -> Failure<CliError> {
        match error {
            TrustError::Io { .. } | TrustError::Read(_) => Failure::Device(with_causes(error)),
            error if self.identity.is_none() => Failure::Device(with_causes(error)),
            error => Failure::Package(with_causes(error)),
        }
    }

    /// The key of this device, under which packs are tagged.
    fn key(&self) -> Result<[u8; KEY_BYTES], CliError> {
        let missing = || SlotsError::DeviceKey { store: self.folder.display().to_string() };
        let mut bytes = vec![];
        let file = files::open(&self.folder.join(DEVICE_KEY)).map_err(|_| missing())?;
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|_| missing())?;
        Ok(bytes.try_into().map_err(|_| missing())?)
    }
}

/// Reads secret keys from where a text says.
pub(super) fn identities(text: &str) -> Result<Identities, CliError> {
    let source = IdentitySource::parse(text).map_err(TrustError::from)?;
    Ok(Identities::read(&source)?)
}

fn failure<E>(error: HeadError) -> Failure<E> {
    match error {
        HeadError::Refused(refused) => Failure::Package(refused.0),
        HeadError::Io(error) => Failure::Device(error.to_string()),
    }
}

/// Whose fault it is that a model does not load: options that are out of range are the caller's, memory and the disk the
/// device's, all else its own.
fn model_failure(error: CliError) -> Failure<CliError> {
    use super::error::Exit;
    if matches!(error, CliError::Load(LoadError::OutOfRange { .. })) {
        return Failure::Caller(error);
    }
    let text = with_causes(&error as &dyn std::error::Error);
    let sources = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    let is_disk = sources
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.raw_os_error().is_some());
    if is_disk || matches!(error.exit(), Exit::DoesNotFit) {
        Failure::Device(text)
    } else {
        Failure::Package(text)
    }
}

fn cli_error(error: StartError<CliError>) -> CliError {
    match error {
        StartError::Store(error) => error.into(),
        StartError::Caller(error) => error,
    }
}
