//! Packages as they should be.

use std::io::{self, Write as _};

use super::*;

#[test]
fn a_folder_and_its_archive_are_the_same_package() {
    let scratch = Scratch::new();
    let folder = folder(&scratch);
    let tar = scratch.path("kiosk.tar");
    fs::write(&tar, archive(&folder)).unwrap();
    for path in [&folder, &tar] {
        let package = Package::open(path).unwrap().check(&authority(1), None).unwrap();
        assert_eq!(package.release().version, 7);
        assert_eq!(package.head().manifest().signers().len(), 1);
        package.check_model().unwrap();
        assert_eq!(read(&package, None).unwrap(), model_bytes());
        // Again, and from the same open file.
        assert_eq!(read(&package, None).unwrap(), model_bytes());
        let mut carried = vec![];
        package.archive().read_to_end(&mut carried).unwrap();
        assert_eq!(carried, fs::read(&tar).unwrap());
        assert_eq!(carried.len() as u64, package.head().archive_bytes());
    }
}

#[test]
fn a_head_is_read_from_a_stream_and_not_a_byte_more() {
    let scratch = Scratch::new();
    let bytes = archive(&folder(&scratch));
    let mut stream = &bytes[..];
    let head = Head::read(&mut stream, "stream").unwrap();
    assert_eq!(bytes.len() - stream.len(), head.bytes().len());
    assert_eq!(head.bytes(), &bytes[..head.bytes().len()]);
    assert_eq!(head.archive_bytes(), bytes.len() as u64);
    let head = head.check(&authority(1), None).unwrap();
    let mut rest = vec![];
    head.carried(stream).read_to_end(&mut rest).unwrap();
    assert_eq!([head.bytes(), &rest].concat(), bytes);
    // As slowly as a line may be.
    let mut carried = head.carried(Slow(&bytes[head.bytes().len()..]));
    let mut slow = vec![];
    io::copy(&mut carried, &mut slow).unwrap();
    assert_eq!(slow, rest);
}

/// Gives a few bytes at a time, and is interrupted in between.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.0.len()).min(self.0.len() % 977 + 1);
        if self.0.len().is_multiple_of(3) && most > 1 {
            let taken = self.0.read(&mut buffer[..1])?;
            return Ok(taken);
        }
        self.0.read(&mut buffer[..most])
    }
}

#[test]
fn a_second_signature_belongs_to_the_package() {
    let scratch = Scratch::new();
    let folder = folder(&scratch);
    sign(&folder, 2);
    assert!(folder.join("model.2.sig").exists());
    let tar = scratch.path("kiosk.tar");
    fs::write(&tar, archive(&folder)).unwrap();
    for number in [1, 2] {
        take(&tar, &authority(number), None).unwrap();
    }
    assert!(take(&tar, &authority(3), None).is_err());
    // Whoever verifies the folder as any signed model finds it right, with both.
    for (signature, number) in [("model.sig", 1), ("model.2.sig", 2)] {
        let options = VerifyOptions { signature: Some(folder.join(signature)), ..VerifyOptions::default() };
        verify_path(&folder, &authority(number), &options).unwrap();
    }
}

#[test]
fn a_sealed_package_gives_the_plain_model_to_its_keys_alone() {
    let scratch = Scratch::new();
    let ((first, first_recipients), (second, _)) = (identity(0), identity(1));
    let folder = unsigned(&scratch, "sealed", Some(&first_recipients));
    sign(&folder, 1);
    let (sealed, plain) = (fs::read(folder.join("model.gguf.age")).unwrap(), model_bytes());
    assert!(!sealed.windows(64).any(|part| part == &plain[..64]));
    let tar = scratch.path("sealed.tar");
    fs::write(&tar, archive(&folder)).unwrap();
    for path in [&folder, &tar] {
        assert_eq!(take(path, &authority(1), Some(&first)).unwrap(), model_bytes());
        assert!(matches!(
            take(path, &authority(1), Some(&second)),
            Err(TrustError::Refused(Refusal::NoMatchingKey { .. }))
        ));
        assert!(matches!(
            take(path, &authority(1), None),
            Err(TrustError::Refused(Refusal::NeedsKey { .. }))
        ));
    }
}

#[test]
fn what_stops_is_not_taken_for_the_whole() {
    let scratch = Scratch::new();
    let folder = folder(&scratch);
    let package = Package::open(&folder).unwrap().check(&authority(1), None).unwrap();
    // Changed after it was checked and opened: the last bytes are never handed out, now or when asked again.
    let mut changed = model_bytes();
    changed[77] ^= 1;
    fs::OpenOptions::new().write(true).open(folder.join("model.gguf")).unwrap().write_all(&changed).unwrap();
    let mut file = package.model(None).unwrap();
    let mut bytes = vec![0; model_bytes().len()];
    assert!(file.reader.read_exact(&mut bytes).is_err());
    assert!(file.reader.read(&mut [0; 10]).is_err());
    assert!(package.check_model().is_err());
}

#[test]
fn publishing_leaves_nothing_behind_where_it_fails() {
    let scratch = Scratch::new();
    let folder = scratch.path("folder");
    assert!(publish(&scratch.path("none.gguf"), &folder, None, parts()).is_err());
    let model = scratch.path("plain.gguf");
    fs::write(&model, model_bytes()).unwrap();
    let bad = ReleaseParts { floor: 8, ..parts() };
    assert!(publish(&model, &folder, None, bad).is_err());
    assert!(!folder.exists());
    // Never into a folder with something in it.
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    assert!(publish(&model, &folder, None, parts()).is_err());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
