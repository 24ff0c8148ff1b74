//! What the reference tool signed is taken, what anybody else changed is not.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::form;
use super::*;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oms").join(path)
}

fn key(name: &str) -> Authority {
    Authority::read(&data(&format!("keys/{name}.pub.pem"))).unwrap()
}

fn verify(path: &Path, signature: &Path, authority: &Authority) -> Result<Report, TrustError> {
    let options = VerifyOptions { signature: Some(signature.to_owned()), ignore: vec![], clock: None };
    verify_path(path, authority, &options)
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("smolt-trust-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Signatures by the reference tool, version 1.1.1, of the folder `model`, and whose key they are by.
const SIGNED: [(&str, &str); 5] = [
    ("p256-sha256", "p256"),
    ("p384-blake2b", "p384"),
    ("p521-blake3", "p521"),
    ("p256-shards", "p256"),
    ("p384-shards-blake2b", "p384"),
];

#[test]
fn what_the_reference_tool_signed_is_verified() {
    for (signature, by) in SIGNED {
        let path = data(&format!("signatures/{signature}.sig"));
        let report = verify(&data("model"), &path, &key(by)).unwrap();
        let expected = if signature.contains("shards") { (5, 40) } else { (6, 40) };
        assert_eq!((report.files, report.bytes), expected, "{signature}");
        assert_eq!(report.manifest.name(), "model");
        let other = if by == "p256" { "other" } else { "p256" };
        let refused = verify(&data("model"), &path, &key(other)).unwrap_err();
        assert!(matches!(refused, TrustError::OtherKey { .. }), "{refused}");
    }
    let report = verify(&data("model/model.gguf"), &data("signatures/single.sig"), &key("p256")).unwrap();
    assert_eq!((report.files, report.bytes), (1, 30));
}

#[test]
fn any_byte_of_a_signature_counts() {
    for (signature, by) in SIGNED {
        let bytes = fs::read(data(&format!("signatures/{signature}.sig"))).unwrap();
        let authority = key(by);
        let is_taken = |bytes: &[u8]| {
            Bundle::parse(bytes, "it").and_then(|bundle| authority.check(&[bundle], None)).is_ok()
        };
        assert!(is_taken(&bytes));
        // Of what the signature covers one change of some bytes is enough: whether it covers all, other tests say.
        let text = String::from_utf8(bytes.clone()).unwrap();
        let payload = text.find("\"payload\":\"").unwrap() + 11;
        let covered = payload + 8..payload + text[payload..].find('"').unwrap() - 8;
        for at in (0..bytes.len()).filter(|at| !covered.contains(at) || at % 16 == 0) {
            let mut changed = bytes.clone();
            for bit in if covered.contains(&at) || signature != "p256-sha256" { 0..1 } else { 0..8 } {
                changed[at] = bytes[at] ^ 1 << bit;
                assert!(!is_taken(&changed), "{signature}: bit {bit} of byte {at}");
            }
            for value in
                b" \n\t\"A0".iter().copied().filter(|_| signature == "p256-sha256" && !covered.contains(&at))
            {
                changed[at] = value;
                assert!(value == bytes[at] || !is_taken(&changed), "{signature}: byte {at} as {value}");
            }
            assert!(!is_taken(&bytes[..at]), "{signature}: {at} bytes");
            let removed = [&bytes[..at], &bytes[at + 1..]].concat();
            assert!(!is_taken(&removed), "{signature}: without byte {at}");
        }
    }
}

#[test]
fn a_text_has_one_form() {
    let value: serde_json::Value =
        serde_json::from_str(r#"{"a":[],"b":{"c":[1,{"d":null}]},"e":"x y"}"#).unwrap();
    let compact = value.to_string();
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    let spaced = r#"{"a": [], "b": {"c": [1, {"d": null}]}, "e": "x y"}"#.to_owned();
    let ends = format!("{pretty}\n");
    for text in [compact, pretty, spaced, ends] {
        assert_eq!(form::fault(&text), None, "{text}");
        for at in 0..text.len() {
            for white in [" ", "\n", "\t", "\r", "\n  "] {
                let more = format!("{}{white}{}", &text[..at], &text[at..]);
                let is_same = serde_json::from_str::<serde_json::Value>(&more).is_ok_and(|new| new == value);
                assert!(!is_same || form::fault(&more).is_some(), "{more:?}");
            }
        }
    }
}

#[test]
fn a_checked_reader_tells_at_the_end() {
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let read = |bytes: &[u8], parts: &[(u64, &[u8])], step: usize| {
        let part = |(end, of): &(u64, &[u8])| Part { end: *end, digest: Digest::of(HashType::Blake3, of) };
        let parts = parts.iter().map(part).collect();
        let mut reader = CheckedReader::new(io::Cursor::new(bytes.to_vec()), "it".to_owned(), parts);
        let (mut all, mut chunk) = (vec![], vec![0; step]);
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => {
                    assert_eq!(reader.read(&mut chunk).unwrap(), 0);
                    return Ok(all);
                }
                Ok(count) => all.extend_from_slice(&chunk[..count]),
                Err(error) => {
                    // Nobody who goes on takes it for the end.
                    reader.read(&mut chunk).unwrap_err();
                    return Err(error.downcast::<TrustError>().unwrap());
                }
            }
        }
    };
    for step in [1, 7, 300, 1000, 2000] {
        let whole = [(1000, &bytes[..])];
        let cut = [(300, &bytes[..300]), (600, &bytes[300..600]), (1000, &bytes[600..])];
        assert_eq!(read(&bytes, &whole, step).unwrap(), bytes);
        assert_eq!(read(&bytes, &cut, step).unwrap(), bytes);
        for at in [0, 299, 300, 600, 999] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(matches!(read(&changed, &whole, step), Err(TrustError::Digest { .. })));
            assert!(matches!(read(&changed, &cut, step), Err(TrustError::Digest { .. })));
        }
        assert!(matches!(read(&bytes[..999], &whole, step), Err(TrustError::Length { .. })));
        assert!(matches!(read(&[&bytes[..], b"!"].concat(), &cut, step), Err(TrustError::Length { .. })));
    }
    assert_eq!(read(b"", &[(0, b"")], 8).unwrap(), b"");
    assert!(matches!(read(b"x", &[(0, b"")], 8), Err(TrustError::Length { .. })));
}

