//! `network`: the conflist, what it waits for, and where its values come from.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config_value::{ConfigValue, Fields};
use super::host_path::read_path;
use super::settings::{FactSource, Gate, NetworkSettings};
use super::source_url::parse_web_url;
use super::yaml::Yaml;
use crate::model::{Cidr, FileMode, FileName};

const FILE_NAME: &str = "10-cni-keeper.conflist";

const KEYS: [&str; 7] = [
    "fileName",
    "fileMode",
    "requires",
    "facts",
    "podRanges",
    "reserved",
    "conflist",
];

/// Reads `network`.
pub(super) fn read_network(value: ConfigValue<'_>) -> Option<NetworkSettings> {
    let fields = value.fields(&KEYS)?;
    let file_name = match fields.get("fileName") {
        Some(name) => read_file_name(name),
        None => FILE_NAME.parse().ok(),
    };
    let file_mode = fields.read_or("fileMode", FileMode::PRIVATE, read_file_mode);
    let requires = fields.read_list("requires", read_gate);
    let facts = fields.read_list("facts", read_fact_source);
    let reserved = fields.read_list("reserved", ConfigValue::parse::<Cidr>);
    let pod_ranges = fields.read_list("podRanges", ConfigValue::parse::<Cidr>);
    check_not_reserved(&fields, &pod_ranges, &reserved);
    let fix = "write the network configuration list to install, or leave 'network' out to install plugins only";
    let conflist = fields.require("conflist", fix).and_then(read_conflist);
    Some(NetworkSettings {
        file_name: file_name?,
        file_mode,
        requires,
        facts,
        pod_ranges,
        reserved,
        conflist: conflist?,
    })
}

/// Reads the conflist's file name. libcni reads a list of plugins only from `.conflist` files; a `.conf` has a single
/// plugin.
fn read_file_name(value: ConfigValue<'_>) -> Option<FileName> {
    let name: FileName = value.parse()?;
    match name.as_str().strip_suffix(".conflist") {
        Some(stem) if !stem.is_empty() => Some(name),
        _ => value.reject(format!(
            "'{name}' does not end in .conflist; write a name such as {FILE_NAME}"
        )),
    }
}

/// Reads the conflist's mode. Whoever may write a conflist decides which programs root runs at the start of each pod.
fn read_file_mode(value: ConfigValue<'_>) -> Option<FileMode> {
    let mode: FileMode = value.parse()?;
    if mode.bits() & 0o400 == 0 || mode.bits() & 0o022 != 0 {
        return value.reject(format!(
            "\"{mode}\" must let the owner read and nobody else write; use \"0600\" or \"0644\""
        ));
    }
    Some(mode)
}

/// Reads a list item with a single key, such as `{file: /run/flannel/subnet.env}`. Returns the key and its value.
fn read_single_key<'a>(item: ConfigValue<'a>, keys: &[&str]) -> Option<(&'a str, ConfigValue<'a>)> {
    let before = item.problems().count();
    item.fields(keys)?;
    let mut entries = item.entries()?;
    let count = entries.len();
    if count != 1 {
        return item.reject(format!(
            "expected one of {}, found {count} keys; write each as a list item of its own",
            keys.join(", ")
        ));
    }
    entries.next().filter(|_| item.problems().count() == before)
}

/// Checks that no pod range overlaps a reserved range.
fn check_not_reserved(fields: &Fields<'_>, pods: &[Cidr], reserved: &[Cidr]) {
    if pods.is_empty() {
        return;
    }
    let written = fields.get("podRanges").and_then(ConfigValue::items);
    for (value, pods) in written.into_iter().flatten().zip(pods) {
        for reserved in reserved.iter().filter(|reserved| reserved.overlaps(pods)) {
            value.note(format!(
                "{pods} overlaps {reserved}, which network.reserved keeps free; give pods other addresses"
            ));
        }
    }
}

fn read_gate(item: ConfigValue<'_>) -> Option<Gate> {
    let (kind, value) = read_single_key(item, &["file", "tcp", "unix", "http"])?;
    match kind {
        "file" => read_path(value).map(Gate::File),
        "unix" => read_path(value).map(Gate::Unix),
        "tcp" => {
            let text = value.text()?;
            value.accept(check_tcp(text))?;
            Some(Gate::Tcp(text.to_owned()))
        }
        _ => {
            let text = value.text()?;
            value.accept(parse_web_url(text))?;
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
            "'{text}' is not host:port; write an address such as 127.0.0.1:6784"
        ))
    }
}

fn read_fact_source(item: ConfigValue<'_>) -> Option<FactSource> {
    let (kind, value) = read_single_key(item, &["envFile", "values", "kubernetes"])?;
    match kind {
        "envFile" => read_path(value).map(FactSource::EnvFile),
        "kubernetes" => value
            .choice(&["node"], |word| word)
            .map(|_| FactSource::KubernetesNode),
        _ => read_fact_values(value),
    }
}

fn read_fact_values(value: ConfigValue<'_>) -> Option<FactSource> {
    let before = value.problems().count();
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    for (name, value) in value.entries()? {
        if name.is_empty() || name.contains(|c: char| "${}".contains(c) || c.is_whitespace()) {
            value.note(
                "a fact's name cannot contain spaces, '$' or braces; choose one such as node.podCIDR",
            );
        }
        if *value.yaml() == Yaml::Null || value.to_json() == "" {
            value.note("a fact needs a value; write one, or remove the key");
        }
        values.insert(name.to_owned(), value.to_json());
    }
    (value.problems().count() == before).then_some(FactSource::Values(values))
}

fn read_conflist(value: ConfigValue<'_>) -> Option<Value> {
    let before = value.problems().count();
    let _ = value.entries()?;
    let listed = match value.get("cniVersions") {
        Some(list) if matches!(list.yaml(), Yaml::List(_)) => list.items(),
        _ => None,
    };
    let versions = value.get("cniVersion").into_iter();
    for version in versions.chain(listed.into_iter().flatten()) {
        if let Yaml::Number(written) = version.yaml() {
            version.note(format!(
                "YAML reads {written} as a number; write the whole version in quotes, such as \"1.0.0\""
            ));
        }
    }
    let json = value.to_json();
    (value.problems().count() == before).then_some(json)
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
