//! What a stranger may try on the sockets of `smolt serve`, and what they get.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smolt::LoadOptions;
use smolt::ask::{Defaults, Prompts};
use smolt::generate::{Engine, SamplerOptions};
use smolt::serve::{Address, Listen, ModelCard, ServeError, ServeOptions, State, Stop, serve};

use crate::shared::{Scratch, repository};

const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "0123456789abcdef";

/// A server in this process; it ends when dropped.
struct Server {
    address: Address,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn state() -> State {
    let options = LoadOptions { slots: 2, threads: Some(1), ..LoadOptions::default() };
    let prepared = smolt::Prepared::open(repository("src/cli/demo.gguf"), &options).unwrap();
    let loaded = prepared.load().unwrap();
    let prompts = Prompts::new(loaded.format().unwrap(), Arc::clone(loaded.tokenizer()));
    let engine = Engine::start(loaded.slots(4).unwrap(), 4).unwrap();
    let defaults =
        Defaults { sampler: SamplerOptions::greedy(), usual_tokens: Some(16), ..Defaults::default() };
    let card = ModelCard { id: "demo".to_owned(), ..ModelCard::default() };
    State::new(engine, prompts, defaults, card)
}

fn loopback() -> Listen {
    Listen::Tcp("localhost".to_owned(), 0)
}

fn start(listen: Listen, change: impl FnOnce(&mut ServeOptions)) -> Server {
    let mut options = ServeOptions::new(listen);
    change(&mut options);
    let (sender, receiver) = channel();
    let stop = options.stop.clone();
    let thread = std::thread::spawn(move || {
        serve(state(), &options, |address| sender.send(address.clone()).unwrap()).unwrap();
    });
    Server { address: receiver.recv().unwrap(), stop, thread: Some(thread) }
}

/// One server for the tests that ask for nothing special.
fn usual() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| start(loopback(), |_| ()))
}

fn port(server: &Server) -> SocketAddr {
    match &server.address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("{} is no port", path.display()),
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn error(&self) -> Value {
        let value: Value = serde_json::from_str(&self.body).unwrap();
        let error = &value["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{}", self.body);
        error.clone()
    }
}

/// Reads the answer on a connection, which has what every answer has.
fn answer(mut stream: impl Read) -> Answer {
    let mut bytes = vec![];
    // A connection may end with a reset after the answer.
    _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{head}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{head}");
    assert!(answer.header("cache-control").is_some_and(|value| value.contains("no-store")), "{head}");
    assert!(answer.header("x-request-id").is_some(), "{head}");
    assert!(!head.to_lowercase().contains("access-control-"), "{head}");
    answer
}

fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may have refused it already.
    _ = stream.write_all(bytes.as_ref());
    stream
}

/// The answer to a request of these lines, without a body.
fn ask(server: &Server, lines: &[&str]) -> Answer {
    answer(send(port(server), format!("{}\r\n\r\n", lines.join("\r\n"))))
}

fn get(server: &Server, path: &str, lines: &[&str]) -> Answer {
    let first = format!("GET {path} HTTP/1.1");
    ask(server, &[&[first.as_str(), "Host: localhost"], lines].concat())
}

/// The answer to a JSON body.
fn post(server: &Server, path: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    answer(send(port(server), [head.as_bytes(), body].concat()))
}

#[test]
fn foreign_hosts_are_refused() {
    let server = usual();
    let port = port(server).port();
    for host in
        ["localhost".to_owned(), format!("LOCALHOST:{port}"), format!("127.0.0.1:{port}"), "[::1]".to_owned()]
    {
        assert_eq!(ask(server, &["GET /health HTTP/1.1", &format!("Host: {host}")]).status, 200, "{host}");
    }
    for host in ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1:1", "10.0.0.1", ""] {
        for path in ["/health", "/", "/v1/models", "/nothing"] {
            let refused = ask(server, &[&format!("GET {path} HTTP/1.1"), &format!("Host: {host}")]);
            assert_eq!(
                (refused.status, refused.error()["code"].as_str()),
                (403, Some("forbidden")),
                "{host} {path}"
            );
        }
    }
}

#[test]
fn hosts_are_named_once() {
    let server = usual();
    for lines in [
        &["GET /health HTTP/1.1"][..],
        &["GET /health HTTP/1.0"],
        &["GET /health HTTP/1.1", "Host: localhost", "Host: localhost"],
        &["GET /health HTTP/1.1", "Host: localhost", "host: evil.example"],
        &["GET /health HTTP/1.1", "Host: localhost, evil.example"],
    ] {
        assert_eq!(ask(server, lines).status, 403, "{lines:?}");
    }
}

