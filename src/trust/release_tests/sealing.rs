//! Sealed models: what was changed, cut, put together anew or made by somebody else is refused.

use std::io::Cursor;

use super::super::seal::{LOW_ORDER, MAX_STANZAS, unseal};
use super::*;

fn seal(recipients: &Recipients, plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![];
    recipients.seal(plain, &mut sealed).unwrap();
    sealed
}

fn open(sealed: &[u8], identities: &Identities) -> Result<Vec<u8>, TrustError> {
    let mut plain = vec![];
    let read = unseal(Cursor::new(sealed), "sealed", identities)?.read_to_end(&mut plain);
    read.map(|_| plain).map_err(|error| trust_error(error, "sealed"))
}

/// Where the payload begins: after the header's own code.
fn payload(sealed: &[u8]) -> usize {
    let code = sealed.windows(5).position(|window| window == b"\n--- ").unwrap() + 1;
    code + sealed[code..].iter().position(|byte| *byte == b'\n').unwrap() + 1
}

const NONCE: usize = 16;
const CHUNK: usize = (64 << 10) + 16;

#[test]
fn what_is_sealed_comes_out_for_each_recipient() {
    let ((first, _), (second, _)) = (identity(0), identity(1));
    let keys = IDENTITIES.map(|text| text.parse::<age::x25519::Identity>().unwrap().to_public().to_string());
    let both = Recipients::parse(&keys).unwrap();
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 150_000] {
        let plain = &[model_bytes(), model_bytes()].concat()[..length];
        let sealed = seal(&both, plain);
        assert_eq!(open(&sealed, &first).unwrap(), plain);
        assert_eq!(open(&sealed, &second).unwrap(), plain);
    }
}

#[test]
fn recipients_that_are_none_are_refused() {
    let good = identity(0).1;
    let texts = IDENTITIES.map(|text| text.parse::<age::x25519::Identity>().unwrap().to_public().to_string());
    drop(good);
    assert!(Recipients::parse(&[""; 0]).is_err());
    assert!(Recipients::parse(&[&texts[0], &texts[0]]).is_err());
    for text in
        ["", "age1", "ssh-ed25519 AAAA", IDENTITIES[0], &texts[0].to_uppercase()[1..], &texts[0][..40]]
    {
        assert!(Recipients::parse(&[text]).is_err(), "{text}");
    }
}

/// Each point of low order gives a shared secret of zeros, for which the library of age ends the program.
#[test]
fn low_order_recipient() {
    for low in LOW_ORDER {
        let recipient: age::x25519::Recipient = low.parse().unwrap();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let sealed =
            std::panic::catch_unwind(|| age::Encryptor::with_recipients(std::iter::once(&recipient as _)));
        std::panic::set_hook(usual);
        assert!(sealed.is_err(), "{low} is no point of low order");
        assert!(Recipients::parse(&[low]).is_err(), "{low} was taken");
    }
}

/// A stanza whose share is such a point, before the right one.
#[test]
fn low_order_share_in_a_stanza() {
    let (identities, recipients) = identity(0);
    let sealed = seal(&recipients, b"model");
    let first = b"age-encryption.org/v1\n".len();
    for share in
        ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    {
        let stanza = format!("-> X25519 {share}\n{}\n", "A".repeat(43));
        let forged = [&sealed[..first], stanza.as_bytes(), &sealed[first..]].concat();
        assert!(open(&forged, &identities).is_err());
    }
}

#[test]
fn ten_thousand_stanzas() {
    let (identities, recipients) = identity(0);
    let sealed = seal(&recipients, b"model");
    let first = b"age-encryption.org/v1\n".len();
    let stanza = format!("-> X25519 {}\n{}\n", "A".repeat(43), "A".repeat(43));
    let started = std::time::Instant::now();
    for count in [MAX_STANZAS, 10_000, 100_000] {
        let forged = [&sealed[..first], stanza.repeat(count).as_bytes(), &sealed[first..]].concat();
        let refusal = open(&forged, &identities).unwrap_err();
        assert!(matches!(refusal, TrustError::Refused(Refusal::Sealed { .. })), "{refusal}");
    }
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn header_without_end() {
    let (identities, _) = identity(0);
    for endless in ["-> X25519 a\n", "a", "a\n", "\n", "--- "] {
        let mut forged = b"age-encryption.org/v1\n".to_vec();
        forged.extend(endless.repeat(200_000).as_bytes());
        let refusal = open(&forged, &identities).unwrap_err();
        assert!(matches!(refusal, TrustError::Refused(Refusal::Sealed { .. })), "{endless:?}: {refusal}");
    }
    for cut in [
        &b""[..],
        b"age",
        b"age-encryption.org/v2\n--- x\n",
        b"age-encryption.org/v1\n",
        b"age-encryption.org/v1\n-> X",
    ] {
        assert!(open(cut, &identities).is_err());
    }
}

#[test]
fn other_kinds_of_sealed_files() {
    let (identities, recipients) = identity(0);
    let armor = b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n";
    assert!(open(armor, &identities).is_err());
    // A passphrase costs what its sender wants; it is not even tried.
    let scrypt = format!(
        "age-encryption.org/v1\n-> scrypt {} 30\n{}\n--- {}\n",
        "A".repeat(22),
        "A".repeat(43),
        "A".repeat(43)
    );
    let forged = [scrypt.as_bytes(), &[0; 64]].concat();
    let started = std::time::Instant::now();
    assert!(open(&forged, &identities).is_err());
    assert!(started.elapsed().as_secs() < 5);
    drop(recipients);
}

#[test]
fn every_bit_of_the_header_counts() {
    let (identities, recipients) = identity(0);
    let sealed = seal(&recipients, b"model");
    for bit in 0..8 * sealed.len() {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bad, &identities).is_err(), "bit {bit} of byte {}", bit / 8);
    }
    for length in 0..sealed.len() {
        assert!(open(&sealed[..length], &identities).is_err(), "cut to {length}");
    }
}

