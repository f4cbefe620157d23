//! A server on loopback that misbehaves as a test wants.
//!
//! It uses raw sockets and one thread for each connection, because an HTTP library does not send a wrong Content-Length.
//! Every path has a script of replies. Each request takes the next one, and the last one is repeated.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it came, header names in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A header's text, or nothing; several of one name with commas between.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// One scripted answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    manner: Manner,
}

/// How an answer is given.
#[derive(Debug, Clone)]
enum Manner {
    /// Head, body, close.
    Proper,
    /// Like `Proper`, but a range is served if its validator still matches.
    Ranges,
    /// The head promises the whole body, the connection closes after so many bytes.
    CutAfter(usize),
    /// The head promises the whole body, and after so many bytes nothing comes, until the client leaves.
    SilentAfter(usize),
    /// One byte at a time, with a pause after each, until the client leaves.
    Drip(Duration),
    /// Chunked, and the last chunk never comes.
    ChunkedWithoutEnd,
    /// The head, then this again and again, one after the other within a millisecond, until the client leaves.
    Trickle(&'static str),
    /// The same without the empty line that ends the head.
    TrickleInHead(&'static str),
    /// No answer at all, until the client leaves.
    Silent,
    /// A reset instead of an answer.
    Reset,
    /// These bytes instead of HTTP.
    Garbage,
}

impl Reply {
    fn new(status: u16, body: &[u8], manner: Manner) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
            manner,
        }
    }

    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::new(200, body, Manner::Proper)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, b"<html>no</html>", Manner::Proper)
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::new(302, b"", Manner::Proper).with("Location", to)
    }

    pub(crate) fn ranges(body: &[u8]) -> Self {
        Self::new(200, body, Manner::Ranges)
    }

    pub(crate) fn cut_after(body: &[u8], bytes: usize) -> Self {
        Self::new(200, body, Manner::CutAfter(bytes))
    }

    pub(crate) fn silent_after(body: &[u8], bytes: usize) -> Self {
        Self::new(200, body, Manner::SilentAfter(bytes))
    }

    pub(crate) fn drip(body: &[u8], pause: Duration) -> Self {
        Self::new(200, body, Manner::Drip(pause))
    }

    pub(crate) fn chunked_without_end(body: &[u8]) -> Self {
        Self::new(200, body, Manner::ChunkedWithoutEnd)
    }

    /// A body of one-byte chunks without end, which come so fast that no wait for one is long.
    pub(crate) fn trickle() -> Self {
        Self::new(200, b"", Manner::Trickle("1\r\nx\r\n")).with("Transfer-Encoding", "chunked")
    }

    /// A head without end.
    pub(crate) fn trickling_head() -> Self {
        Self::new(200, b"", Manner::TrickleInHead("X: y\r\n"))
    }

    /// Interim answers (RFC 9110, 15.2) without end.
    pub(crate) fn interim_answers() -> Self {
        Self::new(100, b"", Manner::Trickle("HTTP/1.1 103 -\r\n\r\n"))
    }

    pub(crate) fn silent() -> Self {
        Self::new(200, b"", Manner::Silent)
    }

    pub(crate) fn reset() -> Self {
        Self::new(200, b"", Manner::Reset)
    }

    pub(crate) fn garbage(bytes: &[u8]) -> Self {
        Self::new(200, bytes, Manner::Garbage)
    }

    /// Adds a header; a `Content-Length` given here takes the place of the true one.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn head(&self, status: u16, length: Option<usize>) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status} -\r\nConnection: close\r\n");
        let given = |name: &str| {
            self.headers
                .iter()
                .any(|(header, _)| header.eq_ignore_ascii_case(name))
        };
        if let Some(length) = length.filter(|_| !given("content-length")) {
            head += &format!("Content-Length: {length}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// Answers on an open stream. An error means that the client has left, which it may do.
    fn give(&self, request: &Request, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
        let whole = self.head(self.status, Some(self.body.len()));
        match self.manner {
            Manner::Proper => {
                stream.write_all(&whole)?;
                stream.write_all(&self.body)?;
            }
            Manner::Ranges => match self.rest_asked_for(request) {
                Some(start) => {
                    let total = self.body.len();
                    let range = format!("bytes {start}-{}/{total}", total - 1);
                    let part = self.clone().with("Content-Range", &range);
                    stream.write_all(&part.head(206, Some(total - start)))?;
                    stream.write_all(&self.body[start..])?;
                }
                None => {
                    stream.write_all(&whole)?;
                    stream.write_all(&self.body)?;
                }
            },
            Manner::CutAfter(bytes) => {
                stream.write_all(&whole)?;
                stream.write_all(&self.body[..bytes])?;
            }
            Manner::SilentAfter(bytes) => {
                stream.write_all(&whole)?;
                stream.write_all(&self.body[..bytes])?;
                stream.flush()?;
                until_it_leaves(stream);
            }
            Manner::Drip(pause) => {
                stream.write_all(&whole)?;
                for byte in &self.body {
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    thread::sleep(pause);
                }
            }
            Manner::ChunkedWithoutEnd => {
                let chunked = self.clone().with("Transfer-Encoding", "chunked");
                stream.write_all(&chunked.head(self.status, None))?;
                stream.write_all(format!("{:x}\r\n", self.body.len()).as_bytes())?;
                stream.write_all(&self.body)?;
                stream.write_all(b"\r\n")?;
            }
            Manner::Trickle(piece) => {
                stream.write_all(&self.head(self.status, None))?;
                trickle(stream, piece)?;
            }
            Manner::TrickleInHead(piece) => {
                let head = self.head(self.status, None);
                stream.write_all(&head[..head.len() - 2])?;
                trickle(stream, piece)?;
            }
            Manner::Silent => until_it_leaves(stream),
            Manner::Garbage => stream.write_all(&self.body)?,
            Manner::Reset => return Ok(()),
        }
        stream.flush()
    }

    /// Where a request's range starts, if its `If-Range` names the validator of this reply.
    fn rest_asked_for(&self, request: &Request) -> Option<usize> {
        let start = request.header("range")?.strip_prefix("bytes=")?;
        let asked = request.header("if-range")?;
        self.headers
            .iter()
            .any(|(name, value)| {
                (name.eq_ignore_ascii_case("etag") || name.eq_ignore_ascii_case("last-modified"))
                    && value == asked
            })
            .then(|| start.strip_suffix('-')?.parse().ok())
            .flatten()
    }
}

/// Writes the same for ever, with pauses that are shorter than the tick of any clock, until the client leaves.
fn trickle(stream: &mut impl Write, piece: &str) -> std::io::Result<()> {
    loop {
        stream.write_all(piece.as_bytes())?;
        stream.flush()?;
        thread::sleep(Duration::from_micros(50));
    }
}

/// The server; it stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

/// Answers the paths without a script.
type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

#[derive(Default)]
struct Shared {
    scripts: Mutex<HashMap<String, Vec<Reply>>>,
    otherwise: Mutex<Option<Arc<Handler>>>,
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    stopped: AtomicBool,
}

impl Server {
    /// Plain HTTP.
    pub(crate) fn http() -> Self {
        Self::start("http", "127.0.0.1:0", None)
    }

    /// Plain HTTP on every address.
    pub(crate) fn http_everywhere() -> Self {
        Self::start("http", "0.0.0.0:0", None)
    }

    /// HTTPS with this certificate and key.
    pub(crate) fn https(tls: rustls::ServerConfig) -> Self {
        Self::start("https", "127.0.0.1:0", Some(Arc::new(tls)))
    }

    /// The same on a given address.
    pub(crate) fn https_at(address: &str, tls: rustls::ServerConfig) -> Self {
        Self::start("https", address, Some(Arc::new(tls)))
    }

    fn start(scheme: &'static str, address: &str, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, tls) = (Arc::clone(&theirs), tls.clone());
                thread::spawn(move || serve(&shared, stream, tls));
            }
        });
        Self {
            address,
            scheme,
            shared,
        }
    }

    /// Scripts a path.
    pub(crate) fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        let replies = replies.into_iter().collect();
        let mut scripts = self.shared.scripts.lock().unwrap();
        scripts.insert(path.to_owned(), replies);
        self
    }

    /// Sets how to answer every path without a script.
    pub(crate) fn otherwise(&self, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.shared.otherwise.lock().unwrap() = Some(Arc::new(answer));
    }

    /// The URL of a path, by address.
    pub(crate) fn url(&self, path: &str) -> String {
        self.url_as("127.0.0.1", path)
    }

    /// The URL of a path, with another name for the host.
    pub(crate) fn url_as(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until a path has been asked for.
    pub(crate) fn wait_for(&self, path: &str) {
        let requests = self.shared.requests.lock().unwrap();
        let absent = |requests: &mut Vec<Request>| requests.iter().all(|r| r.path != path);
        let waited =
            self.shared
                .arrived
                .wait_timeout_while(requests, Duration::from_secs(30), absent);
        assert!(!waited.unwrap().1.timed_out(), "nobody asked for {path}");
    }

    /// How many requests a path has had.
    pub(crate) fn count(&self, path: &str) -> usize {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|r| r.path == path).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn next_reply(&self, path: &str) -> Option<Reply> {
        let mut scripts = self.scripts.lock().unwrap();
        match scripts.get_mut(path) {
            Some(script) if script.len() > 1 => Some(script.remove(0)),
            Some(script) => script.first().cloned(),
            None => None,
        }
    }

    fn other_reply(&self, request: &Request) -> Reply {
        let answer = self.otherwise.lock().unwrap().clone();
        answer.map_or_else(|| Reply::status(404), |answer| answer(request))
    }
}