#[test]
fn absolute_targets_are_checked() {
    let server = usual();
    assert_eq!(ask(server, &["GET http://localhost/health HTTP/1.1", "Host: localhost"]).status, 200);
    for target in
        ["http://evil.example/health", "http://localhost@evil.example/health", "https://localhost:1/"]
    {
        assert_eq!(
            ask(server, &[&format!("GET {target} HTTP/1.1"), "Host: localhost"]).status,
            403,
            "{target}"
        );
    }
    let connect = ask(server, &["CONNECT evil.example:443 HTTP/1.1", "Host: localhost"]);
    assert_eq!(connect.status, 403);
}

#[test]
fn foreign_origins_are_refused() {
    let server = usual();
    let own = format!("Origin: http://localhost:{}", port(server).port());
    let encrypted = own.replace("http:", "https:");
    let host = format!("Host: localhost:{}", port(server).port());
    assert_eq!(ask(server, &["GET /health HTTP/1.1", &host, &own]).status, 200);
    assert_eq!(ask(server, &["GET /health HTTP/1.1", &host, &encrypted]).status, 403);
    for origin in ["null", "http://evil.example", "http://localhost:1", "file://", ""] {
        let lines = ["GET /v1/models HTTP/1.1", &host, &format!("Origin: {origin}")];
        assert_eq!(ask(server, &lines).status, 403, "{origin}");
    }
}

#[test]
fn bodies_say_that_they_are_json() {
    let server = usual();
    let body = r#"{"prompt": "hi"}"#;
    for (kind, status) in [
        (Some("application/json"), 200),
        (Some("Application/JSON; charset=utf-8"), 200),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("multipart/form-data; boundary=x"), 415),
        (Some("text/plain; application/json"), 415),
        (None, 415),
    ] {
        let kind = kind.map_or(String::new(), |kind| format!("Content-Type: {kind}\r\n"));
        let text = format!(
            "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(answer(send(port(server), text)).status, status, "{kind:?}");
    }
}

#[test]
fn options_give_no_permission() {
    let server = usual();
    assert_eq!(post(server, "/health", "{}").status, 405);
    for path in ["/v1/chat/completions", "/", "*"] {
        let lines = ["Host: localhost", "Access-Control-Request-Method: POST"];
        let refused = ask(server, &[&[format!("OPTIONS {path} HTTP/1.1").as_str()], &lines[..]].concat());
        assert_eq!(refused.status, 405, "{path}");
    }
}

