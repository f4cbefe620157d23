//! Faults 37 to 39 and 44 to 48: no network, a slow one, and servers that answer something else.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cni_keeper::fetch::{FailedSource, HttpError, RedirectError, SourceError, TimeLimit};
use cni_keeper::model::Pin;
use sha2::Digest;

use super::{Case, closed_port, content, got};
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

/// Fault 37: no DNS is retried, with its own reason.
#[tokio::test]
async fn fault_37_no_dns() {
    let case = Case::new(b"", &["http://no-such-host.invalid/a".to_owned()]).attempts(2);
    let tried = case.fails_once().await;
    assert_eq!((tried.reason.kind().as_str(), tried.attempts), ("dns", 2));
    assert!(tried.reason.to_string().contains("no-such-host.invalid"));
}

/// Fault 38: after a refused, silent or black-holed source, the next one is asked.
#[tokio::test]
async fn fault_38_refused_silence_and_blackhole_go_to_the_next_source() {
    let content = content();
    let server = Server::http();
    server.on("/silent", [Reply::silent()]);
    server.on("/midway", [Reply::silent_after(&content, 1000)]);
    server.on("/a", [Reply::ok(&content)]);
    // The kernel accepts the connection, and nothing ever answers the handshake.
    let blackhole = TcpListener::bind("127.0.0.1:0").unwrap();
    let sources = [
        closed_port(),
        server.url("/silent"),
        server.url("/midway"),
        format!("https://{}/a", blackhole.local_addr().unwrap()),
        server.url("/a"),
    ];
    let mut case = Case::new(&content, &sources);
    case.settings.connect_timeout = Duration::from_millis(100);
    case.settings.read_timeout = Duration::from_millis(200);
    got(case.run().await, &content, &sources[4]);

    case.sources.truncate(4);
    let tried = case.fails().await;
    let kinds: Vec<&str> = tried
        .iter()
        .map(|tried| tried.reason.kind().as_str())
        .collect();
    assert_eq!(kinds, ["connect", "timeout", "timeout", "timeout"]);
    let limits = [TimeLimit::Silence, TimeLimit::Silence, TimeLimit::Connect];
    for (tried, expected) in tried[1..].iter().zip(limits) {
        match &tried.reason {
            SourceError::Http(HttpError::Timeout { limit, .. }) => {
                assert_eq!(*limit, expected, "{}", tried.source);
            }
            other => panic!("{other}"),
        }
    }
}

/// Fault 38: a reset is worth another round.
#[tokio::test]
async fn fault_38_a_reset_is_retried() {
    let content = content();
    let server = Server::http();
    server.on(
        "/a",
        [
            Reply::reset(),
            Reply::garbage(b"SSH-2.0-x\r\n"),
            Reply::ok(&content),
        ],
    );
    let source = server.url("/a");
    let case = Case::one(&content, &source);
    let (first, second) = (case.fails_once().await, case.fails_once().await);
    assert_eq!(
        [first.reason.kind().as_str(), second.reason.kind().as_str()],
        ["reset", "protocol"]
    );
    server.on("/a", [Reply::reset(), Reply::reset(), Reply::ok(&content)]);
    got(case.attempts(3).run().await, &content, &source);
    assert_eq!(server.count("/a"), 5);
}

/// Fault 39: the minimum rate ends a drip; without a minimum rate, the total deadline does.
#[tokio::test]
async fn fault_39_a_slow_drip_is_cut_off() {
    let content = content();
    let server = Server::http();
    server.on("/a", [Reply::drip(&content, Duration::from_millis(5))]);
    let mut case = Case::new(&content, &[server.url("/a")]);
    case.settings.read_timeout = Duration::from_millis(200);
    case.settings.min_rate = 100_000;
    assert_eq!(case.fails_once().await.reason.kind().as_str(), "too-slow");

    case.settings.min_rate = 0;
    case.settings.total_timeout = Duration::from_millis(300);
    let reason = case.fails_once().await.reason;
    assert!(
        matches!(
            reason,
            SourceError::Http(HttpError::Timeout {
                limit: TimeLimit::Total,
                ..
            })
        ),
        "{reason}"
    );
}

