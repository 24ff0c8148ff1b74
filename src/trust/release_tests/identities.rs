//! Where secret keys may come from, and what is said of them.

use super::*;
use crate::files::ReadError;

fn read(source: &str) -> Result<usize, TrustError> {
    Identities::read(&IdentitySource::parse(source).unwrap()).map(|keys| keys.len())
}

/// A file with a mode.
fn file(scratch: &Scratch, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = scratch.path(name);
    fs::write(&path, content).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let _ = mode;
    path
}

#[test]
fn sources_are_told_by_their_names() {
    let parse = IdentitySource::parse;
    assert_eq!(parse("fd:3").unwrap(), IdentitySource::Descriptor(3));
    assert_eq!(
        parse("credential:model-identity").unwrap(),
        IdentitySource::Credential("model-identity".into())
    );
    assert_eq!(parse("keys/fd:3").unwrap(), IdentitySource::File("keys/fd:3".into()));
    for wrong in [
        "",
        "fd:",
        "fd:x",
        "fd:-1",
        "fd:+1",
        "fd:99999999999",
        "credential:",
        "credential:../x",
        "credential:a/b",
        "credential:.x",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn keys_are_read_as_age_keygen_writes_them() {
    let scratch = Scratch::new();
    let text =
        format!("# created: 2026-11-28\n# public key: age1…\n{}\n\n{}\r\n", IDENTITIES[0], IDENTITIES[1]);
    for mode in [0o400, 0o600] {
        let path = file(&scratch, &format!("key{mode:o}"), &text, mode);
        assert_eq!(read(path.to_str().unwrap()).unwrap(), 2);
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_refused() {
    let scratch = Scratch::new();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777, 0o440] {
        let path = file(&scratch, &format!("key{mode:o}"), IDENTITIES[0], mode);
        let refusal = read(path.to_str().unwrap()).unwrap_err();
        assert!(matches!(refusal, TrustError::Refused(Refusal::Identity { .. })), "{mode:o}: {refusal}");
    }
    // Who may give files away can say whose it is.
    let path = file(&scratch, "foreign", IDENTITIES[0], 0o600);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(read(path.to_str().unwrap()).unwrap_err().to_string().contains("somebody else"));
    }
}

#[cfg(unix)]
#[test]
fn a_key_behind_a_link_in_a_pipe_or_a_folder_is_refused() {
    let scratch = Scratch::new();
    let path = file(&scratch, "key", IDENTITIES[0], 0o600);
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let pipe = scratch.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for wrong in [&link, &pipe, &scratch.0] {
        let refusal = read(wrong.to_str().unwrap()).unwrap_err();
        assert!(matches!(refusal, TrustError::Refused(Refusal::Identity { .. })), "{refusal}");
    }
    let none = scratch.path("none");
    assert!(matches!(read(none.to_str().unwrap()), Err(TrustError::Read(ReadError::NotFound { .. }))));
}

#[test]
fn a_credential_is_found_where_the_system_says() {
    let scratch = Scratch::new();
    // With an access list its mode seems to let a group read it.
    file(&scratch, "model-identity", IDENTITIES[0], 0o440);
    let source = IdentitySource::Credential("model-identity".into());
    let with = |folder: Option<&Path>| {
        Identities::read_with(&source, folder.map(|folder| folder.as_os_str().to_owned()))
    };
    assert_eq!(with(Some(&scratch.0)).unwrap().len(), 1);
    assert!(with(None).is_err());
    assert!(with(Some(Path::new(""))).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_key_comes_through_a_descriptor() {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writeln!(writer, "{}", IDENTITIES[0]).unwrap();
    drop(writer);
    assert_eq!(read(&format!("fd:{}", reader.as_raw_fd())).unwrap(), 1);
    assert!(read("fd:999").is_err());
}

#[test]
fn what_is_no_key_is_refused_and_never_shown() {
    let cut = &IDENTITIES[0][..IDENTITIES[0].len() - 1];
    let long = format!("{}\n", IDENTITIES[0]).repeat(17);
    let longer = "#".repeat(20_000);
    let texts = [
        "",
        "\n# nothing\n",
        cut,
        "age1qyqsz",
        "AGE-PLUGIN-YUBIKEY-1AAAA",
        "AGE-SECRET-KEY-PQ-1AAAA",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "age-encryption.org/v1\n",
        &long,
        &longer,
    ];
    for text in texts {
        let refusal = Identities::read_from(text.as_bytes(), "key").map(|keys| keys.len()).unwrap_err();
        assert!(matches!(refusal, TrustError::Refused(Refusal::Identity { .. })));
        let said = format!("{refusal} {refusal:?}");
        assert!(!said.contains("GPQYQ"), "{said}");
    }
    assert!(Identities::read_from(&b"\xff\xfe"[..], "key").is_err());
}
