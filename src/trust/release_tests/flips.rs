//! One bit changed anywhere: nothing is taken.

use std::io;

use super::super::plain::PlainReader;
use super::super::seal::unseal;
use super::*;

/// Random flips of the model, and of all before it: each of these may cost the check of a signature.
const PAYLOAD_FLIPS: usize = 90_000;
const HEAD_FLIPS: usize = 10_000;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// A small package, so that each flip is quick.
fn small(scratch: &Scratch, recipients: Option<&Recipients>) -> Vec<u8> {
    let model = scratch.path("small.gguf");
    fs::write(&model, &model_bytes()[..777]).unwrap();
    let folder = scratch.path("small");
    publish(&model, &folder, recipients, parts()).unwrap();
    sign(&folder, 1);
    archive(&folder)
}

/// Takes an archive from memory: as installing does, and as loading does.
fn taken(tar: &[u8], identities: Option<&Identities>) -> [bool; 2] {
    let mut from = tar;
    let head = Head::read(&mut from, "flipped").and_then(|head| head.check(&authority(1), None));
    head.map_or([false; 2], |head| taken_after(&head, from, identities))
}

/// Takes what follows a good head.
fn taken_after(head: &CheckedHead, from: &[u8], identities: Option<&Identities>) -> [bool; 2] {
    let is_carried = io::copy(&mut head.carried(from), &mut io::sink()).is_ok();
    let model = &head.release().model;
    let Some(bytes) = from.get(..model.bytes as usize) else { return [is_carried, false] };
    let plain: Box<dyn Read> = match identities {
        None => Box::new(bytes),
        Some(identities) => match unseal(bytes, "flipped", identities) {
            Ok(plain) => Box::new(plain),
            Err(_) => return [is_carried, false],
        },
    };
    let mut reader = PlainReader::new(plain, "flipped", model.plain_bytes, model.plain_blake3);
    [is_carried, io::copy(&mut reader, &mut io::sink()).is_ok()]
}

fn flip(tar: &mut [u8], bit: usize) {
    tar[bit / 8] ^= 1 << (bit % 8);
}

#[test]
fn a_hundred_thousand_flips_of_a_package_are_refused() {
    let scratch = Scratch::new();
    let mut tar = small(&scratch, None);
    assert_eq!(taken(&tar, None), [true, true]);
    let good = Head::read(&mut &tar[..], "good").unwrap().check(&authority(1), None).unwrap();
    let head = good.bytes().len();
    let mut random = Random(18);
    for _ in 0..HEAD_FLIPS {
        let bit = random.below(8 * head);
        flip(&mut tar, bit);
        assert_eq!(taken(&tar, None), [false; 2], "bit {bit} of the head");
        flip(&mut tar, bit);
    }
    for _ in 0..PAYLOAD_FLIPS {
        let bit = 8 * head + random.below(8 * 777);
        flip(&mut tar, bit);
        assert_eq!(taken_after(&good, &tar[head..], None), [false; 2], "bit {bit}");
        flip(&mut tar, bit);
    }
    // Every bit between and after: installing sees them all.
    for bit in 8 * (head + 777)..8 * tar.len() {
        flip(&mut tar, bit);
        assert!(!taken_after(&good, &tar[head..], None)[0], "bit {bit}");
        flip(&mut tar, bit);
    }
    assert_eq!(taken(&tar, None), [true, true]);
}

#[test]
fn flips_of_a_sealed_package_are_refused() {
    let scratch = Scratch::new();
    let (identities, recipients) = identity(0);
    let mut tar = small(&scratch, Some(&recipients));
    assert_eq!(taken(&tar, Some(&identities)), [true, true]);
    let good = Head::read(&mut &tar[..], "good").unwrap().check(&authority(1), None).unwrap();
    let (head, bytes) = (good.bytes().len(), good.release().model.bytes as usize);
    let mut random = Random(19);
    for _ in 0..3_000 {
        let bit = 8 * head + random.below(8 * bytes);
        flip(&mut tar, bit);
        assert_eq!(taken_after(&good, &tar[head..], Some(&identities)), [false; 2], "bit {bit}");
        flip(&mut tar, bit);
    }
}

#[test]
fn flips_of_a_trust_file_and_its_signatures_are_refused() {
    let keys: &[(&str, u8, &str)] = &[("ann", 1, "release trust")];
    let current = Policy::parse(policies::text(4, keys, [1, 1]).as_bytes()).unwrap();
    let scratch = Scratch::new();
    let path = scratch.path(POLICY_FILE);
    fs::write(&path, policies::text(5, keys, [1, 1])).unwrap();
    let mut signature = fs::read(sign(&path, 1)).unwrap();
    let mut file = fs::read(&path).unwrap();
    let is_taken = |file: &[u8], signature: &[u8]| {
        TrustFile::parse(file, &[signature.to_vec()]).is_ok_and(|file| file.follow(&current, None).is_ok())
    };
    assert!(is_taken(&file, &signature));
    for bit in (0..8 * file.len()).step_by(3) {
        flip(&mut file, bit);
        assert!(!is_taken(&file, &signature), "bit {bit} of the file");
        flip(&mut file, bit);
    }
    for bit in (0..8 * signature.len()).step_by(3) {
        flip(&mut signature, bit);
        assert!(!is_taken(&file, &signature), "bit {bit} of the signature");
        flip(&mut signature, bit);
    }
}
