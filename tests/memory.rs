//! The memory that is planned is the memory that the process takes.

use std::path::PathBuf;

use serde_json::Value;

use crate::shared::{Scratch, repository};

/// Most that a plan may be above what was taken: patterns, maps and code are counted whole.
const SPARE: u64 = 12 << 20;

/// What `run` says of itself: planned and taken, in bytes.
fn measured(scratch: &Scratch, args: &[&str]) -> (u64, u64) {
    let json: Value = serde_json::from_str(&scratch.out(&[&["--json", "-n", "12"], args].concat())).unwrap();
    let bytes = |key: &str| json["memory"][key].as_u64().unwrap();
    (bytes("planned_bytes"), bytes("peak_rss_bytes"))
}

#[test]
#[cfg(target_os = "linux")]
fn no_run_takes_more_than_planned() {
    let scratch = Scratch::new("run", "planned");
    scratch.write("schema.json", r#"{"type": "object", "properties": {"room": {"enum": ["hall"]}}}"#);
    let long = "Turn on the lights in the kitchen, please. ".repeat(15);
    for args in [
        &["What time do you open?"][..],
        &["-t", "1", "What time do you open?"],
        &["-t", "4", "What time do you open?"],
        &["--kv", "q8_0", "-c", "64", "Hello"],
        &["--lookup", "Hello hello hello"],
        &["--schema", "schema.json", "Turn on the hall"],
        &["--session", "a.session", "Hello"],
        &["--choices", "a,b", "Hello"],
        &["-n", "1", &long],
    ] {
        let (planned, peak) = measured(&scratch, args);
        println!("{:?}: {peak} taken, {planned} planned", args[0]);
        assert!(peak <= planned, "{args:?}: {peak} taken, {planned} planned");
        assert!(planned <= peak + SPARE, "{args:?}: {peak} taken, {planned} planned");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_limit_holds_for_the_process() {
    let scratch = Scratch::new("run", "limit");
    let (planned, _) = measured(&scratch, &["Hello"]);
    let limit = |bytes: u64| scratch.run(&["-n", "2", "--max-memory", &bytes.to_string(), "Hello"]).0;
    assert_eq!((limit(planned), limit(planned - 1)), (0, 4));
}

#[test]
#[cfg(target_os = "linux")]
fn real_models_take_what_is_planned() {
    let Some(folder) = std::env::var_os("SMOLT_REAL_MODELS").map(PathBuf::from) else {
        eprintln!("SKIPPED: SMOLT_REAL_MODELS names no folder of GGUF files");
        return;
    };
    let scratch = Scratch::new("run", "real");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gguf") {
            continue;
        }
        for threads in ["1", "2"] {
            let (planned, peak) = measured(&scratch, &["-m", path.to_str().unwrap(), "-t", threads, "Hello"]);
            println!("{}: {peak} taken, {planned} planned", path.display());
            assert!(
                peak <= planned && planned <= peak + peak / 16 + SPARE,
                "{peak} taken, {planned} planned"
            );
        }
    }
}

#[test]
fn the_built_in_model_is_planned_as_a_file_is() {
    let (scratch, model) = (Scratch::new("plan", "demo"), repository("src/cli/demo.gguf"));
    let total = |args: &[&str]| {
        let json: Value = serde_json::from_str(&scratch.out(&[&["--json"], args].concat())).unwrap();
        json["total"].clone()
    };
    assert_eq!(total(&[]), total(&["-m", model.to_str().unwrap()]));
}
