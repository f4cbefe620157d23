//! `network`: the conflist, what it waits for, and where its values come from.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Problems;
use super::paths::path_of;
use super::read::Fields;
use super::settings::{FactSource, Gate, Network};
use super::source::check_web;
use super::tree::{Node, Yaml};
use crate::model::{Cidr, FileMode, FileName};

const FILE_NAME: &str = "10-cni-keeper.conflist";

/// Reads `network`.
pub(super) fn network(node: &Node, problems: &mut Problems) -> Option<Network> {
    let keys = [
        "fileName",
        "fileMode",
        "requires",
        "facts",
        "podRanges",
        "reserved",
        "conflist",
    ];
    let fields = node.fields(&keys, problems)?;
    let file_name = match fields.get("fileName") {
        Some(node) => file_name(node, problems),
        None => FILE_NAME.parse().ok(),
    };
    let file_mode = match fields.get("fileMode") {
        Some(node) => file_mode(node, problems),
        None => Some(FileMode::PRIVATE),
    };
    let requires = list(&fields, "requires", problems, gate);
    let facts = list(&fields, "facts", problems, fact_source);
    let range = |node: &Node, problems: &mut Problems| node.parse::<Cidr>("", problems);
    let reserved = list(&fields, "reserved", problems, range);
    let pod_ranges = list(&fields, "podRanges", problems, range);
    if let (Some(pods), Some(reserved)) = (&pod_ranges, &reserved) {
        not_reserved(&fields, pods, reserved, problems);
    }
    let mend = "write the network configuration list to install, or leave 'network' out to install plugins only";
    let conflist = fields
        .require("conflist", mend, problems)
        .and_then(|conflist| conflist_of(conflist, problems));
    Some(Network {
        file_name: file_name?,
        file_mode: file_mode?,
        requires: requires?,
        facts: facts?,
        pod_ranges: pod_ranges?,
        reserved: reserved?,
        conflist: conflist?,
    })
}

/// libcni reads a list of plugins from `.conflist` files only; a `.conf` holds a single plugin.
fn file_name(node: &Node, problems: &mut Problems) -> Option<FileName> {
    let name: FileName = node.parse("", problems)?;
    match name.as_str().strip_suffix(".conflist") {
        Some(stem) if !stem.is_empty() => Some(name),
        _ => {
            problems.add(
                &node.at,
                format!("'{name}' does not end in .conflist; name it such as {FILE_NAME}"),
            );
            None
        }
    }
}

/// Who may write a conflist decides what root runs on every pod start.
fn file_mode(node: &Node, problems: &mut Problems) -> Option<FileMode> {
    let mode: FileMode = node.parse("", problems)?;
    if mode.bits() & 0o400 == 0 || mode.bits() & 0o022 != 0 {
        problems.add(
            &node.at,
            format!(
                "\"{mode}\" must let the owner read and nobody else write; use \"0600\" or \"0644\""
            ),
        );
        return None;
    }
    Some(mode)
}

/// Reads an optional list, every item of it.
fn list<T>(
    fields: &Fields<'_>,
    key: &str,
    problems: &mut Problems,
    read: impl Fn(&Node, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(node) = fields.get(key) else {
        return Some(Vec::new());
    };
    let items = node.items(problems)?;
    let all: Vec<Option<T>> = items.iter().map(|item| read(item, problems)).collect();
    all.into_iter().collect()
}

/// The one key of a list item such as `{file: /run/flannel/subnet.env}`.
fn only_key<'a>(
    node: &'a Node,
    kinds: &[&str],
    problems: &mut Problems,
) -> Option<(&'a str, &'a Node)> {
    let before = problems.count();
    node.fields(kinds, problems)?;
    match node.entries(problems)? {
        [(key, value)] if problems.count() == before => Some((key, value)),
        [_] => None,
        entries => {
            problems.add(
                &node.at,
                format!(
                    "expected one of {}, found {} keys; give each a list item of its own",
                    kinds.join(", "),
                    entries.len()
                ),
            );
            None
        }
    }
}

