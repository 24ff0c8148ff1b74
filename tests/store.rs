//! `smolt pull`, `list`, `rm` and `alias`, by the commands, with a server that does what the Hugging Face hub does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smolt::files::sha256_of;

use crate::shared::repository;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hash(bytes: &[u8]) -> String {
    sha256_of([bytes].into_iter())
}

/// What the server was asked.
#[derive(Clone, Debug)]
struct Request {
    path: String,
    range: Option<u64>,
    token: Option<String>,
    /// Whether it came to the server of the bytes, not to the hub.
    is_cdn: bool,
    /// Bytes of the body that were sent.
    sent: usize,
}

/// What the server does.
#[derive(Default)]
struct Behaviour {
    /// The only repository; `org/tiny` if not told.
    repository: Option<&'static str>,
    files: Vec<(&'static str, Vec<u8>)>,
    /// The hash that is told, if not the true one.
    told_hash: Option<String>,
    /// Neither the list nor headers tell a hash.
    tells_no_hash: bool,
    /// Bytes of each answer of the CDN, the first first; then the connection ends.
    cuts: Vec<usize>,
    /// After so many bytes of an answer nothing more comes.
    stall: Option<usize>,
    /// Whole files are sent whatever is asked for.
    ignores_range: bool,
    /// Statuses of the next answers of the CDN.
    statuses: Vec<u16>,
    /// Without this token nothing is told.
    token: Option<&'static str>,
    /// More bytes than the list says are sent.
    extra: usize,
    /// The size that parts of a file are said to be of.
    part_of: Option<u64>,
    /// The length that whole files are said to have.
    length: Option<u64>,
    /// Where the hub redirects to, whatever is asked for.
    redirect: Option<String>,
}

pub(crate) struct Server {
    pub(crate) endpoint: String,
    behaviour: Arc<Mutex<Behaviour>>,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn new(behaviour: Behaviour) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, cdn) = (listen(), listen());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (endpoint, cdn_address) = (address(&hub), address(&cdn));
        let (behaviour, log) = (Arc::new(Mutex::new(behaviour)), Arc::new(Mutex::new(vec![])));
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let (behaviour, log, cdn_address) =
                (Arc::clone(&behaviour), Arc::clone(&log), cdn_address.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (behaviour, log, cdn) =
                        (Arc::clone(&behaviour), Arc::clone(&log), cdn_address.clone());
                    std::thread::spawn(move || serve(stream.unwrap(), is_cdn, &behaviour, &log, &cdn));
                }
            });
        }
        Self { endpoint, behaviour, log }
    }

    /// A hub with one repository.
    pub(crate) fn with_files(repository: &'static str, files: Vec<(&'static str, Vec<u8>)>) -> Self {
        Self::new(Behaviour { repository: Some(repository), files, ..Behaviour::default() })
    }

    /// One file that runs.
    fn with_model() -> (Self, Vec<u8>) {
        let model = std::fs::read(repository("src/cli/demo.gguf")).unwrap();
        let files = vec![
            ("README.md", b"text".to_vec()),
            ("tiny-Q8_0.gguf", vec![8; 10]),
            ("tiny-Q4_0.gguf", model.clone()),
            ("tiny-F16.gguf", vec![16; 20]),
        ];
        (Self::new(Behaviour { files, ..Behaviour::default() }), model)
    }

    fn set(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Requests for bytes.
    fn fetches(&self) -> Vec<Request> {
        self.log().into_iter().filter(|request| request.is_cdn).collect()
    }

    fn sent(&self) -> usize {
        self.fetches().iter().map(|request| request.sent).sum()
    }
}

fn serve(
    mut stream: TcpStream,
    is_cdn: bool,
    behaviour: &Mutex<Behaviour>,
    log: &Mutex<Vec<Request>>,
    cdn: &str,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, range: None, token: None, is_cdn, sent: 0 };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let at = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let (head, body, stall) = answer(&request, &mut behaviour.lock().unwrap(), cdn);
    stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    for part in body.chunks(1 << 14) {
        // Counted first: whoever has a byte finds it counted.
        log.lock().unwrap()[at].sent += part.len();
        stream.write_all(part).ok()?;
    }
    if stall {
        std::thread::sleep(Duration::from_secs(60));
    }
    Some(())
}