#[test]
fn one_file_of_a_folder_is_read_while_it_is_checked() {
    let folder = Folder::new("open");
    let bytes = fs::read(data("model/model.gguf")).unwrap();
    let model = folder.write("model.gguf", &bytes);
    let opened = |by: &str| open_signed(&model, None, &key(by), None);
    let read = |by: &str| {
        let mut all = vec![];
        opened(by).and_then(|mut signed| {
            let read = signed.reader.read_to_end(&mut all);
            read.map_err(|error| TrustError::from_read(error, "it"))
        })?;
        Ok::<_, TrustError>(all)
    };
    assert!(matches!(opened("p256"), Err(TrustError::NoSignature { .. })));
    for (signature, by) in SIGNED {
        folder.write("model.sig", fs::read(data(&format!("signatures/{signature}.sig"))).unwrap());
        folder.write("model.gguf", &bytes);
        assert_eq!(read(by).unwrap(), bytes, "{signature}");
        assert_eq!(opened(by).unwrap().bytes, 30);
        folder.write("model.gguf", b"Weights of a model, 0123456789");
        assert!(matches!(read(by), Err(TrustError::Digest { .. })), "{signature}");
        folder.write("model.gguf", &bytes[..29]);
        assert!(read(by).is_err(), "{signature}");
    }
    // Its own signature comes first.
    folder.write("model.gguf.sig", fs::read(data("signatures/single.sig")).unwrap());
    folder.write("model.gguf", &bytes);
    assert_eq!(read("p256").unwrap(), bytes);
    assert!(matches!(read("other"), Err(TrustError::OtherKey { .. })));
    fs::remove_file(folder.0.join("model.gguf.sig")).unwrap();
    let other = folder.write("other.gguf", &bytes);
    assert!(matches!(open_signed(&other, None, &key("p384"), None), Err(TrustError::NotListed { .. })));
}

