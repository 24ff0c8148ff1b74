//! Power cuts and failing calls at every step.

use std::collections::BTreeSet;

use super::fake::{Fake, KEY, Package, Slowly, trust};
use super::memory::{FAULTS, Fault, Image, Memory};
use super::{Behaves, Device, with_versions};
use crate::updates::books::{Books, Unreadable};
use crate::updates::error::{Refused, UpdateError};
use crate::updates::record::{SlotName, State, TRIES};
use crate::updates::start::StartError;

/// Something that is done with a store, from a state that versions were committed to.
struct Scenario {
    name: &'static str,
    committed: &'static [u64],
    /// What comes before, without a fault.
    before: fn(&Device),
    act: fn(&Device) -> Result<(), UpdateError>,
}

fn nothing(_: &Device) {}

fn install(device: &Device) -> Result<(), UpdateError> {
    device.store().install(&mut Slowly(&Package::version(9).bytes())).map(|_| ())
}

fn install_before(device: &Device) {
    install(device).unwrap();
}

fn start(device: &Device) -> Result<(), UpdateError> {
    match device.start() {
        Err(StartError::Store(error)) => Err(error),
        _ => Ok(()),
    }
}

fn rollback(device: &Device) -> Result<(), UpdateError> {
    device.store().rollback().map(|_| ())
}

fn next_trust(device: &Device) -> Result<(), UpdateError> {
    device.store().update_trust(&|_| Ok(trust(2, KEY))).map(|_| ())
}

fn check(device: &Device) -> Result<(), UpdateError> {
    device.store().check().map(|_| ())
}

fn life(device: &Device) -> Result<(), UpdateError> {
    install(device)?;
    start(device)?;
    start(device)?;
    next_trust(device)?;
    rollback(device)?;
    check(device)
}

const SCENARIOS: [Scenario; 9] = [
    Scenario { name: "first install", committed: &[], before: nothing, act: install },
    Scenario { name: "second install", committed: &[2], before: nothing, act: install },
    Scenario { name: "third install", committed: &[2, 3], before: nothing, act: install },
    Scenario { name: "start and commit", committed: &[2, 3], before: install_before, act: start },
    Scenario { name: "start of what is good", committed: &[2, 3], before: nothing, act: start },
    Scenario { name: "rollback", committed: &[2, 3], before: nothing, act: rollback },
    Scenario { name: "rollback of a trial", committed: &[2, 3], before: install_before, act: rollback },
    Scenario { name: "trust", committed: &[2, 3], before: install_before, act: next_trust },
    Scenario { name: "all of it", committed: &[2, 3], before: nothing, act: life },
];

const ENDINGS: [Behaves; 3] = [Behaves::Well, Behaves::Wrongly, Behaves::Hangs];

/// How it may go on: how a version behaves matters where there is one on trial.
fn endings(image: &Image) -> &'static [Behaves] {
    let books = Books::read(&Memory::of(image), "store", Unreadable::Fails);
    if books.is_ok_and(|books| books.record.trial().is_some()) { &ENDINGS } else { &ENDINGS[..1] }
}

fn hash(image: &Image) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, content) in image {
        hasher.update(name.as_bytes()).update(&content.len().to_le_bytes()).update(content);
    }
    *hasher.finalize().as_bytes()
}

/// What is wrong after a crash: a model lost, one that was never published run, or trials without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Violation {
    Lost,
    Unverified,
    NeverSettles,
}

/// Starts a device as often as it takes to settle.
fn after(image: &Image, judge: &Fake, behaves: Behaves, start: Starts) -> Option<Violation> {
    let mut image = image.clone();
    let mut runs = None;
    for _ in 0..=TRIES {
        let disk = Memory::of(&image);
        let device = Device { behaves, from: 9, ..Device::new(&disk, judge) };
        match start(&device) {
            Ok(body) if !(1..=9).any(|version| Package::version(version).body() == body) => {
                return Some(Violation::Unverified);
            }
            Ok(body) => runs = Some(body),
            Err(_) if disk.is_stopped() => {}
            Err(_) => return Some(Violation::Lost),
        }
        // A process that ended with the power on loses nothing that it wrote.
        image = disk.image();
    }
    let trial =
        Books::read(&Memory::of(&image), "store", Unreadable::Fails).map(|books| books.record.trial());
    match runs {
        None => Some(Violation::NeverSettles),
        Some(_) if !matches!(trial, Ok(None)) => Some(Violation::NeverSettles),
        Some(_) => None,
    }
}

