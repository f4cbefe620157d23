//! Headers and client certificates: which server gets which, and which server is trusted.

use std::collections::HashMap;
use std::process::Command;

use rcgen::KeyPair;

use super::{node, secret};
use crate::support::image_parts::{ImageParts, digest, image_of, in_image};
use crate::support::node::Node;
use crate::support::registry::REPOSITORY;
use crate::support::release::{NETWORK, PLUGINS, RELEASE, plugin};
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

/// An installation from a server that asks for a certificate of `clients`, with these texts for the two files.
fn shown(authority: &Authority, server: &Server, cert: &str, key: &str) -> Node {
    let node = Node::empty();
    let ca = secret(&node, "ca.pem", &authority.pem());
    let cert = secret(&node, "tls.crt", cert);
    let key = secret(&node, "tls.key", key);
    let fetch = format!(
        "caFile: {ca}\naccess: [{{prefix: \"{}\", certFile: {cert}, keyFile: {key}}}]",
        server.url("/")
    );
    super::declare(&node, &[server.url("/p.tgz")], &fetch);
    node
}

fn mutual(authority: &Authority, clients: &Authority) -> Server {
    let server = Server::https(authority.mutual_server(&["127.0.0.1"], clients));
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    server
}

/// Each hop is matched by its own URL: another origin gets nothing, and neither does another directory of the same one.
#[test]
fn headers_go_where_they_are_meant_for_and_not_along_with_a_redirect() {
    let authority = Authority::new();
    let [mirror, cdn] = [(); 2].map(|()| Server::https(authority.server(&["127.0.0.1"])));
    mirror.on("/cni/p.tgz", [Reply::redirect("/elsewhere/p.tgz")]);
    mirror.on(
        "/elsewhere/p.tgz",
        [Reply::redirect(&cdn.url("/cni/p.tgz"))],
    );
    cdn.on("/cni/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    let node = node(&mirror.url("/cni/p.tgz"), "");
    let ca = secret(&node, "ca.pem", &authority.pem());
    let headers = "# for the mirror\nAuthorization: Bearer HUSH\nX-Team: network\n";
    let headers = secret(&node, "headers", headers);
    let fetch = format!(
        "caFile: {ca}\naccess: [{{prefix: \"{}\", headersFile: {headers}}}]",
        mirror.url("/cni")
    );
    super::declare(&node, &[mirror.url("/cni/p.tgz")], &fetch);
    node.run("install").exits(0);
    let requests = [mirror.requests(), cdn.requests()].concat();
    let had = |name| -> Vec<Option<&str>> { requests.iter().map(|r| r.header(name)).collect() };
    assert_eq!(had("authorization"), [Some("Bearer HUSH"), None, None]);
    assert_eq!(had("x-team"), [Some("network"), None, None]);
}

#[test]
fn headers_that_cannot_be_used_are_reported_by_their_line() {
    let server = Server::https(Authority::new().server(&["127.0.0.1"]));
    for (content, why) in [
        ("X-A: b\nHUSH", ": line 2: it has no colon"),
        (
            "Host: HUSH",
            ": line 1: this header belongs to the connection",
        ),
        (
            &format!("X: {}", "HUSH".repeat(20_000)),
            ": it cannot be read: it has more than 65536 bytes",
        ),
    ] {
        let node = Node::empty();
        let headers = secret(&node, "headers", content);
        let rule = format!(
            "access: [{{prefix: \"{}\", headersFile: {headers}}}]",
            server.url("/")
        );
        super::declare(&node, &[server.url("/p.tgz")], &rule);
        let outcome = node.run("install");
        outcome
            .exits(2)
            .says(&format!(
                "fetch.access[0].headersFile {headers} cannot be used{why}"
            ))
            .says("kind=\"auth\"")
            .does_not_say("HUSH");
    }
    assert!(server.requests().is_empty());
}

/// PKCS #8, SEC 1 and PKCS #1: whatever the tool wrote that made the key.
#[test]
fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = mutual(&authority, &clients);
    let key = KeyPair::generate().unwrap();
    shown(
        &authority,
        &server,
        &clients.client(&key),
        &key.serialize_pem(),
    )
    .run("install")
    .exits(0);
    for (options, label) in [
        (
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
            "EC PRIVATE KEY",
        ),
        (&["-algorithm", "RSA"], "RSA PRIVATE KEY"),
    ] {
        let Some(modern) = openssl(&[&["genpkey"], options].concat(), "") else {
            return;
        };
        let old = openssl(&["pkey", "-traditional"], &modern).unwrap();
        assert!(old.contains(label), "{label}");
        let cert = clients.client(&KeyPair::from_pem(&modern).unwrap());
        shown(&authority, &server, &cert, &old)
            .run("install")
            .exits(0);
    }
}

