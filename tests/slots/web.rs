//! `smolt store update`: a file on a web server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{Bench, Wanted, version};

/// What the server has and does.
#[derive(Clone, Default)]
struct Served {
    body: Vec<u8>,
    tag: Option<String>,
    /// Bytes of the next answers, the first first; then the connection ends.
    cuts: Vec<usize>,
    /// Bytes that go on without end.
    is_endless: bool,
    /// All is sent whatever is asked for.
    ignores_range: bool,
    /// Requests, each with its headers.
    log: Vec<Vec<String>>,
}

struct Server {
    url: String,
    served: Arc<Mutex<Served>>,
}

impl Server {
    fn new(body: Vec<u8>, tag: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/kiosk.tar", listener.local_addr().unwrap());
        let served = Arc::new(Mutex::new(Served { body, tag: tag.map(str::to_owned), ..Served::default() }));
        let shared = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &shared);
            }
        });
        Self { url, served }
    }

    fn set(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.lock().unwrap());
    }

    fn requests(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.served.lock().unwrap().log)
    }
}

fn answer(mut stream: TcpStream, served: &Mutex<Served>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut headers = vec![];
    while let Some(Ok(line)) = lines.next().filter(|line| line.as_ref().is_ok_and(|line| !line.is_empty())) {
        headers.push(line.to_lowercase());
    }
    let header = |name: &str| {
        headers.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
    };
    let mut served = served.lock().unwrap();
    served.log.push(headers.clone());
    let tag = served.tag.clone();
    let cut = if served.cuts.is_empty() { usize::MAX } else { served.cuts.remove(0) };
    let etag = tag.as_ref().map_or(String::new(), |tag| format!("ETag: {tag}\r\n"));
    let is_same = |name: &str| tag.is_some() && header(name) == tag;
    if is_same("if-none-match") {
        return write!(stream, "HTTP/1.1 304 Not Modified\r\n{etag}Connection: close\r\n\r\n");
    }
    let from =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from = from.filter(|_: &usize| !served.ignores_range && is_same("if-range")).unwrap_or(0);
    let (body, all) = (&served.body[from..], served.body.len());
    match from {
        0 if served.is_endless => write!(stream, "HTTP/1.1 200 OK\r\n{etag}Connection: close\r\n\r\n")?,
        0 => write!(stream, "HTTP/1.1 200 OK\r\n{etag}Content-Length: {all}\r\nConnection: close\r\n\r\n")?,
        from => write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\n{etag}Content-Range: bytes {from}-{}/{all}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            all - 1,
            body.len()
        )?,
    }
    stream.write_all(&body[..body.len().min(cut)])?;
    if !served.is_endless {
        return Ok(());
    }
    // Until whoever reads has enough.
    loop {
        stream.write_all(&[7; 4096])?;
    }
}

#[test]
fn a_check_that_finds_nothing_new_is_one_request() {
    let bench = Bench::with("web-idle", &[1]);
    let server = Server::new(fs::read(bench.package(&version(2))).unwrap(), Some("\"two\""));
    bench.good(&["store", "update", &server.url]);
    assert_eq!(server.requests().len(), 1);
    // On trial, and once committed.
    for _ in 0..2 {
        let (_, err) = bench.good(&["store", "update", &server.url]);
        assert!(err.contains("nothing new"), "{err}");
        let requests = server.requests();
        assert!(
            requests.len() == 1 && requests[0].contains(&"if-none-match: \"two\"".to_owned()),
            "{requests:?}"
        );
        assert_eq!(bench.answers().0, 2);
    }
    // A server without tags is asked as often, and the head alone is read.
    server.set(|served| served.tag = None);
    let (_, err) = bench.good(&["store", "update", &server.url]);
    assert!(err.contains("nothing new") && server.requests().len() == 1, "{err}");
    let next = fs::read(bench.package(&version(3))).unwrap();
    server.set(|served| (served.body, served.tag) = (next, Some("\"three\"".to_owned())));
    bench.good(&["store", "update", &server.url]);
    assert_eq!(bench.answers().0, 3);
}

