//! Trust files: what they may say, how many signatures it takes, and how one follows another.

use super::*;

/// A trust file: name, key and roles of each, and the thresholds of release and trust.
pub(super) fn text(version: u64, keys: &[(&str, u8, &str)], thresholds: [usize; 2]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|(name, number, roles)| {
            let roles: Vec<_> = roles.split(' ').map(|role| format!("\"{role}\"")).collect();
            let pem = public(*number).to_pem().replace('\n', "\\n");
            format!("{{\"name\": \"{name}\", \"roles\": [{}], \"key\": \"{pem}\"}}", roles.join(", "))
        })
        .collect();
    let [release, trust] = thresholds;
    format!(
        "{{\"format\": \"smolt-trust/1\", \"version\": {version}, \"keys\": [{}], \"roles\": {{\"release\": {{\"threshold\": {release}}}, \"trust\": {{\"threshold\": {trust}}}}}}}",
        keys.join(", ")
    )
}

const THREE: &[(&str, u8, &str)] =
    &[("ann", 1, "release trust"), ("bob", 2, "release trust"), ("cy", 3, "release")];

fn policy(text: &str) -> Result<Policy, TrustError> {
    Policy::parse(text.as_bytes())
}

#[test]
fn a_trust_file_says_whose_signatures_count() {
    let policy = policy(&text(4, THREE, [2, 1])).unwrap();
    assert_eq!((policy.version(), policy.threshold(Role::Release), policy.threshold(Role::Trust)), (4, 2, 1));
    assert_eq!(policy.signers(Role::Trust).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(policy.signers(Role::Release).count(), 3);
    // It is told from a key by what it is.
    let authority = Authority::parse(&text(4, THREE, [2, 1]), "trust.json").unwrap();
    assert!(matches!(authority, Authority::Policy(_)));
}

/// Changes of a trust file that are refused: name, what is replaced, by what.
const LIES: &[(&str, &str, &str)] = &[
    ("format_of_another_version", "smolt-trust/1", "smolt-trust/2"),
    ("key_twice", "\"version\": 4", "\"version\": 4, \"version\": 4"),
    ("key_unknown", "\"version\": 4", "\"version\": 4, \"comment\": \"\""),
    ("key_unknown_inside", "\"name\": \"ann\"", "\"name\": \"ann\", \"url\": \"\""),
    ("threshold_twice", "{\"threshold\": 2}", "{\"threshold\": 2, \"threshold\": 1}"),
    (
        "role_twice",
        "\"trust\": {\"threshold\": 1}",
        "\"trust\": {\"threshold\": 1}, \"trust\": {\"threshold\": 1}",
    ),
    ("role_missing", ", \"trust\": {\"threshold\": 1}", ""),
    ("version_zero", "\"version\": 4", "\"version\": 0"),
    ("version_of_2_53", "\"version\": 4", "\"version\": 9007199254740992"),
    ("threshold_zero", "{\"threshold\": 2}", "{\"threshold\": 0}"),
    ("threshold_negative", "{\"threshold\": 2}", "{\"threshold\": -1}"),
    ("threshold_that_cannot_be_reached", "{\"threshold\": 2}", "{\"threshold\": 4}"),
    ("name_twice", "\"bob\"", "\"ann\""),
    ("name_not_ascii", "\"bob\"", "\"bób\""),
    ("role_unknown", "[\"release\"]", "[\"root\"]"),
    ("role_of_a_key_twice", "[\"release\"]", "[\"release\", \"release\"]"),
    ("role_none", "[\"release\"]", "[]"),
    ("key_of_no_kind", "-----BEGIN PUBLIC KEY-----", "-----BEGIN KEY-----"),
    ("expires_never_so_written", "\"version\": 4", "\"version\": 4, \"expires\": \"never\""),
    ("names_none", "\"version\": 4", "\"version\": 4, \"names\": []"),
    ("names_twice", "\"version\": 4", "\"version\": 4, \"names\": [\"a\", \"a\"]"),
    ("names_with_folder", "\"version\": 4", "\"version\": 4, \"names\": [\"../a\"]"),
];

#[test]
fn lies_of_a_trust_file_are_refused() {
    let good = text(4, THREE, [2, 1]);
    for (name, from, to) in LIES {
        let lie = good.replacen(from, to, 1);
        assert_ne!(lie, good, "{name} changes nothing");
        assert!(policy(&lie).is_err(), "{name} was taken");
    }
}

/// One key with two names would make two signatures of one.
#[test]
fn one_key_under_two_names_is_refused() {
    let twice = [("ann", 1, "release"), ("bob", 1, "release"), ("cy", 3, "trust")];
    let refusal = policy(&text(1, &twice, [2, 1])).unwrap_err();
    assert!(refusal.to_string().contains("same key"), "{refusal}");
}

#[test]
fn too_many_keys_and_too_long_files_are_refused() {
    let names: Vec<_> = (1..=33).map(|number| format!("key{number}")).collect();
    let keys: Vec<_> =
        names.iter().zip(1..).map(|(name, number)| (&name[..], number, "release trust")).collect();
    policy(&text(1, &keys[..32], [1, 1])).unwrap();
    assert!(policy(&text(1, &keys, [1, 1])).is_err());
    let long = text(1, THREE, [1, 1]) + &" ".repeat(MAX_POLICY_BYTES as usize);
    assert!(matches!(policy(&long), Err(TrustError::Refused(Refusal::TooLong { .. }))));
}

#[test]
fn a_private_key_in_a_trust_file_is_refused() {
    let good = text(1, THREE, [1, 1]);
    let pem = |pem: String| pem.replace('\n', "\\n");
    let lie = good.replace(&pem(public(2).to_pem()), &pem(private_pem(2)));
    assert!(matches!(policy(&lie), Err(TrustError::PrivateKey { .. })));
}

/// Takes a package signed by these keys, under a threshold of two.
fn taken(signers: &[u8], role: Role) -> Result<Manifest, TrustError> {
    let scratch = Scratch::new();
    let folder = unsigned(&scratch, "folder", None);
    let bundles: Vec<_> =
        signers.iter().map(|number| Bundle::read(&sign(&folder, *number)).unwrap()).collect();
    policy(&text(1, THREE, [2, 2])).unwrap().check(role, &bundles, None)
}

#[test]
fn two_of_three_are_enough_and_one_is_not() {
    for signers in [&[1, 2][..], &[3, 1], &[1, 2, 3], &[9, 1, 8, 3]] {
        assert_eq!(
            taken(signers, Role::Release).unwrap().signers().len(),
            signers.iter().filter(|n| **n < 4).count()
        );
    }
    for signers in [&[][..], &[1], &[9], &[1, 9], &[9, 8, 7]] {
        let refusal = taken(signers, Role::Release).unwrap_err();
        assert!(matches!(refusal, TrustError::Refused(Refusal::Threshold { .. })), "{refusal}");
    }
}

#[test]
fn a_key_that_signed_twice_counts_once() {
    let refusal = taken(&[1, 1], Role::Release).unwrap_err();
    assert!(
        matches!(refusal, TrustError::Refused(Refusal::Threshold { found: 1, needed: 2, .. })),
        "{refusal}"
    );
    assert!(taken(&[1, 1, 1, 1, 1, 1, 1, 1], Role::Release).is_err());
    // Eight are read, of which the last may be the second that counts.
    taken(&[1, 1, 1, 1, 1, 1, 1, 2], Role::Release).unwrap();
}

#[test]
fn a_key_without_the_role_does_not_count() {
    taken(&[1, 2], Role::Trust).unwrap();
    let refusal = taken(&[1, 3], Role::Trust).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::Threshold { found: 1, .. })), "{refusal}");
}

