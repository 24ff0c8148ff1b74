//! Hooks of Mender, RAUC and SWUpdate, as these call them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bench, Wanted, version};
use crate::shared::repository;

/// Runs a hook with the program in its path; returns the exit code and what it said.
fn hook(bench: &Bench, name: &str, words: &[&str], variables: &[(&str, &Path)]) -> (i32, String) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_smolt"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let mut command = Command::new(repository("scripts/trust/hooks").join(name));
    command.args(words).current_dir(&bench.folder).env_clear().env("PATH", path);
    command.env("SMOLT_STORE", super::STORE).env("SMOLT_THREADS", "1");
    let done = command.envs(variables.iter().copied()).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// A folder as Mender makes one, with a package in it.
fn files(bench: &Bench, wanted: &Wanted) -> PathBuf {
    let folder = bench.folder.join(format!("mender-{}", wanted.version));
    std::fs::create_dir_all(folder.join("files")).unwrap();
    std::fs::copy(bench.package(wanted), folder.join("files/model.tar")).unwrap();
    folder
}

#[test]
fn mender_installs_commits_and_goes_back() {
    let bench = Bench::with("mender", &[1]);
    let run =
        |state: &str, folder: &Path| hook(&bench, "mender-smolt", &[state, folder.to_str().unwrap()], &[]);
    let (good, bad) = (files(&bench, &version(2)), files(&bench, &Wanted { works: false, ..version(3) }));
    assert_eq!(run("SupportsRollback", &good), (0, "Yes\n".to_owned()));
    assert_eq!(run("NeedsArtifactReboot", &good), (0, "No\n".to_owned()));
    assert_eq!(run("ArtifactInstall", &good).0, 0);
    assert_eq!(run("ArtifactCommit", &good).0, 0);
    assert_eq!(bench.answers().0, 2);
    assert_eq!(run("ArtifactInstall", &bad).0, 0);
    let (code, said) = run("ArtifactCommit", &bad);
    assert_eq!(code, 12, "{said}");
    // It goes back from what failed, and not from what runs.
    assert_eq!(run("ArtifactRollback", &bad).0, 0);
    assert_eq!(bench.answers().0, 2);
    assert_eq!(run("ArtifactInstall", &good).0, 8, "it is not newer");
    assert_eq!(run("ArtifactRollback", &good).0, 0);
    assert_eq!((bench.answers().0, run("Cleanup", &good).0), (2, 0));
}

#[test]
fn rauc_checks_and_installs() {
    let bench = Bench::with("rauc", &[1]);
    let run = |word: &str, image: &str| {
        hook(&bench, "rauc-smolt", &[word], &[("RAUC_IMAGE_NAME", Path::new(image))])
    };
    assert_eq!(run("install-check", "").0, 0);
    assert_eq!(run("slot-install", &bench.package(&version(2))).0, 0);
    assert_eq!(bench.answers().0, 2);
    assert_eq!(run("slot-install", &bench.package(&Wanted { works: false, ..version(3) })).0, 12);
    assert_eq!(run("slot-install", &bench.package(&version(1))).0, 8);
    assert_eq!(bench.answers().0, 2);
    std::fs::remove_dir_all(bench.folder.join(super::STORE)).unwrap();
    let (code, said) = run("install-check", "");
    assert!(code == 10 && said.ends_with("the store of the model cannot be used\n"), "{code} {said}");
}

#[test]
fn swupdate_installs_and_gives_up() {
    let bench = Bench::with("swupdate", &[1]);
    let package = bench.folder.join("given.tar");
    let run = |word: &str| hook(&bench, "swupdate-smolt", &[word], &[("SMOLT_PACKAGE", &package)]).0;
    let give = |wanted: &Wanted| std::fs::copy(bench.package(wanted), &package).unwrap();
    give(&version(2));
    assert_eq!((run("preinst"), run("postinst")), (0, 0));
    assert_eq!(bench.answers().0, 2);
    // The same again is no failure.
    give(&Wanted { floor: 1, ..version(2) });
    assert_eq!(run("postinst"), 0);
    give(&Wanted { works: false, ..version(3) });
    assert_eq!(run("postinst"), 12);
    assert_eq!((run("postfailure"), bench.answers().0, package.exists()), (0, 2, false));
}
