//! The program on a processor of 2008 (SSE4.2, no AVX), emulated: it finds the set that is left, and answers as anywhere.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::shared::{Scratch, smolt};

const EMULATOR: &str = "qemu-x86_64";

/// Why nothing can be tested here, if so.
fn obstacle() -> Option<&'static str> {
    if cfg!(target_feature = "avx") {
        return Some("this build needs AVX");
    }
    match Command::new(EMULATOR).arg("--version").stdout(Stdio::null()).status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some("no qemu-x86_64 (apt-get install qemu-user)")
        }
        Err(_) => Some("qemu-x86_64 does not start"),
        Ok(_) => None,
    }
}

/// Standard output of the program: on the old processor, or here by the specification.
fn out(scratch: &Scratch, is_old: bool, arguments: &[&str]) -> String {
    let mut command = smolt();
    if is_old {
        command = Command::new(EMULATOR);
        command.args(["-cpu", "Nehalem", env!("CARGO_BIN_EXE_smolt")]).env_clear();
    } else {
        command.env("SMOLT_ISA", "scalar");
    }
    let done = command.args(arguments).current_dir(&scratch.folder).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_processor_without_avx_runs_sse41_and_answers_the_same() {
    if let Some(obstacle) = obstacle() {
        eprintln!("SKIPPED: {obstacle}, the program is not tested on a processor without AVX");
        return;
    }
    let scratch = Scratch::new("run", "baseline");
    scratch.write("text", "The kitchen lights are on, and the door is open today.\n".repeat(20));
    let measured = |is_old| -> Value {
        let arguments = ["perplexity", "--json", "-c", "32", "--chunks", "1", "-t", "1", "text"];
        serde_json::from_str(&out(&scratch, is_old, &arguments)).unwrap()
    };
    let (old, specified) = (measured(true), measured(false));
    assert_eq!((&old["isa"], &specified["isa"]), (&"sse41".into(), &"scalar".into()));
    assert!(old["ppl"].as_f64().unwrap() > 1.0);
    assert_eq!((&old["ppl"], &old["stderr"]), (&specified["ppl"], &specified["stderr"]));
    let answer =
        |is_old| out(&scratch, is_old, &["run", "--temp", "0", "-n", "8", "-t", "2", "Turn on the lights"]);
    assert_eq!(answer(true), answer(false));
}
