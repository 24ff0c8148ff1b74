//! Runs a command again and again, each time with another call to the system failing, or killed at another moment.
//!
//! After each run the exit code is one that is documented, nobody panicked, what was there before is there as it was
//! or as it is to be, and files of others are as they were. The same command without a fault then ends as if nothing had been.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Names below a folder, and what the files hold.
type Files = BTreeMap<String, Vec<u8>>;

/// Files beside those of the command; some are called as if they were its own.
const FOREIGN: [(&str, &[u8]); 3] =
    [("note.txt", b"buy milk\n"), (".out.jsonl.12-zz.tmp", b"mine"), (".x.session.1.tmp", b"mine")];
/// Of more calls of a command only so many first ones and the last on each file fail, unless `SMOLT_FAULTS=all`.
const SOME_CALLS: usize = 2;
/// Kills of each command, unless `SMOLT_KILLS` tells.
const KILLS: u64 = 10;
/// The folder of a store with two slots.
pub(crate) const STORE: &str = "slots/";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EINTR: i32 = 4;

/// A command and what must hold after it.
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    /// Makes the files that are there before.
    pub(crate) setup: &'a dyn Fn(&Path),
    /// The command that is run in the folder.
    pub(crate) command: &'a dyn Fn(&Path) -> Command,
    pub(crate) input: &'a str,
    /// Ends of names of files that grow: on the way they are neither as before nor as after.
    pub(crate) growing: &'a [&'a str],
    /// Whether the same command again gives the same files.
    pub(crate) repeats: bool,
    /// Largest exit code that is documented.
    pub(crate) codes: i32,
    /// What else must hold after a run; it may change the folder.
    pub(crate) check: &'a dyn Fn(&Path, &Ended),
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Nothing if it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A call to the system, as the log of [`library`] has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    name: String,
    takes_space: bool,
    path: String,
}

/// One fault: an errno, or 0 for half of what was asked, and whether it stays.
type Fault = (&'static str, i32, bool);

impl Call {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = vec![("EIO", EIO, false), ("EINTR", EINTR, false)];
        if self.takes_space {
            faults.extend([("ENOSPC", ENOSPC, false), ("a full disk", ENOSPC, true)]);
        }
        if self.name.contains("read") || self.name.contains("write") {
            faults.push(("half", 0, false));
        }
        faults
    }

    /// The same for calls on the same file, whatever the number in its name.
    fn place(&self) -> (String, String) {
        let path = self.path.rsplit('/').next().unwrap_or_default();
        let is_temporary = path.ends_with(".tmp");
        let path = if is_temporary { path.rsplitn(3, '.').nth(2).unwrap_or(path) } else { path };
        (self.name.clone(), format!("{path} {is_temporary}"))
    }
}