#[test]
fn tokens_are_needed() {
    let scratch = Scratch::new("serve", "tokens");
    let file = scratch.folder.join("tokens");
    scratch.write("tokens", format!("{TOKEN}\n"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = start(loopback(), |options| options.token_file = Some(file.clone()));
    for path in ["/health", "/v1/health", "/ready", "/", "/kiosk.css", "/kiosk.js", "/kiosk-writing.js"] {
        assert_eq!(get(&server, path, &[]).status, 200, "{path}");
    }
    for path in
        ["/v1/models", "/metrics", "/openapi.json", "/tokenizer_info", "/nothing", "//health", "/health/"]
    {
        for line in
            ["X-None: 1", "Authorization: Bearer 0123456789abcdeF", "Authorization: Basic 0123456789abcdef"]
        {
            let refused = get(&server, path, &[line]);
            assert_eq!(
                (refused.status, refused.error()["code"].as_str()),
                (401, Some("invalid_api_key")),
                "{path}"
            );
        }
    }
    assert_eq!(get(&server, "/v1/models", &[&format!("Authorization: Bearer {TOKEN}")]).status, 200);
    assert_eq!(post(&server, "/tokenize", r#"{"prompt": "hi"}"#).status, 401);
}

#[test]
fn other_computers_need_a_token() {
    let scratch = Scratch::new("serve", "remote");
    let file = scratch.folder.join("tokens");
    scratch.write("tokens", TOKEN);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = |host: &str, allow_remote: bool, with_tokens: bool| {
        let mut options = ServeOptions::new(Listen::Tcp(host.to_owned(), 0));
        options.allow_remote = allow_remote;
        options.token_file = with_tokens.then(|| file.clone());
        let stop = options.stop.clone();
        serve(state(), &options, |_| stop.stop())
    };
    for host in ["0.0.0.0", "::", "[::]"] {
        for (allow_remote, with_tokens) in [(false, false), (true, false), (false, true)] {
            let error = refused(host, allow_remote, with_tokens).unwrap_err();
            assert!(matches!(error, ServeError::Remote { .. }), "{host}: {error}");
        }
    }
    refused("0.0.0.0", true, true).unwrap();
    assert!(matches!(refused("no host", false, false), Err(ServeError::Resolve { .. })));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(refused("127.0.0.1", false, true), Err(ServeError::TokensOpen { .. })));
}

#[test]
fn heads_have_limits() {
    let server = usual();
    let lines = |count: usize, length: usize| vec![format!("X: {}", "x".repeat(length)); count].join("\r\n");
    assert_eq!(get(server, "/health", &[&lines(63, 1)]).status, 200);
    for (count, length) in [(64, 1), (1, 8192), (1, 1 << 20)] {
        let refused = get(server, "/health", &[&lines(count, length)]);
        assert_eq!(refused.status, 431, "{count} of {length}");
        refused.error();
    }
    assert_eq!(get(server, &format!("/{}", "x".repeat(10_000)), &[]).status, 431);
    for garbage in [
        "\u{16}\u{3}\u{1}\n\n",
        "\0\0\0",
        "GET\n\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        assert_eq!(answer(send(port(server), garbage)).status, 400, "{garbage:?}");
    }
}

#[test]
fn bodies_have_limits() {
    let server = usual();
    let begun = Instant::now();
    assert_eq!(post(server, "/v1/completions", vec![b' '; 8 << 20]).status, 413);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(
        post(server, "/tokenize", format!("{{\"prompt\": \"{}\"}}", "a ".repeat(400_000))).status,
        200
    );
    for length in ["-1", "5, 5", "0x5", "99999999999999999999", "5\r\nContent-Length: 6"] {
        let lines =
            ["Host: localhost", "Content-Type: application/json", &format!("Content-Length: {length}")];
        let status = ask(server, &[&["POST /tokenize HTTP/1.1"], &lines[..]].concat()).status;
        assert!([400, 413].contains(&status), "{length}: {status}");
    }
    let both = ["Content-Length: 5", "Transfer-Encoding: chunked"];
    let lines =
        [&["POST /tokenize HTTP/1.1", "Host: localhost", "Content-Type: application/json"], &both[..]]
            .concat();
    assert_eq!(ask(server, &lines).status, 400);
    let chunked = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n10\r\n{\"prompt\": \"hi\"}\r\n0\r\n\r\n";
    assert_eq!(answer(send(port(server), chunked)).status, 200);
}

#[test]
fn hostile_json_is_refused() {
    let server = usual();
    let deep = "[".repeat(100_000);
    for (name, body) in [
        ("deep", deep.clone()),
        ("deep within", format!("{{\"prompt\": \"a\", \"stop\": {deep}{}}}", "]".repeat(100_000))),
        ("twice", r#"{"prompt": "a", "seed": 1, "seed": 2}"#.to_owned()),
        ("too large", r#"{"prompt": "a", "temperature": 1e999}"#.to_owned()),
        ("no number", r#"{"prompt": "a", "temperature": NaN}"#.to_owned()),
        ("half a character", r#"{"prompt": "\ud800"}"#.to_owned()),
        ("the other half", r#"{"prompt": "\udc00\ud800"}"#.to_owned()),
        ("nothing", String::new()),
        ("no object", "[1]".to_owned()),
        ("no end", r#"{"prompt": "a""#.to_owned()),
        ("more", r#"{"prompt": "a"} {}"#.to_owned()),
    ] {
        for path in ["/v1/completions", "/v1/chat/completions", "/tokenize"] {
            let refused = post(server, path, &body);
            assert_eq!(refused.status, 400, "{name} at {path}: {}", refused.body);
            refused.error();
        }
    }
    assert_eq!(post(server, "/v1/completions", b"{\"prompt\": \"\xff\"}").status, 400);
    assert_eq!(get(server, "/health", &[]).status, 200);
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let server = usual();
    let bias: serde_json::Map<String, Value> = (0..50_000).map(|id| (id.to_string(), json!(1))).collect();
    for (key, value) in [
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(1.5)),
        ("temperature", json!(1e308)),
        ("temperature", json!(-1e308)),
        ("temperature", json!("hot")),
        ("top_k", json!(-5)),
        ("top_p", json!(-0.1)),
        ("top_p", json!(1.5)),
        ("min_p", json!(2)),
        ("repetition_penalty", json!(-1e308)),
        ("frequency_penalty", json!(1e9)),
        ("seed", json!(-1)),
        ("seed", json!(1e30)),
        ("n", json!(0)),
        ("n", json!(1_000_000)),
        ("n_predict", json!(-1)),
        ("repeat_last_n", json!(-1)),
        ("stop", json!(vec!["x"; 100_000])),
        ("stop", json!("x".repeat(100_000))),
        ("stop", json!([""])),
        ("logit_bias", json!(bias)),
        ("logit_bias", json!({"-1": 1})),
        ("logit_bias", json!({"1": 1e308})),
    ] {
        let refused = post(server, "/v1/completions", json!({"prompt": "a", key: value}).to_string());
        assert_eq!(refused.status, 400, "{key}: {}", refused.body);
        assert_eq!(refused.error()["param"], key, "{}", refused.body);
    }
    // Far more than there can be is as much as there can be.
    let much =
        json!({"prompt": "a", "max_tokens": 1_u64 << 63, "top_k": 1_u64 << 40, "seed": u64::MAX, "top_p": 0});
    let answered = post(server, "/v1/completions", much.to_string());
    assert_eq!(answered.status, 200, "{}", answered.body);
    assert_eq!(
        post(server, "/v1/completions", json!({"prompt": "a", "stop": vec!["x"; 1_000_000]}).to_string())
            .status,
        413
    );
}

#[test]
fn no_request_reaches_a_file() {
    let server = usual();
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/kiosk.js/../../Cargo.toml",
        "//etc/passwd",
        "/etc/passwd",
        "/kiosk.js%00",
        "/v1/models/../../etc/passwd",
    ] {
        let missed = get(server, path, &[]);
        assert_eq!(missed.status, 404, "{path}: {}", missed.body);
        missed.error();
    }
    for (key, value) in [
        ("grammar_file", json!("/etc/passwd")),
        ("file", json!("/etc/passwd")),
        ("url", json!("http://127.0.0.1/")),
        ("chat_template", json!("{{ 1 }}")),
        ("lora", json!("/etc/passwd")),
        ("id_slot", json!(0)),
    ] {
        let refused = post(server, "/v1/completions", json!({"prompt": "a", key: value}).to_string());
        assert_eq!((refused.status, &refused.error()["param"]), (400, &json!(key)));
    }
    let image = json!({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}});
    let messages = json!({"messages": [{"role": "user", "content": [image]}]});
    assert_eq!(post(server, "/v1/chat/completions", messages.to_string()).status, 400);
    let model = json!({"prompt": "a", "model": "../../etc/passwd"});
    assert_eq!(post(server, "/v1/completions", model.to_string()).status, 404);
}

#[test]
fn one_request_is_answered_on_a_connection() {
    let server = usual();
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answered = answer(send(port(server), request.repeat(3)));
    assert_eq!((answered.status, answered.header("connection")), (200, Some("close")));
    assert_eq!(answered.body, "{\"status\":\"ok\"}");
    // Nor does a body hide one.
    let body = r#"{"prompt": "hi"}"#;
    let hidden = format!(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}{request}",
        body.len()
    );
    let answered = answer(send(port(server), hidden));
    assert!(answered.status == 200 && !answered.body.contains("status"), "{answered:?}");
}

#[test]
fn requests_have_names() {
    let server = usual();
    let name = |lines: &[&str]| get(server, "/health", lines).header("x-request-id").unwrap().to_owned();
    assert_eq!(name(&["X-Request-Id: my-own.name_1"]), "my-own.name_1");
    assert_ne!(name(&[]), name(&[]));
    for odd in ["a b", "<script>", &"x".repeat(100)] {
        let given = name(&[&format!("X-Request-Id: {odd}")]);
        assert!(given.len() == 32 && given.bytes().all(|byte| byte.is_ascii_hexdigit()), "{given}");
    }
}

#[test]
fn the_page_may_load_nothing_from_elsewhere() {
    let server = usual();
    for (path, kind) in [("/", "text/html"), ("/kiosk.css", "text/css"), ("/kiosk.js", "text/javascript")] {
        let page = get(server, path, &[]);
        assert!(page.status == 200 && page.header("content-type").unwrap().starts_with(kind), "{path}");
        let policy = page.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!page.body.contains("http://") || !page.body.contains("src=\"http"), "{path}");
    }
}

#[test]
fn a_unix_socket_is_private_and_goes_with_its_server() {
    let scratch = Scratch::new("serve", "unix");
    let path = scratch.folder.join("socket");
    let ask = |path: &Path| {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: whoever\r\n\r\n").unwrap();
        answer(stream).status
    };
    let refused =
        |path: &Path| serve(state(), &ServeOptions::new(Listen::Unix(path.to_owned())), |_| ()).unwrap_err();
    // What a server has left is replaced.
    drop(UnixListener::bind(&path).unwrap());
    let server = start(Listen::Unix(path.clone()), |_| ());
    assert_eq!(ask(&path), 200);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(refused(&path), ServeError::Taken { .. }));
    assert_eq!(ask(&path), 200);
    drop(server);
    assert!(!path.exists());
    scratch.write("file", "mine");
    assert!(matches!(refused(&scratch.folder.join("file")), ServeError::NoSocket { .. }));
    assert_eq!(scratch.read("file"), "mine");
    assert!(matches!(refused(&scratch.folder), ServeError::NoSocket { .. }));
    // What somebody else has put there in the meantime stays.
    let server = start(Listen::Unix(path.clone()), |_| ());
    std::fs::remove_file(&path).unwrap();
    scratch.write("socket", "theirs");
    drop(server);
    assert_eq!(scratch.read("socket"), "theirs");
}

/// A process of its own; killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Process {
    /// Runs `smolt serve` after a line of the shell.
    fn start(line: &str, notify: Option<&Path>) -> Process {
        let program = env!("CARGO_BIN_EXE_smolt");
        let mut command = Command::new("/bin/sh");
        command
            .env_clear()
            .args(["-c", &format!("{line} exec {program} serve --port 0 --slots 1 --threads 1")]);
        if let Some(path) = notify {
            command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "200000");
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address =
            lines.find_map(|line| line.split_once("http://").map(|(_, address)| address.parse().unwrap()));
        let address = address.unwrap_or_else(|| panic!("it does not listen: {:?}", child.wait()));
        // What it says is read on, so that it can go on.
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, address }
    }

    fn health(&self) -> (u16, Duration) {
        let begun = Instant::now();
        let answered = answer(send(self.address, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        (answered.status, begun.elapsed())
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    fn rss_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Hundredths of a second of processor time.
    fn cpu(&self) -> u64 {
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    fn terminate(&self) {
        let id = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_idle_sockets_cost_little() {
    let server = Process::start("", None);
    (0..20).for_each(|_| assert_eq!(server.health().0, 200));
    let before = server.rss_kib();
    // Only as many are held here as a process usually may; the server may think otherwise.
    let mut held = std::collections::VecDeque::new();
    for i in 0..1000 {
        let begun = ["", "GET / HTTP/1.1\r\nX: ", "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"][i % 3];
        held.push_back(send(server.address, begun));
        if held.len() > 400 {
            held.pop_front();
        }
    }
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let (status, time) = server.health();
            assert_eq!(status, 200);
            time
        })
        .collect();
    times.sort();
    assert!(times[50] < Duration::from_millis(100), "{:?} {:?}", times[50], times[99]);
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown <= 8 << 10, "{grown} KiB");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count();
    assert!(descriptors < 256 + 40, "{descriptors}");
}

#[test]
#[cfg(target_os = "linux")]
fn no_descriptors_left_is_no_reason_to_spin() {
    let server = Process::start("ulimit -n 32;", None);
    let idle: Vec<TcpStream> = (0..100).map(|_| send(server.address, "GET / HTTP/1.1\r\n")).collect();
    let before = server.cpu();
    std::thread::sleep(Duration::from_secs(1));
    assert!(server.cpu() - before < 30, "{} hundredths of a second", server.cpu() - before);
    // The oldest that sends nothing makes room.
    assert_eq!(server.health().0, 200);
    drop(idle);
    assert_eq!(server.health().0, 200);
}

#[test]
fn sigterm_ends_it_cleanly_and_systemd_hears_of_it() {
    let scratch = Scratch::new("serve", "notify");
    let path = scratch.folder.join("notify");
    let listener = UnixDatagram::bind(&path).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut bytes = [0; 128];
        let count = listener.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let mut server = Process::start("", Some(&path));
    assert_eq!(heard(), "READY=1");
    assert_eq!(heard(), "WATCHDOG=1");
    let body = json!({"prompt": "a", "max_tokens": 200, "stream": true}).to_string();
    let mut stream = send(
        server.address,
        format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    server.terminate();
    let rest = answer(first.as_slice().chain(stream));
    assert!(rest.status == 200 && rest.body.contains("data: [DONE]"), "{rest:?}");
    while heard() != "STOPPING=1" {}
    assert_eq!(server.child.wait().unwrap().code(), Some(143));
    assert!(TcpStream::connect(server.address).is_err());
}