fn serve(shared: &Shared, mut stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) {
    match tls {
        None => answer(shared, &mut stream),
        Some(config) => {
            let Ok(mut connection) = rustls::ServerConnection::new(config) else {
                return;
            };
            answer(
                shared,
                &mut rustls::Stream::new(&mut connection, &mut stream),
            );
            connection.send_close_notify();
            let _ = connection.write_tls(&mut stream);
            // If something is unread when the socket is closed, the kernel sends a reset, which overtakes the last bytes.
            let _ = stream.shutdown(Shutdown::Write);
            until_it_leaves(&mut stream);
        }
    }
}

fn answer(shared: &Shared, stream: &mut (impl Read + Write)) {
    let Some(first) = read_until(stream, b"\r\n") else {
        return;
    };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let scripted = shared.next_reply(&path);
    // Closing with the rest of the request unread makes the kernel send a reset.
    let rest = match &scripted {
        Some(reply) if matches!(reply.manner, Manner::Reset) => None,
        _ => read_until(stream, b"\r\n\r\n"),
    };
    let headers = rest.iter().flat_map(|rest| rest.lines());
    let headers = headers.filter_map(|line| line.split_once(": "));
    let headers = headers.fold(HashMap::new(), |mut all, (name, value)| {
        let joined: &mut String = all.entry(name.to_ascii_lowercase()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(value);
        all
    });
    let length = headers.get("content-length");
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    let request = Request {
        method,
        path,
        headers,
        body,
    };
    shared.requests.lock().unwrap().push(request.clone());
    shared.arrived.notify_all();
    let reply = scripted.unwrap_or_else(|| shared.other_reply(&request));
    let _ = reply.give(&request, stream);
}

fn read_until(stream: &mut impl Read, end: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end) {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    String::from_utf8(text).ok()
}

/// Waits without a clock until the client closes, which it may have done already.
fn until_it_leaves(stream: &mut impl Read) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).is_ok_and(|got| got > 0) {}
}
