//! Tests of connections with handlers that wait, go on for ever, and fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use http_body::Frame;

use super::bind::Listener;
use super::crowd::Crowd;
use super::guard::Guard;
use super::hosts::Hosts;
use super::listen::run;
use super::metrics::Metrics;
use super::options::{Address, Limits, Listen, ServeOptions, Stop};

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

/// How many answers are under way, and whether they were cut short.
#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    cut: AtomicUsize,
}

/// Is open until it is dropped.
struct Open(Arc<Seen>);

impl Open {
    fn new(seen: &Arc<Seen>) -> Open {
        seen.open.fetch_add(1, Ordering::SeqCst);
        Open(Arc::clone(seen))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that goes on until answers are cut short.
struct Endless {
    open: Open,
    bytes: usize,
    ticks: tokio::time::Interval,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.open.0.cut.load(Ordering::SeqCst) > 0 {
            let bytes = std::mem::take(&mut self.bytes);
            return Poll::Ready((bytes > 0).then(|| Ok(Frame::data(Bytes::from_static(b"last")))));
        }
        let bytes = vec![b'x'; self.bytes].into();
        self.ticks.poll_tick(context).map(|_| Some(Ok(Frame::data(bytes))))
    }
}

struct Server {
    address: SocketAddr,
    stop: Stop,
    seen: Arc<Seen>,
    metrics: Arc<Metrics>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn router(seen: &Arc<Seen>) -> Router {
    let endless = |bytes: usize| {
        let seen = Arc::clone(seen);
        get(async move || {
            let ticks = tokio::time::interval(Duration::from_millis(5));
            Body::new(Endless { open: Open::new(&seen), bytes, ticks })
        })
    };
    let waiting = Arc::clone(seen);
    let wait = async move || {
        let _open = Open::new(&waiting);
        std::future::pending::<()>().await;
    };
    Router::new()
        .route("/health", get(async || "well"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/panic", get(async || -> &'static str { panic!("a handler fails on purpose") }))
        .route("/wait", get(wait.clone()).post(wait))
        .route("/endless", endless(5))
        .route("/flood", endless(1 << 20))
}

fn start(change: impl FnOnce(&mut Limits)) -> Server {
    let mut options = ServeOptions::new(Listen::Tcp("localhost".to_owned(), 0));
    change(&mut options.limits);
    let (seen, metrics) = (Arc::new(Seen::default()), Arc::new(Metrics::new("none")));
    let (stop, counted, watched) = (options.stop.clone(), Arc::clone(&metrics), Arc::clone(&seen));
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (listener, address) = Listener::bind(&options).unwrap();
            let guard = Guard {
                hosts: Hosts::new(&address, &[]).unwrap(),
                tokens: None,
                router: router(&watched),
                metrics: counted,
                limits: options.limits,
                bodies: Crowd::new(options.limits.connections),
            };
            let Address::Tcp(address) = address else { panic!("a port was asked for") };
            sender.send(address).unwrap();
            let cut = || _ = watched.cut.fetch_add(1, Ordering::SeqCst);
            run(listener, guard, &options.stop, || (), cut).await;
        });
    });
    Server { address: receiver.recv().unwrap(), stop, seen, metrics, thread: Some(thread) }
}

impl Server {
    /// Sends bytes on a new connection.
    fn send(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        // The server may have ended it.
        _ = stream.write_all(bytes.as_ref());
        stream
    }

    fn get(&self, path: &str) -> TcpStream {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    fn post(&self, path: &str, length: usize) -> TcpStream {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ))
    }

    fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    fn connections(&self) -> bool {
        let load = crate::generate::Load { slots: 0, running: 0, waiting: 0, queue: 0, used_tokens: 0 };
        !self.metrics.text(load).contains("smolt_connections 0\n")
    }
}

/// All that comes until the end of a connection.
fn read(mut stream: TcpStream) -> String {
    let mut bytes = vec![];
    // A connection may be ended with a reset.
    _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn status(text: &str) -> u16 {
    text.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0)
}

/// Waits until something holds, and says how long that took.
fn until(what: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < LONG, "it does not become so");
        std::thread::sleep(Duration::from_millis(2));
    }
    begun.elapsed()
}

#[test]
fn a_panic_costs_one_request() {
    let server = start(|_| ());
    let before = super::panics::count();
    let text = read(server.get("/panic"));
    assert_eq!(status(&text), 500, "{text}");
    assert!(text.contains("\"type\":\"server_error\"") && !text.contains("on purpose"), "{text}");
    assert!(super::panics::count() > before);
    assert_eq!(status(&read(server.get("/health"))), 200);
}

#[test]
fn who_leaves_is_not_worked_for() {
    let server = start(|_| ());
    for (path, reads) in [("/wait", false), ("/endless", true)] {
        let mut stream = server.get(path);
        until(|| server.open() == 1);
        if reads {
            stream.read_exact(&mut [0; 16]).unwrap();
        }
        drop(stream);
        let time = until(|| server.open() == 0);
        assert!(time < Duration::from_secs(2), "{path}: {time:?}");
    }
    // Also where something was sent that nobody reads.
    let mut stream = server.post("/wait", 2);
    stream.write_all(b"{}GET /more HTTP/1.1\r\n").unwrap();
    until(|| server.open() == 1);
    drop(stream);
    if cfg!(target_os = "linux") {
        until(|| server.open() == 0);
    }
    until(|| !server.connections());
}

