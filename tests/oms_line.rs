//! `smolt verify` and `smolt sign`, as they are typed.

use std::process::Stdio;

use serde_json::Value;

use crate::shared::{Scratch, repository, smolt};

fn data(path: &str) -> String {
    repository(&format!("tests/data/oms/{path}")).display().to_string()
}

/// A folder with a model in it.
fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new("verify", name);
    std::fs::create_dir_all(scratch.folder.join("model/sub")).unwrap();
    scratch.write("model/model.gguf", "weights");
    scratch.write("model/sub/notes", "notes");
    scratch
}

/// Exit code, standard output and standard error of any command.
fn run(scratch: &Scratch, arguments: &[&str]) -> (i32, String, String) {
    let mut command = smolt();
    command.args(arguments).current_dir(&scratch.folder).stdin(Stdio::null());
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

fn ok(scratch: &Scratch, arguments: &[&str]) -> String {
    let (code, out, error) = run(scratch, arguments);
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

fn refused(scratch: &Scratch, arguments: &[&str], code: i32) -> String {
    let (found, out, error) = run(scratch, arguments);
    assert_eq!((found, &out[..]), (code, ""), "{arguments:?}: {error}");
    error
}

#[test]
fn a_folder_is_signed_and_verified() {
    let scratch = scratch("folder");
    let (private, public) = (data("keys/p256.pem"), data("keys/p256.pub.pem"));
    assert_eq!(ok(&scratch, &["sign", "model", "--key", &private]), "model/model.sig\n");
    let said = ok(&scratch, &["verify", "model", "--key", &public]);
    assert!(said.starts_with("model: is what was signed, 2 files (12 B)\nsigned by the key "), "{said}");
    let said: Value =
        serde_json::from_str(&ok(&scratch, &["verify", "model", "--key", &public, "--json"])).unwrap();
    assert_eq!((&said["files"], &said["bytes"]), (&Value::from(2), &Value::from(12)));
    assert_eq!(said["signers"][0]["kind"], "key");
    let again: Value =
        serde_json::from_str(&ok(&scratch, &["sign", "model", "--key", &private, "--json"])).unwrap();
    assert_eq!((&again["root"], &again["resources"]), (&said["root"], &Value::from(2)));
    assert_eq!(again["fingerprint"], said["signers"][0]["fingerprint"]);

    scratch.write("model/more", "x");
    let error = refused(&scratch, &["verify", "model", "--key", &public], 7);
    assert!(error.contains("not signed: more") && error.contains("--ignore PATH"), "{error}");
    ok(&scratch, &["verify", "model", "--key", &public, "--ignore", "more"]);
    scratch.write("model/model.gguf", "Weights");
    let error = refused(&scratch, &["verify", "model", "--key", &public, "--ignore", "more"], 7);
    assert!(error.contains("changed: model.gguf"), "{error}");
}

#[test]
fn a_file_is_signed_and_verified() {
    let scratch = scratch("file");
    for (hash, more) in [("sha256", &[][..]), ("blake2b", &["--shard-size", "4"]), ("blake3", &[])] {
        let line = ["sign", "model/model.gguf", "--key", &data("keys/p521.pem"), "--hash", hash];
        assert_eq!(ok(&scratch, &[&line[..], more].concat()), "model/model.gguf.sig\n");
        let line = ["verify", "model/model.gguf", "--trust", &data("keys/p521.pub.pem"), "--json"];
        let said: Value = serde_json::from_str(&ok(&scratch, &line)).unwrap();
        assert_eq!(said["hash"], hash);
        assert_eq!(said["shard_bytes"].as_u64(), more.get(1).map(|size| size.parse().unwrap()));
    }
    ok(&scratch, &["sign", "model/model.gguf", "--key", &data("keys/p256.pem"), "-o", "elsewhere.sig"]);
    let key = data("keys/p256.pub.pem");
    ok(&scratch, &["verify", "model/model.gguf", "--key", &key, "--signature", "elsewhere.sig"]);
    refused(&scratch, &["verify", "model/model.gguf", "--key", &key], 7);
}

#[test]
fn a_certificate_signs_and_is_verified() {
    let scratch = scratch("certificate");
    let pem = |name: &str| std::fs::read_to_string(data(&format!("certificates/{name}.pem"))).unwrap();
    scratch.write("chain.pem", pem("signer") + &pem("intermediate"));
    let key = data("keys/p256.pem");
    ok(&scratch, &["sign", "model", "--key", &key, "--certificate-chain", "chain.pem"]);
    let root = data("certificates/root.pem");
    let said: Value =
        serde_json::from_str(&ok(&scratch, &["verify", "model", "--certificate-chain", &root, "--json"]))
            .unwrap();
    assert_eq!(said["signers"][0]["kind"], "certificate");
    ok(&scratch, &["verify", "model", "--trust", &root]);
    let error = refused(&scratch, &["verify", "model", "--key", &data("keys/p256.pub.pem")], 7);
    assert!(error.contains("--certificate-chain FILE"), "{error}");
    let foreign = data("certificates/rsa-root.pem");
    refused(&scratch, &["verify", "model", "--certificate-chain", &foreign], 7);
    let other = data("keys/other.pem");
    refused(&scratch, &["sign", "model", "--key", &other, "--certificate-chain", "chain.pem"], 2);
    let model = data("model");
    let expired = data("signatures/bad-expired.sig");
    let error =
        refused(&scratch, &["verify", &model, "--signature", &expired, "--certificate-chain", &root], 7);
    assert!(error.contains("2021-01-01") && error.contains("clock"), "{error}");
}

#[test]
fn what_makes_no_sense_is_told() {
    let scratch = scratch("wrong");
    let (private, public) = (data("keys/p256.pem"), data("keys/p256.pub.pem"));
    for (line, code, said) in [
        (&["verify", "model"][..], 2, "--key"),
        (&["verify", "model", "--key", &public, "--trust", &public], 2, "cannot be used with"),
        (&["verify", "model", "--key", &public], 7, "there is no signature model/model.sig"),
        (&["verify", "nothing", "--key", &public], 2, "no such file"),
        (&["verify", "model", "--key", "nothing"], 2, "no such file"),
        (&["verify", "model", "--key", &private], 2, "-pubout"),
        (&["verify", "model", "--key", &data("keys/ed25519.pub.pem")], 2, "openssl genpkey"),
        (&["verify", "model", "--certificate-chain", &data("certificates/intermediate.pem")], 2, "root"),
        (&["sign", "model", "--key", &public], 2, "private"),
        (&["sign", "model", "--key", &data("keys/p256.encrypted.pem")], 2, "takes the password off"),
        (&["sign", "nothing", "--key", &private], 2, "no such file"),
        (&["sign", "model", "--key", &private, "--hash", "md5"], 2, "sha256"),
        (&["sign", "model", "--key", &private, "-o", "model/model.gguf"], 2, "is not replaced"),
    ] {
        let error = refused(&scratch, line, code);
        assert!(error.contains(said), "{line:?}: {error}");
    }
    assert_eq!(scratch.read("model/model.gguf"), "weights");
    std::fs::create_dir(scratch.folder.join("empty")).unwrap();
    refused(&scratch, &["sign", "empty", "--key", &private], 2);
    std::os::unix::fs::symlink("model.gguf", scratch.folder.join("model/link")).unwrap();
    let error = refused(&scratch, &["sign", "model", "--key", &private], 7);
    assert!(error.contains("symbolic link"), "{error}");
}

/// What smolt signs the reference tool verifies, and the other way round; `scripts/check.sh --install` fetches the tool.
#[test]
fn round_trips_with_the_reference_tool() {
    let python = std::env::var("SMOLT_OMS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = std::process::Command::new(&python).args(["-c", "import model_signing, OpenSSL"]).output();
    if !has.is_ok_and(|done| done.status.success()) {
        eprintln!(
            "SKIPPED: {python} has no model-signing (pip install model-signing pyopenssl; SMOLT_OMS_PYTHON names another Python)"
        );
        return;
    }
    let script = repository("scripts/trust/oms_round_trip.py");
    let done =
        std::process::Command::new(python).arg(script).arg(env!("CARGO_BIN_EXE_smolt")).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("122 decisions"), "{said}");
}
