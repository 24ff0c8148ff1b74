//! Names, choices and aliases; downloads are tested by the command, in `tests/store.rs`.

use super::choose::label;
#[cfg(feature = "pull")]
use super::choose::{best, is_model, named};
use super::{HubName, Store, StoreError};

#[cfg(feature = "pull")]
fn strings(files: &[&str]) -> Vec<String> {
    files.iter().map(|file| (*file).to_owned()).collect()
}

#[test]
fn names_cannot_leave_the_folder() {
    for good in
        ["a/b", "Org-1/re.po_2", "a/b:c.gguf", "a/b:folder/c.gguf", "a/b:Q4_0", "a/b:name with space.gguf"]
    {
        assert_eq!(HubName::parse(good).unwrap().to_string(), good);
    }
    let bad = [
        "",
        "a",
        "a/",
        "/b",
        "../b",
        "a/..",
        "./b",
        "a/b/c",
        "a/b:",
        "a/b:../c",
        "a/b:c/../../d",
        "a/b:/etc/passwd",
        "a/b:c//d",
        "a/b:.hidden",
        "a/b:c\\d",
        "a/b:c:d",
        "a/b:c\0",
        "a/b:c\n",
        "a b/c",
        "-a/b",
        "a/b:-c",
        "a/b:c.",
        "a/b:1/2/3/4/5",
    ];
    for bad in bad {
        assert!(matches!(HubName::parse(bad), Err(StoreError::BadName { .. })), "{bad:?}");
    }
    assert!(HubName::parse(&format!("a/{}", "b".repeat(201))).is_err());
}

#[test]
fn labels_are_the_end_of_a_name() {
    assert_eq!(label("SmolLM2-135M-Instruct-Q4_K_M.gguf"), Some("Q4_K_M"));
    assert_eq!(label("folder/model.q4_0.GGUF"), Some("Q4_0"));
    assert_eq!(label("model_bf16.gguf"), Some("BF16"));
    assert_eq!(label("model-IQ4_NL.gguf"), Some("IQ4_NL"));
    assert_eq!(label("Q8_0.gguf"), Some("Q8_0"));
    assert_eq!(label("model-IQ2_XS.gguf"), Some("IQ2_XS"));
    assert_eq!(label("model-TQ2_0.gguf"), Some("TQ2_0"));
    assert_eq!(label("model-Q2_9.gguf"), None);
    assert_eq!(label("Q4_0-model.gguf"), None);
    assert_eq!(label("modelxQ4_0.gguf"), None);
}

