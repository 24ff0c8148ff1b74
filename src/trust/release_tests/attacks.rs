//! Attacks on the way of a package from its publisher: each is a function with the name of what it tries. None is taken.

use std::io::{Cursor, Write as _};

use super::*;

const BLOCK: usize = 512;

/// What an attacker has: packages that were published, and everything in them.
struct Stage {
    scratch: Scratch,
    folder: PathBuf,
    tar: Vec<u8>,
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new();
        let folder = folder(&scratch);
        let tar = archive(&folder);
        Self { scratch, folder, tar }
    }

    /// Whether an archive is refused, both as a file and as a stream.
    fn refuses(&self, name: &str, tar: &[u8]) {
        let path = self.scratch.path("attack.tar");
        fs::write(&path, tar).unwrap();
        assert!(take(&path, &authority(1), None).is_err(), "{name}: the file was taken");
        assert!(stream(tar).is_err(), "{name}: the stream was taken");
    }

    fn refuses_folder(&self, name: &str) -> TrustError {
        take(&self.folder, &authority(1), None).expect_err(&format!("{name}: the folder was taken"))
    }

    /// Where files begin in the archive: header and content.
    fn entries(&self) -> Vec<(String, usize, usize)> {
        let (mut at, mut found) = (0, vec![]);
        while let Ok((name, bytes)) = archive_header(&self.tar, at) {
            found.push((name, at, bytes as usize));
            at += BLOCK + (bytes as usize).next_multiple_of(BLOCK);
        }
        found
    }

    fn entry(&self, name: &str) -> (usize, usize) {
        let found = self.entries().into_iter().find(|(found, ..)| found == name).unwrap();
        (found.1, found.2)
    }
}

fn archive_header(tar: &[u8], at: usize) -> Result<(String, u64), PackageProblem> {
    let block = tar[at..at + BLOCK].try_into().unwrap();
    super::super::archive::read_header(block, at as u64)
}

/// Takes an archive as it comes.
fn stream(tar: &[u8]) -> Result<usize, TrustError> {
    let mut from = Cursor::new(tar);
    let head = Head::read(&mut from, "stream")?.check(&authority(1), None)?;
    let mut bytes = vec![];
    head.carried(from).read_to_end(&mut bytes).map_err(|error| trust_error(error, "stream"))
}

/// Writes the checksum of a header anew, as an attacker does.
fn mend(tar: &mut [u8], at: usize) {
    tar[at + 148..at + 156].fill(b' ');
    let sum: u32 = tar[at..at + BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    tar[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Changes the header of a file and its checksum.
fn with_header(stage: &Stage, file: &str, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut tar = stage.tar.clone();
    let (at, _) = stage.entry(file);
    change(&mut tar[at..at + BLOCK]);
    mend(&mut tar, at);
    tar
}

/// A whole entry, with a header of any name and kind.
fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut entry = super::super::archive::header(name, content.len() as u64).to_vec();
    entry[156] = kind;
    mend(&mut entry, 0);
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(BLOCK), 0);
    entry
}

fn inserted(stage: &Stage, before: &str, entry: &[u8]) -> Vec<u8> {
    let (at, _) = stage.entry(before);
    [&stage.tar[..at], entry, &stage.tar[at..]].concat()
}

#[test]
fn the_package_itself_is_taken() {
    let stage = Stage::new();
    let path = stage.scratch.path("good.tar");
    fs::write(&path, &stage.tar).unwrap();
    assert_eq!(take(&path, &authority(1), None).unwrap(), model_bytes());
    stream(&stage.tar).unwrap();
    let names: Vec<_> = stage.entries().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["model.sig", "release.json", "model.gguf"]);
}

macro_rules! archives {
    ($($name:ident: $make:expr,)*) => {$(
        #[test]
        fn $name() {
            let stage = Stage::new();
            let tar: Vec<u8> = ($make)(&stage);
            assert_ne!(tar, stage.tar);
            stage.refuses(stringify!($name), &tar);
        }
    )*};
}

