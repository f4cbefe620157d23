//! What each path answers, and how.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cni_keeper::daemon::{Handle, LoopStalled};
use cni_keeper::http::{ConnectionLimits, Server, Surface};
use cni_keeper::model::{DriftKind, DriftRecord, Outcome};

use super::agent::{Agent, DEADLINE, Looks, broken, ready};

const PATHS: &[(&str, &str)] = &[
    ("/", "text/html; charset=utf-8"),
    ("/livez", "text/plain; charset=utf-8"),
    ("/readyz", "text/plain; charset=utf-8"),
    ("/healthz", "text/plain; charset=utf-8"),
    ("/metrics", cni_keeper::http::metrics::CONTENT_TYPE),
    ("/status", "application/json"),
    ("/drift", "application/json"),
    ("/conflist", "application/json"),
    ("/statusz", "text/plain; charset=utf-8"),
    ("/flagz", "text/plain; charset=utf-8"),
];

#[test]
fn every_path_says_what_it_is_and_is_never_kept() {
    let agent = Agent::ready();
    for (path, kind) in PATHS {
        let answer = agent.connect().get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some(*kind), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let nosniff = answer.header("x-content-type-options");
        assert_eq!(nosniff, Some("nosniff"), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy.is_some(), *path == "/", "{path}");
        for part in ["default-src 'none'", "frame-ancestors 'none'"] {
            assert!(
                policy.is_none_or(|policy| policy.contains(part)),
                "{policy:?}"
            );
        }
    }
}

#[test]
fn head_is_get_without_the_body() {
    let agent = Agent::ready();
    let mut client = agent.connect();
    for (path, _) in PATHS {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = client.head().unwrap();
        // If a body came, it would be taken for the next answer.
        let whole = client.get(path);
        assert_eq!(head.status, whole.status, "{path}");
        for name in ["content-type", "cache-control", "content-security-policy"] {
            assert_eq!(head.header(name), whole.header(name), "{path}");
        }
        assert!(head.header("content-length").is_some(), "{path}");
    }
}

#[test]
fn an_unknown_path_is_answered_with_the_known_ones() {
    let agent = Agent::ready();
    for path in ["/nope", "/readyz2", "//", "/status/", "/livez/loop"] {
        let answer = agent.connect().get(path);
        assert_eq!(answer.status, 404, "{path}");
        for (known, _) in PATHS {
            assert!(answer.body.contains(known), "{path}: {}", answer.body);
        }
    }
}

#[test]
fn a_metrics_listener_has_metrics_and_a_sign_of_life() {
    let (surface, limits) = (Surface::MetricsOnly, ConnectionLimits::default());
    let agent = Agent::start(ready(), Looks::AtOnce, surface, limits);
    for (path, _) in PATHS {
        let served = matches!(*path, "/livez" | "/metrics");
        let answer = agent.connect().get(path);
        assert_eq!(answer.status, if served { 200 } else { 404 }, "{path}");
    }
    assert_eq!(agent.connect().get("/readyz/config").status, 404);
}

/// Fault 58: nothing can be changed over HTTP, by no method.
#[test]
fn fault_58_other_methods_are_refused() {
    let agent = Agent::ready();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let mut client = agent.connect();
        client.send(format!(
            "{method} /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
    }
}

/// Fault 58: a body is never read, and what follows it is never taken for a request.
#[test]
fn fault_58_a_body_is_refused_and_the_connection_closed() {
    let agent = Agent::ready();
    let smuggled = "GET /flagz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (method, status) in [("GET", 413), ("POST", 405)] {
        for header in ["Content-Length: 46", "Transfer-Encoding: chunked"] {
            let mut client = agent.connect();
            let head = format!("{method} /livez HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n");
            let answer = client.send(head + smuggled).answer();
            assert_eq!(answer.status, status, "{method} {header}");
            assert_eq!(
                answer.header("connection"),
                Some("close"),
                "{method} {header}"
            );
            assert!(client.answer_or_end().is_none(), "{method} {header}");
        }
    }
    // A client that asks first gets its answer at once, and sends nothing.
    let mut client = agent.connect();
    let expecting = "Expect: 100-continue\r\nContent-Length: 9\r\n";
    assert_eq!(client.ask("/livez", expecting).answer().status, 413);
}

#[test]
fn a_kept_connection_takes_one_request_after_another() {
    let agent = Agent::ready();
    let mut client = agent.connect();
    for _ in 0..100 {
        assert_eq!(client.get("/readyz").body, "ok\n");
    }
    client.ask("/readyz", "Connection: close\r\n").answer();
    client.must_end();
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let agent = Agent::of(broken());
    let mut client = agent.connect();
    let paths = ["/livez", "/readyz", "/nope", "/flagz", "/readyz/config"];
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(paths.map(request).concat());
    let statuses = paths.map(|_| client.answer().status);
    assert_eq!(statuses, [200, 503, 404, 200, 200]);
}

/// As `printf 'GET …' | nc` does, and a probe from the days before HTTP/1.1.
#[test]
fn a_client_that_has_closed_its_side_still_gets_its_answer() {
    let (looks, gate) = Looks::gated();
    let agent = Agent::looking(ready(), looks);
    let mut client = agent.connect();
    client.ask("/readyz", "").finish();
    gate.asked.recv_timeout(DEADLINE).unwrap();
    // The server sees the end of the half before it has its answer.
    assert_eq!(agent.connect().get("/livez").status, 200);
    gate.go.send(()).unwrap();
    assert_eq!(client.answer().body, "ok\n");
    let mut client = agent.connect();
    assert_eq!(
        client.send("GET /livez HTTP/1.0\r\n\r\n").answer().status,
        200
    );
    client.must_end();
}