#[cfg(feature = "pull")]
#[test]
fn the_smallest_that_is_good_is_chosen() {
    let files = strings(&["m-F16.gguf", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-IQ2_XS.gguf"]);
    assert_eq!(best(&files), Some(2));
    assert_eq!(best(&strings(&["anything.gguf"])), Some(0));
    assert_eq!(best(&strings(&["a.gguf", "b.gguf"])), None);
    assert_eq!(best(&[]), None);
    assert_eq!(named(&files, "q8_0"), Some(1));
    assert_eq!(named(&files, "m-F16"), Some(0));
    assert_eq!(named(&files, "m-F16.gguf"), Some(0));
    assert_eq!(named(&files, "Q5_0"), None);
    assert_eq!(named(&strings(&["a-Q4_0.gguf", "b-Q4_0.gguf"]), "Q4_0"), None, "two would fit");
    for no in ["m-00001-of-00002.gguf", "mmproj-m-F16.gguf", "m.imatrix.gguf", "README.md", "gguf", "é"] {
        assert!(!is_model(no), "{no}");
    }
    assert!(is_model("best-of-breed.gguf"));
}

struct Scratch(Store);

impl Scratch {
    fn new(name: &str) -> Self {
        let home = std::env::temp_dir().join(format!("smolt-store-{}-{name}", std::process::id()));
        std::fs::create_dir(&home).unwrap();
        Self(Store::at(home))
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.0.models().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.0.home()).unwrap();
    }
}

#[test]
fn models_are_found_by_every_name() {
    let scratch = Scratch::new("find");
    assert!(scratch.0.list().unwrap().is_empty(), "no folder, no models");
    scratch.put("org/one/m-Q4_0.gguf", b"1");
    scratch.put("org/two/n-Q4_0.gguf", b"22");
    scratch.put("org/two/sub/n-Q8_0.gguf", b"333");
    scratch.put("mine.gguf", b"4444");
    scratch.put("org/two/README.md", b"no model");
    scratch.put("org/two/.hidden.gguf", b"no model");
    let names: Vec<String> = scratch.0.list().unwrap().into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["mine.gguf", "org/one:m-Q4_0.gguf", "org/two:n-Q4_0.gguf", "org/two:sub/n-Q8_0.gguf"]);
    let cases = [
        ("mine", 4),
        ("mine.gguf", 4),
        ("org/one", 1),
        ("org/one:Q4_0", 1),
        ("org/two:q8_0", 3),
        ("n-Q8_0", 3),
        ("org/two:sub/n-Q8_0.gguf", 3),
        ("n-Q4_0.gguf", 2),
    ];
    for (name, bytes) in cases {
        assert_eq!(scratch.0.find(name).unwrap().bytes, bytes, "{name}");
    }
    assert!(
        matches!(scratch.0.find("org/two"), Err(StoreError::Ambiguous { matches, .. }) if matches.len() == 2)
    );
    for none in ["org", "org/three", "../mine", "README.md", "", "org/one:Q8_0"] {
        assert!(matches!(scratch.0.find(none), Err(StoreError::NotInstalled { .. })), "{none:?}");
    }
}

#[test]
fn aliases_name_models_and_files() {
    let scratch = Scratch::new("alias");
    let store = &scratch.0;
    scratch.put("org/one/m-Q4_0.gguf", b"1");
    assert_eq!(store.set_alias("small", "org/one").unwrap(), "org/one:m-Q4_0.gguf");
    assert_eq!(store.set_alias("same", "small").unwrap(), "org/one:m-Q4_0.gguf", "no chains of aliases");
    let file = store.home().join("elsewhere.bin");
    std::fs::write(&file, b"x").unwrap();
    store.set_alias("kiosk", file.to_str().unwrap()).unwrap();
    assert_eq!(store.resolve("kiosk").unwrap(), file);
    assert_eq!(store.resolve("small").unwrap(), store.models().join("org/one/m-Q4_0.gguf"));
    let names: Vec<String> = store.aliases().unwrap().into_iter().map(|alias| alias.name).collect();
    assert_eq!(names, ["kiosk", "same", "small"]);
    for bad in ["", "../x", "a/b", ".x", "-x", "a b", &"x".repeat(65)] {
        assert!(matches!(store.set_alias(bad, "org/one"), Err(StoreError::BadAlias { .. })), "{bad:?}");
    }
    assert!(matches!(store.set_alias("x", "nothing"), Err(StoreError::NotInstalled { .. })));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(store.resolve("kiosk"), Err(StoreError::Dangling { .. })));
    store.remove(&store.find("org/one").unwrap()).unwrap();
    assert!(matches!(store.resolve("small"), Err(StoreError::Dangling { .. })));
    assert!(!store.models().join("org").exists(), "empty folders go");
    assert!(store.models().exists());
    store.remove_alias("small").unwrap();
    assert!(matches!(store.remove_alias("small"), Err(StoreError::NoAlias { .. })));
}

