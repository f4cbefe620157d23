//! Fault 58: clients that are slow, large, many or malformed.

use std::io::Write;
use std::time::Duration;

use cni_keeper::http::{ConnectionLimits, Surface};

use super::agent::{Agent, DEADLINE, Looks, ready};

/// An age: what is set to it is not what a test is about.
const NEVER: Duration = Duration::from_secs(3_600);
/// Soon enough to be waited for.
const SOON: Duration = Duration::from_millis(300);

fn endless() -> ConnectionLimits {
    ConnectionLimits {
        head_timeout: NEVER,
        write_timeout: NEVER,
        max_lifetime: NEVER,
        ..ConnectionLimits::default()
    }
}

/// With the limits of the field: a head that does not end is waited for five seconds, and nobody else waits.
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

/// A byte now and then does not buy time.
#[test]
fn fault_58_a_dripping_head_is_cut_off() {
    let agent = Agent::within(ConnectionLimits {
        head_timeout: SOON,
        ..endless()
    });
    let mut client = agent.connect();
    client.send("GET /readyz HTTP/1.1\r\nX: ");
    client.stream().set_read_timeout(Some(SOON / 20)).unwrap();
    // The pace is the read timeout's; an error ends it, which is the server's closing.
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
    // What is usual fits.
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

/// A page in a browser on this machine is at home at some name, and this listener has none.
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
            let told = client.answer();
            let expected = if path == "/nope" && status == 200 {
                404
            } else {
                status
            };
            assert_eq!(told.status, expected, "{host} {path}: {}", told.body);
        }
    }
    let mut client = agent.connect();
    assert_eq!(client.send("GET / HTTP/1.1\r\n\r\n").answer().status, 400);
}

/// It asks and asks, and never reads: what was written for it fills the kernel's buffers, and then it is let go.
#[test]
fn fault_58_a_client_that_does_not_read_is_cut_off() {
    let agent = Agent::within(ConnectionLimits {
        write_timeout: SOON,
        ..endless()
    });
    let client = agent.connect();
    let request = "GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    // The server stops reading when it cannot write, so this write ends with its leaving.
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

/// However busy a connection is, it ends; its last answer is whole.
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

/// When all slots are taken, the newcomer gets the one whose holder has kept silent longest.
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
    // Asking again makes young again.
    assert_eq!(other.get("/livez").status, 200);
    let mut another = agent.connect();
    assert_eq!(another.get("/readyz").status, 200);
    newcomer.must_end();
    assert_eq!(other.get("/livez").status, 200);
}

/// Whoever is being answered is not cut off for anybody: the newcomer waits for its turn.
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