#[test]
fn two_signatures_over_different_contents_are_not_two() {
    let scratch = Scratch::new();
    let (first, second) = (unsigned(&scratch, "first", None), unsigned(&scratch, "second", None));
    fs::write(second.join("model.gguf"), "other").unwrap();
    let bundles =
        [(&first, 1), (&second, 2)].map(|(path, number)| Bundle::read(&sign(path, number)).unwrap());
    let policy = policy(&text(1, THREE, [2, 2])).unwrap();
    assert!(matches!(policy.check(Role::Release, &bundles, None), Err(TrustError::OtherContents { .. })));
}

#[test]
fn an_expired_trust_file_blocks_installing() {
    let text =
        text(1, THREE, [1, 1]).replace("\"version\"", "\"expires\": \"2027-01-01T00:00:00Z\", \"version\"");
    let policy = policy(&text).unwrap();
    policy.check_time(time("2026-12-31T23:59:59Z")).unwrap();
    assert!(matches!(policy.check_time(time("2027-01-01T00:00:00Z")), Err(Refusal::Expired { .. })));
}

/// A trust file as it lies on a server, signed by these keys.
fn file(text: &str, signers: &[u8]) -> TrustFile {
    let scratch = Scratch::new();
    let path = scratch.path(POLICY_FILE);
    fs::write(&path, text).unwrap();
    for number in signers {
        sign(&path, *number);
    }
    TrustFile::read(&path).unwrap()
}

