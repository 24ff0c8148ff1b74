//! What the library says is about values: options and variables are of the command line.

use std::path::{Path, PathBuf};

/// Rooms that are of the command line, and words that others may have: variables that are read, other programs, CSS.
const OF_THE_COMMAND_LINE: [&str; 2] = ["cli", "store"];
const ALLOWED: [&str; 3] = ["SMOLT_ISA", "iconv", "--accent"];

/// The string literals of Rust source, with their lines; those of tests at its end are left out.
fn literals(source: &str) -> Vec<(usize, String)> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let chars: Vec<char> = source.chars().collect();
    let (mut at, mut line, mut found) = (0, 1, vec![]);
    while at < chars.len() {
        match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                continue;
            }
            // A character, not a lifetime.
            '\'' if chars.get(at + 1) == Some(&'\\') => at += 2,
            '\'' if chars.get(at + 2) == Some(&'\'') => at += 2,
            '"' => {
                let hashes = chars[..at].iter().rev().take_while(|c| **c == '#').count();
                let is_raw = at > hashes && chars[at - 1 - hashes] == 'r';
                let (start, mut text) = (line, String::new());
                at += 1;
                while at < chars.len() {
                    let ends = !is_raw
                        || chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
                    match chars[at] {
                        '"' if ends => break,
                        '\\' if !is_raw => {
                            text.push(chars[at]);
                            at += 1;
                        }
                        _ => {}
                    }
                    line += usize::from(chars[at] == '\n');
                    text.push(chars[at]);
                    at += 1;
                }
                found.push((start, text));
            }
            '\n' => line += 1,
            _ => {}
        }
        at += 1;
    }
    found
}

/// The word in a text that is an option or a variable of this program.
fn of_the_command_line(text: &str) -> Option<String> {
    let word = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-').to_owned();
    let is_option = |word: &str| {
        let name = word.trim_start_matches('-');
        let dashes = word.len() - name.len();
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        is_name
            && ((dashes == 2 && name.len() > 1) || (dashes == 1 && name.len() == 1))
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let mut words = text.split_whitespace();
    words.find(|found| is_option(&word(found)) || found.contains("SMOLT_")).map(str::to_owned)
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs")
            && !["tests.rs", "conformance.rs", "repeated.rs", "golden.rs"].contains(&&name[..])
        {
            found.push(path);
        }
    }
}

#[test]
fn the_library_speaks_of_values() {
    let src = crate::shared::repository("src");
    let (mut files, mut wrong) = (vec![], vec![]);
    sources(&src, &mut files);
    files.retain(|file| !OF_THE_COMMAND_LINE.iter().any(|room| file.starts_with(src.join(room))));
    let mut texts = 0;
    for file in files {
        for (line, text) in literals(&std::fs::read_to_string(&file).unwrap()) {
            texts += 1;
            if ALLOWED.iter().any(|allowed| text.contains(allowed)) {
                continue;
            }
            if let Some(word) = of_the_command_line(&text) {
                wrong.push(format!("{}:{line}: {word} in {text:?}", file.display()));
            }
        }
    }
    assert!(texts > 1000, "{texts} texts were looked at");
    assert!(wrong.is_empty(), "hints are of cli/error:\n{}", wrong.join("\n"));
}

#[test]
fn texts_and_options_are_found() {
    let source = "// \"no -x\"\nlet a = '\"'; f::<'a>(\"one \\\" --two\\\n  three\");\nlet b = r#\"a \" b\"#;\n#[cfg(test)]\nmod tests {\n\"no\"";
    let expected = [(2, "one \\\" --two\\\n  three"), (4, "a \" b")];
    assert_eq!(literals(source), expected.map(|(line, text)| (line, text.to_owned())));
    for (text, word) in [
        ("set it with -c", Some("-c")),
        ("the depth (-d) is 0", Some("(-d)")),
        ("use --pre NAME", Some("--pre")),
        ("named by SMOLT_PRE", Some("SMOLT_PRE")),
        ("a - b, x-y, -1 to 2, well-known --- a", None),
    ] {
        assert_eq!(of_the_command_line(text).as_deref(), word, "{text}");
    }
}
