//! A server on the internet may send the agent nowhere inside: in a network namespace with public, private and link-local
//! addresses.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::namespace::{bind, in_private_network};
use crate::support::node::Node;
use crate::support::release::{NETWORK, RELEASE};
use crate::support::server::{Reply, Server};

const PUBLIC: [&str; 2] = ["203.0.113.1", "203.0.113.2"];
const PRIVATE: [&str; 2] = ["10.9.8.7", "10.9.8.8"];
const LINK_LOCAL: &str = "169.254.169.254";
/// Names for a public and a private address.
const NAMES: &str = "127.0.0.1 localhost\n203.0.113.1 public.test\n10.9.8.7 inside.test\n";
/// A path by which a registry is known.
const BLOB: &str = "/v2/team/cni/blobs/sha256:1";
const REFUSED: &str = "a public server sends to http://";

fn make_addresses(scratch: &Path) {
    let addresses = PUBLIC.iter().chain(&PRIVATE).chain([&LINK_LOCAL]);
    let mut commands = vec!["link set lo up".to_owned()];
    commands.extend(addresses.map(|address| format!("addr add {address}/32 dev lo")));
    for command in commands {
        let done = Command::new("ip").args(command.split(' ')).status();
        assert!(done.expect("ip(8) runs").success(), "{command}");
    }
    let hosts = scratch.join("hosts");
    fs::write(&hosts, NAMES).unwrap();
    bind(&hosts, Path::new("/etc/hosts"));
}

/// A node whose source is that URL, with these further keys of `fetch`.
fn node_with_source(url: &str, fetch: &str) -> Node {
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(url);
    artifact.more = "format: tar.gz".to_owned();
    node.declare(
        &artifact,
        &format!("fetch: {{attempts: 1, {fetch}}}\n{NETWORK}"),
    );
    node
}

#[test]
fn a_redirect_from_outside_does_not_lead_inside() {
    in_private_network(&a_redirect_from_outside_does_not_lead_inside, |scratch| {
        make_addresses(scratch);
        let server = Server::http_everywhere();
        server.on("/to", [Reply::ok(&RELEASE.bytes)]);
        let mut followed = 0;
        for (from, to, is_followed) in [
            (PUBLIC[0], PUBLIC[1], true),
            (PUBLIC[0], "public.test", true),
            ("public.test", PUBLIC[1], true),
            (PUBLIC[0], PRIVATE[0], false),
            (PUBLIC[0], "inside.test", false),
            (PUBLIC[0], LINK_LOCAL, false),
            (PUBLIC[0], "127.0.0.1", false),
            (PUBLIC[0], "[::ffff:10.9.8.7]", false),
            ("public.test", PRIVATE[0], false),
            (PRIVATE[0], PRIVATE[1], true),
            (PRIVATE[0], "inside.test", true),
            (PRIVATE[0], PUBLIC[0], true),
        ] {
            server.on("/from", [Reply::redirect(&server.url_as(to, "/to"))]);
            let node = node_with_source(&server.url_as(from, "/from"), "");
            let outcome = node.run("install");
            match is_followed {
                true => outcome.exits(0),
                false => outcome.exits(2).says(REFUSED).says("fetch.access"),
            };
            followed += usize::from(is_followed);
            assert_eq!(server.count("/to"), followed, "{from} → {to}");
        }
        // Neither by way of an address outside.
        let back = server.url_as(PRIVATE[1], "/to");
        server.on("/from", [Reply::redirect(&server.url_as(PUBLIC[0], "/on"))]);
        server.on("/on", [Reply::redirect(&back)]);
        node_with_source(&server.url_as(PRIVATE[0], "/from"), "")
            .run("install")
            .exits(2)
            .says(REFUSED);
        // What the configuration names may be inside.
        let named = format!("access: [{{prefix: '{}'}}]", server.url_as(PRIVATE[1], "/"));
        node_with_source(&server.url_as(PRIVATE[0], "/from"), &named)
            .run("install")
            .exits(0);
    });
}

#[test]
fn a_registry_outside_names_no_token_server_inside() {
    in_private_network(
        &a_registry_outside_names_no_token_server_inside,
        |scratch| {
            make_addresses(scratch);
            let server = Server::http_everywhere();
            server.on("/token", [Reply::ok(b"{\"token\": \"t\"}")]);
            let mut asked = 0;
            for (registry, realm, is_asked) in [
                (PUBLIC[0], PRIVATE[0], false),
                (PUBLIC[0], "inside.test", false),
                (PUBLIC[0], LINK_LOCAL, false),
                (PUBLIC[0], PUBLIC[1], true),
                (PRIVATE[0], PRIVATE[1], true),
            ] {
                let challenge = format!("Bearer realm=\"{}\"", server.url_as(realm, "/token"));
                server.otherwise(move |_| Reply::status(401).with("WWW-Authenticate", &challenge));
                let node = node_with_source(&server.url_as(registry, BLOB), "");
                let outcome = node.run("install");
                outcome.exits(2);
                match is_asked {
                    true => outcome.does_not_say(REFUSED),
                    false => outcome.says(REFUSED),
                };
                asked += usize::from(is_asked);
                let tokens = server.requests();
                let tokens = tokens
                    .iter()
                    .filter(|request| request.path.starts_with("/token"));
                assert_eq!(tokens.count(), asked, "{registry} → {realm}");
            }
        },
    );
}
