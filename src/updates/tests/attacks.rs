//! What somebody may try who carries packages to a store, or writes to its folder.

use std::io::Read;

use super::fake::{Fake, HEAD, KEY, Package, Slowly, trust};
use super::memory::{Image, Memory};
use super::{Behaves, Device, refusal, runs, with_versions};
use crate::updates::books::{Books, RECORDS, Unreadable};
use crate::updates::disk::Disk as _;
use crate::updates::error::{Refused, UpdateError};
use crate::updates::record::{BLOCK, Marker, Origin, Record, SlotName, State, seal, unseal};
use crate::updates::start::{Failure, Place, StartError};

/// A package that is refused changes nothing; says why it is.
fn refused(device: &Device, package: &[u8]) -> UpdateError {
    let before = device.disk.image();
    let error = device.store().install(&mut Slowly(package)).unwrap_err();
    assert_eq!(device.disk.image(), before, "{error}");
    error
}

/// A package whose model is refused leaves nothing of itself.
fn refused_late(device: &Device, package: &[u8]) -> UpdateError {
    let books = |image: &Image| Books::read(&Memory::of(image), "store", Unreadable::Fails).unwrap().record;
    let before = books(&device.disk.image());
    let error = device.store().install(&mut Slowly(package)).unwrap_err();
    let image = device.disk.image();
    let after = books(&image);
    let known = |record: &Record| (record.floor, record.highest, record.time, record.trust, record.active);
    assert_eq!(known(&after), known(&before));
    let slot = after.active.unwrap().other();
    assert_eq!((&after.slot(slot).state, image.get(slot.file())), (&State::Empty, None), "{error}");
    error
}

fn record(device: &Device) -> Record {
    Books::read(&device.disk, "store", Unreadable::Fails).unwrap().record
}

#[test]
fn a_replayed_package_is_refused() {
    let device = with_versions(&[2, 3]);
    for version in [1, 2, 3] {
        let error = refused(&device, &Package::version(version).bytes());
        assert_eq!(
            refusal(&error),
            format!("the package is refused: it is version {version}, and version 3 was committed before")
        );
    }
    // Also once it was gone back from.
    device.store().rollback().unwrap();
    assert!(matches!(refused(&device, &Package::version(3).bytes()), UpdateError::NotNewer { .. }));
}

#[test]
fn a_floor_is_never_lowered() {
    let device = with_versions(&[2]);
    device.store().install(&mut &Package { floor: 3, ..Package::version(5) }.bytes()[..]).unwrap();
    // Not before it has proved itself.
    assert_eq!(record(&device).floor, 0);
    assert_eq!(runs(&device), 5);
    assert_eq!(record(&device).floor, 3);
    device.store().install(&mut &Package { floor: 1, ..Package::version(6) }.bytes()[..]).unwrap();
    assert_eq!((runs(&device), record(&device).floor), (6, 3));
}

#[test]
fn a_floor_above_its_own_version_is_refused() {
    let device = with_versions(&[2]);
    let error = refused(&device, &Package { floor: 10, ..Package::version(9) }.bytes());
    assert!(matches!(error, UpdateError::FloorAboveVersion { found: 9, floor: 10 }));
}

#[test]
fn going_back_below_the_floor_is_refused() {
    let device = with_versions(&[2]);
    device.store().install(&mut &Package { floor: 3, ..Package::version(5) }.bytes()[..]).unwrap();
    assert_eq!(runs(&device), 5);
    let error = device.store().rollback().unwrap_err();
    assert!(matches!(error, UpdateError::OtherBelowFloor { found: 2, floor: 3 }), "{error}");
    // Neither does damage lead there: version 2 is in the other slot, and the golden one is version 1.
    device.disk.write(record(&device).active.unwrap().file(), b"damaged");
    let Err(StartError::Store(UpdateError::NoModel { tried })) = device.start() else { panic!("it starts") };
    assert_eq!(tried.len(), 3);
    assert!(tried[1].1.contains("version 2, and nothing below version 3 may run"), "{tried:?}");
    assert!(tried[2].1.contains("version 1, and nothing below version 3 may run"), "{tried:?}");
}

#[test]
fn another_model_is_refused() {
    let device = with_versions(&[2]);
    let error = refused(&device, &Package { name: "other", ..Package::version(9) }.bytes());
    assert!(matches!(error, UpdateError::OtherName { .. }), "{error}");
}

