//! A client that sends given bytes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::agent::DEADLINE;

/// One connection.
pub(super) struct Client(BufReader<TcpStream>);

/// An answer, header names in lower case.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Client {
    pub(super) fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).unwrap())
    }

    /// Over a connection that is there already.
    pub(super) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// Sends bytes. That the server has closed is seen when reading.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.0.get_mut().write_all(bytes.as_ref());
        self
    }

    /// Sends a GET, and more headers (`Name: value\r\n` each).
    pub(super) fn ask(&mut self, path: &str, headers: &str) -> &mut Self {
        self.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        ))
    }

    /// A GET and its answer.
    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.ask(path, "").answer()
    }

    /// Ends the sending half.
    pub(super) fn finish(&mut self) -> &mut Self {
        self.stream().shutdown(Shutdown::Write).unwrap();
        self
    }

    /// The next answer.
    pub(super) fn answer(&mut self) -> Answer {
        let answer = self.head().expect("an answer, and not the end");
        self.body_of(answer)
    }

    /// The next answer, or `None` where the server closed instead, in good order or not.
    pub(super) fn answer_or_end(&mut self) -> Option<Answer> {
        let answer = self.head()?;
        Some(self.body_of(answer))
    }

    /// The head of the next answer; `None` at the end.
    pub(super) fn head(&mut self) -> Option<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let line = self.line().expect("a whole head");
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Some(Answer {
            status,
            headers,
            body: String::new(),
        })
    }

    fn body_of(&mut self, mut answer: Answer) -> Answer {
        let length = answer.header("content-length").expect("a length").parse();
        let mut body = vec![0; length.unwrap()];
        self.0.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if is_end(error.kind()) => None,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }

    /// Waits for the server to close, whatever it still sends.
    pub(super) fn must_end(&mut self) {
        let ended = self.0.read_to_end(&mut Vec::new());
        assert!(
            ended.as_ref().map_or_else(|e| is_end(e.kind()), |_| true),
            "the server did not close: {ended:?}"
        );
    }

    /// Whether the server has closed, without waiting for it.
    pub(super) fn has_ended(&self) -> bool {
        let stream = self.stream();
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        match peeked {
            Ok(got) => got == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
