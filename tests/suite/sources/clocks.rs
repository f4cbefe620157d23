//! Fault 39: every limit on time is one of elapsed time, whatever comes meanwhile. A server that sends something all the
//! time must not keep a node longer than one that is silent.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::image_parts::{ImageParts, digest, image_of, in_image};
use crate::support::node::Node;
use crate::support::registry::REPOSITORY;
use crate::support::release::{NETWORK, PLUGINS, RELEASE, plugin};
use crate::support::server::{Reply, Server};

/// The limits of these tests.
const LIMITS: &str =
    "connectTimeout: 1s, readTimeout: 1s, totalTimeout: 1s, minRate: 1, attempts: 1";

/// One attempt and its resumes take four seconds; the rest is for a slow machine.
const LONGEST: Duration = Duration::from_secs(20);

/// What the message says: a limit on time, or on what is small by its nature.
const ENDS: [&str; 5] = [
    "(1 s)",
    "the most that is taken",
    "larger than any",
    "proper HTTP",
    "a manifest has",
];

/// What the hostile server gives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Given {
    Artifact,
    ArtifactBehindRedirects,
    Checksum,
    List,
    ListSignature,
    Signature,
    Manifest,
    Layer,
    Token,
    TokenBehindRedirects,
}

const GIVEN: [Given; 10] = [
    Given::Artifact,
    Given::ArtifactBehindRedirects,
    Given::Checksum,
    Given::List,
    Given::ListSignature,
    Given::Signature,
    Given::Manifest,
    Given::Layer,
    Given::Token,
    Given::TokenBehindRedirects,
];

/// Ways to keep a client for ever.
fn manners() -> [(&'static str, Reply); 5] {
    let content = vec![b'x'; 1 << 20];
    [
        ("one-byte chunks", Reply::trickle()),
        (
            "one-byte chunks that can be resumed",
            Reply::trickle().with("ETag", "\"1\""),
        ),
        ("a head without end", Reply::trickling_head()),
        ("interim answers", Reply::interim_answers()),
        ("a drip", Reply::drip(&content, Duration::from_millis(2))),
    ]
}

/// A node that asks `server` for this, where `/slow` never ends.
fn node_for(given: Given, server: &Server, slow: &Reply) -> Node {
    let node = Node::empty();
    let url = |path: &str| server.url(path);
    let mut artifact = RELEASE.artifact(&url("/p.tgz"));
    let mut trust = String::new();
    server.on("/slow.tgz", [slow.clone()]);
    for (from, to) in [("/1.tgz", "/2"), ("/2", "/3"), ("/3", "/slow.tgz")] {
        server.on(from, [Reply::redirect(to)]);
    }
    let slow_url = url("/slow.tgz");
    match given {
        Given::Artifact => artifact.sources = vec![slow_url],
        Given::ArtifactBehindRedirects => artifact.sources = vec![url("/1.tgz")],
        Given::Checksum => artifact.pin = format!("checksumUrl: {slow_url}"),
        Given::List | Given::ListSignature => {
            artifact.pin = String::new();
            let list = match given {
                Given::List => slow_url,
                _ => url("/list"),
            };
            server.on("/list", [Reply::ok(b"")]);
            server.on("/list.minisig", [slow.clone()]);
            let key = "RWRE04opxnJydroYAtHyxBfvAYHbAspattvwHiAiqQvrYWgxkGIC5QOq";
            trust = format!("trust: {{pinList: {{sources: [\"{list}\"], publicKey: {key}}}}}\n");
        }
        Given::Signature => {
            let key = "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoZbHNyB1nf5eSD+WJyVDdY50W8VM\\nPfTDg+tVdKbQ/qU0dtpa2WuiPk5FUQuupgL5rCTeR4VcupdqtjAddQQQ0Q==\\n-----END PUBLIC KEY-----\\n";
            artifact.more = format!("signature: {{url: \"{slow_url}\", publicKey: \"{key}\"}}");
        }
        Given::Manifest | Given::Layer | Given::Token | Given::TokenBehindRedirects => {
            let mut parts = ImageParts::default();
            let image = parts.image(plugin);
            let digest = digest(&image);
            for (path, content) in parts.paths() {
                let reply = match given {
                    Given::Manifest => slow.clone(),
                    Given::Layer if path.contains("/blobs/") => slow.clone(),
                    Given::Layer => Reply::ok(&content),
                    _ => {
                        let path = if given == Given::Token {
                            "/slow.tgz"
                        } else {
                            "/1.tgz"
                        };
                        let realm = format!("Bearer realm=\"{}\"", url(path));
                        Reply::status(401).with("WWW-Authenticate", &realm)
                    }
                };
                server.on(&path, [reply]);
            }
            // What a token server is asked for is a part of its address.
            let slow = slow.clone();
            let first = url("/2");
            server.otherwise(move |request| match request.path.starts_with("/1.tgz?") {
                true => Reply::redirect(&first),
                false => slow.clone(),
            });
            let address = server.address();
            let source = format!("oci://{address}/{REPOSITORY}@{digest}");
            artifact = image_of("v1", vec![source], &in_image(&PLUGINS));
        }
    }
    let plain = format!(
        "[{{prefix: \"oci://{}/\", plainHttp: true}}]",
        server.address()
    );
    let fetch = format!("fetch: {{{LIMITS}, access: {plain}}}\n");
    node.declare(&artifact, &format!("{fetch}{trust}{NETWORK}"));
    node
}

#[test]
fn fault_39_a_server_that_never_stops_is_left_in_time() {
    for (manner, slow) in manners() {
        thread::scope(|scope| {
            for given in GIVEN {
                let slow = &slow;
                scope.spawn(move || {
                    let server = Server::http();
                    let node = node_for(given, &server, slow);
                    let began = Instant::now();
                    let outcome = node.run("install");
                    let took = began.elapsed();
                    let text = outcome.to_string();
                    let is_told = ENDS.iter().any(|end| text.contains(end));
                    assert!(
                        took < LONGEST && is_told && outcome.code == Some(2),
                        "{given:?}, {manner}: {took:?}\n{outcome}"
                    );
                });
            }
        });
    }
}
