//! The secrets of registries: passwords, identity tokens, the tokens made from them, and the signed URLs of the
//! storage.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{MARKS, VIEWS, each_file, is_clean};
use crate::sources::secret;
use crate::support::agent::Agent;
use crate::support::image_parts::{ImageParts, digest, image_of, in_image};
use crate::support::node::{Node, Outcome, STATE};
use crate::support::registry::REPOSITORY;
use crate::support::release::{NETWORK, PLUGINS, plugin};
use crate::support::server::{Reply, Request, Server};
use crate::support::tls::Authority;

const BEARER: &str = "Bearer HUSH-bearer";

/// The last server that is reached on the way to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The token server refuses.
    NoToken,
    /// The registry does not take the token.
    NotTaken,
    /// The storage refuses its signed URL.
    NoStorage,
    /// The layer.
    Open,
}

/// A registry that asks for tokens and redirects to signed URLs of its storage, and a node with the credentials.
struct Vault {
    node: Node,
    registry: Server,
    storage: Server,
    stage: Arc<AtomicUsize>,
}

impl Vault {
    /// `login` is the entry of the registry in `config.json`.
    fn new(login: &str) -> Self {
        let authority = Authority::new();
        let [registry, storage] = [(); 2].map(|()| Server::https(authority.server(&["127.0.0.1"])));
        let stage = Arc::new(AtomicUsize::new(0));
        let mut parts = ImageParts::default();
        let image = parts.image(plugin);
        let contents: HashMap<String, Vec<u8>> = parts.paths().collect();
        let (at, here, there) = (Arc::clone(&stage), registry.url(""), storage.url(""));
        let theirs = contents.clone();
        registry.otherwise(move |request| {
            let stage = STAGES[at.load(Ordering::SeqCst)];
            answer(request, stage, [&here, &there], &theirs)
        });
        let at = Arc::clone(&stage);
        storage.otherwise(move |request| {
            stored(request, STAGES[at.load(Ordering::SeqCst)], &contents)
        });

        let node = Node::empty();
        let ca = secret(&node, "ca.pem", &authority.pem());
        let address = registry.address();
        let login = format!("{{\"auths\": {{\"{address}\": {login}}}}}");
        let login = secret(&node, "config.json", &login);
        let artifact = image_of(
            "v1",
            vec![format!("oci://{address}/{REPOSITORY}@{}", digest(&image))],
            &in_image(&PLUGINS),
        );
        let fetch = format!("fetch: {{attempts: 1, caFile: {ca}, registryConfig: {login}}}\n");
        node.declare(&artifact, &format!("{fetch}{NETWORK}"));
        Self {
            node,
            registry,
            storage,
            stage,
        }
    }

    fn opens_up_to(&self, stage: Stage) {
        let stage = STAGES.iter().position(|it| *it == stage).unwrap();
        self.stage.store(stage, Ordering::SeqCst);
    }

    fn bundle(&self) -> PathBuf {
        self.node.config().with_file_name("bundle")
    }

    #[track_caller]
    fn run(&self, arguments: &str, code: i32) -> Outcome {
        let outcome = self.node.run(arguments);
        outcome.exits(code);
        clean(arguments, &outcome.to_string());
        outcome
    }
}

const STAGES: [Stage; 4] = [
    Stage::NoToken,
    Stage::NotTaken,
    Stage::NoStorage,
    Stage::Open,
];

/// The logins of this test, and whether the token server is asked with them.
const LOGINS: [(&str, bool); 3] = [
    ("{\"auth\": \"dXNlcjpIVVNI\"}", true),
    ("{\"identitytoken\": \"HUSH-identity\"}", true),
    ("{\"registrytoken\": \"HUSH-bearer\"}", false),
];