#[test]
fn a_package_of_nobody_who_is_trusted_is_refused() {
    let device = with_versions(&[2]);
    let error = refused(&device, &Package { key: KEY + 1, ..Package::version(9) }.bytes());
    assert!(refusal(&error).contains("nobody who is trusted"));
    for garbage in [&b""[..], b"\n", &[0; 4000], &Package::version(9).bytes()[..HEAD - 1]] {
        assert!(refused(&device, garbage).is_refusal());
    }
}

#[test]
fn an_expired_package_is_refused_whatever_the_clock_says() {
    let device = with_versions(&[2]);
    // The release in use was made at 1002.
    let expired = Package { expires: 1002, ..Package::version(9) };
    assert!(matches!(refused(&device, &expired.bytes()), UpdateError::Expired { .. }));
    // A board without a clock is in 1970, and knows that it is later.
    let store = device.store();
    let mut installer = store.installer().unwrap();
    installer.set_now(0);
    let error = installer.install(&mut &expired.bytes()[..]).unwrap_err();
    assert!(error.to_string().contains("at least 1970-01-01T00:16:42Z"), "{error}");
    // What expires later is installed, and runs when it has expired.
    let later = Package { expires: 2000, ..Package::version(9) };
    let mut installer = store.installer().unwrap();
    installer.set_now(0);
    installer.install(&mut &later.bytes()[..]).unwrap();
    assert_eq!(runs(&device), 9);
    assert_eq!(record(&device).time, 1009);
}

#[test]
fn a_source_without_end_is_left_at_its_first_byte_too_many() {
    struct Endless<'a>(&'a [u8], u64);
    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = if self.0.is_empty() {
                buffer.fill(7);
                Ok(buffer.len())
            } else {
                self.0.read(buffer)
            }?;
            self.1 += read as u64;
            Ok(read)
        }
    }
    let device = with_versions(&[2]);
    let package = Package::version(9).bytes();
    let mut source = Endless(&package, 0);
    let error = device.store().install(&mut source).unwrap_err();
    assert!(matches!(error, UpdateError::Length { found: None, .. }), "{error}");
    assert_eq!(source.1, package.len() as u64 + 1);
    assert_eq!(runs(&device), 2);
}

#[test]
fn a_model_of_another_package_is_refused() {
    let device = with_versions(&[2]);
    let (mut mixed, other) = (Package::version(9).bytes(), Package::version(8).bytes());
    mixed[HEAD..].copy_from_slice(&other[HEAD..]);
    assert!(refusal(&refused_late(&device, &mixed)).contains("not the one that was signed"));
    let whole = Package::version(9).bytes();
    for bytes in [&whole[..whole.len() - 1], &whole[..HEAD], &[&whole[..], b"x"].concat()] {
        refused_late(&device, bytes);
    }
    assert_eq!(runs(&device), 2);
}

#[test]
fn every_flipped_bit_of_a_package_is_refused() {
    let device = with_versions(&[2]);
    let image = device.disk.image();
    let good = Package::version(9).bytes();
    for bit in 0..8 * good.len() {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let device = Device::new(&Memory::of(&image), &device.judge);
        let result = device.store().install(&mut &bad[..]);
        // A letter of the fake signature in the other case is none of it; the real ones have no such letters.
        assert!(result.is_err(), "bit {bit} of {}", good.len() * 8);
    }
}

#[test]
fn every_flipped_bit_of_a_record_or_a_marker_is_seen() {
    let device = with_versions(&[2, 3]);
    let image = device.disk.image();
    let mut count = 0;
    for name in [RECORDS[0], SlotName::A.marker()] {
        for bit in 0..8 * BLOCK {
            let mut block = image[name].clone();
            block[bit / 8] ^= 1 << (bit % 8);
            let is_seen = unseal::<serde_json::Value>(&block).is_none();
            assert!(is_seen, "bit {bit} of {name}");
            count += 1;
        }
    }
    assert_eq!(count, 65_536);
}

#[test]
fn swapped_slots_do_not_run() {
    let device = with_versions(&[2, 3]);
    let image = device.disk.image();
    device.disk.write("slot.a.tar", &image["slot.b.tar"]);
    device.disk.write("slot.b.tar", &image["slot.a.tar"]);
    let started = device.start().unwrap();
    assert_eq!((started.place, started.package.version, started.failed.len()), (Place::Golden, 1, 2));
    assert!(started.failed[0].1.contains("another package than was installed"), "{:?}", started.failed);
}