/// Status and headers, the body, and whether nothing more comes then.
fn answer(request: &Request, behaviour: &mut Behaviour, cdn: &str) -> (String, Vec<u8>, bool) {
    let status = |status: u16| (format!("{status} No\r\nContent-Length: 0"), vec![], false);
    if !request.is_cdn && behaviour.token.is_some_and(|token| request.token.as_deref() != Some(token)) {
        return status(if request.token.is_some() { 403 } else { 401 });
    }
    if let Some(location) = behaviour.redirect.as_ref().filter(|_| !request.is_cdn) {
        return (format!("302 Found\r\nContent-Length: 0\r\nLocation: {location}"), vec![], false);
    }
    let repository = behaviour.repository.unwrap_or("org/tiny");
    let told = |bytes: &[u8]| behaviour.told_hash.clone().unwrap_or_else(|| hash(bytes));
    if request.path == format!("/api/models/{repository}/revision/main?blobs=true") {
        let sibling = |(name, bytes): &(&str, Vec<u8>)| match behaviour.tells_no_hash {
            true => json!({"rfilename": name}),
            false => json!({"rfilename": name, "size": bytes.len(),
                            "lfs": {"sha256": told(bytes), "size": bytes.len()}}),
        };
        let siblings: Vec<Value> = behaviour.files.iter().map(sibling).collect();
        let body = json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes();
        return (format!("200 OK\r\nContent-Length: {}", body.len()), body, false);
    }
    let resolve = format!("/{repository}/resolve/{COMMIT}/");
    let name = request.path.strip_prefix(if request.is_cdn { "/" } else { resolve.as_str() });
    let Some((_, bytes)) = behaviour.files.iter().find(|(file, _)| Some(*file) == name) else {
        return status(404);
    };
    if !request.is_cdn {
        let etag = match behaviour.tells_no_hash {
            true => String::new(),
            false => format!("X-Linked-ETag: \"{}\"\r\n", told(bytes)),
        };
        let headers = format!("X-Repo-Commit: {COMMIT}\r\n{etag}X-Linked-Size: {}", bytes.len());
        let location = format!("Location: {cdn}/{}", name.unwrap());
        return (format!("302 Found\r\nContent-Length: 0\r\n{headers}\r\n{location}"), vec![], false);
    }
    let bytes = [bytes.as_slice(), &vec![0; behaviour.extra]].concat();
    if !behaviour.statuses.is_empty() {
        return status(behaviour.statuses.remove(0));
    }
    let from = request.range.filter(|_| !behaviour.ignores_range).unwrap_or(0) as usize;
    if from > 0 && from >= bytes.len() {
        return status(416);
    }
    let size = behaviour.part_of.unwrap_or(bytes.len() as u64);
    let range = format!("\r\nContent-Range: bytes {from}-{}/{size}", bytes.len() - 1);
    let first = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let range = if from > 0 { range } else { String::new() };
    let length = behaviour.length.unwrap_or((bytes.len() - from) as u64);
    let head = format!("{first}\r\nContent-Length: {length}{range}");
    let mut body = bytes[from..].to_vec();
    if !behaviour.cuts.is_empty() {
        body.truncate(behaviour.cuts.remove(0));
    }
    let stall = behaviour.stall.take();
    body.truncate(stall.unwrap_or(body.len()));
    (head, body, stall.is_some())
}

