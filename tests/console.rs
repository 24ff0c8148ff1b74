//! What reaches a terminal: one way there, and nothing on it that a terminal obeys but what the programs mean.

use std::path::Path;

/// What writes to a terminal, or makes it do something.
const WAYS: &[&str] = &[
    "print!(",
    "println!(",
    "eprint!(",
    "eprintln!(",
    "dbg!(",
    "stdout()",
    "stderr()",
    "\\x1b",
    "\\u{1b}",
    "\\x07",
    "/dev/tty",
    "/dev/stdout",
    "/dev/stderr",
    "from_raw_fd",
    "set_message",
    "with_message",
    ".exit();",
];

/// Who may use one of them, how often, and why.
const ALLOWED: &[(&str, &str, usize, &str)] = &[
    ("src/cli/terminal.rs", "stdout()", 4, "asks how wide the terminal is and how it is set"),
    ("src/cli/terminal.rs", "stderr()", 1, "asks how wide the terminal is"),
    ("src/cli/chat/helper.rs", "\\x1b", 4, "colours of the line editor, which writes by itself"),
    ("src/files/held.rs", "stdout()", 1, "asks which file standard output is"),
    ("src/files/held.rs", "stderr()", 1, "an output that is /dev/stderr; JSON goes through smolt::console"),
    ("src/files/held.rs", "/dev/stdout", 1, "an output that is named so"),
    ("src/files/held.rs", "/dev/stderr", 1, "an output that is named so"),
    ("src/cli/line/mod.rs", ".exit();", 2, "clap's help, which holds nothing but texts of the program"),
    ("quantize/src/cli.rs", "stderr()", 1, "indicatif's bar, whose words are texts of the program"),
    ("quantize/src/cli.rs", ".exit();", 1, "clap's messages about arguments that are escaped"),
];

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test =
            ["tests", "tests.rs", "conformance.rs", "golden.rs"].iter().any(|name| path.ends_with(name));
        match () {
            () if is_test => {}
            () if path.is_dir() => sources(&path, found),
            () if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            () => {}
        }
    }
}

/// How often a text has a word that is not the end of a longer one, comments and tests left out.
fn count(text: &str, word: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_whole = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    lines
        .map(|line| {
            let found = line.match_indices(word);
            found.filter(|(at, _)| !word.starts_with(char::is_alphanumeric) || is_whole(&line[..*at])).count()
        })
        .sum()
}

#[test]
fn nothing_goes_around_the_console() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    sources(&root.join("src"), &mut files);
    sources(&root.join("quantize/src"), &mut files);
    assert!(files.len() > 200, "{} sources", files.len());
    let mut wrong = vec![];
    for path in files {
        let file = path.strip_prefix(root).unwrap().display().to_string();
        if file.starts_with("src/console/") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for way in WAYS {
            let allowed = ALLOWED.iter().find(|allowed| (allowed.0, allowed.1) == (&file, way));
            let (found, may) = (count(&text, way), allowed.map_or(0, |allowed| allowed.2));
            if found != may {
                wrong.push(format!("{file}: {way} {found} times, {may} allowed"));
            }
        }
    }
    assert!(wrong.is_empty(), "write with smolt::console instead:\n{}", wrong.join("\n"));
}

#[test]
fn ways_around_are_found() {
    let text = "fn a() { println!(\"x\"); io::stderr().lock(); error.use_stderr() }\n// print!(\n\
                #[cfg(test)]\nmod tests { eprintln!(\"y\") }";
    let found = |way| count(text, way);
    assert_eq!((found("println!("), found("print!("), found("stderr()"), found("eprintln!(")), (1, 0, 1, 0));
}