#[test]
fn an_older_package_put_into_the_slot_does_not_run() {
    let device = with_versions(&[2, 3]);
    // Version 3 is in b, and is to be replaced by a version that was signed once.
    device.disk.write("slot.b.tar", &Package::version(2).bytes());
    let started = device.start().unwrap();
    assert_eq!((started.place, started.failed.len()), (Place::Slot(SlotName::A), 1));
    device.disk.write("slot.b.tar", &[&Package::version(3).bytes()[..], b"more"].concat());
    assert_eq!(device.start().unwrap().failed.len(), 1);
}

#[test]
fn a_torn_record_does_not_count() {
    let device = with_versions(&[2, 3]);
    let image = device.disk.image();
    for name in RECORDS {
        let device = Device::new(&Memory::of(&image), &device.judge);
        device.disk.write(name, &image[name][..BLOCK / 2]);
        assert_eq!(runs(&device), 3);
        assert!(matches!(refused(&device, &Package::version(3).bytes()), UpdateError::NotNewer { .. }));
    }
}

#[test]
fn with_both_records_torn_the_markers_tell() {
    let device = with_versions(&[2]);
    device.store().install(&mut &Package { floor: 2, ..Package::version(5) }.bytes()[..]).unwrap();
    assert_eq!(runs(&device), 5);
    let before = record(&device);
    for name in RECORDS {
        device.disk.write(name, &[0; BLOCK]);
    }
    let after = record(&device);
    assert_eq!((after.active, after.floor, after.highest, after.time), (before.active, 2, 5, before.time));
    assert_eq!((&after.a, &after.b), (&before.a, &before.b));
    assert_eq!(runs(&device), 5);
    assert!(matches!(refused(&device, &Package::version(5).bytes()), UpdateError::NotNewer { .. }));
    let found = |device: &Device| {
        let findings = device.store().check().unwrap().findings.into_iter();
        findings.map(|finding| finding.file).filter(|file| file.starts_with("record")).collect::<Vec<_>>()
    };
    assert_eq!(found(&device), RECORDS);
    assert!(found(&device).is_empty());
    // The golden package is known too.
    let device = with_versions(&[2]);
    for name in RECORDS.into_iter().chain(["slot.a.tar"]) {
        device.disk.write(name, b"");
    }
    assert_eq!(runs(&device), 1);
}

#[test]
fn numbers_of_records_begin_again() {
    let device = with_versions(&[2, 3]);
    let last = Record { sequence: u64::MAX, ..record(&device) };
    device.disk.write(RECORDS[0], &seal(&last).unwrap());
    device.disk.write(RECORDS[1], &seal(&Record { sequence: u64::MAX - 1, ..Record::default() }).unwrap());
    device.store().install(&mut &Package::version(9).bytes()[..]).unwrap();
    assert!(record(&device).sequence < 10);
    assert_eq!(runs(&device), 9);
}

#[test]
fn the_marker_of_another_slot_does_not_count() {
    let device = with_versions(&[2, 3]);
    let image = device.disk.image();
    let marker: Marker = unseal(&image["good.a"]).unwrap();
    assert_eq!(marker.slot, SlotName::A);
    device.disk.write("good.b", &image["good.a"]);
    for name in RECORDS {
        device.disk.write(name, &[0; BLOCK]);
    }
    let record = record(&device);
    assert_eq!((record.active, &record.b.state), (Some(SlotName::A), &State::Empty));
    assert_eq!(runs(&device), 2);
    // What is in slot b can be had back: it is verified whole, and has to prove itself again.
    assert!(device.store().check().unwrap().findings.iter().any(|found| found.file == "slot.b.tar"));
    assert_eq!(runs(&device), 3);
}

#[test]
fn a_golden_package_that_was_replaced_does_not_run() {
    let device = with_versions(&[]);
    assert_eq!(runs(&device), 1);
    let others = [
        b"rubbish".to_vec(),
        Package { key: KEY + 1, ..Package::version(1) }.bytes(),
        Package::version(1).bytes()[..HEAD + 5].to_vec(),
    ];
    for golden in others {
        let device = Device { judge: Fake { golden: Some(golden), ..Fake::default() }, ..device.clone() };
        assert!(matches!(device.start(), Err(StartError::Store(UpdateError::NoModel { .. }))));
    }
    let device = with_versions(&[2]);
    device.disk.write("slot.a.tar", b"");
    let golden = Package { name: "other", ..Package::version(7) }.bytes();
    let device = Device { judge: Fake { golden: Some(golden), ..Fake::default() }, ..device };
    assert!(device.start().is_err(), "it is another model");
}