/// A folder for a user's files.
struct User {
    home: PathBuf,
    endpoint: String,
}

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl User {
    fn new(name: &str, server: &Server) -> Self {
        let home = std::env::temp_dir().join(format!("smolt-store-command-{}-{name}", std::process::id()));
        std::fs::create_dir(&home).unwrap();
        Self { home, endpoint: server.endpoint.clone() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = crate::shared::smolt();
        command.args(arguments).current_dir(&self.home);
        command
            .env("HOME", &self.home)
            .env("SMOLT_HOME", self.home.join("smolt"))
            .env("HF_ENDPOINT", &self.endpoint);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}{}", done.out, done.err);
        done
    }

    /// Runs what must fail with this exit code and name all of these.
    fn fails(&self, arguments: &[&str], code: i32, named: &[&str]) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {}{}", done.out, done.err);
        assert_eq!(done.out, "", "{arguments:?}");
        for named in named {
            assert!(done.err.contains(named), "{arguments:?}: no {named:?} in {}", done.err);
        }
        done
    }

    fn models(&self) -> Vec<String> {
        let listed: Value = serde_json::from_str(&self.ok(&["list", "--json"]).out).unwrap();
        let models = listed["models"].as_array().unwrap().iter();
        models.map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    }

    fn partial(&self) -> Vec<PathBuf> {
        match std::fs::read_dir(self.home.join("smolt/models/.partial")) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => vec![],
        }
    }

    fn model(&self) -> PathBuf {
        self.home.join("smolt/models/org/tiny/tiny-Q4_0.gguf")
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

fn done(mut command: Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn a_pulled_model_runs_by_every_name_and_goes_again() {
    let (server, model) = Server::with_model();
    let user = User::new("whole", &server);
    let pulled = user.ok(&["pull", "org/tiny"]);
    assert_eq!(pulled.out.trim_end(), user.model().to_str().unwrap());
    assert!(
        pulled.err.contains("fetching tiny-Q4_0.gguf; others are tiny-Q8_0.gguf, tiny-F16.gguf"),
        "{}",
        pulled.err
    );
    assert!(!pulled.err.contains('\x1b') && !pulled.err.contains('\r'), "no progress where nobody looks");
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    assert_eq!(server.sent(), model.len());
    assert!(user.partial().is_empty());

    let again: Value = serde_json::from_str(&user.ok(&["pull", "org/tiny:q4_0", "--json"]).out).unwrap();
    assert_eq!((&again["was_installed"], &again["fetched_bytes"]), (&json!(true), &json!(0)));
    assert_eq!((&again["sha256"], &again["commit"]), (&json!(hash(&model)), &json!(COMMIT)));
    assert_eq!(server.sent(), model.len(), "not fetched twice");

    user.ok(&["alias", "small", "org/tiny"]);
    assert_eq!(user.ok(&["alias"]).out, "small  org/tiny:tiny-Q4_0.gguf\n");
    assert_eq!(user.models(), ["org/tiny:tiny-Q4_0.gguf"]);
    assert!(user.ok(&["list"]).out.starts_with("org/tiny:tiny-Q4_0.gguf"));
    for name in ["org/tiny", "org/tiny:Q4_0", "tiny-Q4_0", "small", user.model().to_str().unwrap()] {
        let answer = user.ok(&["run", "-m", name, "--temp", "0", "What time do you open?"]).out;
        assert_eq!(answer.trim_end(), "We are open every day except Monday, from 10 am to 6 pm.", "{name}");
    }
    let shown: Value = serde_json::from_str(&user.ok(&["show", "small", "--json"]).out).unwrap();
    assert_eq!(
        (&shown["sha256"], &shown["source"]["repository"]),
        (&json!(hash(&model)), &json!("org/tiny"))
    );
    std::fs::write(user.home.join("small"), "a plain file").unwrap();
    user.fails(&["show", "small"], 3, &["small"]);
    std::fs::remove_file(user.home.join("small")).unwrap();

    user.fails(&["rm", "org/tiny"], 2, &["org/tiny:tiny-Q4_0.gguf", "--yes"]);
    user.ok(&["rm", "--yes", "org/tiny"]);
    assert!(user.models().is_empty());
    user.fails(&["show", "small"], 3, &["alias small", "org/tiny:tiny-Q4_0.gguf"]);
    user.ok(&["rm", "-y", "small"]);
    user.fails(&["show", "small"], 3, &["small", "smolt list"]);
    user.fails(&["show", "org/tiny"], 3, &["smolt pull org/tiny"]);
}

#[test]
fn an_address_names_a_model_too() {
    let (server, model) = Server::with_model();
    let user = User::new("address", &server);
    let endpoint = &server.endpoint;
    for address in [
        format!("{endpoint}/org/tiny"),
        format!("{endpoint}/org/tiny/"),
        format!("{endpoint}/org/tiny:Q4_0"),
        format!("{endpoint}/org/tiny/tree/main"),
        format!("{endpoint}/org/tiny/blob/main/tiny-Q4_0.gguf"),
        format!("{endpoint}/org/tiny/resolve/main/tiny-Q4_0.gguf?download=true"),
        "hf.co/org/tiny:Q4_0".to_owned(),
        "https://hf.co/org/tiny".to_owned(),
    ] {
        let pulled = user.ok(&["pull", &address]);
        assert_eq!(pulled.out.trim_end(), user.model().to_str().unwrap(), "{address}");
    }
    assert_eq!(server.sent(), model.len(), "fetched once");
    for wrong in
        ["https://example.invalid/org/tiny", "example.invalid/org/tiny", "hf.co/org", "hf.co/org/../x"]
    {
        user.fails(&["pull", wrong], 2, &["is not the name of a model"]);
    }
    user.fails(&["pull", &format!("{endpoint}/org/tiny/tree/old")], 3, &["revision old"]);
}

#[test]
fn the_first_model_is_offered_as_the_default() {
    let (server, _) = Server::with_model();
    let user = User::new("offered", &server);
    let first = user.ok(&["pull", "org/tiny", "--alias", "small"]);
    assert!(first.err.contains("smolt use small makes it the default"), "{}", first.err);
    assert!(!user.ok(&["pull", "org/tiny:Q8_0"]).err.contains("smolt use"), "only the first");
    user.ok(&["rm", "--yes", "org/tiny:Q8_0"]);
    user.ok(&["use", "small"]);
    assert!(!user.ok(&["pull", "org/tiny"]).err.contains("smolt use"), "there is a default");
    assert_eq!(user.ok(&["use"]).out, "small\n");
    // It is no alias of the model, as "small" is.
    assert!(user.ok(&["list"]).out.trim_end().ends_with("  small (default)"));
}

/// On a terminal it asks; only a yes, or Enter, makes it the default.
#[test]
fn who_is_there_is_asked_about_the_default() {
    for (typed, expected) in [("\n", "small\n"), ("y\n", "small\n"), ("n\n", "demo\n"), ("\u{4}", "demo\n")] {
        let (server, _) = Server::with_model();
        let user = User::new("asked", &server);
        let (code, shown) = on_terminal(user.command(&["pull", "org/tiny", "--alias", "small"]), typed);
        assert!(code == 0 && shown.contains("[Y/n]"), "{shown}");
        assert_eq!(shown.contains("smolt chat talks with it"), expected == "small\n", "{shown}");
        assert_eq!(user.ok(&["use"]).out, expected, "{typed:?}");
    }
}

#[test]
fn a_changed_file_is_noticed() {
    let (server, model) = Server::with_model();
    let user = User::new("changed", &server);
    user.ok(&["pull", "org/tiny"]);
    let mut changed = model.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(user.model(), &changed).unwrap();
    let shown: Value = serde_json::from_str(&user.ok(&["show", "org/tiny", "--hash", "--json"]).out).unwrap();
    assert_eq!(shown["sha256"], hash(&changed));
    assert!(shown["problems"][0].as_str().unwrap().contains(&hash(&model)), "{shown}");
}

#[test]
fn a_connection_that_ends_is_gone_on_with() {
    let (server, model) = Server::with_model();
    server.set().cuts = vec![300_000, 0, 500_001];
    server.set().statuses = vec![503];
    let user = User::new("cut", &server);
    let done = user.ok(&["pull", "org/tiny"]);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    assert_eq!(server.sent(), model.len(), "no byte twice");
    let ranges: Vec<Option<u64>> = server.fetches().iter().map(|request| request.range).collect();
    assert_eq!(ranges, [None, None, Some(300_000), Some(300_000), Some(800_001)]);
    assert!(done.err.contains("trying again"), "{}", done.err);
}

#[test]
fn it_is_given_up_after_a_while_and_gone_on_with_later() {
    let (server, model) = Server::with_model();
    server.set().cuts = vec![1000, 0, 0, 0, 0, 0];
    let user = User::new("give-up", &server);
    let waits = ["again in 0.5 s", "again in 1.0 s", "again in 2.0 s", "again in 4.0 s"];
    user.fails(&["pull", "org/tiny"], 1, &[&["cannot reach", "goes on from there"], &waits[..]].concat());
    assert!(user.models().is_empty());
    server.set().cuts.clear();
    let done = user.ok(&["pull", "org/tiny"]);
    assert!(done.err.contains("going on with an earlier download"), "{}", done.err);
    assert_eq!(server.sent(), model.len());
}

/// Starts a download that stops after `bytes` more, and waits until all of them are in the file.
fn half_way(user: &User, server: &Server, bytes: usize) -> Child {
    let arrived =
        || user.partial().first().and_then(|part| part.metadata().ok()).map_or(0, |data| data.len());
    let wanted = arrived() + bytes as u64;
    server.set().stall = Some(bytes);
    let child = user.command(&["pull", "org/tiny"]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while arrived() < wanted {
        assert!(Instant::now() < end, "half of the file arrives");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_kill_at_half_way_costs_nothing_but_the_rest() {
    let (server, model) = Server::with_model();
    let user = User::new("kill", &server);
    for bytes in [100_000, 400_000] {
        let mut child = half_way(&user, &server, bytes);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(user.models().is_empty(), "not installed");
        let listed: Value = serde_json::from_str(&user.ok(&["list", "--json"]).out).unwrap();
        assert_eq!(listed["unfinished_bytes"], server.sent());
    }
    user.ok(&["pull", "org/tiny"]);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    assert_eq!(server.sent(), model.len(), "no byte twice");
    assert!(user.partial().is_empty());
}

#[test]
fn two_at_once_fetch_once() {
    let (server, model) = Server::with_model();
    let user = User::new("two", &server);
    let mut first = half_way(&user, &server, 100_000);
    let mut second = user.command(&["pull", "org/tiny"]).spawn().unwrap();
    let mut said = BufReader::new(second.stderr.take().unwrap());
    let mut err = String::new();
    while !err.contains("waiting for it") {
        assert!(said.read_line(&mut err).unwrap() > 0, "{err}");
    }
    assert_eq!(server.fetches().len(), 1, "the second waits");
    first.kill().unwrap();
    first.wait().unwrap();
    said.read_to_string(&mut err).unwrap();
    assert!(second.wait_with_output().unwrap().status.success(), "{err}");
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    assert_eq!(server.sent(), model.len());

    server.set().stall = None;
    let children: Vec<Child> =
        (0..3).map(|_| user.command(&["pull", "org/tiny:F16"]).spawn().unwrap()).collect();
    assert!(children.into_iter().all(|child| child.wait_with_output().unwrap().status.success()));
    assert_eq!(server.sent(), model.len() + 20, "one fetches, two find it");
}

#[test]
fn a_wrong_hash_installs_nothing() {
    let (server, _) = Server::with_model();
    server.set().told_hash = Some("0".repeat(64));
    let user = User::new("hash", &server);
    user.fails(&["pull", "org/tiny"], 1, &["expected SHA-256 0000", "nothing was installed"]);
    assert!(user.models().is_empty() && user.partial().is_empty());
    assert!(!user.model().exists());
}

#[test]
fn a_damaged_part_is_fetched_anew() {
    let (server, model) = Server::with_model();
    let user = User::new("damaged", &server);
    let partial = user.home.join("smolt/models/.partial");
    std::fs::create_dir_all(&partial).unwrap();
    for wrong in [vec![7; 1000], vec![7; model.len()], vec![7; model.len() + 1]] {
        std::fs::write(partial.join(format!("{}.part", hash(&model))), wrong).unwrap();
        user.ok(&["pull", "org/tiny"]);
        assert_eq!(std::fs::read(user.model()).unwrap(), model);
        user.ok(&["rm", "--yes", "org/tiny"]);
    }
    assert!(user.partial().is_empty());
}

#[test]
fn a_server_that_cannot_resume_will_do() {
    let (server, model) = Server::with_model();
    server.set().ignores_range = true;
    server.set().cuts = vec![300_000];
    let user = User::new("no-range", &server);
    user.ok(&["pull", "org/tiny"]);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    assert_eq!(server.sent(), model.len() + 300_000);
    user.ok(&["rm", "--yes", "org/tiny"]);
    // It never comes farther: that must end.
    server.set().cuts = vec![300_000; 20];
    user.fails(&["pull", "org/tiny"], 1, &["cannot reach"]);
}

#[test]
fn without_a_hash_the_size_is_checked_and_it_is_said() {
    let (server, model) = Server::with_model();
    server.set().tells_no_hash = true;
    let user = User::new("unhashed", &server);
    let done = user.ok(&["pull", "org/tiny"]);
    assert!(done.err.contains("only its size was checked"), "{}", done.err);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    assert_eq!(user.ok(&["pull", "org/tiny", "--json"]).out.matches("\"was_installed\":true").count(), 1);
}

#[test]
fn a_wrong_size_is_refused() {
    let (server, model) = Server::with_model();
    server.set().extra = 1;
    let user = User::new("size", &server);
    let expected = format!("expected {} bytes, the hub sends {}", model.len(), model.len() + 1);
    user.fails(&["pull", "org/tiny"], 1, &[&expected]);
    assert!(user.models().is_empty());
}

/// Where nobody tells hash or size, what a server says of the size later may be less than what is there already.
#[test]
fn a_part_of_less_than_what_is_there_begins_anew() {
    let (server, model) = Server::with_model();
    server.set().tells_no_hash = true;
    server.set().cuts = vec![300_000];
    server.set().part_of = Some(1000);
    let user = User::new("shrunk", &server);
    user.fails(&["pull", "org/tiny"], 1, &["the hub sends 1000"]);
    assert_eq!(std::fs::metadata(&user.partial()[0]).unwrap().len(), 300_000);
    user.ok(&["pull", "org/tiny"]);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
}

#[test]
fn a_file_beyond_all_sizes_is_refused_before_its_first_byte() {
    let (server, _) = Server::with_model();
    server.set().tells_no_hash = true;
    server.set().length = Some(1 << 37);
    let user = User::new("endless", &server);
    user.fails(&["pull", "org/tiny"], 1, &["137438953472 bytes are more than"]);
    assert_eq!(std::fs::metadata(&user.partial()[0]).unwrap().len(), 0);
}

/// An address with a signature lets everybody who sees it fetch the file.
#[test]
fn no_signed_address_is_shown() {
    let (server, _) = Server::with_model();
    let user = User::new("signed", &server);
    for location in ["/again?X-Signature=secret", "file:///x?X-Signature=secret", "/again#secret"] {
        server.set().redirect = Some(location.to_owned());
        let done = user.fails(&["pull", "org/tiny"], 1, &["redirect"]);
        assert!(!done.err.contains("secret") && !done.out.contains("secret"), "{}", done.err);
    }
}

#[test]
fn what_is_not_there_is_said() {
    let (server, _) = Server::with_model();
    let user = User::new("absent", &server);
    user.fails(&["pull", "org/other"], 3, &["org/other", "revision main"]);
    user.fails(&["pull", "org/tiny", "--revision", "v2"], 3, &["org/tiny", "revision v2"]);
    user.fails(&["pull", "org/tiny:Q5_0"], 3, &["no file Q5_0", "tiny-Q8_0.gguf"]);
    server.set().files = vec![("a.gguf", vec![1]), ("b.gguf", vec![2])];
    user.fails(&["pull", "org/tiny"], 3, &["a.gguf, b.gguf", "ORG/REPO:FILE"]);
    server.set().files = vec![("README.md", vec![1])];
    user.fails(&["pull", "org/tiny"], 3, &["no model in GGUF format"]);
    server.set().files =
        vec![("../../../evil.gguf", vec![1]), ("/etc/evil.gguf", vec![2]), ("..\\evil.gguf", vec![3])];
    user.fails(&["pull", "org/tiny"], 3, &["no model in GGUF format"]);
    assert!(server.fetches().is_empty());
    assert!(user.models().is_empty());
}

#[test]
fn names_that_would_leave_the_folder_ask_nobody() {
    let (server, _) = Server::with_model();
    let user = User::new("traversal", &server);
    for name in
        ["../tiny", "org/..", "org/tiny:../x.gguf", "org/tiny:/etc/x.gguf", "org", "org/tiny:a/../b.gguf", ""]
    {
        user.fails(&["pull", name], 2, &["is not the name of a model"]);
    }
    user.fails(&["alias", "../x", "org/tiny"], 2, &["cannot be an alias"]);
    user.fails(&["pull", "org/tiny", "--alias", "../x"], 2, &["cannot be an alias"]);
    user.fails(&["rm", "--yes", "../../etc/passwd"], 3, &["no model"]);
    assert!(server.log().is_empty());
}

#[test]
fn a_token_goes_to_the_hub_and_nowhere_else() {
    let (server, _) = Server::with_model();
    server.set().token = Some("hf_secret");
    let user = User::new("token", &server);
    user.fails(&["pull", "org/tiny"], 3, &["status 401", "HF_TOKEN"]);
    let with = |token: &str| {
        let mut command = user.command(&["pull", "org/tiny"]);
        command.env("HF_TOKEN", token);
        done(command)
    };
    let refused = with("hf_other");
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains("status 403") && !refused.err.contains("hf_other"), "{}", refused.err);
    let odd = with("hf\u{e9}");
    assert_eq!(odd.code, 2, "{}", odd.err);
    assert_eq!(with("hf_secret").code, 0);
    assert!(server.fetches().iter().all(|request| request.token.is_none()), "{:?}", server.fetches());
    user.ok(&["rm", "--yes", "org/tiny"]);

    let folder = user.home.join(".cache/huggingface");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token"), "hf_secret\n").unwrap();
    user.ok(&["pull", "org/tiny"]);
    let mut without = user.command(&["pull", "org/tiny"]);
    without.env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    assert_eq!(done(without).code, 3);
}

#[test]
fn nothing_is_asked_offline() {
    let (server, _) = Server::with_model();
    let user = User::new("offline", &server);
    let offline = || {
        let mut command = user.command(&["pull", "org/tiny"]);
        command.env("HF_HUB_OFFLINE", "1");
        done(command)
    };
    let refused = offline();
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("HF_HUB_OFFLINE"), "{}", refused.err);
    assert!(server.log().is_empty());
    user.ok(&["pull", "org/tiny"]);
    let asked = server.log().len();
    assert_eq!(offline().out.trim_end(), user.model().to_str().unwrap());
    assert_eq!(server.log().len(), asked);
}

/// No command but `pull` opens a socket of the network, as the system sees it.
#[test]
fn other_commands_use_no_network() {
    let (server, _) = Server::with_model();
    let user = User::new("network", &server);
    user.ok(&["pull", "org/tiny"]);
    let asked = server.log().len();
    let strace = Command::new("strace").arg("-V").output().is_ok();
    if !strace {
        eprintln!("SKIPPED in part: no strace; only what the server was asked is checked");
    }
    let commands: &[(&[&str], i32)] = &[
        (&["run", "-m", "org/tiny", "-n", "2", "Hello"], 0),
        (&["run", "-m", "org/absent", "Hello"], 3),
        (&["list"], 0),
        (&["show", "org/tiny"], 0),
        (&["alias", "x", "org/tiny"], 0),
        (&["config"], 0),
        (&["rm", "--yes", "org/tiny"], 0),
    ];
    for (arguments, code) in commands {
        let trace = user.home.join("trace");
        let mut command = user.command(arguments);
        if strace {
            let mut traced = Command::new("strace");
            traced.args(["-f", "-e", "trace=socket,connect", "-o"]).arg(&trace);
            traced.arg(command.get_program()).args(command.get_args()).current_dir(&user.home);
            traced.env_clear().env("HOME", &user.home).env("SMOLT_HOME", user.home.join("smolt"));
            command = traced;
        }
        let done = done(command.stdin(Stdio::null()).take());
        assert_eq!(done.code, *code, "{arguments:?}: {}", done.err);
        let traced = std::fs::read_to_string(&trace).unwrap_or_default();
        assert!(!traced.contains("AF_INET"), "{arguments:?}: {traced}");
    }
    assert_eq!(server.log().len(), asked);
}

/// `Command` by value out of a chain of its methods.
trait Take {
    fn take(&mut self) -> Command;
}

impl Take for Command {
    fn take(&mut self) -> Command {
        std::mem::replace(self, Command::new("false"))
    }
}

/// A server that says nothing more is left, not waited for.
#[test]
fn a_server_that_says_nothing_more_is_asked_again() {
    let (server, model) = Server::with_model();
    server.set().stall = Some(300_000);
    let user = User::new("stall", &server);
    let mut command = user.command(&["pull", "org/tiny"]);
    command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    let done = done(command);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("trying again"), "{}", done.err);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    assert_eq!(server.sent(), model.len(), "no byte twice");
}

#[test]
fn redirects_end_and_stay_on_the_web() {
    let (server, _) = Server::with_model();
    server.set().token = Some("hf_secret");
    let user = User::new("redirects", &server);
    for (location, named) in
        [("/again", "more than 8 redirects"), ("file:///etc/passwd", "no address"), ("nowhere", "no address")]
    {
        server.set().redirect = Some(location.to_owned());
        let mut command = user.command(&["pull", "org/tiny"]);
        command.env("HF_TOKEN", "hf_secret");
        let done = done(command);
        assert_eq!(done.code, 1, "{location}: {}", done.err);
        assert!(done.err.contains(named), "{location}: {}", done.err);
    }
    // Another port is another server, which gets no token.
    let other = Server::with_model().0;
    server.set().redirect = Some(format!("{}/elsewhere", other.endpoint));
    let mut command = user.command(&["pull", "org/tiny"]);
    command.env("HF_TOKEN", "hf_secret");
    assert_eq!(done(command).code, 1);
    assert_eq!(other.log().len(), 1);
    assert!(other.log()[0].token.is_none());
}

/// What lies beside a model cannot break or colour what is shown of it.
#[test]
fn a_record_that_is_none_counts_as_none() {
    let (server, model) = Server::with_model();
    let user = User::new("records", &server);
    user.ok(&["pull", "org/tiny"]);
    let record = user.model().with_file_name("tiny-Q4_0.gguf.json");
    let mut evil: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    evil["sha256"] = json!("\u{1b}[31mred");
    let texts = [evil.to_string().into_bytes(), vec![b' '; 100_000], vec![0xff], b"{}".to_vec()];
    for text in texts {
        std::fs::write(&record, text).unwrap();
        let shown: Value = serde_json::from_str(&user.ok(&["show", "org/tiny", "--json"]).out).unwrap();
        assert_eq!(shown["sha256"], Value::Null);
        assert!(!user.ok(&["list"]).out.contains('\x1b'));
        // The bytes are hashed then, not fetched.
        assert!(user.ok(&["pull", "org/tiny"]).err.contains("installed already"));
        let shown: Value = serde_json::from_str(&user.ok(&["show", "org/tiny", "--json"]).out).unwrap();
        assert_eq!(shown["sha256"], hash(&model), "the record is whole again");
    }
    assert_eq!(server.sent(), model.len());
}

/// A write that fails, as on a full disk.
#[test]
fn a_write_that_fails_is_said_and_gone_on_with() {
    let (server, model) = Server::with_model();
    let user = User::new("full", &server);
    let smolt = env!("CARGO_BIN_EXE_smolt");
    // ulimit counts in blocks of 512 or 1024 bytes.
    let script = format!("trap '' XFSZ; ulimit -f 200; exec {smolt} pull org/tiny");
    let mut limited = Command::new("sh");
    limited.args(["-c", &script]).current_dir(&user.home).env_clear().env("HOME", &user.home);
    limited.env("SMOLT_HOME", user.home.join("smolt")).env("HF_ENDPOINT", &user.endpoint);
    let refused = done(limited);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("cannot write"), "{}", refused.err);
    assert!(user.models().is_empty());
    let there = user.partial()[0].metadata().unwrap().len();
    assert!(there > 0);
    user.ok(&["pull", "org/tiny"]);
    assert_eq!(server.fetches().last().unwrap().range, Some(there));
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
}

#[test]
fn a_file_of_the_hubs_own_client_is_taken() {
    let (server, model) = Server::with_model();
    // Of another commit, a copy where there are no links, and one that is damaged: that is fetched after all.
    let blob = format!("blobs/{}", hash(&model));
    let copy = format!("snapshots/{COMMIT}/tiny-Q4_0.gguf");
    for (name, path, is_whole) in [("blob", &blob, true), ("copy", &copy, true), ("damaged", &blob, false)] {
        let user = User::new(&format!("cache-{name}"), &server);
        let path = user.home.join("hf/hub/models--org--tiny").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = model.clone();
        bytes[100] ^= u8::from(!is_whole);
        std::fs::write(path, &bytes).unwrap();
        let mut command = user.command(&["pull", "org/tiny"]);
        command.env("HF_HOME", user.home.join("hf"));
        let done = done(command);
        assert_eq!(done.code, 0, "{}", done.err);
        assert_eq!(server.fetches().is_empty(), is_whole, "{name}: {}", done.err);
        assert_eq!(std::fs::read(user.model()).unwrap(), model);
    }
}

#[test]
fn a_new_revision_replaces_the_old() {
    let (server, model) = Server::with_model();
    let user = User::new("revision", &server);
    user.ok(&["pull", "org/tiny"]);
    let mut newer = model.clone();
    newer.extend([0; 100]);
    server.set().files[2].1 = newer.clone();
    user.ok(&["pull", "org/tiny"]);
    assert_eq!(std::fs::read(user.model()).unwrap(), newer);
    let listed: Value = serde_json::from_str(&user.ok(&["list", "--json"]).out).unwrap();
    assert_eq!(listed["models"][0]["sha256"], hash(&newer));
}

/// Else it would be taken for the record of the new file, should the program be killed before that is written.
#[test]
fn a_record_that_cannot_be_removed_keeps_its_model() {
    let (server, model) = Server::with_model();
    let user = User::new("stuck-record", &server);
    let record = user.model().with_file_name("tiny-Q4_0.gguf.json");
    std::fs::create_dir_all(&record).unwrap();
    std::fs::write(user.model(), b"GGUF of before").unwrap();
    user.fails(&["pull", "org/tiny"], 1, &["cannot replace", "tiny-Q4_0.gguf"]);
    assert_eq!(std::fs::read(user.model()).unwrap(), b"GGUF of before");
    std::fs::remove_dir(&record).unwrap();
    user.ok(&["pull", "org/tiny"]);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
}

/// What does not speak HTTP, or lies, gives an error in reasonable time.
#[test]
fn a_hub_that_is_none_is_an_error() {
    let (server, _) = Server::with_model();
    let mut user = User::new("no-hub", &server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    user.endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1000]);
            let body = "<html>Log in to this network</html>";
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    user.fails(&["pull", "org/tiny"], 1, &["/api/models/org/tiny"]);
    user.endpoint = "gopher://x".to_owned();
    user.fails(&["pull", "org/tiny"], 2, &["HF_ENDPOINT"]);
}

