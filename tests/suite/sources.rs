//! Sources as companies have them: behind proxies, with certificate authorities of their own and credentials; and digests
//! and signatures from elsewhere.

mod access;
mod clocks;
mod hostile;
mod image;
mod island;
mod mirrors;
mod pins;
mod proxy;
mod pulled;
mod reach;
mod reasons;
mod registry;
mod secrets;
mod seeds;

use std::fmt::Write as _;

use crate::support::node::Node;
use crate::support::release::{NETWORK, RELEASE};

/// A node for which [`RELEASE`] from `source` is declared, in one round, with these further keys of `fetch`.
fn node(source: &str, fetch: &str) -> Node {
    let node = Node::empty();
    declare(&node, &[source.to_owned()], fetch);
    node
}

fn declare(node: &Node, sources: &[String], fetch: &str) {
    let mut artifact = RELEASE.artifact("");
    artifact.sources = sources.to_vec();
    let mut rest = "fetch:\n  attempts: 1\n".to_owned();
    for line in fetch.lines() {
        writeln!(rest, "  {line}").unwrap();
    }
    node.declare(&artifact, &format!("{rest}{NETWORK}"));
}

/// Puts a file beside the declaration, as a secret is mounted, and returns its path.
fn secret(node: &Node, name: &str, content: &str) -> String {
    let path = node.config().with_file_name(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}
