//! The server stops: it finishes the answers under way, and waits for nothing else.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use cni_keeper::http::{ConnectionLimits, Surface};

use super::agent::{Agent, DEADLINE, Looks, ready};

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let (looks, gate) = Looks::gated();
    let mut agent = Agent::looking(ready(), looks);
    let mut client = agent.connect();
    client.ask("/readyz", "");
    gate.asked.recv_timeout(DEADLINE).unwrap();
    agent.begin_to_stop();
    // A new connection is refused now: the listener is gone.
    let started = Instant::now();
    while TcpStream::connect(agent.address).is_ok() {
        assert!(started.elapsed() < DEADLINE, "it still listens");
        std::thread::yield_now();
    }
    gate.go.send(()).unwrap();
    let answer = client.answer();
    assert_eq!(answer.body, "ok\n");
    assert_eq!(answer.header("connection"), Some("close"));
    client.must_end();
    agent.wait();
}

/// The server does not wait for silent connections, idle ones, or those with half a head.
#[test]
fn idle_clients_do_not_delay_the_end() {
    let patient = ConnectionLimits {
        head_timeout: DEADLINE,
        drain_timeout: DEADLINE,
        ..ConnectionLimits::default()
    };
    let mut agent = Agent::start(ready(), Looks::AtOnce, Surface::Everything, patient);
    let mut silent = agent.connect();
    let mut half = agent.connect();
    half.send("GET /readyz HT");
    let mut kept = agent.connect();
    kept.get("/livez");
    let stopped = Instant::now();
    agent.begin_to_stop();
    agent.wait();
    assert!(stopped.elapsed() < DEADLINE / 2, "{:?}", stopped.elapsed());
    for client in [&mut silent, &mut half, &mut kept] {
        client.must_end();
    }
}

/// An answer that its client does not read is dropped when the grace period is over.
#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let limits = ConnectionLimits {
        write_timeout: DEADLINE * 2,
        max_lifetime: DEADLINE * 2,
        drain_timeout: Duration::from_millis(100),
        ..ConnectionLimits::default()
    };
    let mut agent = Agent::start(ready(), Looks::AtOnce, Surface::Everything, limits);
    let client = agent.connect();
    let request = "GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let pause = Some(Duration::from_millis(200));
    client.stream().set_write_timeout(pause).unwrap();
    // Until neither side can write.
    while std::io::Write::write_all(&mut client.stream(), request.as_bytes()).is_ok() {}
    let stopped = Instant::now();
    agent.begin_to_stop();
    agent.wait();
    assert!(stopped.elapsed() < DEADLINE / 2, "{:?}", stopped.elapsed());
}