#[test]
fn what_is_no_file_is_refused_in_the_place_of_a_slot_or_a_record() {
    for what in ["a symbolic link", "a folder", "a pipe, a socket or a device"] {
        for name in ["slot.a.tar", "slot.b.tar", RECORDS[0], RECORDS[1], "good.a"] {
            let device = with_versions(&[2, 3]);
            device.disk.put_other(name, what);
            let version = runs(&device);
            assert_eq!(version, if name == "slot.b.tar" { 2 } else { 3 }, "{name}");
            let result = device.store().install(&mut &Package::version(9).bytes()[..]);
            match result {
                Err(UpdateError::NotAFile { file, found }) => assert_eq!((&file[..], found), (name, what)),
                Ok(_) => assert!(name == "slot.b.tar", "{name} is written"),
                Err(error) => panic!("{name}: {error}"),
            }
            assert!(runs(&device) >= 2);
        }
    }
}

#[test]
fn a_second_installer_finds_the_store_busy() {
    let device = with_versions(&[2, 3]);
    let store = device.store();
    let installer = store.installer().unwrap();
    assert!(matches!(device.store().install(&mut &b""[..]), Err(UpdateError::Busy)));
    assert!(matches!(device.store().rollback(), Err(UpdateError::Busy)));
    assert!(matches!(device.store().check(), Err(UpdateError::Busy)));
    // A start does not wait for it.
    assert_eq!(runs(&device), 3);
    drop(installer);
    assert!(device.store().check().unwrap().findings.is_empty());
}

#[test]
fn an_installation_leaves_alone_what_is_being_read() {
    let device = with_versions(&[2, 3]);
    let started = device.store().begin(&mut |candidate| -> Result<_, Failure<()>> {
        // Version 2 is overwritten twice while version 3 is read.
        for version in [8, 9] {
            device.store().install(&mut &Package::version(version).bytes()[..]).unwrap();
        }
        device.load(candidate)
    });
    assert_eq!(started.unwrap().value, Package::version(3).body());
    // What is on trial may be replaced while it is started; it is then not committed in place of the other.
    let started = device.store().begin(&mut |candidate| -> Result<_, Failure<()>> {
        device.store().install(&mut &Package::version(10).bytes()[..]).unwrap();
        device.load(candidate)
    });
    let started = started.unwrap();
    assert_eq!((started.package.version, started.value), (9, Package::version(9).body()));
    assert!(matches!(device.store().commit(&started.package), Err(UpdateError::Superseded { .. })));
    assert_eq!((record(&device).highest, runs(&device)), (3, 10));
}

#[test]
fn a_slot_that_is_changed_between_check_and_load_does_not_run() {
    let device = with_versions(&[2, 3]);
    let started = device.store().begin(&mut |candidate| -> Result<_, Failure<()>> {
        if candidate.place == Place::Slot(SlotName::B) {
            let file = device.disk.open("slot.b.tar", crate::updates::Access::Write).unwrap().unwrap();
            crate::updates::DiskFile::write_at(&file, HEAD as u64 + 3, b"other").unwrap();
        }
        device.load(candidate)
    });
    let started = started.unwrap();
    assert_eq!((started.place, started.value), (Place::Slot(SlotName::A), Package::version(2).body()));
    assert!(started.failed[0].1.contains("not the one that was signed"), "{:?}", started.failed);
}

#[test]
fn a_bad_version_is_tried_no_more_and_a_good_one_again() {
    let device = Device { behaves: Behaves::Wrongly, from: 9, ..with_versions(&[2, 3]) };
    device.store().install(&mut &Package::version(9).bytes()[..]).unwrap();
    let started = device.start().unwrap();
    assert_eq!((started.package.version, started.failed.len()), (3, 1));
    let status = device.store().status().unwrap();
    assert_eq!(status.a.reason.as_deref(), Some("it answers wrongly"));
    assert_eq!(status.trouble.as_deref(), Some("slot a: it answers wrongly"));
    let again = device.start().unwrap();
    assert_eq!((again.package.version, again.failed.len()), (3, 0));
    // The same version, made right, may come again.
    device.store().install(&mut &Package::version(9).bytes()[..]).unwrap();
    assert_eq!(runs(&Device { behaves: Behaves::Well, ..device }), 9);
}

#[test]
fn a_version_that_ends_the_process_is_given_up_after_its_starts() {
    let device = Device { behaves: Behaves::Hangs, from: 9, ..with_versions(&[2, 3]) };
    device.store().install(&mut &Package::version(9).bytes()[..]).unwrap();
    let mut image = device.disk.image();
    for _ in 0..2 {
        let device = Device { disk: Memory::of(&image), ..device.clone() };
        assert!(device.start().is_err() && device.disk.is_stopped());
        image = device.disk.image();
    }
    let device = Device { disk: Memory::of(&image), ..device };
    assert_eq!(runs(&device), 3);
    assert_eq!(device.store().status().unwrap().a.state, "bad");
}