/// No pod range has an address in common with a reserved one.
fn not_reserved(fields: &Fields<'_>, pods: &[Cidr], reserved: &[Cidr], problems: &mut Problems) {
    let written = fields.get("podRanges").map(|node| &node.value);
    let Some(Yaml::List(written)) = written else {
        return;
    };
    for (node, pods) in written.iter().zip(pods) {
        for reserved in reserved.iter().filter(|reserved| reserved.overlaps(pods)) {
            problems.add(
                &node.at,
                format!("{pods} overlaps {reserved}, which network.reserved keeps free; give pods other addresses"),
            );
        }
    }
}

fn gate(node: &Node, problems: &mut Problems) -> Option<Gate> {
    let (kind, value) = only_key(node, &["file", "tcp", "unix", "http"], problems)?;
    match kind {
        "file" => path_of(value, problems).map(Gate::File),
        "unix" => path_of(value, problems).map(Gate::Unix),
        "tcp" => {
            let text = value.text(problems)?;
            value.note(check_tcp(text), problems)?;
            Some(Gate::Tcp(text.to_owned()))
        }
        _ => {
            let text = value.text(problems)?;
            value.note(check_web(text), problems)?;
            Some(Gate::Http(text.to_owned()))
        }
    }
}

fn check_tcp(text: &str) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let port_ok = port.parse::<u16>().is_ok_and(|port| port != 0);
    let host_ok = match host.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty() && !host.contains(|c: char| ":/@".contains(c) || c.is_whitespace())
        }
    };
    if port_ok && host_ok {
        Ok(())
    } else {
        Err(format!(
            "'{text}' is not host:port; write such as 127.0.0.1:6784"
        ))
    }
}

fn fact_source(node: &Node, problems: &mut Problems) -> Option<FactSource> {
    let (kind, value) = only_key(node, &["envFile", "values", "kubernetes"], problems)?;
    match kind {
        "envFile" => path_of(value, problems).map(FactSource::EnvFile),
        "kubernetes" => value
            .choice(&[("node", ())], problems)
            .map(|()| FactSource::KubernetesNode),
        _ => values(value, problems),
    }
}

fn values(value: &Node, problems: &mut Problems) -> Option<FactSource> {
    let before = problems.count();
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    for (name, node) in value.entries(problems)? {
        if name.is_empty() || name.contains(|c: char| "${}".contains(c) || c.is_whitespace()) {
            problems.add(
                &node.at,
                "a fact's name cannot hold spaces, '$' or braces; choose one such as node.podCIDR",
            );
        }
        if node.value == Yaml::Null {
            problems.add(
                &node.at,
                "a fact needs a value; write one, or take the key out",
            );
        }
        values.insert(name.clone(), node.json(problems));
    }
    (problems.count() == before).then_some(FactSource::Values(values))
}

fn conflist_of(node: &Node, problems: &mut Problems) -> Option<Value> {
    let before = problems.count();
    node.entries(problems)?;
    let listed = match node.get("cniVersions").map(|list| &list.value) {
        Some(Yaml::List(items)) => items.as_slice(),
        _ => &[],
    };
    for version in node.get("cniVersion").into_iter().chain(listed) {
        if let Yaml::Number(written) = &version.value {
            problems.add(
                &version.at,
                format!("YAML reads {written} as a number; write the whole version in quotes, such as \"1.0.0\""),
            );
        }
    }
    let value = node.json(problems);
    (problems.count() == before).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_gate_has_a_host_and_a_port() {
        for good in ["127.0.0.1:6784", "localhost:1", "[::1]:65535"] {
            assert_eq!(check_tcp(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "::1:80",
            "[::1]",
            "[x]:80",
            "a b:80",
            "http://h:80",
        ] {
            assert!(check_tcp(bad).is_err(), "{bad}");
        }
    }
}
