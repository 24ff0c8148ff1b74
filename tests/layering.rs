//! The arrow of the layers: a module uses only modules below it.

mod circles;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module and what it may use of the crate.
const LAYERS: &[(&str, &[&str])] = &[
    ("blocks", &[]),
    ("console", &[]),
    ("files", &[]),
    ("gguf", &["runtime", "blocks", "files"]),
    ("runtime", &[]),
    ("kernels", &["runtime", "blocks"]),
    ("model", &["kernels", "runtime", "gguf", "blocks", "files"]),
    ("text", &["gguf", "blocks", "files"]),
    ("generate", &["model", "text", "kernels", "gguf", "files"]),
    ("ask", &["generate", "text", "runtime", "files"]),
    (
        "eval",
        &["console", "ask", "generate", "model", "text", "kernels", "runtime", "gguf", "blocks", "files"],
    ),
    ("store", &["files"]),
    ("trust", &["files"]),
    ("stats", &["generate", "files"]),
    ("load", &["generate", "model", "text", "kernels", "gguf"]),
    ("updates", &["trust", "files"]),
    ("serve", &["load", "eval", "ask", "generate", "model", "text", "files"]),
    (
        "cli",
        &[
            "serve", "updates", "load", "eval", "store", "trust", "stats", "ask", "generate", "model",
            "text", "kernels", "runtime", "gguf", "blocks", "files", "console",
        ],
    ),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Crate modules that a source text names: `crate::x` and `smolt::x`, also in groups.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::").chain(text.match_indices("smolt::")) {
        let rest = &text[at + 7..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut start = true;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if start && c.is_alphabetic() {
                    found.insert(word(&group[i..]));
                }
                start = depth == 1 && (c == ',' || (start && c.is_whitespace()));
            }
        } else {
            found.insert(word(rest));
        }
    }
    found
}

#[test]
fn modules_use_only_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = vec![];
    let names: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    for (module, allowed) in LAYERS {
        let mut files = vec![];
        sources(&src.join(module), &mut files);
        assert!(!files.is_empty(), "no sources in {module}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for used in uses(&text) {
                if names.contains(&used[..]) && used != *module && !allowed.contains(&&used[..]) {
                    wrong.push(format!("{} uses {used}", file.display()));
                }
            }
        }
    }
    let modules = std::fs::read_dir(&src).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(modules, LAYERS.len(), "every module of src has its layer here");
    assert!(wrong.is_empty(), "wrong arrows:\n{}", wrong.join("\n"));
}

#[test]
fn uses_are_found_in_every_form() {
    let text = "use crate::a::b; use crate::{c::d, e, f::{g, h}}; crate::i::j(); use smolt::{\n    k::L,\n    m,\n};";
    let expected: BTreeSet<String> = ["a", "c", "e", "f", "i", "k", "m"].map(String::from).into();
    assert_eq!(uses(text), expected);
}