/// From `ANN` alone to `BEA` alone.
const ANN: &[(&str, u8, &str)] = &[("ann", 1, "release trust")];
const BEA: &[(&str, u8, &str)] = &[("bea", 2, "release trust")];

fn current() -> Policy {
    policy(&text(4, ANN, [1, 1])).unwrap()
}

#[test]
fn the_next_trust_file_takes_both_sides() {
    let next = text(5, BEA, [1, 1]);
    assert_eq!(file(&next, &[1, 2]).follow(&current(), None).unwrap().version(), 5);
    assert_eq!(file(&next, &[2, 9, 1]).follow(&current(), None).unwrap().version(), 5);
}

#[test]
fn rotation_signed_by_one_side_only_is_refused() {
    let next = text(5, BEA, [1, 1]);
    for signers in [&[][..], &[1], &[2], &[9], &[1, 9], &[2, 9]] {
        let refusal = file(&next, signers).follow(&current(), None).unwrap_err();
        assert!(
            matches!(refusal, TrustError::Refused(Refusal::Threshold { role: "trust", .. })),
            "{refusal}"
        );
    }
}

#[test]
fn rotation_that_jumps_stays_or_goes_back_is_refused() {
    for version in [1, 3, 4, 6, 7, MAX_VERSION] {
        let refusal = file(&text(version, BEA, [1, 1]), &[1, 2]).follow(&current(), None).unwrap_err();
        assert!(matches!(refusal, TrustError::Refused(Refusal::Rotation { .. })), "{version}: {refusal}");
    }
}

#[test]
fn rotation_with_signatures_of_another_trust_file_is_refused() {
    let other = file(&text(5, ANN, [1, 1]), &[1]);
    let scratch = Scratch::new();
    let path = scratch.path(POLICY_FILE);
    fs::write(&path, text(5, BEA, [1, 1])).unwrap();
    let signatures: Vec<_> = [1, 2].map(|number| fs::read(sign(&path, number)).unwrap()).into();
    let swapped = TrustFile::parse(other.bytes(), &signatures).unwrap();
    assert!(swapped.follow(&current(), None).is_err());
    // One byte more, which means nothing to JSON.
    let longer = [&fs::read(&path).unwrap()[..], b"\n"].concat();
    assert!(TrustFile::parse(&longer, &signatures).unwrap().follow(&current(), None).is_err());
}

/// A signature over a folder with a trust file in it is over a release, not over the trust file.
#[test]
fn rotation_signed_as_a_folder_is_refused() {
    let scratch = Scratch::new();
    let folder = scratch.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(POLICY_FILE), text(5, ANN, [1, 1])).unwrap();
    let signature = fs::read(sign(&folder, 1)).unwrap();
    let file = TrustFile::parse(&fs::read(folder.join(POLICY_FILE)).unwrap(), &[signature]).unwrap();
    let refusal = file.follow(&current(), None).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::NotSigned { .. })), "{refusal}");
}