/// Fault 39: what came until the total deadline is kept, and the same source is asked for the rest. A client that
/// leaves a busy mirror would begin at zero elsewhere.
#[tokio::test]
async fn fault_39_a_body_that_runs_out_of_time_is_resumed() {
    let content = content();
    let (server, other) = (Server::http(), Server::http());
    let drip = Reply::drip(&content, Duration::from_millis(5)).with("ETag", "\"v1\"");
    server.on("/a", [drip, Reply::ranges(&content).with("ETag", "\"v1\"")]);
    other.on("/a", [Reply::ok(&content)]);
    let sources = [server.url("/a"), other.url("/a")];
    let mut case = Case::new(&content, &sources);
    case.settings.min_rate = 0;
    case.settings.total_timeout = Duration::from_millis(300);
    got(case.run().await, &content, &sources[0]);
    let asked = server.requests();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].header("range").is_some());
    assert_eq!(other.requests().len(), 0);
}

/// Fault 44: redirects are followed within bounds.
#[tokio::test]
async fn fault_44_redirects() {
    let content = content();
    let server = Server::http();
    server.on("/0", [Reply::redirect("/1")]);
    server.on("/1", [Reply::redirect(&server.url("/a?signature=secret"))]);
    server.on("/a?signature=secret", [Reply::ok(&content)]);
    server.on("/loop", [Reply::redirect("/loop2")]);
    server.on("/loop2", [Reply::redirect("/loop")]);
    for hop in 0..9 {
        let next = Reply::redirect(&format!("/hop{}", hop + 1));
        server.on(&format!("/hop{hop}"), [next]);
    }
    server.on("/file", [Reply::redirect("file:///etc/passwd")]);
    server.on("/nowhere", [Reply::status(302)]);
    let authority = Authority::new();
    let secure = Server::https(authority.server(&["127.0.0.1"]));
    secure.on(
        "/down",
        [Reply::redirect(&server.url("/a?signature=secret"))],
    );

    let source = server.url("/0");
    got(Case::one(&content, &source).run().await, &content, &source);

    let sources = [
        server.url("/loop"),
        server.url("/hop0"),
        server.url("/file"),
        server.url("/nowhere"),
        secure.url("/down"),
    ];
    let case = Case::new(&content, &sources)
        .attempts(3)
        .trusting(&authority);
    let tried = case.fails().await;
    let refused = |tried: &FailedSource| match &tried.reason {
        SourceError::Http(HttpError::Redirect(refusal)) => refusal.clone(),
        other => panic!("{}: {other}", tried.source),
    };
    assert!(matches!(refused(&tried[0]), RedirectError::Loop(_)));
    assert_eq!(refused(&tried[1]), RedirectError::TooMany);
    assert!(matches!(refused(&tried[2]), RedirectError::Scheme(_)));
    assert_eq!(refused(&tried[3]), RedirectError::NoLocation);
    assert_eq!(
        refused(&tried[4]),
        RedirectError::Downgrade(server.url("/a?…"))
    );
    assert!(
        tried.iter().all(|tried| tried.attempts == 1),
        "a refusal lasts"
    );
}

