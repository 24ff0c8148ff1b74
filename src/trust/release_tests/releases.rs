//! `release.json`, alone.

use super::*;

/// A release as its publisher writes it.
fn good() -> String {
    let model = ModelFile {
        file: PLAIN_FILE.into(),
        bytes: 10,
        plain_bytes: 10,
        plain_blake3: Blake3([7; 32]),
        sealed: false,
    };
    Release::new(parts(), model).unwrap().to_json()
}

#[test]
fn a_release_is_read_as_it_is_written() {
    let release = Release::parse(good().as_bytes()).unwrap();
    assert_eq!(release.to_json(), good());
    assert_eq!((release.version, release.floor, &release.name[..]), (7, 5, "kiosk"));
    let without = good().replace("  \"expires\": \"2027-12-01T00:00:00Z\",\n", "");
    assert_eq!(Release::parse(without.as_bytes()).unwrap().expires, None);
}

/// Changes of a release that are refused, whoever signs it: name, what is replaced, by what.
const LIES: &[(&str, &str, &str)] = &[
    ("format_of_another_version", "smolt-release/1", "smolt-release/2"),
    ("key_twice", "\"version\": 7,", "\"version\": 7, \"version\": 7,"),
    ("key_twice_with_other_value", "\"floor\": 5,", "\"floor\": 5, \"floor\": 1,"),
    ("key_unknown", "\"floor\": 5,", "\"floor\": 5, \"force\": true,"),
    ("key_unknown_inside", "\"sealed\": false", "\"sealed\": false, \"url\": \"x\""),
    ("key_missing", "\"floor\": 5,", ""),
    ("version_zero", "\"version\": 7", "\"version\": 0"),
    ("version_negative", "\"version\": 7", "\"version\": -7"),
    ("version_of_2_64", "\"version\": 7", "\"version\": 18446744073709551616"),
    ("version_of_2_64_less_1", "\"version\": 7", "\"version\": 18446744073709551615"),
    ("version_of_2_53", "\"version\": 7", "\"version\": 9007199254740992"),
    ("version_as_text", "\"version\": 7", "\"version\": \"7\""),
    ("version_as_fraction", "\"version\": 7", "\"version\": 7.0"),
    ("floor_above_version", "\"floor\": 5", "\"floor\": 8"),
    ("name_with_folder", "\"kiosk\"", "\"../kiosk\""),
    ("name_with_escape", "\"kiosk\"", "\"ki\\u001b[2Josk\""),
    ("name_not_ascii", "\"kiosk\"", "\"kıosk\""),
    ("name_empty", "\"kiosk\"", "\"\""),
    ("runner_not_numbers", "\"0.1.0\"", "\"0.1\""),
    ("runner_with_zeros", "\"0.1.0\"", "\"0.01.0\""),
    ("memory_zero", "\"memory\": 1048576", "\"memory\": 0"),
    ("created_without_zone", "2026-12-01T00:00:00Z", "2026-12-01T00:00:00"),
    ("expires_before_created", "2027-12-01T00:00:00Z", "2026-12-01T00:00:00Z"),
    ("model_elsewhere", "\"model.gguf\"", "\"/etc/passwd\""),
    ("model_sealed_by_name_only", "\"model.gguf\"", "\"model.gguf.age\""),
    ("model_sealed_by_word_only", "\"sealed\": false", "\"sealed\": true"),
    ("model_empty", "\"bytes\": 10,", "\"bytes\": 0,"),
    ("model_of_8_gib", "\"bytes\": 10,", "\"bytes\": 8589934592,"),
    ("model_longer_than_plain", "\"plain_bytes\": 10", "\"plain_bytes\": 9"),
    ("digest_short", "0707070707", "07070707"),
    ("digest_in_capitals", "\"0707", "\"0A07"),
    ("self_test_without_prompt", "What time is it?", ""),
    ("trailing_bytes", "}\n", "}\n{}"),
];

#[test]
fn lies_of_a_release_are_refused() {
    for (name, from, to) in LIES {
        let lie = good().replacen(from, to, 1);
        assert_ne!(lie, good(), "{name} changes nothing");
        // What is behind the last brace is only there once.
        let lie = if *name == "trailing_bytes" { good() + "{}" } else { lie };
        assert!(matches!(Release::parse(lie.as_bytes()), Err(TrustError::Refused(_))), "{name} was taken");
    }
}

