//! Texts with marks, in other encodings and of every kind of file; files that others left or link to.

use std::fs;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A folder that is removed at the end of a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("smolt-files-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn read(bytes: &[u8]) -> Result<String, String> {
    read_text_from(bytes, "letter", 20).map_err(|error| error.to_string())
}

fn utf16(text: &str, is_big: bool, has_mark: bool) -> Vec<u8> {
    let marked = if has_mark { format!("\u{feff}{text}") } else { text.to_owned() };
    marked
        .encode_utf16()
        .flat_map(|unit| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() })
        .collect()
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    assert_eq!(read("\u{feff}Grüße".as_bytes()).unwrap(), "Grüße");
    assert_eq!(read("\u{feff}".as_bytes()).unwrap(), "");
    assert_eq!(read("a\u{feff}b".as_bytes()).unwrap(), "a\u{feff}b");
    let scratch = Scratch::new();
    let path = scratch.file("letter.txt", "\u{feff}Hello".as_bytes());
    assert_eq!(read_text(&path, 8).unwrap(), "Hello");
    assert_eq!(read_text_if_there(&path, 8).unwrap().unwrap(), "Hello");
    assert!(read_text_if_there(&scratch.0.join("none"), 8).unwrap().is_none());
    assert!(read_text_if_there(&path.join("none"), 8).unwrap().is_none());
}

#[test]
fn what_is_not_utf8_text_is_named_with_its_place() {
    for (bytes, expected) in [
        (&b"one\ntw\xe9"[..], "letter, line 2: expected UTF-8 text, found the byte 0xE9 at offset 6"),
        (b"one\n\ntwo\0", "letter, line 3: expected text, found a NUL byte at offset 8"),
        (b"\0\xff", "letter, line 1: expected text, found a NUL byte at offset 0"),
        (b"cut \xf0\x9f\x98", "letter, line 1: expected UTF-8 text, found the byte 0xF0 at offset 4"),
        (b"one two three four five", "letter: is longer than 20 bytes"),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(read(b"exactly twenty bytes").unwrap().len(), 20);
}

#[test]
fn other_encodings_are_named() {
    for (is_big, name) in [(false, "UTF-16LE"), (true, "UTF-16BE")] {
        for has_mark in [true, false] {
            let error = read(&utf16("Hi there", is_big, has_mark)).unwrap_err();
            assert!(error.contains(&format!("iconv -f {name} -t UTF-8")), "{error}");
            let bytes = utf16("{\"a\": 1}\n", is_big, has_mark);
            let error = Lines::new(&bytes[..], "items", 99).next().unwrap_err().to_string();
            assert!(error.starts_with(&format!("items: is {name} text")), "{error}");
        }
    }
    let error = read(b"\xff\xfe\0\0H\0\0\0").unwrap_err();
    assert!(error.contains("UTF-32LE"), "{error}");
    assert!(read(b"\0\0\xfe\xff\0\0\0H").unwrap_err().contains("UTF-32BE"));
}

#[test]
fn lines_end_as_they_do_anywhere_and_marks_are_no_part_of_them() {
    let text = "\u{feff}one\r\n\ntwo\n\u{feff}three\rfour\nlast";
    let mut lines = Lines::new(text.as_bytes(), "lines", 99);
    for (number, text, has_end) in
        [(1, "one", true), (2, "", true), (3, "two", true), (4, "three\rfour", true), (5, "last", false)]
    {
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.number, line.text, line.has_end), (number, text, has_end));
    }
    assert_eq!(lines.next().unwrap(), None);
    assert_eq!(lines.bytes(), text.len() as u64);
}