/// Ends a server with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// OpenSSL's own server with a certificate that only a file says to trust, for the list and the bytes of a model.
fn secure(folder: &Path, model: &[u8]) -> Option<(Ends, String)> {
    let config = "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = more\n[name]\nCN = localhost\n\
                  [more]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:localhost,IP:127.0.0.1\n";
    std::fs::write(folder.join("openssl.conf"), config).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-config", "openssl.conf", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("SKIPPED: no openssl that makes a certificate");
        return None;
    }
    let mut behaviour = Behaviour { files: vec![("tiny-Q4_0.gguf", model.to_vec())], ..Behaviour::default() };
    for (asked, is_cdn, place) in [
        ("/api/models/org/tiny/revision/main?blobs=true", false, None),
        ("/tiny-Q4_0.gguf", true, Some(format!("org/tiny/resolve/{COMMIT}/tiny-Q4_0.gguf"))),
    ] {
        let path = asked.to_owned();
        let request = Request { path, range: None, token: None, is_cdn, sent: 0 };
        let (head, body, _) = answer(&request, &mut behaviour, "");
        let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
        let file = folder.join(place.as_deref().unwrap_or(&asked[1..]));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, [head.as_bytes(), &body].concat()).unwrap();
    }
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-HTTP"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let ends = Ends(child);
    let Some(port) =
        lines.find_map(|line| Some(line.strip_prefix("ACCEPT ")?.rsplit_once(':')?.1.to_owned()))
    else {
        eprintln!("SKIPPED: openssl has no server that says its port");
        return None;
    };
    // What it prints later must go somewhere.
    std::thread::spawn(move || lines.count());
    Some((ends, format!("https://127.0.0.1:{port}")))
}

