//! Fault 58: thousands of connections that never say anything, and a kubelet that wants to know.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::agent::Agent;

const CROWD: usize = 10_000;
/// What the rest of the suite may need meanwhile.
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

/// A probe as a kubelet makes it: a new connection, and no longer than it waits with one retry of the kernel's.
fn probe(agent: &Agent) -> bool {
    let mut answer = [0; 12];
    let asked = TcpStream::connect(agent.address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        stream.read_exact(&mut answer)
    });
    asked.is_ok() && &answer == b"HTTP/1.1 200"
}

#[test]
fn fault_58_ten_thousand_slow_connections_do_not_lock_a_probe_out() {
    let agent = Agent::ready();
    let mut crowd: Vec<TcpStream> = Vec::with_capacity(crowd());
    let (mut in_a_row, mut probes) = (0, 0);
    while crowd.len() < crowd.capacity() {
        // Some keep silent, some begin a request and do not end it.
        for silent in 0..100 {
            let Ok(mut stream) = TcpStream::connect(agent.address) else {
                continue;
            };
            if silent % 2 == 0 {
                let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nX: ");
            }
            crowd.push(stream);
        }
        probes += 1;
        in_a_row = if probe(&agent) { 0 } else { in_a_row + 1 };
        assert!(in_a_row < FAILURES, "locked out at probe {probes}");
    }
    let kept = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        // What is still open has nothing to read.
        stream
            .peek(&mut [0])
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    // The probe's own connection may be one of the sixty-four.
    let kept = crowd.iter().filter(kept).count();
    assert!(kept <= 64, "{kept} of {} are still served", crowd.len());
    assert!(probe(&agent) || probe(&agent));
}