/// Three chunks of a payload, put together in other ways.
#[test]
fn chunks_swapped_dropped_doubled_and_cut() {
    let (identities, recipients) = identity(0);
    let plain = [model_bytes(), model_bytes()].concat();
    let sealed = seal(&recipients, &plain[..3 * 65_536]);
    let (head, chunks) = sealed.split_at(payload(&sealed) + NONCE);
    let [a, b, c]: [&[u8]; 3] = chunks.chunks(CHUNK).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(open(&[head, a, b, c].concat(), &identities).unwrap(), plain[..3 * 65_536]);
    let forged: &[(&str, &[&[u8]])] = &[
        ("swapped", &[b, a, c]),
        ("first dropped", &[b, c]),
        ("middle dropped", &[a, c]),
        ("last dropped", &[a, b]),
        ("all dropped", &[]),
        ("middle doubled", &[a, b, b, c]),
        ("last doubled", &[a, b, c, c]),
        ("last first", &[c]),
        ("cut in the last", &[a, b, &c[..1000]]),
        ("cut to a code", &[a, b, &c[..16]]),
        ("cut below a code", &[a, b, &c[..15]]),
        ("byte after the end", &[a, b, c, b"x"]),
        ("empty last chunk", &[a, b, c, &[0; 16]]),
    ];
    for (name, parts) in forged {
        let bytes = [head, &parts.concat()].concat();
        assert!(open(&bytes, &identities).is_err(), "{name} was taken");
    }
}

/// Anybody can seal anything to a known recipient: what comes out is compared with the signed release.
#[test]
fn a_strangers_valid_age_file() {
    let scratch = Scratch::new();
    let (identities, recipients) = identity(0);
    let folder = unsigned(&scratch, "sealed", Some(&recipients));
    sign(&folder, 1);
    let path = folder.join(SEALED_FILE);
    let own = fs::read(&path).unwrap();
    let mut evil = model_bytes();
    evil[100_000] ^= 1;
    // As long as the right one, so that nothing but the content tells.
    let strange = loop {
        let strange = seal(&recipients, &evil);
        if strange.len() == own.len() {
            break strange;
        }
    };
    assert_eq!(open(&strange, &identities).unwrap(), evil);
    fs::write(&path, &strange).unwrap();
    let package = Package::open(&folder).unwrap().check(&authority(1), None).unwrap();
    assert!(matches!(read(&package, Some(&identities)), Err(TrustError::Refused(Refusal::Changed { .. }))));
    assert!(package.check_model().is_err());
    // The right model, sealed by somebody else: it loads, but it is not what was signed to be carried.
    let again = loop {
        let again = seal(&recipients, &model_bytes());
        if again.len() == own.len() {
            break again;
        }
    };
    fs::write(&path, &again).unwrap();
    let package = Package::open(&folder).unwrap().check(&authority(1), None).unwrap();
    assert_eq!(read(&package, Some(&identities)).unwrap(), model_bytes());
    assert!(package.check_model().is_err());
}

/// A release whose numbers are not those of what is sealed: the plain bytes are counted.
#[test]
fn plain_model_shorter_and_longer_than_released() {
    let scratch = Scratch::new();
    let (identities, recipients) = identity(0);
    for (name, change) in [("longer", 1_i64), ("shorter", -1)] {
        let folder = unsigned(&scratch, name, Some(&recipients));
        let path = folder.join(RELEASE_FILE);
        let plain = model_bytes().len() as i64;
        let lie =
            fs::read_to_string(&path).unwrap().replace(&plain.to_string(), &(plain + change).to_string());
        fs::write(&path, lie).unwrap();
        sign(&folder, 1);
        let package = Package::open(&folder).unwrap().check(&authority(1), None).unwrap();
        package.check_model().unwrap();
        let refusal = read(&package, Some(&identities)).unwrap_err();
        let is_right = match change {
            1 => matches!(refusal, TrustError::Refused(Refusal::Truncated { .. })),
            _ => matches!(refusal, TrustError::Refused(Refusal::Overlong { .. })),
        };
        assert!(is_right, "{name}: {refusal}");
    }
}