/// The library that makes calls fail; nothing where there is no C compiler.
pub(crate) fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|folder| folder.join("tests/faults/faults.c"));
        let source = source.into_iter().find(|path| path.exists()).unwrap();
        // Below target/, and renamed: tests of the other package may run at the same time.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
        let built = target.with_extension(std::process::id().to_string());
        let mut command = Command::new("cc");
        command.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&built).arg(source).arg("-ldl");
        match command.output() {
            Ok(done) => {
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
                fs::rename(&built, &target).unwrap();
                Some(target)
            }
            Err(_) => None,
        }
    });
    if made.is_none() {
        eprintln!("SKIPPED: no C compiler (cc) to make calls to the system fail");
    }
    made.as_deref()
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    /// In memory where there is some: the thousands of runs would wait for the disk more than half of their time.
    fn new(name: &str) -> Self {
        let name = format!("smolt-faults-{}-{name}", std::process::id());
        let mut places =
            [PathBuf::from("/dev/shm"), std::env::temp_dir()].map(|parent| parent.join(&name)).into_iter();
        Self(places.find(|path| fs::create_dir(path).is_ok()).expect("a folder for files"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(folder: &Path, below: &str, files: &mut Files) {
    for entry in fs::read_dir(folder.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            read(folder, &name, files);
        } else {
            files.insert(name, plain(fs::read(entry.path()).unwrap()));
        }
    }
}

/// A text without what differs from run to run.
fn plain(bytes: Vec<u8>) -> Vec<u8> {
    const TIMES: &[u8] = b"\"timings\":{";
    let (mut left, mut plain) = (&bytes[..], vec![]);
    while let Some(at) = left.windows(TIMES.len()).position(|window| window == TIMES) {
        plain.extend_from_slice(&left[..at]);
        let end = left[at..].iter().position(|byte| *byte == b'}');
        left = &left[end.map_or(left.len(), |end| at + end)..];
    }
    if plain.is_empty() { bytes } else { [&plain, left].concat() }
}

/// Runs of one command.
struct Runs<'a> {
    case: &'a Case<'a>,
    folder: Folder,
    /// Files before it, as they lie there and with their times, and after it ended well.
    before: Files,
    made: Vec<(PathBuf, Vec<u8>, SystemTime)>,
    after: Files,
    time: Duration,
}

impl<'a> Runs<'a> {
    fn new(case: &'a Case<'a>) -> Self {
        let folder = Folder::new(case.name);
        let mut runs = Self {
            case,
            folder,
            before: Files::new(),
            made: vec![],
            after: Files::new(),
            time: Duration::ZERO,
        };
        runs.set_up();
        (case.setup)(&runs.folder.0);
        runs.before = runs.files();
        let made = runs.before.keys().map(|name| {
            let path = runs.folder.0.join(name);
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            (path.clone(), fs::read(&path).unwrap(), modified)
        });
        runs.made = made.collect();
        let mut times = vec![];
        for _ in 0..2 {
            runs.set_up();
            let start = Instant::now();
            let ended = runs.run(&[]);
            times.push(start.elapsed());
            assert_eq!(ended.code, Some(0), "{}: {ended:?}", case.name);
        }
        // The first may take longer than all others.
        runs.time = times.into_iter().min().unwrap_or_default();
        runs.after = runs.files();
        runs
    }

    fn set_up(&self) {
        for entry in fs::read_dir(&self.folder.0).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        for (name, content) in FOREIGN {
            fs::write(self.folder.0.join(name), content).unwrap();
        }
        for (path, content, modified) in &self.made {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(*modified).unwrap();
        }
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        read(&self.folder.0, "", &mut files);
        files
    }

    fn start(&self, variables: &[(&str, &str)]) -> Child {
        let mut command = (self.case.command)(&self.folder.0);
        command.current_dir(&self.folder.0).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may not read it.
        let _ = child.stdin.take().unwrap().write_all(self.case.input.as_bytes());
        child
    }

    fn run(&self, variables: &[(&str, &str)]) -> Ended {
        ended(self.start(variables).wait_with_output().unwrap())
    }

    /// The calls of a run without a fault.
    fn calls(&self, library: &str) -> Vec<Call> {
        self.set_up();
        let log = self.folder.0.with_extension("log");
        let ended = self.run(&[("LD_PRELOAD", library), ("FAULT_LOG", log.to_str().unwrap())]);
        assert_eq!(ended.code, Some(0), "{}: {ended:?}", self.case.name);
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        fs::remove_file(log).unwrap();
        let call = |line: &str| {
            let mut parts = line.splitn(4, ' ').skip(1);
            let mut next = || parts.next().unwrap_or_default().to_owned();
            Call { name: next(), takes_space: next() == "1", path: next() }
        };
        text.lines().map(call).collect()
    }

    /// What must hold however a run ended.
    fn check(&self, what: &str, ended: &Ended) {
        let what = format!("{} with {what}: {ended:?}", self.case.name);
        assert!(ended.code.is_none_or(|code| (0..=self.case.codes).contains(&code)), "{what}");
        assert!(!ended.err.contains("panicked"), "{what}");
        let files = self.files();
        for (name, before) in self.before.iter().filter(|(name, _)| !is_of_store(name)) {
            let now = files.get(name);
            let grows = self.case.growing.iter().any(|end| name.ends_with(end));
            let is_after = now == self.after.get(name);
            let state = now.map_or("is gone".to_owned(), |now| format!("is changed, {} bytes", now.len()));
            assert!(now == Some(before) || is_after || (grows && now.is_some()), "{name} {state}, {what}");
            let keeps = |lines: &[u8]| holds_lines(lines, before);
            assert!(
                !name.ends_with(".jsonl") || is_after || now.is_some_and(|now| keeps(now)),
                "{name} lost lines, {what}"
            );
        }
        if ended.code == Some(0) && self.case.repeats {
            assert_eq!(self.differences(&files), Vec::<String>::new(), "{what}");
        }
        (self.case.check)(&self.folder.0, ended);
        let again = self.run(&[]);
        assert_eq!(again.code, Some(0), "again after {what}: {again:?}");
        let files = self.files();
        if self.case.repeats {
            assert_eq!(self.differences(&files), Vec::<String>::new(), "again after {what}");
        }
        // A session that another one replaces is kept under another name.
        let is_aside = |name: &str| !self.case.repeats && name.contains(".session.");
        let is_new = |name: &&String| {
            let is_known = self.before.contains_key(*name) || self.after.contains_key(*name);
            !is_known && !is_aside(name) && !is_of_store(name)
        };
        assert_eq!(
            files.keys().filter(is_new).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "left after {what}"
        );
    }

    /// Names of files that are not as they are after a run that ended well.
    fn differences(&self, files: &Files) -> Vec<String> {
        let differs = |(name, content): &(&String, &Vec<u8>)| files.get(*name) != Some(*content);
        self.after.iter().filter(differs).map(|(name, _)| name.clone()).collect()
    }
}

/// Whether a file is one of a store with two slots, of which the store alone knows what they may be.
fn is_of_store(name: &str) -> bool {
    name.starts_with(STORE)
}

/// Whether all lines are among others, but for the number with which they begin.
fn holds_lines(lines: &[u8], wanted: &[u8]) -> bool {
    let rest = |line: &'_ [u8]| {
        line.iter().position(|byte| *byte == b',').map_or(line.to_vec(), |at| line[at..].to_vec())
    };
    let has: Vec<Vec<u8>> = lines.split(|byte| *byte == b'\n').map(rest).collect();
    let mut wanted: Vec<&[u8]> = wanted.split(|byte| *byte == b'\n').collect();
    // What follows the last line end was not written whole.
    wanted.pop();
    wanted.into_iter().all(|line| has.contains(&rest(line)))
}

fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    #[cfg(unix)]
    let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
    let code = if killed { None } else { Some(output.status.code().unwrap_or(-1)) };
    Ended { code, out: text(output.stdout), err: text(output.stderr) }
}

/// Makes every call of a command fail in every way, one after the other.
pub(crate) fn fail_each(case: &Case<'_>) {
    let Some(library) = library() else { return };
    let library = library.to_str().unwrap();
    let runs = Runs::new(case);
    let calls = runs.calls(library);
    let all = std::env::var_os("SMOLT_FAULTS").is_some_and(|what| what == "all");
    let mut count = 0;
    for (at, call) in calls.iter().enumerate() {
        let same = |other: &&Call| other.place() == call.place();
        let (earlier, later) =
            (calls[..at].iter().filter(same).count(), calls[at + 1..].iter().filter(same).count());
        if !all && earlier >= SOME_CALLS && later > 0 {
            continue;
        }
        for (name, errno, stays) in call.faults() {
            runs.set_up();
            let (at, errno) = ((at + 1).to_string(), errno.to_string());
            let mut variables = vec![("LD_PRELOAD", library), ("FAULT_AT", &at), ("FAULT", &errno)];
            if stays {
                variables.push(("FAULT_STAYS", "1"));
            }
            let ended = runs.run(&variables);
            runs.check(&format!("{name} at call {at} of {}, {call:?}", calls.len()), &ended);
            count += 1;
        }
    }
    assert!(count > 0);
    eprintln!("{}: {} calls, {count} faults, nothing lost", case.name, calls.len());
}

/// Kills a command at moments of all its time. `SMOLT_KILLS=200` for more.
pub(crate) fn kill_often(case: &Case<'_>) {
    let rounds = std::env::var("SMOLT_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(KILLS);
    let runs = Runs::new(case);
    let mut killed = 0;
    for round in 0..rounds {
        runs.set_up();
        let mut child = runs.start(&[]);
        let share = (round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        std::thread::sleep(runs.time.mul_f64(share as f64 / f64::from(1 << 24)));
        let _ = child.kill();
        let ended = ended(child.wait_with_output().unwrap());
        killed += usize::from(ended.code.is_none());
        runs.check(&format!("kill {round}"), &ended);
    }
    assert!(killed > 0, "{}: it ends before it is killed", case.name);
    eprintln!("{}: {killed} of {rounds} kills while it ran, nothing lost", case.name);
}
