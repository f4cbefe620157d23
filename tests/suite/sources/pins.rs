//! Digests that the configuration leaves to a signed list or a checksum file, and signatures over artifacts.

mod checksums;
mod lists;
mod running;
mod signatures;

use cni_keeper::model::Sha256;

use crate::support::node::Node;
use crate::support::release::{NETWORK, RELEASE};
use crate::support::server::{Reply, Server};
use crate::support::signers::ListSigner;

const ARCHIVE: &str = "/p.tgz";
const LIST: &str = "/pins/SHA256SUMS";
const SIGNATURE: &str = "/pins/SHA256SUMS.minisig";

/// The file that keeps an answer.
const REMEMBERED: &str = "opt/cni/.cni-keeper/pins.json";

/// The line of an archive in a list.
fn line(bytes: &[u8]) -> String {
    format!("{}  p.tgz\n", Sha256::of(bytes))
}

/// A mirror with [`RELEASE`] and, beside it, a list that is signed.
fn mirror(signer: &ListSigner, list: &str) -> Server {
    let server = Server::http();
    server.on(ARCHIVE, [Reply::ok(&RELEASE.bytes)]);
    publish(&server, list, &signer.sign(list));
    server
}

fn publish(server: &Server, list: &str, signature: &[u8]) {
    server.on(LIST, [Reply::ok(list.as_bytes())]);
    server.on(SIGNATURE, [Reply::ok(signature)]);
}

/// `trust`, with one round, since failures here last.
fn trusting(key: &str, lists: &[String]) -> String {
    format!(
        "fetch: {{attempts: 1}}\ntrust:\n  pinList:\n    sources: {lists:?}\n    publicKey: {key}\n{NETWORK}"
    )
}

/// Declares [`RELEASE`] of that mirror without a digest.
fn declare(node: &Node, server: &Server, signer: &ListSigner) {
    let mut artifact = RELEASE.artifact(&server.url(ARCHIVE));
    artifact.pin = String::new();
    let trust = trusting(&signer.public_key(), &[server.url(LIST)]);
    node.declare(&artifact, &trust);
}