// What is done to the archive.
archives! {
    archive_empty: |_: &Stage| vec![],
    archive_of_zeros: |_: &Stage| vec![0; 10 * BLOCK],
    archive_cut_in_head: |stage: &Stage| stage.tar[..700].to_vec(),
    archive_cut_in_model: |stage: &Stage| stage.tar[..stage.tar.len() - 20_000].to_vec(),
    archive_cut_by_one_byte: |stage: &Stage| stage.tar[..stage.tar.len() - 1].to_vec(),
    archive_without_end: |stage: &Stage| stage.tar[..stage.tar.len() - 2 * BLOCK].to_vec(),
    archive_with_byte_after_end: |stage: &Stage| [&stage.tar[..], b"x"].concat(),
    archive_with_zero_after_end: |stage: &Stage| [&stage.tar[..], &[0]].concat(),
    archive_with_zeros_after_end: |stage: &Stage| [&stage.tar[..], &[0; 8192]].concat(),
    archive_twice: |stage: &Stage| [&stage.tar[..], &stage.tar[..]].concat(),
    archive_with_file_after_model: |stage: &Stage| {
        let end = stage.tar.len() - 2 * BLOCK;
        [&stage.tar[..end], &entry("more", b'0', b"x"), &stage.tar[end..]].concat()
    },
    archive_with_data_in_padding_of_release: |stage: &Stage| {
        let (at, bytes) = stage.entry("release.json");
        let mut tar = stage.tar.clone();
        tar[at + BLOCK + bytes] = 1;
        tar
    },
    archive_with_data_in_padding_of_model: |stage: &Stage| {
        let (at, bytes) = stage.entry("model.gguf");
        let mut tar = stage.tar.clone();
        tar[at + BLOCK + bytes] = 1;
        tar
    },
    archive_with_data_in_end: |stage: &Stage| {
        let mut tar = stage.tar.clone();
        *tar.last_mut().unwrap() = 1;
        tar
    },
    file_with_path_upwards: |stage: &Stage| inserted(stage, "model.sig", &entry("../../etc/cron.d/x", b'0', b"x")),
    file_with_absolute_path: |stage: &Stage| inserted(stage, "release.json", &entry("/etc/passwd", b'0', b"x")),
    file_in_dot_folder: |stage: &Stage| with_header(stage, "release.json", |header| {
        header[..14].copy_from_slice(b"./release.json");
    }),
    file_with_prefix: |stage: &Stage| with_header(stage, "release.json", |header| {
        header[345..347].copy_from_slice(b"..");
    }),
    file_with_name_behind_nul: |stage: &Stage| with_header(stage, "model.gguf", |header| {
        header[11..15].copy_from_slice(b"evil");
    }),
    file_of_another_name: |stage: &Stage| inserted(stage, "release.json", &entry("readme.txt", b'0', b"x")),
    folder_entry: |stage: &Stage| inserted(stage, "model.sig", &entry("kiosk/", b'5', b"")),
    symbolic_link: |stage: &Stage| with_header(stage, "model.gguf", |header| {
        header[156] = b'2';
        header[157..168].copy_from_slice(b"/etc/shadow");
    }),
    hard_link: |stage: &Stage| with_header(stage, "model.gguf", |header| header[156] = b'1'),
    device: |stage: &Stage| with_header(stage, "model.gguf", |header| header[156] = b'3'),
    named_pipe: |stage: &Stage| with_header(stage, "release.json", |header| header[156] = b'6'),
    sparse_file: |stage: &Stage| with_header(stage, "model.gguf", |header| header[156] = b'S'),
    old_regular_file: |stage: &Stage| with_header(stage, "model.gguf", |header| header[156] = 0),
    extended_header_with_other_path: |stage: &Stage| {
        inserted(stage, "model.gguf", &entry("pax", b'x', b"20 path=/etc/passwd\n"))
    },
    long_name: |stage: &Stage| inserted(stage, "model.gguf", &entry("././@LongLink", b'L', b"x")),
    release_twice: |stage: &Stage| {
        let (at, bytes) = stage.entry("release.json");
        let release = stage.tar[at + BLOCK..at + BLOCK + bytes].to_vec();
        inserted(stage, "model.gguf", &entry("release.json", b'0', &release))
    },
    signature_twice: |stage: &Stage| {
        let (at, bytes) = stage.entry("model.sig");
        let signature = stage.tar[at + BLOCK..at + BLOCK + bytes].to_vec();
        inserted(stage, "release.json", &entry("model.sig", b'0', &signature))
    },
    signature_left_out: |stage: &Stage| {
        let (at, _) = stage.entry("release.json");
        stage.tar[at..].to_vec()
    },
    signatures_with_a_gap: |stage: &Stage| with_header(stage, "model.sig", |header| {
        header[..11].copy_from_slice(b"model.2.sig");
    }),
    ninth_signature: |stage: &Stage| {
        let (at, bytes) = stage.entry("model.sig");
        let signature = stage.tar[at + BLOCK..at + BLOCK + bytes].to_vec();
        let more: Vec<u8> =
            (2..=9).flat_map(|n| entry(&format!("model.{n}.sig"), b'0', &signature)).collect();
        inserted(stage, "release.json", &more)
    },
    model_before_release: |stage: &Stage| {
        let ((release, _), (model, _)) = (stage.entry("release.json"), stage.entry("model.gguf"));
        let end = stage.tar.len() - 2 * BLOCK;
        let tar = &stage.tar;
        [&tar[..release], &tar[model..end], &tar[release..model], &tar[end..]].concat()
    },
    size_one_too_small: |stage: &Stage| size(stage, "model.gguf", 149_999),
    size_one_too_large: |stage: &Stage| size(stage, "model.gguf", 150_001),
    size_of_release_8_gib: |stage: &Stage| size(stage, "release.json", 0o77_777_777_777),
    size_of_signature_8_gib: |stage: &Stage| size(stage, "model.sig", 0o77_777_777_777),
    size_of_signature_zero: |stage: &Stage| size(stage, "model.sig", 0),
    size_in_base_256: |stage: &Stage| with_header(stage, "model.gguf", |header| {
        header[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\x02\x49\xf0");
    }),
    size_with_spaces: |stage: &Stage| with_header(stage, "model.gguf", |header| {
        header[124..130].copy_from_slice(b"      ");
    }),
    another_owner_and_mode: |stage: &Stage| with_header(stage, "model.gguf", |header| {
        header[100..107].copy_from_slice(b"0104755");
    }),
    another_time: |stage: &Stage| with_header(stage, "model.gguf", |header| header[146] = b'1'),
    another_program: |stage: &Stage| with_header(stage, "model.gguf", |header| {
        header[257..265].copy_from_slice(b"ustar  \0");
    }),
    compressed: |_: &Stage| b"\x1f\x8b\x08\0\0\0\0\0\0\x03".repeat(100),
}

fn size(stage: &Stage, file: &str, bytes: u64) -> Vec<u8> {
    with_header(stage, file, |header| {
        header[124..136].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
    })
}

/// Data without end is read up to the caps and no further.
#[test]
fn endless_data() {
    struct Endless {
        given: u64,
        start: Vec<u8>,
        with: u8,
    }
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for byte in &mut *buffer {
                *byte = self.start.get(self.given as usize).copied().unwrap_or(self.with);
                self.given += 1;
            }
            Ok(buffer.len())
        }
    }
    let stage = Stage::new();
    let cap = 8 * (MAX_SIGNATURE_BYTES + 1024) + MAX_RELEASE_BYTES + 4096;
    let (release, _) = stage.entry("release.json");
    for (start, with) in
        [(vec![], 0), (vec![], b'0'), (stage.tar[..BLOCK].to_vec(), b' '), (stage.tar[..release].to_vec(), 0)]
    {
        let mut endless = Endless { given: 0, start, with };
        assert!(Head::read(&mut endless, "endless").is_err());
        assert!(endless.given <= cap, "{} bytes were read", endless.given);
    }
    // After a good head too: the end is where it was said to be.
    let endless = Endless { given: 0, start: stage.tar.clone(), with: 0 };
    let mut from = std::io::BufReader::new(endless);
    let head = Head::read(&mut from, "endless").unwrap().check(&authority(1), None).unwrap();
    let mut carried = head.carried(from);
    assert!(std::io::copy(&mut carried, &mut std::io::sink()).is_err());
}

