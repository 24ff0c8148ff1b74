//! Each `unsafe` has a reason, and stands where it may.

use std::path::Path;
use std::process::Command;

/// Modules that may hold unsafe code.
const MAY: &[&str] = &[
    "src/runtime/pool.rs",
    "src/runtime/ending.rs",
    "src/runtime/secret.rs",
    "src/gguf/source.rs",
    "src/kernels/",
];

/// What the script prints, and whether all is well; nothing where there is no Python.
fn list(arguments: &[&str], root: &Path) -> Option<(bool, String)> {
    let script = crate::shared::repository("scripts/unsafe_list.py");
    let Ok(done) = Command::new("python3").arg(script).args(arguments).arg(root).output() else {
        eprintln!("SKIPPED: no python3 to list unsafe code");
        return None;
    };
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    Some((done.status.success(), String::from_utf8(done.stdout).unwrap()))
}

#[test]
fn every_unsafe_has_a_reason_and_a_place() {
    let root = crate::shared::repository(".");
    let Some((fine, missing)) = list(&["--check"], &root) else { return };
    assert!(fine, "say why it is sound, in a comment that begins with SAFETY:\n{missing}");
    let (_, all) = list(&[], &root).unwrap();
    assert!(all.lines().filter(|line| line.starts_with("* ")).count() > 100, "{all}");
    for file in all.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(MAY.iter().any(|may| file.starts_with(may)), "{file} may hold no unsafe code");
    }
}

#[test]
fn missing_reasons_are_found() {
    let root = std::env::temp_dir().join(format!("smolt-unsafe-{}", std::process::id()));
    std::fs::create_dir_all(root.join("src/a")).unwrap();
    let texts = [
        ("src/a/mod.rs", "//! Words.\n\nfn a() {\n    // It is fine.\n    unsafe { b() }\n}\n"),
        (
            "src/b.rs",
            "/// # Safety\n///\n/// The caller's.\nunsafe fn b() {\n    // SAFETY: known.\n    unsafe { c() }\n}\n",
        ),
        ("src/c.rs", "unsafe impl Send for C {}\nfn d() { let x = \"unsafe { }\"; } // unsafe {\n"),
        (
            "src/d.rs",
            "// SAFETY: of all.\nimpl D {\n    fn e() {\n        let y =\n            unsafe { f() };\n    }\n}\n",
        ),
    ];
    for (name, text) in texts {
        std::fs::write(root.join(name), text).unwrap();
    }
    if let Some((fine, missing)) = list(&["--check"], &root) {
        let found: Vec<&str> = missing.lines().filter_map(|line| line.split(" without").next()).collect();
        assert_eq!((fine, found), (false, vec!["src/a/mod.rs:5: block", "src/c.rs:1: impl"]), "{missing}");
    }
    std::fs::remove_dir_all(root).unwrap();
}
