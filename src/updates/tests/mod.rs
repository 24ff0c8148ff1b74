//! Tests of the store: what a power cut, a failing disk and an attacker may do.

mod attacks;
mod crash;
mod fake;
mod memory;

use self::fake::{Fake, GOLDEN, Package, store, trust};
use self::memory::Memory;
use super::UpdateError;
use super::disk::{Disk, Reader};
use super::judge::Judge;
use super::start::{Candidate, Failure, StartError, Started};
use super::store::Store;

/// How versions of a device's future behave when they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaves {
    Well,
    /// It does not answer as it must.
    Wrongly,
    /// It ends the process.
    Hangs,
}

/// A device that starts the model of its store.
#[derive(Clone, Debug)]
struct Device {
    disk: Memory,
    judge: Fake,
    /// The version from which on versions behave so.
    from: u64,
    behaves: Behaves,
}

impl Device {
    fn new(disk: &Memory, judge: &Fake) -> Self {
        Self { disk: disk.clone(), judge: judge.clone(), from: u64::MAX, behaves: Behaves::Well }
    }

    fn store(&self) -> Store<Memory, Fake> {
        store(&self.disk, &self.judge)
    }

    /// Reads a model as it is read to be run, and lets it answer.
    fn load<D: Disk>(&self, candidate: Candidate<'_, D, Fake>) -> Result<Vec<u8>, Failure<()>> {
        let verify = |rest: &mut dyn std::io::Read| -> Result<Vec<u8>, Failure<()>> {
            let mut body = vec![];
            rest.read_to_end(&mut body).map_err(|error| Failure::Device(error.to_string()))?;
            let verdict = self.judge.rest(&candidate.opened, &mut &body[..]);
            verdict.map(|()| body).map_err(|error| Failure::Package(error.to_string()))
        };
        let body = match (&candidate.file, candidate.golden) {
            (Some(file), _) => verify(&mut Reader::at(file, fake::HEAD as u64))?,
            (None, Some(path)) => {
                let mut golden = self.judge.golden(path).map_err(|e| Failure::Package(e.to_string()))?;
                golden.read_exact(&mut [0; fake::HEAD]).map_err(|e| Failure::Device(e.to_string()))?;
                verify(&mut golden)?
            }
            (None, None) => return Err(Failure::Package("nowhere".into())),
        };
        match self.behaves {
            Behaves::Wrongly if candidate.is_on_trial && candidate.package.version >= self.from => {
                Err(Failure::Package("it answers wrongly".into()))
            }
            Behaves::Hangs if candidate.is_on_trial && candidate.package.version >= self.from => {
                self.disk.stop();
                Err(Failure::Caller(()))
            }
            _ => Ok(body),
        }
    }

    /// Starts what is to be started, and commits it where it proves itself.
    fn start(&self) -> Result<Started<Vec<u8>>, StartError<()>> {
        let started = self.store().begin(&mut |candidate| self.load(candidate))?;
        if started.is_on_trial {
            // If this fails it is tried again.
            let _ = self.store().commit(&started.package);
        }
        Ok(started)
    }
}

/// A store with versions that were installed and committed one after the other, the golden one being version 1.
fn with_versions(versions: &[u64]) -> Device {
    let judge = Fake { golden: Some(Package::version(1).bytes()), ..Fake::default() };
    let disk = Memory::default();
    store(&disk, &judge).init(&trust(1, fake::KEY), Some(GOLDEN), &[9; 32]).unwrap();
    let device = Device::new(&disk, &judge);
    for version in versions {
        device.store().install(&mut &Package::version(*version).bytes()[..]).unwrap();
        let started = device.start().unwrap();
        assert_eq!((started.package.version, started.is_on_trial), (*version, true));
    }
    device
}

/// The version that starts.
fn runs(device: &Device) -> u64 {
    let started = device.start().unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(started.value, Package::version(started.package.version).body());
    started.package.version
}

fn refusal(error: &UpdateError) -> String {
    assert!(error.is_refusal(), "{error:?}");
    error.to_string()
}