#[test]
fn a_trust_file_that_is_refused_is_not_kept() {
    let device = with_versions(&[2]);
    let before = device.disk.image();
    let store = device.store();
    for next in [
        Err(Refused("two signatures are missing".into())),
        Ok(b"rubbish".to_vec()),
        Ok(trust(2, KEY + 1)),
        Ok(vec![b' '; 20_000]),
    ] {
        let error = store.update_trust(&|_| next.clone()).unwrap_err();
        assert_eq!(device.disk.image(), before, "{error}");
    }
    assert_eq!(
        store
            .update_trust(&|now| {
                assert_eq!(now, trust(1, KEY));
                Ok(trust(2, KEY))
            })
            .unwrap(),
        2
    );
    assert_eq!((store.trust_text().unwrap(), runs(&device)), (trust(2, KEY), 2));
}

#[test]
fn a_changed_trust_file_is_passed_over() {
    let device = with_versions(&[2]);
    device.disk.write("trust.0", &trust(1, KEY + 1));
    device.disk.write("trust.1", b"");
    assert_eq!(runs(&device), 2);
    let found = device.store().check().unwrap().findings;
    assert_eq!(found.iter().map(|finding| &finding.file[..]).collect::<Vec<_>>(), ["trust.0", "trust.1"]);
    assert_eq!(device.disk.image()["trust.0"], trust(1, KEY));
    // An older one is never gone back to.
    device.store().update_trust(&|_| Ok(trust(2, KEY))).unwrap();
    for name in ["trust.0", "trust.1", "trust.2"] {
        device.disk.write(name, &trust(1, KEY));
    }
    assert!(matches!(device.start(), Err(StartError::Store(UpdateError::NoTrust))));
}

#[test]
fn a_part_is_gone_on_with_and_verified_whole() {
    let device = with_versions(&[2]);
    let package = Package::version(9).bytes();
    let origin = Origin { url: "http://updates/model.tar".into(), tag: Some("\"9\"".into()), modified: None };
    let cut = |bytes: &[u8]| {
        let store = device.store();
        let installer = store.installer().unwrap();
        assert!(installer.partial().is_none());
        let error = installer.install_from(&mut Slowly(bytes), origin.clone()).unwrap_err();
        assert!(matches!(error, UpdateError::Length { found: Some(_), .. }), "{error}");
    };
    cut(&package[..HEAD + 100]);
    assert_eq!(runs(&device), 2);
    let store = device.store();
    let installer = store.installer().unwrap();
    let partial = installer.partial().unwrap();
    assert_eq!((partial.bytes, &partial.origin), (HEAD as u64 + 100, &origin));
    // With something else behind it nothing is left.
    let error = installer.go_on(&partial, &mut &vec![b'x'; package.len() - HEAD - 100][..]).unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert_eq!(record(&device).slot(SlotName::B).state, State::Empty);
    cut(&package[..HEAD + 100]);
    let store = device.store();
    let installer = store.installer().unwrap();
    let partial = installer.partial().unwrap();
    installer.go_on(&partial, &mut &package[HEAD + 100..]).unwrap();
    assert_eq!(runs(&device), 9);
    assert_eq!(record(&device).origin, Some(origin.clone()));
}

#[test]
fn what_a_person_does_wrong_costs_no_start() {
    let device = with_versions(&[2]);
    device.store().install(&mut &Package::version(9).bytes()[..]).unwrap();
    for _ in 0..5 {
        let result =
            device.store().begin(&mut |_| -> Result<(), Failure<&str>> { Err(Failure::Caller("-c")) });
        assert!(matches!(result, Err(StartError::Caller("-c"))));
    }
    assert_eq!(runs(&device), 9);
}

#[test]
fn a_status_says_what_starts_next() {
    let device = with_versions(&[2, 3]);
    device.store().install(&mut &Package::version(9).bytes()[..]).unwrap();
    let status = device.store().status().unwrap();
    let next: Vec<_> =
        status.next.iter().map(|next| (&next.place[..], next.version, next.on_trial)).collect();
    assert_eq!(next, [("slot a", 9, true), ("slot b", 3, false), ("golden package", 1, false)]);
    assert_eq!((status.a.state, status.a.starts_left, status.trust), ("trial", Some(2), Some(1)));
    device.store().rollback().unwrap();
    assert_eq!(device.store().status().unwrap().a.reason.as_deref(), Some("it was rolled back"));
}
