//! Servers that only claim to be a registry, or a token server.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cni_keeper::model::Sha256;
use serde_json::json;

use super::{Config, WithConfig, by, reason};
use crate::fetch::{Case, content};
use crate::sources::secret;
use crate::support::node::Node;
use crate::support::release::{NETWORK, RELEASE};
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;
use crate::support::tokens::{PASSWORD, USER};

/// Where the layer of these tests is.
const BLOB: &str = "/v2/team/cni/blobs/sha256:1";
const MANIFEST: &str = "/v2/team/cni/manifests/sha256:1";
/// What a token server of these tests is asked for.
const TOKEN: &str = "/token?scope=repository%3Ateam%2Fcni%3Apull";

fn asks(challenge: &str) -> Reply {
    Reply::status(401).with("WWW-Authenticate", challenge)
}

/// A registry that asks for a token from `/token` of its own.
fn guarded(server: &Server, path: &str, then: impl IntoIterator<Item = Reply>) {
    let realm = format!("Bearer realm=\"{}\"", server.url("/token"));
    server.on(path, std::iter::once(asks(&realm)).chain(then));
}

fn case(server: &Server) -> Case {
    Case::one(b"layer", &server.url(BLOB)).attempts(5)
}

/// Faults 39, 41 and 46 at a token server: too much, no end, something else. None of it is requested twice.
#[tokio::test]
async fn fault_46_an_invalid_token_answer_is_reported_and_starts_no_storm() {
    let much = vec![b' '; 100 << 20];
    for (reply, message) in [
        (Reply::ok(&much), "larger than any token"),
        (
            Reply::chunked_without_end(&much[..1 << 20]),
            "larger than any token",
        ),
        (Reply::ok(b"<html>log in</html>"), "not the JSON"),
        (Reply::ok(b"{\"token\": \"a\\nb\"}"), "no header can carry"),
        (Reply::ok(b"{}"), "none in the answer"),
    ] {
        let server = Server::http();
        guarded(&server, BLOB, []);
        server.on(TOKEN, [reply]);
        let (kind, text) = reason(&case(&server)).await;
        assert_eq!(kind, "auth", "{text}");
        assert!(text.contains(message), "{text}");
        assert!(text.contains(&by(server.address())), "{text}");
        assert_eq!(
            (server.count(BLOB), server.count(TOKEN)),
            (1, 1),
            "{message}"
        );
    }
}

/// Faults 37, 38, 44 and 45 at a token server: its failures have reasons of their own, which name it.
#[tokio::test]
async fn fault_38_a_failing_token_server_is_reported_like_any_server() {
    let closed = Server::http();
    let gone = closed.url("/token");
    drop(closed);
    let server = Server::http();
    for (realm, kind, attempts) in [
        ("http://no-such-host.invalid/token".to_owned(), "dns", 2),
        (server.url("/silent"), "timeout", 2),
        (server.url("/busy"), "http-status", 2),
        (server.url("/missing"), "http-status", 1),
        (server.url("/loop"), "redirect", 1),
        (server.url("/away"), "redirect", 1),
        (gone, "connect", 2),
    ] {
        let query = "scope=repository%3Ateam%2Fcni%3Apull";
        server.on(BLOB, [asks(&format!("Bearer realm=\"{realm}\""))]);
        server.on(&format!("/silent?{query}"), [Reply::silent()]);
        let busy = Reply::status(503).with("Retry-After", "0");
        server.on(&format!("/busy?{query}"), [busy]);
        let round = Reply::redirect(&format!("/loop?{query}"));
        server.on(&format!("/loop?{query}"), [round]);
        server.on(
            &format!("/away?{query}"),
            [Reply::redirect("file:///etc/passwd")],
        );
        let mut case = case(&server).attempts(2);
        case.settings.connect_timeout = Duration::from_millis(500);
        case.settings.read_timeout = Duration::from_millis(200);
        let tried = case.fails_once().await;
        let text = tried.reason.to_string();
        assert_eq!(
            (tried.reason.kind().as_str(), tried.attempts),
            (kind, attempts),
            "{text}"
        );
        assert!(text.starts_with("its token server "), "{text}");
    }
}

