//! `smolt bench` and `smolt perplexity` from outside, with the built-in model.

use serde_json::Value;
use std::io::Write;
use std::process::{Output, Stdio};

fn smolt(args: &[&str], input: &str) -> Output {
    let mut command = crate::shared::smolt();
    let pipes = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn json(args: &[&str], input: &str) -> Value {
    let output = smolt(args, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const QUICK: [&str; 7] = ["bench", "-p", "9", "-n", "3", "-r", "2"];

#[test]
fn bench_reports_every_combination_as_json() {
    let report = json(&[&QUICK[..], &["-d", "0,5", "-t", "1,2", "--json"]].concat(), "");
    let tests = report["tests"].as_array().unwrap();
    let names: Vec<(&str, u64)> =
        tests.iter().map(|t| (t["name"].as_str().unwrap(), t["threads"].as_u64().unwrap())).collect();
    let expected = ["pp9", "tg3", "pp9@d5", "tg3@d5"];
    let expected: Vec<(&str, u64)> = [1, 2].iter().flat_map(|&t| expected.map(|name| (name, t))).collect();
    assert_eq!(names, expected);
    for test in tests {
        let [min, median, max] = ["min", "median", "max"].map(|key| test["tok_s"][key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max);
        assert_eq!(test["samples"].as_array().unwrap().len(), 2);
        assert_eq!(test["bandwidth_share"].is_f64(), test["name"].as_str().unwrap().starts_with("tg"));
    }
    assert!(report["read_gb_s"].as_f64().unwrap() > 0.0);
    assert_eq!(report["probes"].as_array().unwrap().len(), 2);
    assert!(report["peak_rss_bytes"].as_u64().unwrap() > report["weight_bytes_per_token"].as_u64().unwrap());
    assert!(report["model_bytes"].as_u64().unwrap() > report["weight_bytes_per_token"].as_u64().unwrap());
    assert!(report["isa"].is_string());
    assert!(report["start_to_first_token_ms"].as_f64() > report["load_ms"].as_f64());
    assert_eq!(report["context"], 5 + 9);
    assert_eq!(report["kv"], "f16");
    let report = json(&[&QUICK[..], &["--kv", "q8_0", "--json"]].concat(), "");
    assert_eq!(report["kv"], "q8_0");
}

#[test]
fn bench_prints_csv_and_a_table() {
    let csv = smolt(&[&QUICK[..], &["--csv"]].concat(), "");
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.starts_with("name,threads,median_tok_s,"));
    assert_eq!(csv.lines().count(), 3);
    let table = String::from_utf8(smolt(&QUICK, "").stdout).unwrap();
    assert!(table.contains("\npp9 ") && table.contains("\ntg3 ") && table.contains(" GB/s\n"), "{table}");
}

#[test]
fn perplexity_reports_what_it_scored() {
    let text = "Turn on the kitchen lights, please. When does the museum open on Sundays? ".repeat(20);
    let report = json(&["perplexity", "-", "-c", "16", "--chunks", "3", "--json"], &text);
    assert_eq!((&report["chunks"], &report["n_ctx"]), (&Value::from(3), &Value::from(16)));
    assert_eq!(report["scored_tokens"], 3 * 7);
    let (ppl, stderr) = (report["ppl"].as_f64().unwrap(), report["stderr"].as_f64().unwrap());
    assert!(ppl > 1.0 && stderr > 0.0, "{ppl} {stderr}");
    let shown = smolt(&["perplexity", "-", "-c", "16", "--chunks", "3"], &text);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.starts_with(&format!("perplexity {ppl:.4} +/- {stderr:.4}\n21 tokens scored")), "{shown}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fail = |args: &[&str], code: i32, message: &str| {
        let output = smolt(args, "too short");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(message), "{args:?}: {error}");
        assert!(output.stdout.is_empty());
    };
    for (option, hint) in [("-r", "-r sets it"), ("-p", "-p and -n set it"), ("-d", "-d sets it")] {
        let wrong = if option == "-r" { "0" } else { "9999999999" };
        fail(&["bench", option, wrong], 2, hint);
    }
    fail(&["perplexity", "-"], 2, "1024 are needed");
    fail(&["perplexity", "no/such/text"], 2, "no/such/text");
    fail(&["perplexity", "-", "-c", "2"], 2, "at least 3");
    fail(&["perplexity", "-m", "no/such/model", "-"], 3, "no/such/model");
    fail(&["bench", "-p", "0", "-n", "0"], 2, "nothing to measure");
    fail(&["bench", "-r", "0"], 2, "-r");
    fail(&["bench", "-t", "0"], 2, "--threads");
    fail(&["bench", "-p", "9", "-c", "4"], 4, "context of 4");
    fail(&["bench", "--synthetic", "unknown:q4_0"], 2, "smollm2-135m");
    fail(&["bench", "-m", "no/such/model"], 3, "no/such/model");
}
