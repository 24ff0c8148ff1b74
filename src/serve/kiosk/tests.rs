//! Whole files of settings.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn parse(text: &str) -> Result<Kiosk, String> {
    Kiosk::parse("kiosk.toml", text, Path::new("nowhere")).map_err(|error| error.to_string())
}

fn json(kiosk: &Kiosk) -> Value {
    serde_json::from_slice(kiosk.file("/kiosk.json").unwrap().bytes).unwrap()
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("smolt-kiosk-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The table of a language with all its texts.
fn own_language(left: &str) -> String {
    let english: Value = serde_json::from_str(include_str!("../page/texts.json")).unwrap();
    let texts = english[0]["texts"].as_object().unwrap().keys();
    let lines: Vec<String> = texts
        .map(|key| match key.as_str() {
            "left" => format!("left = \"{left}\""),
            "idle_left" => "idle_left = \"nog {count}\"".to_owned(),
            key => format!("{key} = \"{key} nl\""),
        })
        .collect();
    format!(
        "[language.nl]\nname = \"Nederlands\"\ngreeting = \"Hallo!\"\n[language.nl.texts]\n{}\n",
        lines.join("\n")
    )
}

#[test]
fn without_a_file_the_page_is_whole() {
    let kiosk = Kiosk::default();
    for (path, content_type, holds) in [
        ("/", HTML, "<!doctype html>"),
        ("/kiosk.css", CSS, "--paper"),
        ("/kiosk.js", JAVASCRIPT, "kiosk.json"),
        ("/kiosk-writing.js", JAVASCRIPT, "export class Writing"),
        ("/kiosk.json", JSON, "\"idle_seconds\":0"),
        ("/kiosk-theme.css", CSS, ""),
    ] {
        let asset = kiosk.file(path).unwrap();
        assert_eq!(asset.content_type, content_type, "{path}");
        assert!(String::from_utf8_lossy(asset.bytes).contains(holds), "{path}");
    }
    for path in ["/kiosk-logo", "/texts.json", "/index.html", "", "/../kiosk.css", "/kiosk.css/"] {
        assert!(kiosk.file(path).is_none(), "{path}");
    }
    let json = json(&kiosk);
    assert_eq!(json["languages"].as_array().unwrap().len(), 5);
    assert_eq!(json["unsure_below"], Value::Null);
    assert_eq!(json["languages"][4]["dir"], "rtl");
}

#[test]
fn the_page_is_small_and_asks_nobody_else() {
    let kiosk = Kiosk::default();
    let files = ["/", "/kiosk.css", "/kiosk.js", "/kiosk-writing.js", "/kiosk.json"]
        .map(|path| kiosk.file(path).unwrap().bytes);
    assert!(files.iter().map(|bytes| bytes.len()).sum::<usize>() <= 60 << 10);
    for file in files {
        let text = String::from_utf8_lossy(file).replace("http://www.w3.org/2000/svg", "");
        // Takes a token out of the address, and keeps nothing.
        let text = text.replacen("history.replaceState(null, \"\", location.pathname", "", 1);
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("innerHTML"));
        assert!(!text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="));
        for storage in ["localStorage", "sessionStorage", "indexedDB", "cookie", "pushState", "replaceState"]
        {
            assert!(!text.contains(storage), "{storage}");
        }
    }
}

#[test]
fn the_operators_word_holds() {
    let text = format!(
        "title = \"Museum\"\nsystem = \"\"\"\nYou know\nships.\"\"\"\nlanguages = [\"nl\", \"en\"]\naccent = \"#102030\"\n\
         idle_seconds = 120\nwarning_seconds = 30\nunsure_below = 0.35\nmax_turns = 4\nmax_message_chars = 0x100\n\
         big_text = true\n[language.en]\nsuggestions = [\"Which ship is the oldest?\"]\n[language.en.texts]\nnote = \"\"\n{}",
        own_language("nog {count}")
    );
    let kiosk = parse(&text).unwrap();
    assert_eq!(kiosk.system(), Some("You know\nships."));
    assert_eq!((kiosk.max_turns(), kiosk.max_message_chars()), (4, 256));
    let json = json(&kiosk);
    assert_eq!(json["title"], "Museum");
    assert_eq!((&json["idle_seconds"], &json["warning_seconds"]), (&120.into(), &30.into()));
    assert_eq!(
        (&json["unsure_below"], &json["big_text"], &json["logo"]),
        (&0.35.into(), &true.into(), &false.into())
    );
    let [dutch, english] = json["languages"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!(
        (&dutch["name"], &dutch["dir"], &dutch["texts"]["stop"]),
        (&"Nederlands".into(), &"ltr".into(), &"stop nl".into())
    );
    assert_eq!(english["suggestions"], serde_json::json!(["Which ship is the oldest?"]));
    assert_eq!((&english["texts"]["note"], &english["texts"]["stop"]), (&"".into(), &"Stop".into()));
    assert!(String::from_utf8_lossy(kiosk.file("/kiosk-theme.css").unwrap().bytes).contains("#102030"));
}

#[test]
fn the_example_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kiosk/kiosk.toml");
    let kiosk = Kiosk::read(&path).unwrap();
    assert!(kiosk.system().unwrap().contains("visitors"));
    assert_eq!(
        json(&kiosk)["languages"][0]["texts"]["unsure"],
        "I am not sure about this. Please ask at the desk."
    );
    // Each key of the file is in it, be it in a comment.
    let text = fs::read_to_string(path).unwrap();
    for key in settings::KEYS.iter().filter(|key| **key != "language") {
        let is_there =
            text.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
        assert!(is_there, "{key}");
    }
}

#[test]
fn an_empty_file_makes_a_kiosk() {
    let json = json(&parse("").unwrap());
    assert_eq!((&json["idle_seconds"], &json["warning_seconds"]), (&90.into(), &20.into()));
    assert_eq!(self::json(&parse("idle_seconds = 0").unwrap())["idle_seconds"], 0);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let long = format!("title = \"{}\"", "x".repeat(601));
    let many = format!("[language.en]\nsuggestions = [{}]", "\"a\",".repeat(13));
    let dutch = own_language("nog enkele");
    for (text, expected) in [
        ("title = ", "line 1: "),
        ("a = 1", "line 1: unknown key \"a\"; known are title, system, languages"),
        ("\ntitle = 3", "line 2: title: expected a text in quotes, found integer"),
        ("title = \"\"", "title: expected a text, found an empty one"),
        (
            "title = \"a\\u0007b\"",
            "title: expected a text of one line, without control characters, found '\\u{7}'",
        ),
        (&long, "title: expected at most 600 characters, found 601"),
        ("idle_seconds = 5", "idle_seconds: expected a whole number from 10 to 86400, found 5"),
        ("idle_seconds = -1", "idle_seconds: expected a whole number from 10 to 86400, found -1"),
        ("warning_seconds = 10", "warning_seconds: expected a whole number from 20 to 600, found 10"),
        (
            "max_turns = 99999999999999999999999",
            "max_turns: expected a whole number from 1 to 100, found 9999",
        ),
        ("unsure_below = nan", "unsure_below: expected a number from 0 to 1, found nan"),
        ("unsure_below = 1.01", "unsure_below: expected a number from 0 to 1, found 1.01"),
        ("big_text = \"yes\"", "big_text: expected true or false, found string"),
        ("accent = \"red\"", "accent: expected a colour such as \"#0b5b60\", found \"red\""),
        ("accent = \"#fff; } body { }\"", "accent: expected a colour"),
        ("languages = \"en\"", "languages: expected a list of texts, found string"),
        ("languages = []", "languages: expected a language, found none"),
        (
            "languages = [\n\"en\",\n\"xx\"]",
            "line 3: languages: expected one of en, de, fr, es, ar, or one with a table [language.xx], found \"xx\"",
        ),
        ("languages = [\"en\", \"en\"]", "languages: expected each language once, found \"en\" again"),
        ("language = 1", "language: expected a table, found integer"),
        ("[language.en]\ncolour = 1", "line 2: unknown key \"language.en.colour\"; known are name, dir"),
        ("[language.en]\ndir = \"up\"", "language.en.dir: expected \"ltr\" or \"rtl\", found \"up\""),
        (&many, "line 2: language.en.suggestions: expected at most 12 texts, found 13"),
        (
            "[language.en.texts]\nstop = \"\"",
            "line 2: language.en.texts.stop: expected a text, found an empty one",
        ),
        (
            "[language.en.texts]\nhalt = \"Halt\"",
            "unknown key \"language.en.texts.halt\"; known are ask_label",
        ),
        ("[language.\"a.b\"]\nname = \"x\"", "line 1: language.a.b: "),
        (
            "[language.\"<x>\"]\nname = \"x\"",
            "expected the code of a language such as nl or pt-BR, found \"<x>\"",
        ),
        (
            "[language.nl]\nname = \"Nederlands\"",
            "language.nl: expected a name, a greeting and all texts, found no greeting, no texts.ask_label",
        ),
        (&dutch, "language.nl.texts.left: expected a text with {count}, found \"nog enkele\""),
        ("logo = \"missing.png\"", "missing.png: no such file"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{text}\n{error}");
        assert!(error.starts_with("kiosk.toml, line ") || error.contains("no such file"), "{error}");
    }
}

#[test]
fn the_logo_lies_beside_the_file() {
    let folder = Folder::new();
    let path = folder.0.join("kiosk.toml");
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";
    fs::write(&path, "logo = \"logo.svg\"\nsystem = \"Be brief.\"").unwrap();
    fs::write(folder.0.join("logo.svg"), svg).unwrap();
    let kiosk = Kiosk::read(&path).unwrap();
    let logo = kiosk.file("/kiosk-logo").unwrap();
    assert_eq!(logo, Asset { content_type: "image/svg+xml", bytes: svg.as_bytes() });
    assert_eq!(json(&kiosk)["logo"], true);

    for (bytes, expected) in [
        (b"GGUF\x03\0\0\0".to_vec(), "line 1: logo: expected a PNG, JPEG, WebP or SVG picture, found a GGUF"),
        (
            vec![b'<'; (256 << 10) + 1],
            "line 1: logo: expected a picture of at most 256 KiB, found a larger one",
        ),
    ] {
        fs::write(folder.0.join("logo.svg"), bytes).unwrap();
        let error = Kiosk::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    fs::write(&path, "logo = \".\"").unwrap();
    assert!(Kiosk::read(&path).unwrap_err().to_string().contains("is a folder"));
    fs::write(&path, "a = 1\n".repeat(50_000)).unwrap();
    assert!(Kiosk::read(&path).unwrap_err().to_string().contains("longer than"));
}