#[test]
fn status_tells_all_and_whether_it_is_ready() {
    for (status, is_ready) in [(ready(), true), (broken(), false)] {
        let reported = Agent::of(status).connect().get("/status").json();
        assert_eq!(reported["ready"], is_ready);
        assert_eq!(reported["agent"]["node"], "node-1");
        assert_eq!(reported["watch"]["mode"], "events");
        assert_eq!(reported["checks"].as_array().unwrap().len(), 4);
        assert_eq!(reported["directory"]["effective"]["chain"][0], "bridge");
    }
}

#[test]
fn drift_is_reported_newest_first_with_how_much_of_it_is_open() {
    let mut status = ready();
    let outcomes = [
        Outcome::Open { waiting: None },
        Outcome::Healed {
            how: "placed from the store".into(),
            took: Duration::from_micros(1_500),
        },
    ];
    status.drift = (1..).zip(outcomes).map(entry).collect();
    status.drift.reverse();
    let reported = Agent::of(status).connect().get("/drift").json();
    assert_eq!(reported["open"], 1);
    assert_eq!(reported["entries"][0]["id"], 2);
    assert_eq!(reported["entries"][0]["outcome"]["seconds"], 0.0015);
    assert_eq!(reported["entries"][1]["outcome"]["state"], "open");
}

fn entry((id, outcome): (u64, Outcome)) -> Arc<DriftRecord> {
    Arc::new(DriftRecord {
        id,
        at: ready().looked,
        path: "/opt/cni/bin/bridge".into(),
        kind: DriftKind::Missing,
        what: "is missing".to_owned(),
        before: "absent".to_owned(),
        after: None,
        outcome,
        times: 1,
        by: None,
    })
}

#[test]
fn conflist_tells_which_file_the_runtime_takes_and_why() {
    let reported = Agent::ready().connect().get("/conflist").json();
    assert_eq!(reported["file"], "10-pods.conflist");
    assert_eq!(reported["network"], "pods");
    assert_eq!(reported["content"]["plugins"][0]["type"], "bridge");
    assert_eq!(reported["candidates"][0]["ours"], true);
    let why = &reported["runtimes"][0]["why"][0];
    assert_eq!(why, "90-other.conflist sorts after it");

    let mut nothing = ready();
    nothing.directory = None;
    let reported = Agent::of(nothing).connect().get("/conflist").json();
    assert!(
        reported["file"].is_null() && reported["content"].is_null(),
        "{reported}"
    );
}

#[test]
fn the_z_pages_name_the_agent() {
    let agent = Agent::ready();
    let text = agent.connect().get("/statusz").body;
    assert!(text.starts_with("cni-keeper statusz\nWarning: "), "{text}");
    assert!(text.contains("\nBinary version: 1.2.3\n"), "{text}");
    assert!(text.contains("\nUp: 0 hr 00 min 0"), "{text}");
    let text = agent.connect().get("/flagz").body;
    assert!(text.starts_with("cni-keeper flagz\nWarning: "), "{text}");
    assert!(text.ends_with("\nhost-root=/\n"), "{text}");
}

/// Fault 59: a port that is taken is named, with the setting that asks for it and what to do.
#[tokio::test]
async fn fault_59_a_taken_port_is_named() {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = Server::bind(anywhere, Surface::Everything).unwrap();
    let taken = first.local_addr();
    for (surface, setting) in [
        (Surface::Everything, "http.listen"),
        (Surface::MetricsOnly, "http.metricsListen"),
    ] {
        let error = Server::bind(taken, surface).unwrap_err();
        let line = format!("{setting} {taken}: Address already in use; another process");
        assert!(error.to_string().starts_with(&line), "{error}");
    }
    // An address for documentation, which no machine has.
    let nobodys = SocketAddr::from(([192, 0, 2, 1], 9742));
    let error = Server::bind(nobodys, Surface::Everything).unwrap_err();
    let line = "http.listen 192.0.2.1:9742: Cannot assign requested address; this machine has no";
    assert!(error.to_string().starts_with(line), "{error}");
}

/// An agent that ended a moment ago leaves connections behind in the kernel; the next one gets the port all the same.
#[tokio::test]
async fn a_port_let_go_is_free_at_once() {
    let mut agent = Agent::ready();
    let mut client = agent.connect();
    client.get("/livez");
    agent.begin_to_stop();
    agent.wait();
    let again = Server::bind(agent.address, Surface::Everything);
    let (_, handle) = Handle::new_pair(ready());
    let now = std::future::ready(());
    again.unwrap().serve(handle, now).await;
}

/// The watchdog sleeps through short work, and tells of work that does not end.
#[test]
fn only_work_that_takes_too_long_is_a_stall() {
    let (publisher, handle) = Handle::new_pair(ready());
    let limit = Duration::from_millis(20);
    let watching = std::thread::spawn(move || handle.wait_until_stalled(limit));
    for _ in 0..100 {
        publisher.set_busy(true);
        publisher.set_busy(false);
    }
    assert!(!watching.is_finished());
    publisher.set_busy(true);
    let stalled = watching.join().unwrap();
    assert!(matches!(stalled, LoopStalled::Busy(busy) if busy > limit));
}