#[test]
fn release_of_another_version_with_old_signature() {
    let stage = Stage::new();
    let path = stage.folder.join("release.json");
    let newer = fs::read_to_string(&path).unwrap().replace("\"version\": 7", "\"version\": 8");
    fs::write(&path, newer).unwrap();
    let refusal = stage.refuses_folder("release");
    assert!(
        matches!(refusal, TrustError::Refused(Refusal::Changed { .. }) | TrustError::Length { .. }),
        "{refusal}"
    );
}

#[test]
fn release_with_lower_floor_and_old_signature() {
    let stage = Stage::new();
    let path = stage.folder.join("release.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"floor\": 5", "\"floor\": 1")).unwrap();
    stage.refuses_folder("floor");
}

/// Two good packages, a part of each.
#[test]
fn mix_and_match_of_release_and_model() {
    let stage = Stage::new();
    let other = stage.scratch.path("other");
    let model = stage.scratch.path("other.gguf");
    let mut bytes = model_bytes();
    bytes.reverse();
    fs::write(&model, bytes).unwrap();
    publish(&model, &other, None, ReleaseParts { version: 6, ..parts() }).unwrap();
    sign(&other, 1);
    take(&other, &authority(1), None).unwrap();
    for file in ["model.gguf", "release.json", "model.sig"] {
        let own = fs::read(stage.folder.join(file)).unwrap();
        fs::copy(other.join(file), stage.folder.join(file)).unwrap();
        stage.refuses_folder(file);
        fs::write(stage.folder.join(file), own).unwrap();
    }
    take(&stage.folder, &authority(1), None).unwrap();
}