/// How a device starts.
type Starts = fn(&Device) -> Result<Vec<u8>, ()>;

fn as_it_must(device: &Device) -> Result<Vec<u8>, ()> {
    device.start().map(|started| started.value).map_err(|_| ())
}

/// The states with one file more that is damaged.
fn damaged(image: &Image) -> Vec<Image> {
    let mut all = vec![image.clone()];
    for name in image.keys() {
        for (quarter, cut) in [(1, false), (3, false), (2, true)] {
            let mut other = image.clone();
            if let Some(content) = other.get_mut(name).filter(|content| !content.is_empty()) {
                let at = content.len() * quarter / 4;
                if cut {
                    content.truncate(at)
                } else {
                    content[at] ^= 1
                }
                all.push(other);
            }
        }
    }
    all
}

/// The process ends before each call of a scenario and the power is cut: how many states there are, and what is wrong.
fn crash(scenario: &Scenario, judge: &Fake, start: Starts) -> (usize, Vec<Violation>) {
    let prepared = with_versions(scenario.committed);
    (scenario.before)(&prepared);
    let image = prepared.disk.image();
    let judge = Fake { golden: prepared.judge.golden.clone(), ..judge.clone() };
    let (mut states, mut wrong, mut seen) = (0, vec![], BTreeSet::new());
    for call in 1.. {
        let disk = Memory::of(&image);
        disk.fail(call, Fault::Stop);
        let _ = (scenario.act)(&Device { behaves: Behaves::Well, ..Device::new(&disk, &judge) });
        for crashed in disk.crash_states() {
            if !seen.insert(hash(&crashed)) {
                continue;
            }
            for state in damaged(&crashed) {
                for behaves in endings(&state) {
                    states += 1;
                    wrong.extend(after(&state, &judge, *behaves, start));
                }
            }
        }
        if !disk.is_stopped() {
            break;
        }
    }
    (states, wrong)
}

#[test]
fn a_power_cut_at_any_step_loses_no_model() {
    let mut all = 0;
    for scenario in &SCENARIOS {
        let (states, wrong) = crash(scenario, &Fake::default(), as_it_must);
        assert_eq!(wrong, [], "{}: {states} states", scenario.name);
        assert!(states > 20, "{}: {states} states", scenario.name);
        all += states;
    }
    eprintln!("{all} states after a power cut, no model lost, none run unverified, all settled");
}

#[test]
fn power_cuts_show_that_models_are_verified_when_they_are_read() {
    let blind = Fake { verifies: false, ..Fake::default() };
    let (states, wrong) = crash(&SCENARIOS[1], &blind, as_it_must);
    let count = wrong.iter().filter(|violation| **violation == Violation::Unverified).count();
    assert!(count > 10, "{count} of {states}");
}

#[test]
fn power_cuts_show_that_starts_are_counted_before() {
    // Counts a start when it is over, as long as the process lives.
    fn late(device: &Device) -> Result<Vec<u8>, ()> {
        let kept = device.disk.image();
        let result = device.start();
        if device.disk.is_stopped() {
            for (name, content) in kept {
                device.disk.write(&name, &content);
            }
        }
        result.map(|started| started.value).map_err(|_| ())
    }
    let (states, wrong) = crash(&SCENARIOS[3], &Fake::default(), late);
    let count = wrong.iter().filter(|violation| **violation == Violation::NeverSettles).count();
    assert!(count > 10, "{count} of {states}");
}

