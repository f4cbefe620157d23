//! Digests as an operator pins them: by architecture, or plain for a single plugin.

use std::collections::BTreeMap;

use super::error::Problems;
use super::read::Fields;
use super::tree::{Node, Place, Yaml};
use crate::model::{Arch, DigestError, Pin, Sha256, nearest};

const COPY_AGAIN: &str = "; copy it again from the release's .sha256 file";

/// The digest for this architecture. The digests of all others are read too: a slip in one of them would
/// otherwise show on another node only.
pub(super) fn artifact_pin(
    fields: &Fields<'_>,
    arch: Arch,
    problems: &mut Problems,
) -> Option<Pin> {
    type Decode = fn(&str) -> Result<Pin, DigestError>;
    let before = problems.count();
    let mut pins: BTreeMap<Arch, Pin> = BTreeMap::new();
    for (key, decode) in [("sha256", Pin::sha256 as Decode), ("sha512", Pin::sha512)] {
        let Some(node) = fields.get(key) else {
            continue;
        };
        if matches!(node.value, Yaml::Text { .. } | Yaml::Number(_)) {
            problems.add(
                &node.at,
                format!(
                    "a digest stands under its architecture; write {key}: {{{arch}: <digest>}}"
                ),
            );
            continue;
        }
        let mend = format!("; copy it again from the release's .{key} file");
        for (arch, at, pin) in by_arch(node, problems, |text| {
            decode(text).map_err(|e| format!("{e}{mend}"))
        }) {
            if pins.insert(arch, pin).is_some() {
                problems.add(
                    at,
                    format!("{arch} has a sha256 already; keep one of the two"),
                );
            }
        }
    }
    if problems.count() > before {
        return None;
    }
    let found = pins.get(&arch).copied();
    if found.is_none() {
        let what = if pins.is_empty() {
            format!(
                "missing; an artifact without a digest is never installed: write sha256: {{{arch}: <digest>}}"
            )
        } else {
            format!(
                "no digest for {arch}, only for {}; add the one of the {arch} asset",
                listed(&pins)
            )
        };
        problems.add(&at_pins(fields), what);
    }
    found
}

/// A plugin's own digest: plain, or by architecture like the artifact's.
pub(super) fn member_pin(node: &Node, arch: Arch, problems: &mut Problems) -> Option<Sha256> {
    if !matches!(node.value, Yaml::Map(_)) {
        return node.parse(COPY_AGAIN, problems);
    }
    let before = problems.count();
    let pins: BTreeMap<Arch, _> = by_arch(node, problems, |text| {
        text.parse()
            .map_err(|error: DigestError| format!("{error}{COPY_AGAIN}"))
    })
    .into_iter()
    .map(|(arch, _, digest)| (arch, digest))
    .collect();
    let found = pins.get(&arch).copied();
    if found.is_none() && problems.count() == before {
        problems.add(
            &node.at,
            format!("no digest for {arch}; add one, or leave all of them out"),
        );
    }
    found
}

/// The place to speak of pins: the mapping that is there, else the one that is missing.
fn at_pins(fields: &Fields<'_>) -> Place {
    let there = fields.get("sha256").or_else(|| fields.get("sha512"));
    there.map_or_else(|| fields.place_of("sha256"), |node| node.at.clone())
}

/// Reads `{amd64: …, arm64: …}`.
fn by_arch<'a, T>(
    node: &'a Node,
    problems: &mut Problems,
    decode: impl Fn(&str) -> Result<T, String>,
) -> Vec<(Arch, &'a Place, T)> {
    let mut found = Vec::new();
    for (key, value) in node.entries(problems).unwrap_or_default() {
        let Ok(arch) = key.parse::<Arch>() else {
            problems.add(&value.at, unknown_arch(key));
            continue;
        };
        if let Some(text) = value.text(problems)
            && let Some(digest) = value.note(decode(text), problems)
        {
            found.push((arch, &value.at, digest));
        }
    }
    found
}

/// Upstream's assets carry Go's names; people know the kernel's.
fn unknown_arch(name: &str) -> String {
    let known = Arch::ALL.map(Arch::as_str);
    let meant = match name {
        "x86_64" | "x64" => Some("amd64"),
        "aarch64" | "armv8" => Some("arm64"),
        "armv7" | "armhf" | "armv6" => Some("arm"),
        "ppc64el" => Some("ppc64le"),
        _ => nearest(name, &known),
    };
    match meant {
        Some(arch) => format!("unknown architecture; did you mean '{arch}'?"),
        None => format!("unknown architecture; known are {}", known.join(", ")),
    }
}

fn listed<T>(by_arch: &BTreeMap<Arch, T>) -> String {
    let names: Vec<&str> = by_arch.keys().map(|arch| arch.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_names_of_architectures_are_translated() {
        assert!(unknown_arch("x86_64").contains("'amd64'"));
        assert!(unknown_arch("aarch64").contains("'arm64'"));
        assert!(unknown_arch("amd46").contains("'amd64'"));
        assert!(unknown_arch("sparc").contains("known are amd64"));
    }
}