#[test]
fn signature_by_a_stranger() {
    let stage = Stage::new();
    let folder = unsigned(&stage.scratch, "strange", None);
    sign(&folder, 9);
    let refusal = take(&folder, &authority(1), None).unwrap_err();
    assert!(matches!(refusal, TrustError::OtherKey { .. }), "{refusal}");
}

/// The hint that finds the right key, over a signature by another.
#[test]
fn signature_by_a_stranger_with_the_right_hint() {
    let stage = Stage::new();
    let folder = unsigned(&stage.scratch, "strange", None);
    let signature = sign(&folder, 9);
    let text = fs::read_to_string(&signature).unwrap();
    fs::write(&signature, text.replace(&public(9).fingerprint(), &public(1).fingerprint())).unwrap();
    let refusal = take(&folder, &authority(1), None).unwrap_err();
    assert!(matches!(refusal, TrustError::WrongSignature { .. }), "{refusal}");
}

/// Signed all right, but over more than a package: who signed a large folder has not released a model in it.
#[test]
fn signature_over_more_than_the_package() {
    let stage = Stage::new();
    let folder = unsigned(&stage.scratch, "more", None);
    fs::write(folder.join("training-data.txt"), "x").unwrap();
    sign(&folder, 1);
    fs::remove_file(folder.join("training-data.txt")).unwrap();
    let refusal = take(&folder, &authority(1), None).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::Foreign { .. })), "{refusal}");
}

#[test]
fn signature_over_the_model_alone() {
    let stage = Stage::new();
    let folder = unsigned(&stage.scratch, "less", None);
    let release = fs::read(folder.join("release.json")).unwrap();
    fs::remove_file(folder.join("release.json")).unwrap();
    sign(&folder, 1);
    fs::write(folder.join("release.json"), release).unwrap();
    let refusal = take(&folder, &authority(1), None).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::NotSigned { .. })), "{refusal}");
}