#[test]
fn power_cuts_show_that_the_slot_that_is_used_is_not_written() {
    fn into_active(device: &Device) -> Result<(), UpdateError> {
        let store = device.store();
        let installer = store.installer()?;
        installer.install_into(SlotName::A, &mut Slowly(&Package::version(9).bytes()), None).map(|_| ())
    }
    fn without_golden(device: &Device) -> Result<Vec<u8>, ()> {
        let judge = Fake { golden: None, ..device.judge.clone() };
        as_it_must(&Device { judge, ..device.clone() })
    }
    let right = Scenario { name: "", committed: &[2], before: nothing, act: install };
    let wrong = Scenario { act: into_active, ..right };
    let lost = |scenario: &Scenario| {
        let prepared = with_versions(scenario.committed);
        let image = prepared.disk.image();
        let mut lost = 0;
        for call in 1.. {
            let disk = Memory::of(&image);
            disk.fail(call, Fault::Stop);
            let _ = (scenario.act)(&Device::new(&disk, &prepared.judge));
            for state in disk.crash_states() {
                let violation = after(&state, &prepared.judge, Behaves::Wrongly, without_golden);
                lost += usize::from(violation == Some(Violation::Lost));
            }
            if !disk.is_stopped() {
                break;
            }
        }
        lost
    };
    assert_eq!(lost(&Scenario { name: "", committed: &[2], before: nothing, act: install }), 0);
    assert!(lost(&wrong) > 10, "{}", lost(&wrong));
}

/// A call that fails is told, and then all is as before, or as after; the same again ends as if nothing had been.
#[test]
fn a_failing_call_at_any_step_loses_no_model() {
    let mut count = 0;
    for scenario in &SCENARIOS {
        let prepared = with_versions(scenario.committed);
        (scenario.before)(&prepared);
        let image = prepared.disk.image();
        let calls = {
            let disk = Memory::of(&image);
            (scenario.act)(&Device::new(&disk, &prepared.judge)).unwrap();
            disk.calls()
        };
        assert!(calls > 5, "{}", scenario.name);
        for call in 1..=calls {
            for fault in FAULTS {
                let disk = Memory::of(&image);
                disk.fail(call, fault);
                let device = Device::new(&disk, &prepared.judge);
                let result = (scenario.act)(&device);
                let what = format!("{}, {fault:?} at {call} of {calls}: {result:?}", scenario.name);
                if matches!(fault, Fault::Eintr | Fault::Half) {
                    assert!(result.is_ok(), "{what}");
                }
                for behaves in endings(&disk.image()) {
                    assert_eq!(after(&disk.image(), &prepared.judge, *behaves, as_it_must), None, "{what}");
                }
                let left = |slot: SlotName| disk.image().contains_key(slot.file());
                let books = Books::read(&disk, "store", Unreadable::Fails).unwrap();
                for slot in SlotName::BOTH {
                    let is_empty = books.record.slot(slot).state == State::Empty;
                    assert!(!is_empty || !left(slot), "{what}: space of {slot} is not given back");
                }
                count += 1;
            }
        }
    }
    eprintln!("{count} failing calls, no model lost");
}

#[test]
fn a_store_is_made_whole_or_made_again() {
    let judge = Fake { golden: Some(Package::version(1).bytes()), ..Fake::default() };
    let make = |disk: &Memory| super::store(disk, &judge).init(&trust(1, KEY), Some(super::GOLDEN), &[9; 32]);
    for call in 1.. {
        let disk = Memory::default();
        disk.fail(call, Fault::Stop);
        let _ = make(&disk);
        for state in disk.crash_states() {
            let disk = Memory::of(&state);
            let device = Device::new(&disk, &judge);
            if device.start().is_err() {
                make(&disk).unwrap();
            }
            assert_eq!(super::runs(&device), 1);
        }
        if !disk.is_stopped() {
            break;
        }
    }
}

#[test]
fn a_full_disk_refuses_a_package_and_lets_a_store_go_back() {
    let device = with_versions(&[2, 3]);
    let before = device.disk.image();
    device.disk.set_free(0);
    // The slot that is given up has as many bytes; a larger package does not fit into it.
    let large = Package::version(1_000_000);
    let error = device.store().install(&mut &large.bytes()[..]).unwrap_err();
    assert!(error.is_lack_of_space(), "{error:?}");
    assert_eq!(device.disk.image(), before);
    device.store().rollback().unwrap();
    assert_eq!(super::runs(&device), 2);
}

#[test]
fn refusals_are_told_apart_from_trouble() {
    let refused = UpdateError::Package(Refused("no".into()));
    assert!(refused.is_refusal() && !UpdateError::Busy.is_refusal());
}