#[test]
fn a_download_that_was_cut_is_gone_on_with() {
    let bench = Bench::with("web-cut", &[1]);
    let body = fs::read(bench.package(&version(2))).unwrap();
    let server = Server::new(body.clone(), Some("\"two\""));
    server.set(|served| served.cuts = vec![body.len() / 2, body.len() / 4]);
    let (_, err) = bench.good(&["store", "update", &server.url]);
    assert!(err.contains("going on with kiosk 2"), "{err}");
    let ranges: Vec<Option<String>> = server
        .requests()
        .iter()
        .map(|headers| headers.iter().find(|line| line.starts_with("range: ")).cloned())
        .collect();
    let at = |bytes: usize| Some(format!("range: bytes={bytes}-"));
    assert_eq!(ranges, [None, at(body.len() / 2), at(body.len() / 2 + body.len() / 4)]);
    assert_eq!(fs::read(bench.slot("slot.b.tar")).unwrap(), body);
    assert_eq!(bench.answers().0, 2);
}

#[test]
fn a_part_of_another_version_is_not_gone_on_with() {
    let bench = Bench::with("web-other", &[1]);
    let (two, three) = (bench.package(&version(2)), bench.package(&version(3)));
    let (two, three) = (fs::read(two).unwrap(), fs::read(three).unwrap());
    let server = Server::new(two.clone(), Some("\"two\""));
    server.set(|served| served.cuts = vec![two.len() / 2; 3]);
    // It has tried often enough for once.
    server.set(|served| served.ignores_range = true);
    let (code, _, err) = bench.run(&["store", "update", &server.url]);
    assert!(code == 1 && err.contains("goes on from there"), "{code} {err}");
    assert_eq!(bench.answers().0, 1);
    assert!(bench.slot("slot.b.tar").exists());
    server.set(|served| (served.body, served.tag) = (three, Some("\"three\"".to_owned())));
    bench.good(&["store", "update", &server.url]);
    assert_eq!(bench.answers().0, 3);
    // A server that lies about its tag gives a mixture, of which nothing is kept.
    let (four, five) = (bench.package(&version(4)), bench.package(&version(5)));
    let (four, five) = (fs::read(four).unwrap(), fs::read(five).unwrap());
    server.set(|served| {
        (served.body, served.tag) = (four.clone(), Some("\"same\"".to_owned()));
        (served.cuts, served.ignores_range) = (vec![four.len() / 2; 3], true);
    });
    assert_eq!(bench.run(&["store", "update", &server.url]).0, 1);
    server.set(|served| (served.body, served.ignores_range) = (five, false));
    let (code, _, err) = bench.run(&["store", "update", &server.url]);
    assert!(code == 7, "{code} {err}");
    assert!(!bench.slot("slot.a.tar").exists(), "{err}");
    assert_eq!(bench.answers().0, 3);
    bench.good(&["store", "update", &server.url]);
    assert_eq!(bench.answers().0, 5);
}

#[test]
fn a_server_without_end_is_left() {
    let bench = Bench::with("web-endless", &[1]);
    let server = Server::new(fs::read(bench.package(&version(2))).unwrap(), None);
    server.set(|served| served.is_endless = true);
    let (code, _, err) = bench.run(&["store", "update", &server.url]);
    assert!(code == 7 && err.contains("there are more"), "{code} {err}");
    assert_eq!(bench.answers().0, 1);
}

#[test]
fn a_bad_version_is_fetched_once() {
    let bench = Bench::with("web-bad", &[1]);
    let server = Server::new(fs::read(bench.package(&Wanted { works: false, ..version(2) })).unwrap(), None);
    bench.good(&["store", "update", &server.url]);
    bench.good(&["run", super::PROMPT]);
    let (_, err) = bench.good(&["store", "update", &server.url]);
    assert!(err.contains("nothing new"), "{err}");
    assert_eq!(bench.answers().0, 1);
}

#[test]
fn what_is_no_package_is_refused() {
    let bench = Bench::with("web-text", &[1]);
    let server = Server::new(b"<html>not found</html>".repeat(100), Some("\"x\""));
    let (code, _, err) = bench.run(&["store", "update", &server.url]);
    assert!(code == 7, "{code} {err}");
    let (code, _, err) = bench.run(&["store", "update", "ftp://127.0.0.1/x"]);
    assert!(code == 2 && err.contains("http://"), "{code} {err}");
}
