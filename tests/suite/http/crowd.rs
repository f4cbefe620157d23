//! Fault 58: thousands of silent connections, and a kubelet that needs an answer.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::agent::{Agent, DEADLINE};

const CROWD: usize = 10_000;
/// How many are opened at once.
const BURST: usize = 1_000;
/// Descriptors that the rest of the suite may need meanwhile.
const OTHERS: usize = 1_000;
/// A kubelet takes a container for unready after three probes in a row that failed.
const FAILURES: usize = 3;

/// As many connections as the limit on descriptors allows, up to ten thousand.
fn crowd() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    let allowed = soft.parse().unwrap_or(CROWD + OTHERS);
    allowed.saturating_sub(OTHERS).clamp(200, CROWD)
}

/// A probe as a kubelet makes it: a new connection, with time for one retry by the kernel.
fn probe(agent: &Agent) -> bool {
    let mut answer = [0; 12];
    let asked = TcpStream::connect(agent.address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        stream.read_exact(&mut answer)
    });
    asked.is_ok() && &answer == b"HTTP/1.1 200"
}

/// Opens connections as fast as it can. Some are silent, some begin a request and do not end it.
fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let some = (0..count).filter_map(|number| {
        let mut stream = TcpStream::connect(address).ok()?;
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nX: ");
        }
        Some(stream)
    });
    some.collect()
}

/// Whether the server has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn fault_58_ten_thousand_slow_connections_do_not_lock_a_probe_out() {
    let agent = Agent::ready();
    let (address, wanted) = (agent.address, crowd());
    let mut crowd: Vec<TcpStream> = Vec::with_capacity(wanted);
    let mut in_a_row = 0;
    // A burst is smaller than the kernel's queue, since the server cannot serve a connection that does not get into it.
    for _ in 0..wanted.div_ceil(BURST) {
        thread::scope(|scope| {
            let halves = [(); 2].map(|()| scope.spawn(move || open(address, BURST / 2)));
            while !halves.iter().all(ScopedJoinHandle::is_finished) {
                in_a_row = if probe(&agent) { 0 } else { in_a_row + 1 };
                assert!(in_a_row < FAILURES, "a probe is locked out");
            }
            let opened = halves.map(|half| half.join().unwrap());
            crowd.extend(opened.into_iter().flatten());
        });
    }
    // Those that the kernel has let in and the server has not are still on their way out.
    let opened = Instant::now();
    while crowd.iter().filter(|stream| is_open(stream)).count() > 64 {
        assert!(opened.elapsed() < DEADLINE, "too many are still served");
    }
    assert!(crowd.len() > wanted / 2, "only {} got in", crowd.len());
    assert_eq!(agent.connect().get("/readyz").status, 200);
}