#[test]
fn a_secure_hub_must_be_who_it_says() {
    let (server, model) = Server::with_model();
    let mut user = User::new("secure", &server);
    let Some((_ends, endpoint)) = secure(&user.home, &model) else { return };
    user.endpoint = endpoint;
    let stranger = user.fails(&["pull", "org/tiny"], 1, &["no secure connection", "SSL_CERT_FILE"]);
    assert!(!stranger.err.contains("trying again"), "{}", stranger.err);
    let mut command = user.command(&["pull", "org/tiny"]);
    command.env("SSL_CERT_FILE", user.home.join("cert.pem"));
    let done = done(command);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
}

#[test]
fn a_token_is_not_said_to_what_is_not_secure() {
    let (server, _) = Server::with_model();
    let mut user = User::new("plain", &server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    user.endpoint = format!("https://{}", listener.local_addr().unwrap());
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; 4096];
        let count = stream.read(&mut heard).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        heard.truncate(count);
        let _ = stream.read_to_end(&mut heard);
        heard
    });
    let mut command = user.command(&["pull", "org/tiny"]);
    command.env("HF_TOKEN", "hf_secret");
    let failed = done(command);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("no secure connection"), "{}", failed.err);
    let heard = heard.join().unwrap();
    assert_eq!(heard[0], 0x16, "a TLS handshake");
    assert!(!heard.windows(9).any(|part| part == b"hf_secret"));

    for (text, problem) in [("", "has no certificate"), ("-----BEGIN CERTIFICATE-----\nx", "is not PEM")] {
        let file = user.home.join("certificates.pem");
        std::fs::write(&file, text).unwrap();
        let mut command = user.command(&["pull", "org/tiny"]);
        command.env("SSL_CERT_FILE", &file);
        let refused = done(command);
        assert_eq!(refused.code, 1, "{}", refused.err);
        assert!(refused.err.contains(problem) && refused.err.contains("SSL_CERT_FILE"), "{}", refused.err);
    }
}

