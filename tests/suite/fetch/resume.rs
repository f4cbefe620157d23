//! Faults 40 to 43: bodies that end too early, wrong lengths, and which parts may be joined.

use std::time::Duration;

use cni_keeper::fetch::{HttpError, SourceError};

use super::{Case, closed_port, content, got};
use crate::support::server::{Reply, Server};

/// Fault 40: a cut body without a validator is rejected and never joined; another source starts from zero.
#[tokio::test]
async fn fault_40_a_truncated_body_without_a_validator_is_rejected() {
    let content = content();
    let (server, other) = (Server::http(), Server::http());
    server.on(
        "/a",
        [Reply::cut_after(&content, 100_000).with("ETag", "W/\"weak\"")],
    );
    let source = server.url("/a");
    let case = Case::one(&content, &source).attempts(2);
    let tried = case.fails_once().await;
    assert_eq!(
        (tried.reason.kind().as_str(), tried.attempts),
        ("truncated", 2)
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.header("range").is_none())
    );

    server.on(
        "/a",
        [Reply::cut_after(&content, 100_000).with("ETag", "\"v1\"")],
    );
    other.on("/a", [Reply::ok(&content).with("ETag", "\"v1\"")]);
    let sources = [source, other.url("/a")];
    got(
        Case::new(&content, &sources).run().await,
        &content,
        &sources[1],
    );
    assert_eq!(
        other.requests()[0].header("range"),
        None,
        "not across sources"
    );
}

/// Fault 40: with a strong validator only the rest is asked for.
#[tokio::test]
async fn fault_40_a_truncated_body_is_resumed_by_its_validator() {
    let content = content();
    for (name, value) in [
        ("ETag", "\"v1\""),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        let server = Server::http();
        let cut = Reply::cut_after(&content, 100_000).with(name, value);
        server.on("/a", [cut, Reply::ranges(&content).with(name, value)]);
        let source = server.url("/a");
        got(Case::one(&content, &source).run().await, &content, &source);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].header("range"), Some("bytes=100000-"));
        assert_eq!(requests[1].header("if-range"), Some(value));
    }
}

/// Fault 40: what one round left is resumed in the next, when no other source wrote in between.
#[tokio::test]
async fn fault_40_a_part_survives_to_the_next_round() {
    let content = content();
    let server = Server::http();
    let silent = Reply::silent_after(&content, 100_000).with("ETag", "\"v1\"");
    server.on(
        "/a",
        [silent, Reply::ranges(&content).with("ETag", "\"v1\"")],
    );
    let sources = [server.url("/a"), closed_port()];
    let mut case = Case::new(&content, &sources).attempts(2);
    case.settings.read_timeout = Duration::from_millis(200);
    got(case.run().await, &content, &sources[0]);
    assert_eq!(server.requests()[1].header("range"), Some("bytes=100000-"));
}

/// Fault 40: a body that always breaks off is not resumed for ever.
#[tokio::test]
async fn fault_40_resuming_is_bounded() {
    let content = content();
    let server = Server::http();
    let piece = |start: usize| {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        Reply::cut_after(&content[start..], 10)
            .with_status(206)
            .with("Content-Range", &range)
    };
    let first = Reply::cut_after(&content, 10).with("ETag", "\"v1\"");
    server.on("/a", [first, piece(10), piece(20), piece(30), piece(40)]);
    let tried = Case::new(&content, &[server.url("/a")]).fails_once().await;
    assert_eq!(
        (tried.reason.kind().as_str(), tried.attempts),
        ("truncated", 4)
    );
    assert!(
        matches!(
            tried.reason,
            SourceError::Http(HttpError::Truncated { got: 40, .. })
        ),
        "{}",
        tried.reason
    );
}