#[test]
fn reading_goes_on_after_a_wrong_line() {
    let text = b"good\nb\xffd\nthis one is too long\nNUL \0\ngood";
    for capacity in [1, 3, 64] {
        let mut lines = Lines::new(BufReader::with_capacity(capacity, &text[..]), "lines", 10);
        assert_eq!(lines.next().unwrap().unwrap().text, "good");
        for expected in [
            "line 2: expected UTF-8 text, found the byte 0xFF at offset 6",
            "line 3: is longer than 10",
            "line 4: expected text, found a NUL",
        ] {
            let error = lines.next().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let last = lines.next().unwrap().unwrap();
        assert_eq!((last.number, last.offset, last.text), (5, 36, "good"));
        assert!(lines.next().unwrap().is_none());
    }
}

#[test]
fn only_files_are_opened() {
    let scratch = Scratch::new();
    let folder = read_text(&scratch.0, 8).unwrap_err();
    assert!(matches!(folder, ReadError::Folder { .. }), "{folder:?}");
    let missing = read_text(&scratch.0.join("none"), 8).unwrap_err();
    assert!(matches!(missing, ReadError::NotFound { .. }), "{missing:?}");
    #[cfg(unix)]
    {
        let device = read_text(Path::new("/dev/zero"), 8).unwrap_err();
        assert!(device.to_string().contains("/dev/zero: is a device, expected a file"), "{device}");
        assert_eq!(read_text(Path::new("/dev/null"), 8).unwrap(), "");
        let pipe = scratch.0.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        // Would wait for a writer if it were opened.
        let pipe = read_text(&pipe, 8).unwrap_err();
        assert!(pipe.to_string().contains("is a named pipe"), "{pipe}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_shell_hands_over_is_read() {
    use std::os::fd::AsRawFd;
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"from a process").unwrap();
    drop(writer);
    for folder in ["/dev/fd", "/proc/self/fd"] {
        let path = PathBuf::from(format!("{folder}/{}", reader.as_raw_fd()));
        assert!(open(&path).is_ok());
    }
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    assert_eq!(read_text(&path, 99).unwrap(), "from a process");
}

#[test]
fn a_file_appears_when_it_is_whole() {
    let scratch = Scratch::new();
    let path = scratch.file("note.txt", b"old");
    let failed = write_stream(&path, Access::Usual, |out| {
        out.write_all(b"half")?;
        assert_eq!(fs::read(&path).unwrap(), b"old");
        Err(io::Error::other("stopped"))
    });
    assert!(matches!(failed, Err(WriteError::Io { action: "write", .. })), "{failed:?}");
    assert_eq!((scratch.names(), fs::read(&path).unwrap()), (vec!["note.txt".to_owned()], b"old".to_vec()));
    write_whole(&path, b"new").unwrap();
    assert_eq!((scratch.names(), fs::read(&path).unwrap()), (vec!["note.txt".to_owned()], b"new".to_vec()));
    let folder = write_whole(&scratch.0, b"").unwrap_err();
    assert!(matches!(folder, WriteError::Folder { .. }), "{folder:?}");
    let nowhere = write_whole(&scratch.0.join("no/note.txt"), b"").unwrap_err();
    assert!(matches!(nowhere, WriteError::NoFolder { .. }), "{nowhere:?}");
    let long = scratch.0.join("n".repeat(255));
    write_whole(&long, b"long").unwrap();
    assert_eq!(fs::read(&long).unwrap(), b"long");
}

#[test]
fn what_killed_writers_left_is_removed_and_what_others_write_is_not() {
    let scratch = Scratch::new();
    let path = scratch.0.join("s");
    // Names of earlier processes, one with this process's id.
    let own = format!(".s.{}-0123456789abcdef.tmp", std::process::id());
    scratch.file(".s.1.0.tmp", b"");
    scratch.file(&own, b"half");
    // Of other targets, or of people.
    let kept = [".s.1.tmp", ".s.x.0.tmp", ".s2.1.0.tmp", "s.1.0.tmp"];
    kept.iter().for_each(|name| drop(scratch.file(name, b"")));
    let other = NewFile::create(&path, Access::Usual).unwrap();
    write_whole(&path, b"new").unwrap();
    let mut expected: Vec<String> = kept.iter().map(ToString::to_string).collect();
    expected.push("s".to_owned());
    let mut names = scratch.names();
    names.retain(|name| !name.starts_with(&format!(".s.{}-", std::process::id())) || *name == own);
    expected.sort();
    assert_eq!(names, expected);
    other.file().write_all(b"newer").unwrap();
    other.finish().unwrap();
    assert_eq!((scratch.names(), fs::read(&path).unwrap()), (expected, b"newer".to_vec()));
}

#[cfg(unix)]
#[test]
fn links_are_replaced_and_modes_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let scratch = Scratch::new();
    let precious = scratch.file("precious", b"mine");
    let link = scratch.0.join("link");
    symlink(&precious, &link).unwrap();
    write_whole(&link, b"new").unwrap();
    assert_eq!((fs::read(&precious).unwrap(), fs::read(&link).unwrap()), (b"mine".to_vec(), b"new".to_vec()));
    assert!(!fs::symlink_metadata(&link).unwrap().is_symlink());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let own = scratch.0.join("own");
    write_stream(&own, Access::Private, |out| out.write_all(b"secret")).unwrap();
    assert_eq!(mode(&own), 0o600);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o640)).unwrap();
    for access in [Access::Private, Access::Usual] {
        write_stream(&own, access, |out| out.write_all(b"secret")).unwrap();
        assert_eq!(mode(&own), 0o640);
    }
    for system in ["/dev/null", "/dev/stdout", "/dev/fd/1"] {
        let refused = write_whole(Path::new(system), b"");
        assert!(matches!(refused, Err(WriteError::NotRegular { .. })), "{system}: {refused:?}");
    }
}
