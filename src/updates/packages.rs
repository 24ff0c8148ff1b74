//! Signed packages, as a store judges them.

use std::error::Error;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::error::Refused;
use super::judge::{Head, HeadError, Judge, Purpose};
use super::real::Folder;
use super::record::{Hex, PackageId};
use super::start::Candidate;
use super::time::seconds;
use crate::files::ReadError;
use crate::trust::{
    self, Authority, Bounds, CheckedHead, CheckedPackage, Package, Refusal, Runner, Time, TrustError,
    TrustFile, Version, system_clock,
};

/// What messages call a package that is read as it comes.
const NAME: &str = "the package";

/// Judges signed packages for a device.
#[derive(Clone, Debug)]
pub struct Packages {
    architectures: Vec<&'static str>,
    memory: Option<u64>,
}

impl Packages {
    /// Judges for a device that runs these architectures, and has so much memory for a model.
    pub fn new(architectures: Vec<&'static str>, memory: Option<u64>) -> Self {
        Self { architectures, memory }
    }
}

impl Judge for Packages {
    type Trust = Authority;
    type Opened = CheckedHead;

    fn trust(&self, text: &[u8]) -> Result<Authority, Refused> {
        let text = std::str::from_utf8(text).map_err(|_| Refused("it is not UTF-8".into()))?;
        Authority::parse(text, "the trust file").map_err(|error| refused(&error))
    }

    fn version(&self, trust: &Authority) -> u64 {
        match trust {
            Authority::Policy(policy) => policy.version(),
            _ => 0,
        }
    }

    fn head(
        &self,
        trust: &Authority,
        purpose: Purpose,
        mut package: &mut dyn Read,
    ) -> Result<(Head, CheckedHead), HeadError> {
        let clock = if purpose == Purpose::Install { system_clock() } else { None };
        let head = trust::Head::read(&mut package, NAME).and_then(|head| head.check(trust, clock));
        let head = head.map_err(head_error)?;
        let release = head.release();
        if let Authority::Policy(policy) = trust {
            policy.check_name(&release.name).map_err(|refusal| refused(&refusal.into()))?;
        }
        let package = PackageId {
            name: release.name.clone(),
            version: release.version,
            floor: release.floor,
            created: seconds(release.created),
            bytes: head.archive_bytes(),
            head: Hex([0; 32]),
        };
        Ok((Head { package, expires: release.expires.map(seconds) }, head))
    }

    fn rest(&self, opened: &CheckedHead, rest: &mut dyn Read) -> Result<(), HeadError> {
        match io::copy(&mut opened.carried(rest), &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(error) => Err(head_error(trust::trust_error(error, NAME))),
        }
    }

    fn golden(&self, path: &str) -> Result<Box<dyn Read>, HeadError> {
        Ok(Box::new(Package::open(Path::new(path)).map_err(head_error)?.archive()))
    }

    fn suits(&self, trust: &Authority, opened: &CheckedHead, now: u64) -> Result<(), Refused> {
        let refuse = |refusal: Refusal| refused(&refusal.into());
        let time = Time::of(SystemTime::UNIX_EPOCH + Duration::from_secs(now));
        if let Authority::Policy(policy) = trust {
            policy.check_time(time).map_err(refuse)?;
        }
        let release = opened.release();
        // Of versions the store knows more.
        release.check_install(&Bounds { installed: 0, floor: 0, time }).map_err(refuse)?;
        let (version, memory) = (Version::own(), self.memory);
        release
            .check_runner(&Runner { version, architectures: &self.architectures, memory, name: None })
            .map_err(refuse)
    }

    fn not_before(&self) -> u64 {
        seconds(Time::floor(SystemTime::UNIX_EPOCH, None))
    }
}

impl Candidate<'_, Folder, Packages> {
    /// Opens the package, whose head is the one that was judged.
    ///
    /// # Errors
    /// If it was replaced meanwhile, or cannot be read.
    pub fn open(&mut self) -> Result<CheckedPackage, HeadError> {
        let package = match (self.file.take(), self.golden) {
            (Some(file), _) => Package::of_archive(file, self.package.bytes, &self.place.to_string()),
            (None, Some(path)) => Package::open(Path::new(path)),
            (None, None) => return Err(Refused("it was opened before".into()).into()),
        };
        let package = package.and_then(|package| package.check(self.trust, None)).map_err(head_error)?;
        if blake3::hash(package.head().bytes()) != self.package.head.0 {
            return Err(Refused("it was replaced while it was opened".into()).into());
        }
        Ok(package)
    }
}

/// The text of the trust file that follows another, if its signatures and those of all between them hold.
///
/// # Errors
/// If one does not follow the one before it.
pub fn trust_text(now: &[u8], next: &[TrustFile]) -> Result<Vec<u8>, Refused> {
    let text = std::str::from_utf8(now).map_err(|_| Refused("the present one is damaged".into()))?;
    let authority = Authority::parse(text, "the present trust file").map_err(|error| refused(&error))?;
    let Authority::Policy(policy) = authority else {
        return Err(Refused(
            "the store trusts a key or certificates, and no trust file follows these".into(),
        ));
    };
    let last = next.last().ok_or_else(|| Refused("there is none".into()))?;
    // Who asks again finds it done.
    if last.bytes() != now {
        trust::rotate(&policy, next, system_clock()).map_err(|error| refused(&error))?;
    }
    Ok(last.bytes().to_vec())
}

/// What is refused, with all its causes.
fn refused(error: &TrustError) -> Refused {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Refused(text)
}

fn head_error(error: TrustError) -> HeadError {
    match error {
        TrustError::Io { source, .. } | TrustError::Read(ReadError::Io { source, .. }) => {
            HeadError::Io(source)
        }
        error => HeadError::Refused(refused(&error)),
    }
}