#[test]
fn a_release_that_is_too_long_or_no_text_is_refused() {
    let long = good() + &" ".repeat(MAX_RELEASE_BYTES as usize);
    assert!(matches!(Release::parse(long.as_bytes()), Err(TrustError::Refused(Refusal::TooLong { .. }))));
    let deep = "[".repeat(60_000);
    for bytes in [
        &b""[..],
        b"\xff",
        b"\0",
        b"null",
        deep.as_bytes(),
        good().trim_end().trim_end_matches('}').as_bytes(),
    ] {
        assert!(matches!(Release::parse(bytes), Err(TrustError::Refused(Refusal::Json { .. }))));
    }
    let tokens = (0..=MAX_SELF_TEST_TOKENS).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let many = good().replace("1,\n      2,\n      3", &tokens);
    assert_ne!(many, good());
    assert!(matches!(Release::parse(many.as_bytes()), Err(TrustError::Refused(Refusal::Field { .. }))));
}

#[test]
fn line_ends_of_windows_are_whitespace_and_nothing_else() {
    let release = Release::parse(good().replace('\n', "\r\n").as_bytes()).unwrap();
    assert_eq!(release.to_json(), good());
}

fn runner() -> Runner<'static> {
    let version = Version::parse("0.1.0").unwrap();
    Runner { version, architectures: &["llama", "qwen2"], memory: Some(1 << 20), name: Some("kiosk") }
}

#[test]
fn what_this_computer_cannot_run_is_refused() {
    let release = Release::parse(good().as_bytes()).unwrap();
    release.check_runner(&runner()).unwrap();
    release.check_runner(&Runner { memory: None, name: None, ..runner() }).unwrap();
    let refused = |runner: Runner<'_>| release.check_runner(&runner).unwrap_err();
    assert!(matches!(refused(Runner { name: Some("till"), ..runner() }), Refusal::Name { .. }));
    let architectures = &["llama2"];
    assert!(matches!(refused(Runner { architectures, ..runner() }), Refusal::Architecture { .. }));
    let version = Version::parse("0.0.99").unwrap();
    assert!(matches!(refused(Runner { version, ..runner() }), Refusal::Runner { .. }));
    assert!(matches!(refused(Runner { memory: Some((1 << 20) - 1), ..runner() }), Refusal::Memory { .. }));
}

fn bounds() -> Bounds {
    Bounds { installed: 6, floor: 6, time: time("2026-12-24T00:00:00Z") }
}

#[test]
fn what_is_old_is_not_installed() {
    let release = Release::parse(good().as_bytes()).unwrap();
    release.check_install(&bounds()).unwrap();
    let refused = |bounds: Bounds| release.check_install(&bounds).unwrap_err();
    for installed in [7, 8, u64::MAX] {
        assert!(matches!(refused(Bounds { installed, ..bounds() }), Refusal::NotNewer { .. }));
    }
    assert!(matches!(refused(Bounds { floor: 8, ..bounds() }), Refusal::BelowFloor { .. }));
    assert!(matches!(release.check_floor(8), Err(Refusal::BelowFloor { .. })));
    release.check_floor(7).unwrap();
}

#[test]
fn time_blocks_installing_and_nothing_else() {
    let release = Release::parse(good().as_bytes()).unwrap();
    let at = |text| release.check_install(&Bounds { time: time(text), ..bounds() });
    at("2027-11-30T23:59:59Z").unwrap();
    assert!(matches!(at("2027-12-01T00:00:00Z"), Err(Refusal::Expired { .. })));
    // A computer without a clock may be a year behind, and not more.
    at("2025-12-01T00:00:00Z").unwrap();
    assert!(matches!(at("2025-11-29T00:00:00Z"), Err(Refusal::FromTheFuture { .. })));
    // What runs is not asked for the time at all: neither takes one.
    release.check_runner(&runner()).unwrap();
    release.check_floor(7).unwrap();
}

#[test]
fn a_self_test_takes_every_token() {
    let test = parts().self_test;
    test.judge(&[1, 2, 3]).unwrap();
    for wrong in [&[][..], &[1, 2], &[1, 2, 4], &[1, 2, 3, 4]] {
        assert!(matches!(test.judge(wrong), Err(Refusal::SelfTest { .. })));
    }
}