fn answer(
    request: &Request,
    stage: Stage,
    [here, storage]: [&str; 2],
    contents: &HashMap<String, Vec<u8>>,
) -> Reply {
    let path = request.path.split('?').next().unwrap();
    if path == "/token" {
        let form = String::from_utf8_lossy(&request.body);
        let known = request.header("authorization") == Some("Basic dXNlcjpIVVNI")
            || form.contains("refresh_token=HUSH-identity");
        // Some repeat in their answers what they were asked.
        let reported = format!("{{\"token\": \"HUSH-bearer\", \"asked\": \"{form}\"}}");
        return match known && stage > Stage::NoToken {
            true => Reply::ok(reported.as_bytes()),
            false => Reply::ok(reported.as_bytes()).with_status(401),
        };
    }
    if request.header("authorization") != Some(BEARER) || stage == Stage::NotTaken {
        let challenge = format!("Bearer realm=\"{here}/token\",service=\"HUSH-service\"");
        return Reply::status(401).with("WWW-Authenticate", &challenge);
    }
    match path.contains("/blobs/") {
        true => Reply::redirect(&format!("{storage}{path}?sig=HUSH-query")),
        false => Reply::ok(&contents[path]),
    }
}

fn stored(request: &Request, stage: Stage, contents: &HashMap<String, Vec<u8>>) -> Reply {
    assert_eq!(request.header("authorization"), None);
    let path = request.path.strip_suffix("?sig=HUSH-query").unwrap();
    match stage {
        Stage::Open => Reply::ok(&contents[path]),
        _ => Reply::ok(b"<Error>sig=HUSH-query</Error>").with_status(403),
    }
}

#[track_caller]
fn clean(what: &str, text: &str) {
    is_clean(what, text, &MARKS);
}

#[test]
fn no_command_shows_what_opens_a_registry() {
    for (login, asks) in LOGINS {
        let vault = Vault::new(login);
        vault.run("plan", 1);
        for (stage, message) in [
            (Stage::NoToken, "refuses what fetch.registryConfig holds"),
            (Stage::NotTaken, "refuses what fetch.registryConfig holds"),
            (Stage::NoStorage, "HTTP 403"),
        ] {
            if stage == Stage::NoToken && !asks {
                continue;
            }
            vault.opens_up_to(stage);
            for format in ["text", "json"] {
                let options = format!("--log-level trace --log-format {format}");
                vault.run(&format!("{options} install"), 2).says(message);
                let bundle = vault.bundle();
                let bundle = format!("{options} bundle -o {}", bundle.display());
                vault.run(&bundle, 2).says(message);
            }
        }
        vault.opens_up_to(Stage::Open);
        let bundle = vault.bundle();
        let gather = format!("--log-level trace bundle -o {}", bundle.display());
        vault.run(&gather, 0);
        vault.run("--log-level trace install --output json", 0);
        vault.run("verify", 0);
        assert!(!vault.storage.requests().is_empty());
        let mut asked = vault.registry.requests().into_iter();
        assert_eq!(asked.any(|it| it.path.starts_with("/token")), asks);
        each_file(&vault.node.path(STATE), &clean);
        each_file(&bundle, &clean);
    }
}

#[test]
fn no_agent_shows_what_opens_a_registry() {
    for (login, asks) in LOGINS {
        let vault = Vault::new(login);
        vault.node.listen_anywhere();
        if !asks {
            vault.opens_up_to(Stage::NotTaken);
        }
        let agent = Agent::spawn(&mut vault.node.command("--log-level trace run"));
        let look = || {
            for path in VIEWS {
                clean(path, &agent.get(path).body);
            }
            for file in ["cmdline", "comm", "environ"] {
                let path = format!("/proc/{}/{file}", agent.id());
                clean(&path, &fs::read_to_string(&path).unwrap());
            }
            let ready = i32::from(!agent.is_ready());
            vault.run(&format!("status --address {}", agent.address()), ready);
        };
        agent.becomes_unready("refuses what fetch.registryConfig holds");
        look();
        vault.opens_up_to(Stage::Open);
        agent.becomes_ready();
        look();
        clean("the log", &agent.stop());
        each_file(&vault.node.path(STATE), &clean);
    }
}