/// Signs what is in a folder, with all that can be chosen.
fn signed(path: &Path, by: &str, hash: HashType, shard_bytes: Option<u64>) -> (PathBuf, Manifest) {
    let key = SigningKey::read(&data(&format!("keys/{by}.pem"))).unwrap();
    let options = SignOptions { hash, shard_bytes, output: None, ignore: vec!["./notes/".to_owned()] };
    sign_path(path, &Signer::Key(key), &options).unwrap()
}

#[test]
fn what_is_signed_is_verified_and_nothing_else() {
    let folder = Folder::new("sign");
    for (name, bytes) in [("model.gguf", "weights"), ("b/c", "more"), ("b.c", "dots"), ("empty", "")] {
        folder.write(name, bytes);
    }
    folder.write("notes/a", "not signed");
    folder.write(".git/config", "not signed");
    for by in ["p256", "p384", "p521"] {
        for hash in HashType::ALL {
            for shard_bytes in [None, Some(3), Some(100)] {
                let (output, manifest) = signed(&folder.0, by, hash, shard_bytes);
                assert_eq!(output, folder.0.join("model.sig"));
                let report = verify_path(&folder.0, &key(by), &VerifyOptions::default()).unwrap();
                assert!(report.manifest.is_of_same(&manifest));
                folder.write("notes/b", "any");
                for (name, bytes) in
                    [("model.gguf", "Weights"), ("b/c", "mor"), ("d", "new"), ("b.c", "dots!")]
                {
                    let path = folder.0.join(name);
                    let before = fs::read(&path).ok();
                    folder.write(name, bytes);
                    let refused = verify_path(&folder.0, &key(by), &VerifyOptions::default());
                    assert!(matches!(refused, Err(TrustError::Differs { .. })), "{name}");
                    fs::remove_file(&path).unwrap();
                    if let Some(before) = before {
                        let refused = verify_path(&folder.0, &key(by), &VerifyOptions::default());
                        assert!(matches!(refused, Err(TrustError::Differs { .. })), "{name}");
                        folder.write(name, before);
                    }
                }
            }
        }
    }
    let model = folder.0.join("model.gguf");
    let (output, _) = signed(&model, "p256", HashType::Sha256, None);
    assert_eq!(output, folder.0.join("model.gguf.sig"));
    verify_path(&model, &key("p256"), &VerifyOptions::default()).unwrap();
}

#[test]
fn keys_come_in_the_forms_of_openssl() {
    let file = |name: &str| fs::read_to_string(data(&format!("keys/{name}.pem"))).unwrap();
    let public = PublicKey::from_pem(&file("p256.pub"), "it").unwrap();
    assert_eq!(public.to_pem(), file("p256.pub"));
    for name in ["p256", "p256.sec1"] {
        assert_eq!(SigningKey::from_pem(&file(name), "it").unwrap().public(), public, "{name}");
    }
    SigningKey::from_pem(&file("p256.parameters"), "it").map(|_| ()).unwrap();
    for (curve, name) in [(Curve::P384, "p384"), (Curve::P521, "p521")] {
        let key = SigningKey::from_pem(&file(name), "it").unwrap();
        assert_eq!(key.public().curve(), curve);
        assert_eq!(key.public().to_pem(), file(&format!("{name}.pub")));
    }
    let public = |name: &str| PublicKey::from_pem(&file(name), "it").unwrap_err();
    let private = |text: &str| SigningKey::from_pem(text, "it").map(|_| ()).unwrap_err();
    assert!(matches!(public("p256"), TrustError::PrivateKey { .. }));
    assert!(matches!(public("ed25519.pub"), TrustError::KeyKind { found, .. } if found.contains("Ed25519")));
    assert!(matches!(private(&file("p256.pub")), TrustError::PublicKey { .. }));
    assert!(matches!(private(&file("p256.encrypted")), TrustError::EncryptedKey { .. }));
    assert!(matches!(private("nothing"), TrustError::NoPem { .. }));
    let two = file("p256") + &file("p384");
    assert!(matches!(private(&two), TrustError::Keys { found: 2, .. }));
    let cut = file("p256").replace("-----END", "");
    assert!(matches!(private(&cut), TrustError::Pem { .. }));
}