#[test]
fn slow_heads_and_bodies_are_cut_off() {
    let server = start(|limits| (limits.head_time, limits.body_time) = (SHORT, SHORT));
    let begun = Instant::now();
    let mut head = server.send("GET /health HTTP/1.1\r\n");
    for _ in 0..4 {
        // The time is of the whole head, not of each piece.
        std::thread::sleep(SHORT / 3);
        _ = head.write_all(b"a: b\r\n");
    }
    assert_eq!(status(&read(head)), 408);
    let mut body = server.post("/echo", 100);
    body.write_all(b"{").unwrap();
    assert_eq!(status(&read(body)), 408);
    assert!(begun.elapsed() < Duration::from_secs(5));
    until(|| !server.connections());
}

#[test]
fn slow_readers_are_cut_off() {
    let server = start(|limits| limits.write_time = SHORT);
    let stream = server.get("/flood");
    until(|| server.open() == 1);
    // It reads nothing, and holds the connection.
    until(|| server.open() == 0 && !server.connections());
    drop(stream);
    // One that reads is not.
    let mut stream = server.get("/flood");
    let (begun, mut buffer) = (Instant::now(), vec![0; 1 << 16]);
    while begun.elapsed() < SHORT * 4 {
        assert!(stream.read(&mut buffer).unwrap() > 0);
    }
    assert_eq!(server.open(), 1);
}

#[test]
fn bodies_have_a_limit_that_the_client_learns_of() {
    let server = start(|limits| limits.body_bytes = 1000);
    let echo = |length: usize, bytes: usize| {
        let mut stream = server.post("/echo", length);
        _ = stream.write_all(&vec![b'x'; bytes]);
        read(stream)
    };
    assert!(echo(1000, 1000).ends_with(&"x".repeat(1000)));
    assert_eq!(status(&echo(1001, 1001)), 413);
    // All of it is sent before the answer is read.
    assert_eq!(status(&echo(8 << 20, 8 << 20)), 413);
    let chunked = |pieces: usize, last: &str| {
        let mut stream = server.send(
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for _ in 0..pieces {
            _ = stream.write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes());
        }
        _ = stream.write_all(last.as_bytes());
        read(stream)
    };
    assert!(chunked(10, "0\r\n\r\n").ends_with(&"x".repeat(1000)));
    assert_eq!(status(&chunked(11, "0\r\n\r\n")), 413);
    assert_eq!(status(&chunked(100_000, "")), 413);
    assert_eq!(status(&chunked(1, "no number\r\n\r\n")), 400);
    assert_eq!(status(&chunked(1, "ffffffffffffffff1\r\n")), 400);
}

#[test]
fn full_places_are_told_and_health_is_still_answered() {
    let server = start(|limits| (limits.connections, limits.body_time) = (2, LONG));
    let waiting = [server.get("/wait"), server.get("/wait")];
    until(|| server.open() == 2);
    let text = read(server.get("/endless"));
    assert_eq!(status(&text), 503);
    assert!(text.contains("retry-after: 1\r\n"), "{text}");
    assert_eq!(status(&read(server.get("/health"))), 200);
    drop(waiting);
    until(|| server.open() == 0);
    // Who sends no body makes room for others after a while.
    let bodies = [server.post("/echo", 10), server.post("/echo", 10)];
    assert_eq!(status(&read(server.get("/flood"))), 503);
    std::thread::sleep(Duration::from_millis(1100));
    let served = server.get("/endless");
    until(|| server.open() == 1);
    drop(served);
    let [oldest, _] = bodies;
    assert_eq!(status(&read(oldest)), 503);
}

#[test]
fn the_oldest_that_sends_nothing_makes_room() {
    let server = start(|limits| limits.waiting = 8);
    let idle: Vec<TcpStream> = (0..50).map(|_| server.send("GET / HT")).collect();
    for _ in 0..10 {
        assert_eq!(status(&read(server.get("/health"))), 200);
    }
    // Those that were sent away have been told nothing, and the last are still waited for.
    let last = idle.last().unwrap();
    last.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1];
    assert_eq!(
        idle.iter().take(30).filter(|stream| (&**stream).read(&mut buffer).is_ok_and(|n| n > 0)).count(),
        0
    );
}

#[test]
fn the_end_lets_answers_end() {
    let mut server = start(|limits| limits.end_time = SHORT);
    let (endless, idle) = (server.get("/endless"), server.send("GET"));
    until(|| server.open() == 1);
    server.stop.stop();
    // Nobody is let in any more, and who sends nothing is sent away.
    assert_eq!(read(idle), "");
    until(|| TcpStream::connect(server.address).is_err());
    // The answer is cut short after a while, with its last words.
    let text = read(endless);
    assert!(text.contains("last") && text.ends_with("0\r\n\r\n"), "{text}");
    assert_eq!(server.open(), 0);
    server.thread.take().unwrap().join().unwrap();
    server.thread = Some(std::thread::spawn(|| ()));
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let server = start(|limits| limits.end_time = LONG);
    let _waiting = server.get("/wait");
    until(|| server.open() == 1);
    let begun = Instant::now();
    // Told twice, it is at once.
    drop(server);
    assert!(begun.elapsed() < LONG / 4);
}