#[tokio::test]
async fn an_invalid_challenge_is_reported() {
    let bomb = format!("Bearer {}realm=\"http://127.0.0.1/\"", "a=b,".repeat(4_000));
    for garbage in [
        "",
        "Negotiate",
        "Bearer realm=\"\"",
        "Bearer realm=\"x",
        &bomb,
    ] {
        let server = Server::http();
        server.on(BLOB, [asks(garbage)]);
        let (kind, text) = reason(&case(&server)).await;
        assert_eq!(kind, "auth", "{text}");
        assert!(text.contains("does not say how to log in"), "{text}");
        assert_eq!(server.requests().len(), 1);
    }
}

/// A registry that always answers 401 gets the credentials once.
#[tokio::test]
async fn a_401_for_ever_starts_no_storm() {
    let server = Server::http();
    let config = Config::password(&by(server.address()), PASSWORD);
    server.on(BLOB, [asks("Basic realm=\"a, b\"")]);
    let (kind, text) = reason(&case(&server).with(&config)).await;
    assert_eq!(kind, "auth", "{text}");
    let sent: Vec<bool> = server
        .requests()
        .iter()
        .map(|r| r.header("authorization").is_some())
        .collect();
    assert_eq!(sent, [false, true]);

    let server = Server::http();
    guarded(&server, BLOB, []);
    server.on(TOKEN, [Reply::ok(b"{\"token\": \"t\"}")]);
    let (_, text) = reason(&case(&server)).await;
    assert!(text.contains("name a docker config.json"), "{text}");
    assert_eq!((server.count(BLOB), server.count(TOKEN)), (2, 1));
}

/// Credentials are sent only to the server that asked for them.
#[tokio::test]
async fn a_redirect_to_storage_takes_no_credentials_along() {
    let storage = Server::http();
    storage.on(
        "/layer?X-Signature=hidden",
        [Reply::ok(b"layer"), Reply::status(403)],
    );
    let server = Server::http();
    let config = Config::password(&by(server.address()), PASSWORD);
    let away = Reply::redirect(&storage.url("/layer?X-Signature=hidden"));
    server.on(BLOB, [asks("Basic realm=\"a\""), away]);
    let (_, receipt) = case(&server).with(&config).run().await.unwrap();
    assert_eq!(receipt.source, server.url(BLOB));
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    assert_eq!(
        server.requests()[1].header("authorization"),
        Some(basic.as_str())
    );
    let error = case(&server).with(&config).run().await.err().unwrap();
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("hidden"), "{text}");
    }
    assert_eq!(storage.requests().len(), 2);
    for request in storage.requests() {
        assert_eq!(request.header("authorization"), None);
    }
}

/// No secret is sent without TLS. `localhost` is a name, and could resolve to any host.
#[tokio::test]
async fn credentials_are_not_sent_in_the_clear() {
    let server = Server::http();
    let source = server.url_as("localhost", BLOB);
    let config = Config::password(&format!("localhost:{}", server.address().port()), PASSWORD);
    let plain = || Case::one(b"layer", &source).with(&config).attempts(5);
    server.on(BLOB, [asks("Basic realm=\"a\"")]);
    let (kind, text) = reason(&plain()).await;
    assert_eq!(kind, "auth");
    assert!(text.contains("over plain http"), "{text}");
    let realm = server.url_as("localhost", "/token");
    server.on(BLOB, [asks(&format!("Bearer realm=\"{realm}\""))]);
    let (_, text) = reason(&plain()).await;
    assert!(text.contains("over plain http"), "{text}");
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .all(|r| r.path == BLOB && r.header("authorization").is_none())
    );

    // A registry with TLS may not name a token server without TLS.
    let authority = Authority::new();
    let secure = Server::https(authority.server(&["127.0.0.1"]));
    let down = server.url("/token?secret=hidden");
    secure.on(BLOB, [asks(&format!("Bearer realm=\"{down}\""))]);
    let (kind, text) = reason(&case(&secure).trusting(&authority)).await;
    assert_eq!(kind, "auth");
    assert!(
        text.contains("not https") && !text.contains("hidden"),
        "{text}"
    );
    assert_eq!(server.requests().len(), requests.len());
}

