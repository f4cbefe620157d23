//! Secrets stay secret: in output and log, in what the agent serves and stores, and in what other processes can see.

mod contents;
mod registries;

use std::fs;
use std::path::Path;

use rcgen::KeyPair;

use super::{declare, secret};
use crate::support::agent::Agent;
use crate::support::node::{Node, STATE, start};
use crate::support::proxy::ORIGIN;
use crate::support::release::RELEASE;
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

/// Every secret but the key begins like this; the second is what base64 makes of `user:HUSH`.
const MARKS: [&str; 2] = ["HUSH", "dXNlcjpIVVNI"];

const VIEWS: [&str; 10] = [
    "/",
    "/status",
    "/statusz",
    "/flagz",
    "/metrics",
    "/drift",
    "/conflist",
    "/readyz?verbose",
    "/livez",
    "/healthz",
];

/// Servers, and a node that has a secret for each of them.
struct Scene {
    node: Node,
    /// Refuses every tunnel.
    proxy: Server,
    /// Asks for a certificate, and redirects to a signed URL.
    mirror: Server,
    /// A line of the client's key.
    key: String,
}

impl Scene {
    fn new() -> Self {
        let (authority, clients) = (Authority::new(), Authority::new());
        let mirror = Server::https(authority.mutual_server(&["127.0.0.1"], &clients));
        mirror.on("/p.tgz", [Reply::redirect("/signed?sig=HUSH-query")]);
        let proxy = Server::http();
        proxy.on(&format!("{ORIGIN}:443"), [Reply::status(403)]);
        let node = Node::empty();
        let key = KeyPair::generate().unwrap();
        let pem = key.serialize_pem();
        let ca = secret(&node, "ca.pem", &authority.pem());
        let cert = secret(&node, "tls.crt", &clients.client(&key));
        let private = secret(&node, "tls.key", &pem);
        let headers = "Authorization: Bearer HUSH-header\nX-Token: HUSH-token\n";
        let headers = secret(&node, "headers", headers);
        let login = "{\"auths\": {\"registry.example\": {\"auth\": \"dXNlcjpIVVNI\"}}}";
        let login = secret(&node, "config.json", login);
        let fetch = format!(
            "caFile: {ca}\nregistryConfig: {login}\naccess: [{{prefix: \"{}\", headersFile: {headers}, certFile: {cert}, keyFile: {private}}}]",
            mirror.url("/")
        );
        let sources = [
            format!("https://{ORIGIN}/p.tgz?sig=HUSH-source"),
            mirror.url("/p.tgz"),
        ];
        declare(&node, &sources, &fetch);
        Self {
            node,
            proxy,
            mirror,
            key: pem.lines().nth(1).unwrap().to_owned(),
        }
    }

    fn variables(&self) -> [(&str, String); 2] {
        let url = self.proxy.url_as("user:HUSH@127.0.0.1", "");
        [("HTTPS_PROXY", url.clone()), ("http_proxy", url)]
    }

    fn serves(&self, is_there: bool) {
        let reply = match is_there {
            true => Reply::ok(&RELEASE.bytes),
            false => Reply::status(404),
        };
        self.mirror.on("/signed?sig=HUSH-query", [reply]);
    }

    /// Fails if `text` has a secret.
    #[track_caller]
    fn clean(&self, what: &str, text: &str) {
        is_clean(what, text, &[MARKS[0], MARKS[1], &self.key]);
    }

    #[track_caller]
    fn run(&self, arguments: &str, code: i32) {
        let mut command = self.node.command(arguments);
        let outcome = start(command.envs(self.variables())).end();
        outcome.exits(code);
        self.clean(arguments, &outcome.to_string());
    }
}

/// Fails if `text` has one of these secrets.
#[track_caller]
fn is_clean(what: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        let Some(at) = text.find(secret) else {
            continue;
        };
        let line = text[..at].lines().count();
        let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        panic!("{what} shows {secret}: {line}");
    }
}

/// Calls `look` with the path and content of every file below a directory.
fn each_file(directory: &Path, look: &dyn Fn(&str, &str)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => each_file(&path, look),
            false => {
                let content = fs::read(&path).unwrap();
                let shown = path.display().to_string();
                look(&shown, &String::from_utf8_lossy(&content));
            }
        }
    }
}

#[test]
fn no_command_and_no_log_shows_a_secret() {
    let scene = Scene::new();
    scene.run(&format!("validate {}", scene.node.config().display()), 0);
    scene.run("plan", 1);
    for format in ["text", "json"] {
        scene.serves(false);
        let options = format!("--log-level trace --log-format {format}");
        scene.run(&format!("{options} install"), 2);
        scene.run(&format!("{options} plan"), 1);
    }
    scene.serves(true);
    scene.run("--log-level trace --log-format text install", 0);
    assert!(
        scene
            .mirror
            .requests()
            .iter()
            .all(|request| { request.header("authorization") == Some("Bearer HUSH-header") }),
        "they are all in use"
    );
    let proxied = scene.proxy.requests();
    let login = Some("Basic dXNlcjpIVVNI");
    assert!(
        proxied
            .iter()
            .all(|request| request.header("proxy-authorization") == login)
    );
    scene.run("verify", 0);
    scene.run("--log-level trace --log-format json verify", 0);
    each_file(&scene.node.path(STATE), &|what, text| {
        scene.clean(what, text);
    });
}

#[test]
fn the_daemon_shows_no_secret() {
    let scene = Scene::new();
    scene.serves(false);
    scene.node.listen_anywhere();
    let mut command = scene.node.command("--log-level trace run");
    let agent = Agent::spawn(command.envs(scene.variables()));
    let look = |agent: &Agent| {
        for path in VIEWS {
            scene.clean(path, &agent.get(path).body);
        }
        for file in ["cmdline", "comm"] {
            let path = format!("/proc/{}/{file}", agent.id());
            scene.clean(&path, &fs::read_to_string(&path).unwrap());
        }
        let address = agent.address();
        scene.run(
            &format!("status --address {address}"),
            i32::from(!agent.is_ready()),
        );
    };
    agent.becomes_unready("404");
    look(&agent);
    scene.serves(true);
    agent.becomes_ready();
    look(&agent);
    let log = agent.stop();
    scene.clean("the log", &log);
    each_file(&scene.node.path(STATE), &|what, text| {
        scene.clean(what, text);
    });
}