#[test]
fn removing_takes_what_belongs_to_the_model_and_nothing_else() {
    let scratch = Scratch::new("remove");
    for file in
        ["m.gguf", "m.gguf.json", "m.gguf.avx2.pack", "m.gguf.notes.txt", "mm.gguf", "mm.gguf.avx2.pack"]
    {
        scratch.put(&format!("org/one/{file}"), b"1");
    }
    scratch.0.remove(&scratch.0.find("org/one:m.gguf").unwrap()).unwrap();
    let folder = std::fs::read_dir(scratch.0.models().join("org/one")).unwrap();
    let mut left: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["m.gguf.notes.txt", "mm.gguf", "mm.gguf.avx2.pack"]);
}

#[test]
fn no_default_can_be_cleared() {
    let scratch = Scratch::new("default");
    let store = &scratch.0;
    store.clear_default().unwrap();
    store.set_default("small").unwrap();
    assert_eq!(store.default_model().unwrap().as_deref(), Some("small"));
    store.clear_default().unwrap();
    assert_eq!(store.default_model().unwrap(), None);
    std::fs::create_dir(store.home().join("default")).unwrap();
    assert!(store.clear_default().is_err(), "what is there and cannot be removed is said");
}

#[test]
fn addresses_name_what_they_show() {
    let of = |address| super::name::of_address(address).map(|(name, at)| (name, at.map(str::to_owned)));
    let named = |name: &str, at: Option<&str>| Some((name.to_owned(), at.map(str::to_owned)));
    for (address, expected) in [
        ("https://huggingface.co/a/b", named("a/b", None)),
        ("HTTP://www.HuggingFace.co/a/b/", named("a/b", None)),
        ("hf.co/a/b:Q4_0", named("a/b:Q4_0", None)),
        ("hf://models/a/b", named("a/b", None)),
        ("hf://a/b?x=1#y", named("a/b", None)),
        ("https://huggingface.co/a/b/blob/main/sub/c.gguf", named("a/b:sub/c.gguf", Some("main"))),
        ("https://huggingface.co/a/b/resolve/v2/c.gguf?download=true", named("a/b:c.gguf", Some("v2"))),
        ("https://huggingface.co/a/b/tree/v2", named("a/b", Some("v2"))),
        ("https://huggingface.co/a/b/blob/main", named("a/b", None)),
        ("https://example.invalid/a/b", None),
        ("a/b", None),
        ("models/a", None),
    ] {
        assert_eq!(of(address), expected, "{address}");
    }
}

#[cfg(feature = "pull")]
#[test]
fn a_hash_survives_interruptions_and_no_other_errors() {
    use std::io::{Error, ErrorKind, Read};

    /// Fails once in each way it is told, then gives two bytes.
    struct Fails(Vec<ErrorKind>, &'static [u8]);

    impl Read for Fails {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.0.pop().map_or_else(|| self.1.read(out), |kind| Err(Error::from(kind)))
        }
    }

    let hash = |reader: &mut dyn Read| {
        let mut hash = sha2::Sha256::default();
        let bytes = super::files::add(&mut hash, &mut { reader });
        bytes.map(|bytes| (bytes, crate::files::sha256_hex(hash)))
    };
    let whole = hash(&mut &b"ab"[..]).unwrap();
    assert_eq!(whole.0, 2);
    assert_eq!(hash(&mut Fails(vec![ErrorKind::Interrupted; 2], b"ab")).unwrap(), whole);
    assert_eq!(
        hash(&mut Fails(vec![ErrorKind::BrokenPipe], b"ab")).unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

#[cfg(feature = "pull")]
#[test]
fn only_what_is_not_secure_is_not_tried_again() {
    use super::hub::{Failure, unreachable};
    use std::io::ErrorKind;

    let failure = |kind: ErrorKind| unreachable("https://hub.invalid/a", ureq::Error::Io(kind.into()));
    for kind in [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset, ErrorKind::TimedOut] {
        assert!(matches!(failure(kind), Failure::Later(StoreError::Network { .. }, _)), "{kind}");
    }
    // A certificate that nobody vouches for.
    assert!(matches!(failure(ErrorKind::InvalidData), Failure::Final(StoreError::NotSecure { .. })));
}
