//! Each way in which a source fails has its own reason, and every view shows it: the line of `install`, `/readyz`,
//! `/status` and the metrics.

use std::fmt::Write as _;

use super::secret;
use crate::support::agent::Agent;
use crate::support::image_parts::{ImageParts, digest, layer_of};
use crate::support::node::{Node, start};
use crate::support::registry::REPOSITORY;
use crate::support::release::{NETWORK, Release, pin, plugin, unreachable_url};
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

/// A source, the reason of its failure, and a part of the message.
type Case = (String, &'static str, String);

/// Servers that fail, each in its own way, and a node that is to get something from all of them.
struct FailingSources {
    node: Node,
    proxy: String,
    cases: Vec<Case>,
    _servers: Vec<Server>,
}

impl FailingSources {
    fn new() -> Self {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let here: &[&str] = &["127.0.0.1"];
        let unknown = Server::https(stranger.server(here));
        let expired = Server::https(authority.expired_server(here));
        let misnamed = Server::https(authority.server(&["other.example"]));
        let authoritative = Server::https(authority.server_as_authority(here));
        let of_client = Server::https(authority.server_for_clients(here));
        let plain = Server::http();
        plain.on("/asks", [Reply::status(401)]);
        plain.on("/other.tgz", [Reply::ok(b"something else")]);
        let proxy = Server::http();
        proxy.on("refused.example:443", [Reply::status(403)]);
        let asking = Reply::status(407).with("Proxy-Authenticate", "Basic realm=\"proxy\"");
        proxy.on("asking.example:443", [asking]);
        let asks = format!("the proxy {} asks for a user", proxy.url(""));
        let sources: [(String, &str, &str); 12] = [
            (
                "http://no-such-host.invalid/p.tgz".to_owned(),
                "dns",
                "the name no-such-host.invalid does not resolve",
            ),
            (unreachable_url(), "connect", "no connection to 127.0.0.1"),
            (unknown.url("/p.tgz"), "tls-unknown-ca", "fetch.caFile"),
            (expired.url("/p.tgz"), "tls-expired", "expired"),
            (misnamed.url("/p.tgz"), "tls-name", "127.0.0.1"),
            (authoritative.url("/p.tgz"), "tls", "CA:FALSE"),
            (of_client.url("/p.tgz"), "tls", "serverAuth"),
            (
                "https://refused.example/p.tgz".to_owned(),
                "proxy",
                "it does not answer CONNECT with HTTP 200",
            ),
            (
                "https://asking.example/p.tgz".to_owned(),
                "proxy-auth",
                &asks,
            ),
            (plain.url("/none.tgz"), "http-status", "it answers HTTP 404"),
            (plain.url("/asks"), "auth", "it answers HTTP 401"),
            (
                plain.url("/other.tgz"),
                "digest",
                "its 14 bytes are not the pinned ones",
            ),
        ];
        let cases: Vec<Case> = sources
            .map(|(source, reason, expected)| (source, reason, expected.to_owned()))
            .into();
        let node = Node::empty();
        let ca = secret(&node, "ca.pem", &authority.pem());
        let mut bad = Release::new(&["host-local"], plugin);
        let middle = bad.bytes.len() / 2;
        bad.bytes[middle] ^= 0xff;
        plain.on("/bad.tgz", [Reply::ok(&bad.bytes)]);
        let mut parts = ImageParts::default();
        let layer = parts.layer("", layer_of(&["ptp"], plugin).bytes());
        let empty = parts.manifest(&[layer]);
        let nobodys = parts.index(&[]);
        parts.serve(&plain);
        let address = plain.address();

        let mut text = "artifacts:\n".to_owned();
        let urls: Vec<&String> = cases.iter().map(|(source, ..)| source).collect();
        let image = |of| format!("[\"oci://{address}/{REPOSITORY}@{}\"]", digest(of));
        let wanted = format!("format: tar.gz\n    {}", pin(b"the right thing"));
        for (name, sources, more) in [
            ("bridge", format!("{urls:?}"), wanted),
            (
                "host-local",
                format!("[{:?}]", plain.url("/bad.tgz")),
                pin(&bad.bytes),
            ),
            ("loopback", image(&empty), String::new()),
            ("portmap", image(&nobodys), String::new()),
        ] {
            write!(
                text,
                "  - name: {name}\n    version: v1\n    sources: {sources}\n    plugins: [{name}]\n    {more}\n"
            )
            .unwrap();
        }
        let fetch = format!(
            "fetch: {{attempts: 1, caFile: {ca}, access: [{{prefix: \"oci://{address}\", plainHttp: true}}]}}\n"
        );
        node.declare_text(&format!("{text}{fetch}{NETWORK}"));
        Self {
            node,
            proxy: proxy.url(""),
            cases,
            _servers: vec![
                unknown,
                expired,
                misnamed,
                authoritative,
                of_client,
                plain,
                proxy,
            ],
        }
    }

    fn variables(&self) -> [(&str, &str); 2] {
        [
            ("HTTPS_PROXY", &self.proxy),
            ("NO_PROXY", "127.0.0.1,.invalid"),
        ]
    }
}

/// What is wrong with the three artifacts that came whole: a reason in the metrics, and a part of the line.
const WHOLE: [(&str, &str, &str); 3] = [
    ("host-local", "archive", "the archive cannot be read"),
    ("loopback", "member-missing", "has no 'loopback'"),
    ("portmap", "image", "has no image for linux/"),
];

#[test]
fn every_view_tells_the_reasons_apart() {
    let failing = FailingSources::new();
    let mut command = failing.node.command("install");
    let outcome = start(command.envs(failing.variables())).end();
    outcome.exits(2);
    let lines = outcome.errors();
    let line = |artifact: &str| {
        let of = |line: &&&str| line.contains(artifact);
        *lines.iter().find(of).unwrap_or_else(|| panic!("{outcome}"))
    };
    for (source, _, expected) in &failing.cases {
        let line = line("cannot fetch bridge");
        let part = line.split(" | ").find(|part| part.contains(&**source));
        let part = part.unwrap_or_else(|| panic!("{source} is not in: {line}"));
        assert!(part.contains(expected), "{expected} is not in: {part}");
    }
    for (artifact, _, expected) in WHOLE {
        assert!(
            line(&format!("{artifact}: ")).contains(expected),
            "{outcome}"
        );
    }

    failing.node.listen_anywhere();
    let mut command = failing.node.command("run");
    let agent = Agent::spawn(command.envs(failing.variables()));
    agent.until("four downloads tried", |agent| {
        let downloads = &agent.json("/status")["downloads"];
        downloads.as_array().is_some_and(|all| all.len() == 4)
    });
    let ready = agent.get("/readyz?verbose").body;
    let status = agent.json("/status");
    let downloads = status["downloads"].as_array().unwrap();
    let download = |name: &str| {
        let of = |it: &&serde_json::Value| it["artifact"] == name;
        downloads.iter().find(of).unwrap()
    };
    let failures = download("bridge")["failures"].as_array().unwrap();
    assert_eq!(failures.len(), failing.cases.len());
    for ((source, reason, expected), failure) in failing.cases.iter().zip(failures) {
        assert_eq!(
            (&failure["source"], &failure["reason"]),
            (&(**source).into(), &(*reason).into())
        );
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
        assert!(ready.contains(expected), "{expected} is not in: {ready}");
        let metric =
            format!("cni_keeper_source_failures_total{{source=\"{source}\",reason=\"{reason}\"}}");
        assert!(agent.metric(&metric) >= 1.0, "{metric}");
    }
    for (artifact, reason, expected) in WHOLE {
        let error = download(artifact)["error"].as_str().unwrap();
        assert!(error.contains(expected), "{error}");
        assert!(ready.contains(expected), "{expected} is not in: {ready}");
        let metric = format!("cni_keeper_downloads_total{{result=\"failed\",reason=\"{reason}\"}}");
        assert!(agent.metric(&metric) >= 1.0, "{metric}");
    }
}