/// What `fetch.access` has for the whole host goes to its token server too, and gives way to the password: of two
/// headers of one name each server would take another.
#[test]
fn a_token_server_gets_the_credentials_once() {
    let server = Server::http();
    let key = by(server.address());
    let digest = format!("sha256:{}", "1".repeat(64));
    let realm = format!("Bearer realm=\"{}\"", server.url("/token"));
    server.on(&format!("/v2/team/cni/manifests/{digest}"), [asks(&realm)]);
    server.otherwise(|_| Reply::ok(b"{\"token\": \"t\"}"));
    let config = Config::password(&key, PASSWORD);
    let node = Node::empty();
    let headers = secret(&node, "headers", "Authorization: Bearer static\n");
    let mut artifact = RELEASE.artifact(&format!("oci://{key}/team/cni@{digest}"));
    artifact.pin = String::new();
    let fetch = format!(
        "fetch:\n  attempts: 1\n  registryConfig: {}\n  access: [{{prefix: \"oci://{key}\", plainHttp: true, headersFile: {headers}}}]\n{NETWORK}",
        config.path().display()
    );
    node.declare(&artifact, &fetch);
    node.run("install").exits(2);
    let requests = server.requests();
    let asked = requests.iter().find(|it| it.path.starts_with("/token"));
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    assert_eq!(asked.unwrap().header("authorization"), Some(&*basic));
}

/// An attacker between us and a registry without TLS can put any challenge into its answer. The attacker learns neither
/// the credentials for a token server nor those for the registry.
#[tokio::test]
async fn a_registry_without_tls_sends_nobody_for_our_credentials() {
    let authority = Authority::new();
    let thief = Server::https(authority.server(&["127.0.0.1"]));
    thief.otherwise(|_| Reply::ok(b"{\"token\": \"t\"}"));
    let server = Server::http();
    let key = format!("localhost:{}", server.address().port());
    let ready = Config::new();
    let entry = json!({"auths": {&key: {"registrytoken": PASSWORD}}});
    ready.write(&entry.to_string());
    let realm = format!("Bearer realm=\"{}\"", thief.url("/token"));
    server.on(BLOB, [asks(&realm)]);
    for config in [
        Config::password(&key, PASSWORD),
        Config::identity(&key),
        ready,
    ] {
        let source = server.url_as("localhost", BLOB);
        let plain = Case::one(b"layer", &source).trusting(&authority);
        let (kind, text) = reason(&plain.with(&config)).await;
        assert_eq!(kind, "auth", "{text}");
        assert!(text.contains("over plain http"), "{text}");
    }
    assert!(thief.requests().is_empty(), "{:?}", thief.requests());
    let mut requests = server.requests().into_iter();
    assert!(requests.all(|request| request.header("authorization").is_none()));
}

/// Faults 40, 41, 45 and 48 with manifests and layers: the digest decides, whatever the registry's headers say.
#[tokio::test]
async fn fault_48_the_bytes_decide_whatever_a_header_says() {
    let content = content();
    let mut other = content.clone();
    other[7] ^= 1;
    let digest = format!("sha256:{}", Sha256::of(&content));
    let lie = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let label = "Docker-Content-Digest";
    for path in [MANIFEST, BLOB] {
        let server = Server::http();
        let case = || Case::one(&content, &server.url(path)).attempts(2);
        server.on(path, [Reply::ok(&content).with(label, lie)]);
        assert!(case().run().await.is_ok());
        server.on(path, [Reply::ok(&other).with(label, &digest)]);
        assert_eq!(reason(&case()).await.0, "digest");
        for (reply, kind) in [
            (Reply::cut_after(&content, 1000), "truncated"),
            (Reply::ok(&content[..1000]), "digest"),
            (
                Reply::ok(&content).with("Content-Length", "3000001"),
                "truncated",
            ),
            (
                Reply::ok(&content).with("Content-Length", "2999999"),
                "digest",
            ),
            (Reply::chunked_without_end(&content), "truncated"),
            (Reply::ok(b"<html>log in</html>"), "digest"),
        ] {
            server.on(path, [reply]);
            assert_eq!(case().fails_once().await.reason.kind().as_str(), kind);
        }
        let busy = Reply::status(429).with("Retry-After", "0");
        server.on(path, [busy, Reply::ok(&content)]);
        assert!(case().run().await.is_ok());
        let accepted = server
            .requests()
            .remove(0)
            .header("accept")
            .map(str::to_owned);
        assert_eq!(
            accepted.is_some_and(|a| a.contains("oci.image.index")),
            path == MANIFEST
        );
    }
}
