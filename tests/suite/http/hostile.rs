//! Fault 58: clients that are slow, large, many or malformed.

use std::io::Write;
use std::time::Duration;

use cni_keeper::http::{ConnectionLimits, Surface};

use super::agent::{Agent, DEADLINE, Looks, ready};

/// A time so long that it does not matter in a test.
const NEVER: Duration = Duration::from_secs(3_600);
/// A time so short that a test can wait for it.
const SOON: Duration = Duration::from_millis(300);

fn endless() -> ConnectionLimits {
    ConnectionLimits {
        head_timeout: NEVER,
        write_timeout: NEVER,
        max_lifetime: NEVER,
        ..ConnectionLimits::default()
    }
}

/// With the limits in production: the server waits five seconds for the end of a head, and other clients do not wait.
#[test]
fn fault_58_a_slow_head_is_cut_off() {
    let agent = Agent::ready();
    let mut silent = agent.connect();
    let mut slow = agent.connect();
    slow.send("GET /readyz HTTP/1.1\r\nHost: ");
    for _ in 0..10 {
        assert_eq!(agent.connect().get("/readyz").status, 200);
    }
    silent.must_end();
    slow.must_end();
}

/// A client that sends a byte now and then gets no more time.
#[test]
fn fault_58_a_dripping_head_is_cut_off() {
    let agent = Agent::within(ConnectionLimits {
        head_timeout: SOON,
        ..endless()
    });
    let mut client = agent.connect();
    client.send("GET /readyz HTTP/1.1\r\nX: ");
    client.stream().set_read_timeout(Some(SOON / 20)).unwrap();
    // The read timeout sets the pace; the server's close ends it with an error.
    let mut drips = 0;
    while !client.has_ended() {
        let _ = client.stream().write_all(b"x");
        let _ = std::io::Read::read(&mut client.stream(), &mut [0]);
        drips += 1;
        assert!(drips < 20 * 100, "it goes on forever");
    }
}

#[test]
fn fault_58_an_idle_connection_is_closed() {
    let agent = Agent::within(ConnectionLimits {
        head_timeout: SOON,
        ..endless()
    });
    let mut client = agent.connect();
    assert_eq!(client.get("/livez").status, 200);
    client.must_end();
}

#[test]
fn fault_58_big_heads_are_refused() {
    let agent = Agent::ready();
    let (long, many) = ("x".repeat(64 * 1024), "X: y\r\n".repeat(1_000));
    for request in [
        format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
        format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let mut client = agent.connect();
        let answer = client.send(request).head().unwrap();
        assert!(matches!(answer.status, 414 | 431), "{}", answer.status);
        client.must_end();
    }
    // A usual head fits.
    let usual = format!("X: {}\r\n", "x".repeat(7 * 1024));
    assert_eq!(agent.connect().ask("/readyz", &usual).answer().status, 200);
}

#[test]
fn fault_58_what_is_no_http_is_refused() {
    let agent = Agent::ready();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /readyz\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut client = agent.connect();
        let head = client.send(garbage).finish().head();
        assert!(head.is_none_or(|head| head.status >= 400), "{garbage:?}");
        client.must_end();
    }
    assert_eq!(agent.connect().get("/readyz").status, 200);
}

/// A web page in a browser on this machine sends its own Host, and this listener has no name.
#[test]
fn fault_58_a_foreign_host_is_refused() {
    let agent = Agent::ready();
    let port = agent.address.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        ("localhost".to_owned(), 200),
        (format!("[::1]:{port}"), 200),
        (format!("rebound.example:{port}"), 421),
        ("10.0.0.1".to_owned(), 421),
    ] {
        for path in ["/status", "/livez", "/nope"] {
            let mut client = agent.connect();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let reported = client.answer();
            let expected = if path == "/nope" && status == 200 {
                404
            } else {
                status
            };
            assert_eq!(
                reported.status, expected,
                "{host} {path}: {}",
                reported.body
            );
        }
    }
    let mut client = agent.connect();
    assert_eq!(client.send("GET / HTTP/1.1\r\n\r\n").answer().status, 400);
}

/// A client that sends requests and never reads: its answers fill the kernel's buffers, and then it is disconnected.
#[test]
fn fault_58_a_client_that_does_not_read_is_cut_off() {
    let agent = Agent::within(ConnectionLimits {
        write_timeout: SOON,
        ..endless()
    });
    let client = agent.connect();
    let request = "GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    // The server stops reading when it cannot write, so this write ends when the server closes.
    client.stream().set_write_timeout(Some(DEADLINE)).unwrap();
    let refused = loop {
        match client.stream().write_all(request.as_bytes()) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    let timed_out = refused.kind() == std::io::ErrorKind::WouldBlock;
    assert!(!timed_out, "it was not let go: {refused}");
    assert_eq!(agent.connect().get("/readyz").status, 200);
}

/// Every connection ends, however busy it is; its last answer is complete.
#[test]
fn fault_58_a_connection_does_not_live_forever() {
    let agent = Agent::within(ConnectionLimits {
        max_lifetime: SOON,
        ..endless()
    });
    let mut client = agent.connect();
    let mut answers = 0;
    while let Some(answer) = client.ask("/readyz", "").answer_or_end() {
        assert_eq!(answer.body, "ok\n");
        answers += 1;
        assert!(answers < 1_000_000, "it goes on forever");
    }
    assert!(answers > 0);
}

/// When all slots are taken, a new connection gets the slot of the one that was silent longest.
#[test]
fn fault_58_who_keeps_silent_makes_room() {
    let agent = Agent::within(ConnectionLimits {
        max_connections: 2,
        ..endless()
    });
    let mut oldest = agent.connect();
    let mut other = agent.connect();
    other.get("/livez");
    let mut newcomer = agent.connect();
    assert_eq!(newcomer.get("/readyz").status, 200);
    oldest.must_end();
    // Another request resets the time of silence.
    assert_eq!(other.get("/livez").status, 200);
    let mut another = agent.connect();
    assert_eq!(another.get("/readyz").status, 200);
    newcomer.must_end();
    assert_eq!(other.get("/livez").status, 200);
}

/// A connection that is being answered keeps its slot; the new one waits.
#[test]
fn fault_58_who_is_being_answered_keeps_the_slot() {
    let (looks, gate) = Looks::gated();
    let limits = ConnectionLimits {
        max_connections: 1,
        ..endless()
    };
    let agent = Agent::start(ready(), looks, Surface::Everything, limits);
    let mut first = agent.connect();
    first.ask("/readyz", "");
    gate.asked.recv_timeout(DEADLINE).unwrap();
    let mut newcomer = agent.connect();
    newcomer.ask("/livez", "");
    gate.go.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    assert_eq!(newcomer.answer().status, 200);
}
