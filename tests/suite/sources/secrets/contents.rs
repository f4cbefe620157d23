//! What stands in a file that the configuration names is shown nowhere, however wrong the file is; and no message about
//! it is long.

mod scene;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni_keeper::model::Sha256;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use self::scene::{LONGEST, NAMED, Named, Scene, contents};
use super::VIEWS;
use crate::sources::secret;
use crate::support::agent::Agent;
use crate::support::image_parts::{image_of, in_image};
use crate::support::node::{Node, start};
use crate::support::release::{NETWORK, PLUGINS, RELEASE};
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

#[test]
fn fault_58_no_command_shows_what_stands_in_a_wrong_file() {
    let mut faults = Vec::new();
    for (number, content) in contents().into_iter().enumerate() {
        for (index, named) in NAMED.into_iter().enumerate() {
            // The rest of them by turns, since each run takes a moment.
            let is_parsed_by_a_library =
                matches!(named, Named::CaFile | Named::Key | Named::Configuration);
            if !is_parsed_by_a_library && content != "HUSH" && (number + index) % 4 != 0 {
                continue;
            }
            let scene = Scene::new(named, &content);
            let mut command = scene
                .node
                .command("--log-level debug --log-format text install");
            let outcome = start(command.envs(scene.variables())).end();
            let text = outcome.to_string();
            if content == "HUSH" {
                outcome.says(named.word());
            }
            assert_ne!(outcome.code, Some(0), "{named:?} with {content:.40?}");
            faults.extend(scene.faults("install", &content, &text));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a server says is repeated in part only.
#[test]
fn fault_58_what_a_server_says_is_cut() {
    let names: Vec<String> = (0..2000)
        .map(|number| format!("host-{number}.example"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let authority = Authority::new();
    let misnamed = Server::https(authority.server(&names));
    let long = "x".repeat(1 << 20);
    let manifest = format!("{{\"schemaVersion\": \"{long}\"}}");
    let registry = Server::http();
    let digest = Sha256::of(manifest.as_bytes());
    registry.on(
        &format!("/v2/a/b/manifests/sha256:{digest}"),
        [Reply::ok(manifest.as_bytes())],
    );
    let redirecting = Server::http();
    redirecting.on(
        "/p.tgz",
        [Reply::redirect(&format!("ftp://a/{}", &long[..30_000]))],
    );
    let address = registry.address();
    let image = image_of(
        "v1",
        vec![format!("oci://{address}/a/b@sha256:{digest}")],
        &in_image(&PLUGINS),
    );
    for (artifact, word) in [
        (
            RELEASE.artifact(&misnamed.url("/p.tgz")),
            "the certificate is not for 127.0.0.1",
        ),
        (image, "is not the manifest or index of an image"),
        (
            RELEASE.artifact(&redirecting.url("/p.tgz")),
            "neither http nor https",
        ),
    ] {
        let node = Node::empty();
        let ca = secret(&node, "ca.pem", &authority.pem());
        let fetch = format!(
            "fetch: {{attempts: 1, caFile: {ca}, access: [{{prefix: \"oci://{address}/\", plainHttp: true}}]}}\n"
        );
        node.declare(&artifact, &format!("{fetch}{NETWORK}"));
        for format in ["text", "json"] {
            let outcome = node.run(&format!("--log-level debug --log-format {format} install"));
            outcome.exits(2).says(word);
            for line in outcome.to_string().lines() {
                assert!(line.len() <= LONGEST, "{} bytes: {line:.300}", line.len());
            }
        }
    }
}

/// What stands in the place of a file, and reading it never ends, or fills the memory.
#[test]
fn no_special_file_is_read() {
    let places = [
        Named::CaFile,
        Named::SystemAuthorities,
        Named::Headers,
        Named::Certificate,
        Named::Key,
        Named::Registries,
        Named::EnvFile,
        Named::ApiCaFile,
        Named::ApiToken,
        Named::Configuration,
    ];
    for named in places {
        for kind in ["pipe", "device", "directory", "endless", "loop"] {
            let scene = Scene::new(named, "HUSH");
            let path = match named {
                Named::EnvFile => scene.node.path("run/named"),
                Named::Configuration => scene.node.config(),
                _ => scene.node.config().with_file_name("named"),
            };
            fs::remove_file(&path).unwrap();
            match kind {
                "pipe" => mkfifo(&path, Mode::S_IRWXU).unwrap(),
                "device" => symlink(zero(&scene.node, named), &path).unwrap(),
                "directory" => fs::create_dir(&path).unwrap(),
                "endless" => File::create(&path).unwrap().set_len(1 << 40).unwrap(),
                _ => symlink(&path, &path).unwrap(),
            }
            let began = Instant::now();
            let mut command = scene.node.command("install");
            let outcome = start(command.envs(scene.variables())).end();
            let took = began.elapsed();
            let what = format!("{named:?}, {kind}: {took:?}\n{outcome}");
            assert!(took < Duration::from_secs(20), "{what}");
            assert_ne!(outcome.code, Some(0), "{what}");
            let named_in_it = path.file_name().unwrap().to_str().unwrap();
            let errors = outcome.errors().join("\n");
            assert!(
                [named_in_it, "caFile", "zero"]
                    .iter()
                    .any(|word| errors.contains(word)),
                "{what}"
            );
        }
    }
}

/// A device that never ends; below the host root it must be one of that root's own.
fn zero(node: &Node, named: Named) -> PathBuf {
    if named != Named::EnvFile {
        return PathBuf::from("/dev/zero");
    }
    let device = node.path("run/zero");
    let mode = Mode::S_IRWXU;
    if mknod(&device, SFlag::S_IFCHR, mode, makedev(1, 5)).is_err() {
        mkfifo(&device, mode).unwrap();
    }
    PathBuf::from("/run/zero")
}

/// A directory of authorities holds whatever it holds.
#[test]
fn a_directory_of_authorities_is_read_file_by_file() {
    let authority = Authority::new();
    let server = Server::https(authority.server(&["127.0.0.1"]));
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    node.declare(&RELEASE.artifact(&server.url("/p.tgz")), NETWORK);
    let dir = node.config().with_file_name("authorities");
    fs::create_dir_all(dir.join("sub")).unwrap();
    mkfifo(&dir.join("pipe"), Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", dir.join("zero")).unwrap();
    symlink("nowhere", dir.join("0a1b2c3d.0")).unwrap();
    fs::write(dir.join("not.pem"), "HUSH").unwrap();
    fs::write(dir.join("ours.pem"), authority.pem()).unwrap();
    let mut command = node.command("install");
    let dirs = format!("/no-such-directory:{}", dir.display());
    start(command.env("SSL_CERT_DIR", dirs)).end().exits(0);
}

#[test]
fn fault_58_no_view_of_the_agent_shows_what_stands_in_a_wrong_file() {
    let mut faults = Vec::new();
    for (index, content) in contents().into_iter().enumerate() {
        let named = NAMED[index % NAMED.len()];
        let first = match named {
            // No agent starts with a wrong configuration.
            Named::Configuration | Named::ListKey | Named::SignatureKey => Named::Headers,
            other => other,
        };
        let scene = Scene::new(first, &content);
        scene.node.listen_anywhere();
        let mut command = scene.node.command("--log-level debug run");
        let agent = Agent::spawn(command.envs(scene.variables()));
        agent.until("unready", |agent| agent.get("/readyz").status == 503);
        if first != named {
            scene.node.redeclare(&content);
            agent.until("refused", |agent| {
                agent
                    .get("/readyz?verbose")
                    .body
                    .contains("[-]config failed")
            });
        }
        for view in VIEWS {
            faults.extend(scene.faults(view, &content, &agent.get(view).body));
        }
        for line in agent.stop().lines() {
            faults.extend(scene.faults("the log", &content, line));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