#[test]
fn a_chain_is_followed_to_its_end_or_not_at_all() {
    let chain = [file(&text(5, BEA, [1, 1]), &[1, 2]), file(&text(6, ANN, [1, 1]), &[2, 1])];
    assert_eq!(rotate(&current(), &chain, None).unwrap().version(), 6);
    assert_eq!(rotate(&current(), &[], None).unwrap().version(), 4);
    assert!(rotate(&current(), &chain[1..], None).is_err());
    let cut = [file(&text(5, BEA, [1, 1]), &[1, 2]), file(&text(6, ANN, [1, 1]), &[1])];
    assert!(rotate(&current(), &cut, None).is_err());
    let many: Vec<_> =
        (0..=MAX_ROTATIONS as u64).map(|step| file(&text(5 + step, ANN, [1, 1]), &[])).collect();
    let refusal = rotate(&current(), &many, None).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::TooManyRotations { .. })), "{refusal}");
}

/// A stolen key of a threshold of two can do nothing alone, not even make itself the only one.
#[test]
fn rotation_to_a_lower_threshold_takes_the_old_one() {
    let two = policy(&text(4, THREE, [2, 2])).unwrap();
    let next = text(5, ANN, [1, 1]);
    assert!(file(&next, &[1]).follow(&two, None).is_err());
    assert!(file(&next, &[1, 1]).follow(&two, None).is_err());
    file(&next, &[1, 2]).follow(&two, None).unwrap();
}

fn data(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oms").join(path)).unwrap()
}

/// A trust file with an entry of certificates, of this identity.
fn of_certificates(name: &str, identity: Option<&str>, more: &str) -> Result<Policy, TrustError> {
    let pem = data("certificates/root.pem").replace('\n', "\\n");
    let identity = identity.map_or(String::new(), |identity| format!(", \"identity\": \"{identity}\""));
    let entry = format!(
        "{{\"name\": \"{name}\", \"roles\": [\"release\"], \"certificate\": \"{pem}\"{identity}}}, {more}"
    );
    policy(&text(1, &[("ann", 1, "trust")], [1, 1]).replace("\"keys\": [", &format!("\"keys\": [{entry}")))
}

#[test]
fn owners_of_certificates_are_known_by_their_names() {
    let scratch = Scratch::new();
    let folder = unsigned(&scratch, "folder", None);
    let chain = scratch.path("chain.pem");
    fs::write(&chain, data("certificates/signer.pem") + &data("certificates/intermediate.pem")).unwrap();
    let key = scratch.path("key.pem");
    fs::write(&key, data("keys/p256.pem")).unwrap();
    sign_path(&folder, &Signer::read(&key, Some(&chain)).unwrap(), &SignOptions::default()).unwrap();
    let bundles = [Bundle::read(&folder.join("model.sig")).unwrap()];
    let check =
        |identity| of_certificates("cert", identity, "").unwrap().check(Role::Release, &bundles, None);
    let manifest = check(None).unwrap();
    let [SignedBy::Certificate { subject, .. }] = manifest.signers() else { panic!("one signed") };
    check(Some(subject)).unwrap();
    let refusal = check(Some("CN=somebody else")).unwrap_err();
    assert!(matches!(refusal, TrustError::Refused(Refusal::Threshold { found: 0, .. })), "{refusal}");
    assert!(refusal.to_string().contains("somebody else"), "{refusal}");
}

/// Entries that one certificate could be both of would make two of one.
#[test]
fn entries_that_one_certificate_fits_both_of_are_refused() {
    let pem = data("certificates/root.pem").replace('\n', "\\n");
    let more = |identity: &str| {
        format!("{{\"name\": \"more\", \"roles\": [\"release\"], \"certificate\": \"{pem}\"{identity}}}, ")
    };
    of_certificates("cert", Some("CN=a"), &more(", \"identity\": \"CN=b\"")).unwrap();
    assert!(of_certificates("cert", Some("CN=a"), &more(", \"identity\": \"CN=a\"")).is_err());
    assert!(of_certificates("cert", Some("CN=a"), &more("")).is_err());
    assert!(of_certificates("cert", None, &more(", \"identity\": \"CN=b\"")).is_err());
    // An identity without a certificate says nothing.
    let identity = "\"name\": \"ann\", \"identity\": \"CN=a\"";
    assert!(policy(&text(1, THREE, [1, 1]).replace("\"name\": \"ann\"", identity)).is_err());
}