/// Fault 45: Retry-After is waited for, in rounds, and no longer than the cap.
#[tokio::test]
async fn fault_45_retry_after_is_honoured_and_capped() {
    let content = content();
    let server = Server::http();
    let busy = |wish: &str| Reply::status(503).with("Retry-After", wish);
    server.on("/a", [busy("1"), Reply::ok(&content)]);
    let source = server.url("/a");
    let mut case = Case::one(&content, &source).attempts(2);
    case.rounds.retry_after_max = Duration::from_secs(60);
    let begun = Instant::now();
    got(case.run().await, &content, &source);
    assert!(begun.elapsed() >= Duration::from_secs(1), "honoured");

    server.on("/a", [busy("86400"), Reply::ok(&content)]);
    case.rounds.retry_after_max = Duration::from_millis(10);
    got(case.run().await, &content, &source);

    let date = Reply::status(429)
        .with("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .with("Retry-After", "Sun, 06 Nov 1994 08:51:37 GMT");
    server.on("/a", [date]);
    let tried = case.fails_once().await;
    assert_eq!(tried.attempts, 2);
    assert_eq!(tried.reason.retry_after(), Some(Duration::from_secs(120)));
}

/// Fault 45: a source that asked for time is left alone while another one is tried again.
#[tokio::test]
async fn fault_45_a_busy_source_is_left_alone_meanwhile() {
    let content = content();
    let server = Server::http();
    server.on("/busy", [Reply::status(429).with("Retry-After", "50")]);
    server.on(
        "/a",
        [Reply::status(500), Reply::status(502), Reply::ok(&content)],
    );
    let sources = [server.url("/busy"), server.url("/a")];
    let mut case = Case::new(&content, &sources).attempts(3);
    case.rounds.retry_after_max = Duration::from_secs(60);
    got(case.run().await, &content, &sources[1]);
    assert_eq!((server.count("/busy"), server.count("/a")), (1, 3));
}

/// Fault 46: the page of a captive portal is a wrong digest, and is downloaded once.
#[tokio::test]
async fn fault_46_html_with_200_is_no_retry_storm() {
    let server = Server::http();
    server.on("/a", [Reply::ok(b"<!DOCTYPE html><title>Log in</title>")]);
    let tried = Case::new(b"the plugins", &[server.url("/a")])
        .attempts(9)
        .fails_once()
        .await;
    assert_eq!(
        (tried.reason.kind().as_str(), tried.attempts),
        ("digest", 1)
    );
    assert_eq!(server.count("/a"), 1);
}

/// Fault 47: each kind of certificate error has its own reason and lasts; a trusted certificate works.
#[tokio::test]
async fn fault_47_certificates() {
    let content = content();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let serve = |tls| {
        let server = Server::https(tls);
        server.on("/a", [Reply::ok(&content)]);
        server
    };
    let good = serve(authority.server(&["localhost", "127.0.0.1"]));
    let unknown = serve(stranger.server(&["127.0.0.1"]));
    let expired = serve(authority.expired_server(&["127.0.0.1"]));
    let other = serve(authority.server(&["elsewhere.example"]));
    for source in [good.url("/a"), good.url_as("localhost", "/a")] {
        let case = Case::one(&content, &source).trusting(&authority);
        got(case.run().await, &content, &source);
    }
    let sources = [&unknown, &expired, &other].map(|server| server.url("/a"));
    let case = Case::new(&content, &sources)
        .attempts(2)
        .trusting(&authority);
    let tried = case.fails().await;
    let kinds: Vec<&str> = tried
        .iter()
        .map(|tried| tried.reason.kind().as_str())
        .collect();
    assert_eq!(kinds, ["tls-unknown-ca", "tls-expired", "tls-name"]);
    assert!(tried.iter().all(|tried| tried.attempts == 1));
    assert!(tried[0].reason.to_string().contains("fetch.caFile"));
    assert_eq!(
        unknown.requests().len(),
        0,
        "nothing is sent to an unknown server"
    );

    let mut broken = Case::new(&content, &[good.url("/a")]);
    broken.trust("not PEM");
    assert_eq!(broken.fails_once().await.reason.kind().as_str(), "ca-file");
}

/// Fault 48: a wrong digest is never handed out; the next source is tried, and the reason shows both digests.
#[tokio::test]
async fn fault_48_a_wrong_digest_goes_to_the_next_source() {
    let content = content();
    let server = Server::http();
    server.on("/bad", [Reply::ok(b"other bytes")]);
    server.on("/a", [Reply::ok(&content)]);
    let sources = [server.url("/bad"), server.url("/a")];
    let found = Case::new(&content, &sources).run().await;
    let failed = found
        .as_ref()
        .ok()
        .map(|(_, receipt)| receipt.failed_sources[0].reason.kind().as_str());
    assert_eq!(failed, Some("digest"));
    got(found, &content, &sources[1]);

    // A source that is merely down does not hide it from the metrics.
    let sources = [sources[0].clone(), server.url("/gone")];
    let case = Case::new(&content, &sources);
    let error = case.run().await.err().unwrap();
    assert_eq!(error.kind().as_str(), "digest");
    let actual = Pin::Sha256(sha2::Sha256::digest(b"other bytes").into());
    for part in [&sources[0], &case.pin.to_string(), &actual.to_string()] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// Fault 44: a long `Location` of a server fills neither log nor `/status`.
#[tokio::test]
async fn fault_44_a_long_location_makes_no_long_message() {
    let authority = Authority::new();
    let secure = Server::https(authority.server(&["127.0.0.1"]));
    let long = format!("http://mirror.example/{}", "a".repeat(200_000));
    secure.on("/down", [Reply::redirect(&long)]);
    let case = Case::one(b"", &secure.url("/down")).trusting(&authority);
    let text = case.fails_once().await.reason.to_string();
    assert!(
        text.contains("down to http://mirror.example/aaa"),
        "{text:.200}"
    );
    assert!(text.len() < 1_000, "{} bytes", text.len());
}