/// A bundle over any payload, by a key of the tests.
fn bundle(payload: &str) -> Bundle {
    let key = SigningKey::read(&data("keys/p256.pem")).unwrap();
    let signature = key.sign(&super::bundle::encoded(payload.as_bytes())).unwrap();
    let hint = Some(key.public().fingerprint());
    let material = Material::Key { hint, pem: None, details: None };
    Bundle::new("it".to_owned(), material, payload.as_bytes().to_vec(), signature)
}

#[test]
fn a_statement_that_makes_no_sense_is_refused() {
    let digest = "ab".repeat(32);
    let root = Digest::of(HashType::Sha256, &[0xAB; 32]).hex();
    let good = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"m","digest":{{"sha256":"{root}"}}}}],"predicateType":"https://model_signing/signature/v1.0","predicate":{{"resources":[{{"name":"f","algorithm":"sha256","digest":"{digest}"}}],"serialization":{{"method":"files","hash_type":"sha256","allow_symlinks":false}}}}}}"#
    );
    let judge = |text: &str| key("p256").check(&[bundle(text)], None);
    assert_eq!(judge(&good).unwrap().resources()[0].path, "f");
    let f = r#""name":"f""#;
    let serialization = r#""method":"files","hash_type":"sha256""#;
    for (from, to) in [
        ("Statement/v1", "Statement/v2"),
        ("signature/v1.0", "signature/v1.1"),
        (f, r#""name":"../f""#),
        (f, r#""name":"/f""#),
        (f, r#""name":"f/""#),
        (f, r#""name":"a//f""#),
        (f, r#""name":"a/./f""#),
        (f, r#""name":"a/../f""#),
        (f, r#""name":"""#),
        (f, r#""name":"f\u0000""#),
        (f, r#""name":"f","name":"g""#),
        (r#""algorithm":"sha256""#, r#""algorithm":"blake3""#),
        (r#""algorithm":"sha256""#, r#""algorithm":"sha1""#),
        (&digest[..], &digest[..62]),
        (&digest[..], &digest.to_uppercase()),
        (&root[..], &"0".repeat(64)),
        (r#""digest":{"sha256""#, r#""digest":{"sha512""#),
        (serialization, r#""method":"files","hash_type":"md5""#),
        (serialization, r#""method":"pieces","hash_type":"sha256""#),
        (serialization, r#""method":"shards","hash_type":"sha256""#),
        (serialization, r#""method":"files","hash_type":"sha256","shard_size":8"#),
        (serialization, r#""method":"files","hash_type":"sha256","more":8"#),
        ("false", r#""false""#),
        (r#""subject":[{"#, r#""subject":[{"name":"n","digest":{}},{"#),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        judge(&text).unwrap_err();
    }
    let shards =
        good.replacen(serialization, r#""method":"shards","hash_type":"sha256","shard_size":8.0"#, 1);
    for (name, is_good) in [
        ("f:0:8", true),
        ("f:0:5", true),
        ("a:b:0:8", true),
        ("f", false),
        ("f:0:9", false),
        ("f:1:8", false),
        ("f:0:0", false),
        ("f:00:8", false),
        ("f:0:+8", false),
        ("f:0:99999999999999999999", false),
    ] {
        let text = shards.replacen(f, &format!(r#""name":"{name}""#), 1);
        assert_eq!(judge(&text).is_ok(), is_good, "{name}");
    }
}

#[test]
fn signatures_of_different_things_do_not_add_up() {
    let read = |name: &str| Bundle::read(&data(&format!("signatures/{name}.sig"))).unwrap();
    let (folder, single, foreign) = (read("p256-sha256"), read("single"), read("p384-blake2b"));
    let authority = key("p256");
    let refused = authority.check(&[folder.clone(), single], None).unwrap_err();
    assert!(matches!(refused, TrustError::OtherContents { .. }));
    let manifest = authority.check(&[foreign.clone(), folder.clone(), folder], None).unwrap();
    assert_eq!(manifest.signers().len(), 1);
    assert!(matches!(authority.check(&[foreign], None), Err(TrustError::OtherKey { .. })));
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_refused() {
    let folder = Folder::new("links");
    folder.write("model.gguf", "weights");
    signed(&folder.0, "p256", HashType::Sha256, None);
    let check = || verify_path(&folder.0, &key("p256"), &VerifyOptions::default());
    check().unwrap();
    let link = folder.0.join("link");
    for target in ["model.gguf", "/etc", "nowhere"] {
        std::os::unix::fs::symlink(target, &link).unwrap();
        assert!(matches!(check(), Err(TrustError::Link { .. })), "{target}");
        let key = SigningKey::read(&data("keys/p256.pem")).unwrap();
        let signing = sign_path(&folder.0, &Signer::Key(key), &SignOptions::default());
        assert!(matches!(signing, Err(TrustError::Link { .. })), "{target}");
        fs::remove_file(&link).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(&link).unwrap();
    assert!(matches!(check(), Err(TrustError::Special { .. })));
}

fn chain(name: &str) -> CertificateChain {
    CertificateChain::read(&data(&format!("certificates/{name}.pem"))).unwrap()
}

fn bundle_of(name: &str) -> Bundle {
    Bundle::read(&data(&format!("signatures/{name}.sig"))).unwrap()
}

/// So many years after 1970.
fn year(year: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_556_952 + 86_400)
}

#[test]
fn certificates_are_followed_to_a_root() {
    for (signature, root) in [("certificate", "root"), ("certificate-root", "root"), ("rsa", "rsa-root")] {
        let authority = Authority::read(&data(&format!("certificates/{root}.pem"))).unwrap();
        let path = data(&format!("signatures/{signature}.sig"));
        let report = verify(&data("model"), &path, &authority).unwrap();
        let [SignedBy::Certificate { subject, judged_at: None, .. }] = report.manifest.signers() else {
            panic!("{:?}", report.manifest.signers())
        };
        assert!(subject.contains("signer"), "{subject}");
        for at in [2021, 2026, 2119] {
            chain(root).verify(&bundle_of(signature), Some(year(at))).unwrap();
        }
        for at in [2019, 2121] {
            let refused = chain(root).verify(&bundle_of(signature), Some(year(at))).unwrap_err();
            assert!(matches!(refused, TrustError::Validity { .. }), "{refused}");
        }
    }
    let refused = chain("rsa-root").verify(&bundle_of("certificate"), None).unwrap_err();
    assert!(matches!(refused, TrustError::NoIssuer { .. }), "{refused}");
    let refused = chain("root").verify(&bundle_of("p256-sha256"), None).unwrap_err();
    assert!(matches!(refused, TrustError::OtherMethod { .. }), "{refused}");
    let refused = key("p256").check(&[bundle_of("certificate")], None).unwrap_err();
    assert!(matches!(refused, TrustError::OtherMethod { .. }), "{refused}");
    let refused = CertificateChain::read(&data("certificates/intermediate.pem")).unwrap_err();
    assert!(matches!(refused, TrustError::NoRoot { .. }), "{refused}");
}

/// Signatures by the reference tool with certificates that it refuses, and two whose times it passes over.
#[test]
fn certificates_that_may_not_are_refused() {
    let root = chain("root");
    for (name, why) in [
        ("critical", "which is not known"),
        ("usage", "may not sign"),
        ("no-usage", "may not sign"),
        ("other-issuer", "no certificate that is trusted"),
        ("not-ca", "is not one that may vouch"),
        ("no-certsign", "may not sign other"),
        ("path-length", "between it and the last"),
    ] {
        let refused = root.verify(&bundle_of(&format!("bad-{name}")), None).unwrap_err().to_string();
        assert!(refused.contains(why), "{name}: {refused}");
    }
    // Without a clock nobody can tell.
    for (name, then) in [("expired", 2020), ("future", 2119)] {
        let bundle = bundle_of(&format!("bad-{name}"));
        root.verify(&bundle, None).unwrap();
        root.verify(&bundle, Some(year(then))).unwrap();
        let refused = root.verify(&bundle, Some(year(2026))).unwrap_err();
        assert!(matches!(refused, TrustError::Validity { .. }), "{name}: {refused}");
    }
}

#[test]
fn any_byte_of_a_certificate_counts() {
    for (signature, root) in [("certificate", "root"), ("certificate-root", "root"), ("rsa", "rsa-root")] {
        let chain = chain(root);
        let bundle = bundle_of(signature);
        let Material::Certificates(ders) = bundle.material() else { panic!() };
        let remade = |ders: Vec<Vec<u8>>| bundle.with_material(Material::Certificates(ders));
        assert!(chain.verify(&remade(ders.clone()), None).is_ok());
        for which in 0..ders.len() {
            for at in 0..ders[which].len() {
                for bit in [0, 5] {
                    let mut changed = ders.clone();
                    changed[which][at] ^= 1 << bit;
                    let verdict = chain.verify(&remade(changed), None);
                    assert!(verdict.is_err(), "{signature}: bit {bit} of byte {at} of certificate {which}");
                }
            }
            let more = [&ders[which][..], &[0]].concat();
            let mut changed = ders.clone();
            changed[which] = more;
            assert!(chain.verify(&remade(changed), None).is_err());
        }
        // One that is not needed, and none at all.
        let foreign = bundle_of(if root == "root" { "rsa" } else { "certificate" });
        let Material::Certificates(others) = foreign.material() else { panic!() };
        let more = [&ders[..], &others[1..]].concat();
        assert!(matches!(chain.verify(&remade(more), None), Err(TrustError::Form { .. })));
        assert!(chain.verify(&remade(vec![]), None).is_err());
        let twice = [&ders[..], &ders[..1]].concat();
        assert!(matches!(chain.verify(&remade(twice), None), Err(TrustError::Form { .. })));
    }
}

#[test]
fn a_certificate_signs() {
    let folder = Folder::new("certificate");
    folder.write("model.gguf", "weights");
    let pem = |name: &str| fs::read_to_string(data(&format!("certificates/{name}.pem"))).unwrap();
    let beside = Folder::new("certificate-chain");
    let file = beside.write("chain.pem", pem("signer") + &pem("intermediate"));
    let signer = Signer::read(&data("keys/p256.pem"), Some(&file)).unwrap();
    sign_path(&folder.0, &signer, &SignOptions::default()).unwrap();
    let root = Authority::Chain(chain("root"));
    verify_path(&folder.0, &root, &VerifyOptions::default()).unwrap();
    let refused = Signer::read(&data("keys/other.pem"), Some(&file)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, TrustError::CertificateOfOtherKey { .. }), "{refused}");
}

#[test]
fn what_is_only_called_a_signature_is_not_ignored() {
    let folder = Folder::new("called");
    for name in ["a.b", "a/b", "model.gguf", "sub/größe.txt", ".hidden", "empty"] {
        folder.write(name, fs::read(data("model").join(name)).unwrap());
    }
    let signature = fs::read(data("signatures/p256-sha256.sig")).unwrap();
    folder.write("x.sig", &signature);
    let check = || verify(&folder.0, &folder.0.join("x.sig"), &key("p256"));
    check().unwrap();
    folder.write("x.2.sig", &signature);
    check().unwrap();
    let path = folder.write("x.4.sig", &signature);
    let TrustError::Differs { differences, .. } = check().unwrap_err() else { panic!() };
    assert_eq!(differences.unsigned, ["x.4.sig"]);
    fs::remove_file(path).unwrap();
    folder.write("x.2.sig", "no signature");
    assert!(matches!(check(), Err(TrustError::NotBundle { .. })));
}
