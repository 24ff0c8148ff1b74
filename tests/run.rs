//! What `smolt run` can do beyond one prompt: files, sessions, log-probabilities.

use serde_json::Value;

use crate::shared::Scratch;

fn json(scratch: &Scratch, arguments: &[&str]) -> Value {
    serde_json::from_str(&scratch.out(&[arguments, &["--json"]].concat())).unwrap()
}

#[test]
fn files_follow_the_prompt() {
    let scratch = Scratch::new("run", "files");
    scratch.write("a", "kitchen\n");
    scratch.write("b", "lights\n");
    scratch.write("all", "Turn on the\n\nkitchen\n\nlights\n");
    let apart = json(&scratch, &["Turn on the", "-f", "a", "--file", "b"]);
    let whole = json(&scratch, &["-f", "all"]);
    assert!(!apart["text"].as_str().unwrap().is_empty());
    assert_eq!((&apart["text"], &apart["prompt_tokens"]), (&whole["text"], &whole["prompt_tokens"]));
    assert_ne!(whole["prompt_tokens"], json(&scratch, &["Turn on the", "-f", "a"])["prompt_tokens"]);
    scratch.write("bytes", b"ab\xff");
    for (file, part) in
        [("none", "none: no such file"), ("bytes", "bytes, line 1: expected UTF-8 text, found the byte")]
    {
        let (code, stdout, stderr) = scratch.run(&["-f", file]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn a_session_goes_on() {
    let scratch = Scratch::new("run", "session");
    let first = json(&scratch, &["--session", "s", "Turn on the kitchen lights"]);
    assert_eq!(first["cached_tokens"], 0);
    let alone = json(&scratch, &["Turn them off again"]);
    let (code, answer, stderr) = scratch.run(&["--session", "s", "-n", "3", "Turn them off again"]);
    assert_eq!((code, answer.is_empty()), (0, false), "{stderr}");
    // Three messages and two answers; the last answer need not be read again.
    let third = json(&scratch, &["--session", "s", "What did I say?"]);
    let count = |report: &Value, key: &str| report[key].as_u64().unwrap();
    let said = count(&first, "prompt_tokens") + count(&first, "tokens") + 3;
    assert!(count(&third, "prompt_tokens") > said && count(&third, "cached_tokens") >= said, "{third}");
    assert!(count(&alone, "prompt_tokens") < said);
    scratch.write("s", "no session");
    let (code, _, stderr) = scratch.run(&["--session", "s", "Hello"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("is not a saved session"), "{stderr}");
}

#[test]
fn log_probabilities_are_reported() {
    let scratch = Scratch::new("run", "logprobs");
    let prompt = "Turn on the kitchen lights";
    assert_eq!(json(&scratch, &[prompt])["logprobs"], Value::Null);
    let report = json(&scratch, &["--logprobs=3", "--temp", "0", prompt]);
    let tokens = report["logprobs"].as_array().unwrap();
    assert_eq!(tokens.len() as u64, report["tokens"].as_u64().unwrap());
    let joined: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(joined.trim_start(), report["text"].as_str().unwrap());
    for token in tokens {
        let top = token["top"].as_array().unwrap();
        // The most likely was taken, and probabilities add up to 1 at most.
        assert_eq!((top.len(), &top[0]["id"], &top[0]["logprob"]), (3, &token["id"], &token["logprob"]));
        let sum: f64 = top.iter().map(|one| one["logprob"].as_f64().unwrap().exp()).sum();
        assert!(sum <= 1.0 + 1e-6, "{token}");
    }
    let (code, stdout, stderr) = scratch.run(&["--logprobs", "--temp", "0", prompt]);
    assert_eq!((code, stdout.trim_end()), (0, report["text"].as_str().unwrap()), "{stderr}");
    let listed = stderr.split_once("log-probability of each token\n").unwrap().1;
    assert_eq!(listed.lines().count(), tokens.len(), "{stderr}");
    let (code, _, stderr) = scratch.run(&["--logprobs=101", prompt]);
    assert_eq!(code, 2, "{stderr}");
}