#[test]
fn a_client_certificate_that_does_not_do_is_reported_by_its_key() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = mutual(&authority, &clients);
    let [key, other] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let cert = clients.client(&key);
    let garbage = "-----BEGIN CERTIFICATE-----\nSFVTSA==\n-----END CERTIFICATE-----\n";
    for (cert, key, why) in [
        (
            cert.as_str(),
            other.serialize_pem(),
            "the certificate is not for the key in keyFile",
        ),
        (&cert, cert.clone(), "no private key in it; it must be PEM"),
        ("HUSH", key.serialize_pem(), "no CERTIFICATE block in it"),
        (
            garbage,
            key.serialize_pem(),
            "certificate and key cannot be used: ",
        ),
    ] {
        shown(&authority, &server, cert, &key)
            .run("install")
            .exits(2)
            .says("fetch.access[0].")
            .says(why)
            .says("kind=\"auth\"")
            .does_not_say("HUSH")
            .does_not_say("SFVTSA");
    }
    // One of an authority that the server does not know.
    let stranger = authority.client(&key);
    shown(&authority, &server, &stranger, &key.serialize_pem())
        .run("install")
        .exits(2)
        .says("127.0.0.1 refuses the client certificate it was shown")
        .says("kind=\"tls\"");
}

#[test]
fn a_server_that_asks_for_a_certificate_is_distinguished_from_one_that_is_not_trusted() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = mutual(&authority, &clients);
    let node = node(&server.url("/p.tgz"), "");
    let ca = secret(&node, "ca.pem", &authority.pem());
    super::declare(&node, &[server.url("/p.tgz")], &format!("caFile: {ca}"));
    node.run("install")
        .exits(2)
        .says("127.0.0.1 asks for a client certificate; give it one under fetch.access")
        .says("kind=\"tls\"");
}

/// Also if a variable says that the system's authorities are elsewhere.
#[test]
fn the_operators_authorities_are_added_to_the_systems() {
    let [one, other] = [(); 2].map(|()| Authority::new());
    for (system, own, code) in [
        (None, one.pem() + &other.pem(), 0),
        (None, other.pem() + "text between\n" + &one.pem(), 0),
        (Some(one.pem()), other.pem(), 0),
        (Some(other.pem()), other.pem(), 2),
    ] {
        let server = Server::https(one.server(&["127.0.0.1"]));
        server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
        let node = Node::empty();
        let ca = secret(&node, "ca.pem", &own);
        super::declare(&node, &[server.url("/p.tgz")], &format!("caFile: {ca}"));
        let mut install = node.command("install");
        if let Some(system) = system {
            install.env("SSL_CERT_FILE", secret(&node, "system.pem", &system));
        }
        let outcome = crate::support::node::start(&mut install).end();
        outcome.exits(code);
        if code != 0 {
            outcome.says("kind=\"tls-unknown-ca\"");
        }
    }
}

/// Runs openssl; `None`, printed as skipped, if it is not installed.
fn openssl(arguments: &[&str], input: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("in");
    std::fs::write(&file, input).unwrap();
    let mut command = Command::new("openssl");
    command.args(arguments);
    if !input.is_empty() {
        command.arg("-in").arg(file);
    }
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(_) => {
            crate::support::skipped("openssl is not installed");
            None
        }
    }
}

/// A registry behind a gateway: a certificate and headers for its repositories give access, also if it asks for a
/// login. Its storage gets none of them.
#[test]
fn a_registry_is_shown_what_its_prefix_says_and_its_storage_nothing() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let registry = Server::https(authority.mutual_server(&["127.0.0.1"], &clients));
    let storage = Server::https(authority.server(&["127.0.0.1"]));
    let mut parts = ImageParts::default();
    let image = parts.image(plugin);
    parts.serve(&storage);
    let contents: HashMap<String, Vec<u8>> = parts.paths().collect();
    let there = storage.url("");
    registry.otherwise(move |request| {
        let ours = [("authorization", "Bearer HUSH"), ("x-team", "network")];
        if ours
            .iter()
            .any(|(name, value)| request.header(name) != Some(value))
        {
            return Reply::status(401);
        }
        match request.path.contains("/blobs/") {
            true => Reply::redirect(&format!("{there}{}", request.path)),
            false => Reply::ok(&contents[&request.path]),
        }
    });
    let node = Node::empty();
    let key = KeyPair::generate().unwrap();
    let ca = secret(&node, "ca.pem", &authority.pem());
    let cert = secret(&node, "tls.crt", &clients.client(&key));
    let key = secret(&node, "tls.key", &key.serialize_pem());
    let headers = "Authorization: Bearer HUSH\nX-Team: network\n";
    let headers = secret(&node, "headers", headers);
    let address = registry.address();
    let artifact = image_of(
        "v1",
        vec![format!("oci://{address}/{REPOSITORY}@{}", digest(&image))],
        &in_image(&PLUGINS),
    );
    let declare = |prefix: &str| {
        let access = format!(
            "[{{prefix: \"{prefix}\", headersFile: {headers}, certFile: {cert}, keyFile: {key}}}]"
        );
        let fetch = format!("fetch:\n  attempts: 1\n  caFile: {ca}\n  access: {access}\n");
        node.declare(&artifact, &format!("{fetch}{NETWORK}"));
    };
    declare(&format!("oci://{address}/others"));
    node.run("install").exits(2).does_not_say("HUSH");
    assert!(registry.requests().is_empty(), "not even a handshake");
    declare(&format!("oci://{address}/team"));
    node.run("install").exits(0);
    let asked = storage.requests();
    assert!(!asked.is_empty());
    for request in asked {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("x-team"), None);
    }
}