/// A signature over one file is of that file, whatever it is put beside.
#[test]
fn signature_over_a_single_file() {
    let stage = Stage::new();
    let folder = unsigned(&stage.scratch, "single", None);
    let signature = sign(&folder.join("model.gguf"), 1);
    fs::rename(signature, folder.join("model.sig")).unwrap();
    let refusal = take(&folder, &authority(1), None).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::Foreign { .. })), "{refusal}");
}

#[test]
fn folder_with_one_file_more() {
    let stage = Stage::new();
    for name in ["notes.txt", ".git", "model.gguf.age", "model.9.sig", "MODEL.SIG"] {
        fs::write(stage.folder.join(name), "x").unwrap();
        stage.refuses_folder(name);
        fs::remove_file(stage.folder.join(name)).unwrap();
    }
}

#[test]
fn folder_without_one_file() {
    let stage = Stage::new();
    for name in ["model.sig", "release.json", "model.gguf"] {
        let own = fs::read(stage.folder.join(name)).unwrap();
        fs::remove_file(stage.folder.join(name)).unwrap();
        let refusal = stage.refuses_folder(name);
        assert!(refusal.to_string().contains(name), "{refusal}");
        fs::write(stage.folder.join(name), own).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn folder_with_links_pipes_and_folders_in_it() {
    let stage = Stage::new();
    for name in ["model.sig", "release.json", "model.gguf"] {
        let (path, away) = (stage.folder.join(name), stage.scratch.path("away"));
        fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&away, &path).unwrap();
        let refusal = stage.refuses_folder(name);
        assert!(refusal.to_string().contains("symbolic link"), "{refusal}");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        stage.refuses_folder(name);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        stage.refuses_folder(name);
        fs::remove_dir(&path).unwrap();
        fs::rename(&away, &path).unwrap();
    }
    take(&stage.folder, &authority(1), None).unwrap();
}

#[test]
fn payload_shorter_and_longer_by_one() {
    let stage = Stage::new();
    let path = stage.folder.join("model.gguf");
    let mut bytes = model_bytes();
    bytes.push(0);
    fs::write(&path, &bytes).unwrap();
    stage.refuses_folder("longer");
    fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
    stage.refuses_folder("shorter");
}

/// The file is swapped for another, cut or made longer between the check and the reading.
#[test]
fn model_swapped_cut_and_extended_after_the_check() {
    let stage = Stage::new();
    let path = stage.folder.join("model.gguf");
    let check = || Package::open(&stage.folder).unwrap().check(&authority(1), None).unwrap();
    // Swapped: the open file is read, which is the one that was checked.
    let package = check();
    let other = stage.scratch.path("other");
    fs::write(&other, vec![1; 150_000]).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(read(&package, None).unwrap(), model_bytes());
    // Put back, then cut.
    fs::write(&path, model_bytes()).unwrap();
    let package = check();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    assert!(matches!(read(&package, None), Err(TrustError::Refused(Refusal::Truncated { .. }))));
    // Longer: what was signed is read, and no more.
    fs::write(&path, model_bytes()).unwrap();
    let package = check();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    assert_eq!(read(&package, None).unwrap(), model_bytes());
}

#[test]
fn model_of_a_name_that_is_not_trusted() {
    let stage = Stage::new();
    let policy = policies::text(1, &[("a", 1, "release"), ("b", 2, "trust")], [1, 1]);
    let policy = |names: &str| {
        let text = policy.replace("\"version\"", &format!("\"names\": {names}, \"version\""));
        Authority::Policy(Policy::parse(text.as_bytes()).unwrap().into())
    };
    take(&stage.folder, &policy("[\"till\", \"kiosk\"]"), None).unwrap();
    let refusal = take(&stage.folder, &policy("[\"till\"]"), None).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::Name { .. })), "{refusal}");
}