/// Runs a command on a pseudo-terminal where these keys are typed; its exit code and all that is shown.
fn on_terminal(mut command: Command, keys: &str) -> (i32, String) {
    let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(None, None).unwrap();
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
    drop((command, slave));
    let mut terminal = std::fs::File::from(master);
    terminal.write_all(keys.as_bytes()).unwrap();
    let mut shown = vec![];
    // An error is how a terminal ends that nobody holds.
    let _ = terminal.read_to_end(&mut shown);
    (child.wait().unwrap().code().unwrap_or(-1), String::from_utf8(shown).unwrap())
}

#[test]
fn a_person_sees_how_far_it_is_and_is_asked() {
    let (server, model) = Server::with_model();
    let user = User::new("terminal", &server);
    let (code, shown) = on_terminal(user.command(&["pull", "org/tiny"]), "n\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\r\x1b[K  0 %  0 B of 1.5 MiB"), "{shown:?}");
    let plain = shown.replace("\x1b[2m", "").replace("\x1b[0m", "");
    let last = plain.rfind("\x1b[K").unwrap();
    assert!(plain[last..].starts_with("\x1b[Ksmolt: org/tiny:tiny-Q4_0.gguf is installed"), "{shown:?}");

    let (code, shown) = on_terminal(user.command(&["rm", "org/tiny"]), "n\n");
    assert!(
        code == 0 && shown.contains("remove org/tiny:tiny-Q4_0.gguf (") && shown.contains("[y/N]"),
        "{shown}"
    );
    assert_eq!(std::fs::read(user.model()).unwrap(), model);
    // The end of the input is no.
    let (code, _) = on_terminal(user.command(&["rm", "org/tiny"]), "\x04");
    assert!(code == 0 && user.model().exists());
    let (code, shown) = on_terminal(user.command(&["rm", "org/tiny"]), "y\n");
    assert!(code == 0 && shown.contains("removed org/tiny:tiny-Q4_0.gguf"), "{shown}");
    assert!(user.models().is_empty());

    let mut dumb = user.command(&["pull", "org/tiny"]);
    dumb.env("TERM", "dumb");
    let (code, shown) = on_terminal(dumb, "n\n");
    assert!(code == 0 && !shown.contains('\x1b'), "{shown:?}");
}
