//! A local HTTP server that behaves as a test wants.

pub mod get;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod tls;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request to a mirror.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
}

impl Request {
    /// The byte from which on the file is wanted.
    pub fn from(&self) -> usize {
        let range = self.range.as_deref().unwrap_or("bytes=0-");
        range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a range from a byte on")
    }
}

/// A server on a port of its own that runs until the test program ends.
pub struct Mirror {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Mirror {
    /// Starts a server that calls `answer` once per connection and then closes it.
    pub fn new(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, seen, answer) = (stream.expect("a connection"), seen.clone(), answer.clone());
                thread::spawn(move || {
                    if let Ok(request) = read_request(&mut stream) {
                        seen.lock().expect("no thread panics").push(request.clone());
                        answer(&request, &mut stream);
                    }
                });
            }
        });
        Mirror { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no thread panics").clone()
    }
}

/// An address without a server.
pub fn unreachable() -> Mirror {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    Mirror { url, requests: Arc::default() }
}

/// Reads a request up to the empty line.
pub fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_string();
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let range = lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("range"));
    Ok(Request { path, range: range.map(|(_, value)| value.trim().to_string()) })
}

/// Answers with these headers and bytes. The client may have disconnected.
pub fn stated(to: &mut TcpStream, status: &str, headers: &[&str], body: &[u8]) {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let _ = write!(to, "HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n");
    let _ = to.write_all(body);
}

/// Answers with a status and no content.
pub fn status(to: &mut TcpStream, status: &str) {
    stated(to, status, &["content-length: 0"], b"");
}

/// Answers with bytes, and states their number as `length`.
pub fn whole(to: &mut TcpStream, length: usize, body: &[u8]) {
    stated(to, "200 OK", &[&format!("content-length: {length}")], body);
}

/// Answers with a part of a file.
pub fn part(to: &mut TcpStream, range: &str, body: &[u8]) {
    let length = format!("content-length: {}", body.len());
    stated(to, "206 Partial Content", &[&format!("content-range: {range}"), &length], body);
}

/// States the whole file, and closes the connection after some bytes of it.
pub fn cut_off(to: &mut TcpStream, bytes: &[u8], after: usize) {
    whole(to, bytes.len(), &bytes[..after]);
}

/// Sends these bytes, and then nothing for a long time.
pub fn stalled(to: &mut TcpStream, bytes: &[u8]) {
    let _ = to.write_all(bytes);
    thread::sleep(Duration::from_secs(20));
}

/// Answers like a correct server: with the file, or the requested range of it.
pub fn file(request: &Request, to: &mut TcpStream, bytes: &[u8]) {
    let from = request.from();
    match request.range {
        None => whole(to, bytes.len(), bytes),
        Some(_) if from >= bytes.len() => status(to, "416 Range Not Satisfiable"),
        Some(_) => part(to, &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()), &bytes[from..]),
    }
}