/// Fault 41: a length that is too large, one that is too small, and chunks without an end.
#[tokio::test]
async fn fault_41_wrong_lengths_are_found() {
    let content = content();
    let server = Server::http();
    let length = |n: usize| Reply::ok(&content).with("Content-Length", &n.to_string());
    server.on("/long", [length(content.len() + 1)]);
    server.on("/short", [length(content.len() - 1)]);
    server.on("/chunked", [Reply::chunked_without_end(&content)]);
    let sources = ["/long", "/short", "/chunked"].map(|path| server.url(path));
    let tried = Case::new(&content, &sources).fails().await;
    let kinds: Vec<&str> = tried
        .iter()
        .map(|tried| tried.reason.kind().as_str())
        .collect();
    assert_eq!(kinds, ["truncated", "digest", "truncated"]);
}

/// Fault 42: a server that ignores Range sends everything, and the download starts from zero.
#[tokio::test]
async fn fault_42_a_200_to_a_range_request_restarts_from_zero() {
    let content = content();
    let server = Server::http();
    let cut = Reply::cut_after(&content, 100_000).with("ETag", "\"v1\"");
    server.on("/a", [cut, Reply::ok(&content).with("ETag", "\"v1\"")]);
    let source = server.url("/a");
    got(Case::one(&content, &source).run().await, &content, &source);
    assert_eq!(server.requests()[1].header("range"), Some("bytes=100000-"));
}

/// Fault 43: a resumed answer that is anything else is never joined; the whole is requested.
#[tokio::test]
async fn fault_43_a_change_in_mid_resume_restarts() {
    let content = content();
    let old = vec![b'x'; content.len()];
    let total = content.len();
    let part = |etag: &str, start: usize| {
        Reply::ok(&content[start..])
            .with_status(206)
            .with("ETag", etag)
            .with(
                "Content-Range",
                &format!("bytes {start}-{}/{total}", total - 1),
            )
    };
    for (what, second) in [
        ("a range of something else", part("\"v2\"", 100_000)),
        ("another range", part("\"v1\"", 99_999)),
        (
            "no Content-Range",
            Reply::ok(&content[100_000..]).with_status(206),
        ),
        ("not satisfiable", Reply::status(416)),
        // Here the tag lies: joined to the old beginning the digest is wrong, and the whole is requested.
        ("the same tag on other bytes", part("\"v1\"", 100_000)),
    ] {
        let server = Server::http();
        let cut = Reply::cut_after(&old, 100_000).with("ETag", "\"v1\"");
        server.on("/a", [cut, second, Reply::ok(&content)]);
        let source = server.url("/a");
        got(Case::one(&content, &source).run().await, &content, &source);
        let ranges: Vec<bool> = server
            .requests()
            .iter()
            .map(|request| request.header("range").is_some())
            .collect();
        assert_eq!(ranges, [false, true, false], "{what}");
    }
    let server = Server::http();
    let cut = Reply::cut_after(&old, 100_000).with("ETag", "\"v1\"");
    server.on("/a", [cut, Reply::ranges(&content).with("ETag", "\"v2\"")]);
    let source = server.url("/a");
    got(Case::one(&content, &source).run().await, &content, &source);
    assert_eq!(server.count("/a"), 2, "If-Range saves the third request");
}

/// Fault 41: a rest that claims to reach the end and does not is truncated too, and is resumed from there.
#[tokio::test]
async fn fault_41_a_rest_shorter_than_its_range() {
    let content = content();
    let total = content.len();
    let part = |start: usize, bytes: usize| {
        Reply::ok(&content[start..start + bytes])
            .with_status(206)
            .with(
                "Content-Range",
                &format!("bytes {start}-{}/{total}", total - 1),
            )
    };
    let server = Server::http();
    let cut = Reply::cut_after(&content, 100_000).with("ETag", "\"v1\"");
    server.on(
        "/a",
        [cut, part(100_000, 10), part(100_010, total - 100_010)],
    );
    let source = server.url("/a");
    got(Case::one(&content, &source).run().await, &content, &source);
    assert_eq!(server.requests()[2].header("range"), Some("bytes=100010-"));
}
