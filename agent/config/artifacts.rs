//! `artifacts`: what to fetch, from where, proven by which digest.

use std::collections::BTreeMap;

use super::error::Problems;
use super::nearest::nearest;
use super::read::Fields;
use super::source::{check_source, fill, guess_format};
use super::tree::{Node, Place, Yaml};
use crate::model::{
    Arch, Artifact, DigestError, FileName, Format, IfPresent, Member, Pin, PluginName, Sha256,
};

const KEYS: [&str; 8] = [
    "name",
    "version",
    "sources",
    "sha256",
    "sha512",
    "format",
    "ifPresent",
    "plugins",
];
const COPY_AGAIN: &str = "; copy it again from the release's .sha256 file";

/// Reads the whole list for one architecture. Every artifact is looked at, and every mistake noted.
pub(super) fn artifacts(node: &Node, arch: Arch, problems: &mut Problems) -> Option<Vec<Artifact>> {
    let before = problems.count();
    let mut list: Vec<Artifact> = Vec::new();
    let mut owners: BTreeMap<PluginName, String> = BTreeMap::new();
    for item in node.items(problems)? {
        let Some(artifact) = artifact(item, arch, problems) else {
            continue;
        };
        if list.iter().any(|other| other.name == artifact.name) {
            problems.add(
                &item.at.key("name"),
                format!(
                    "a second artifact is named '{}'; give each its own name",
                    artifact.name
                ),
            );
        }
        for member in &artifact.members {
            if let Some(owner) = owners.insert(member.plugin.clone(), artifact.name.clone()) {
                problems.add(
                    &item.at.key("plugins"),
                    format!(
                        "'{}' is installed by artifact '{owner}' already; name each plugin once",
                        member.plugin
                    ),
                );
            }
        }
        list.push(artifact);
    }
    (problems.count() == before).then_some(list)
}

fn artifact(node: &Node, arch: Arch, problems: &mut Problems) -> Option<Artifact> {
    let fields = node.fields(&KEYS, problems)?;
    let name = fields
        .require("name", "give the artifact a name of its own", problems)
        .and_then(|name| name.parse::<FileName>("; choose a plain word", problems));
    let version = fields
        .require(
            "version",
            "write the release's tag, such as v1.9.1",
            problems,
        )
        .and_then(|version| version_of(version, problems));
    let pin = pin(&fields, arch, problems);
    let if_present = match fields.get("ifPresent") {
        None => Some(IfPresent::default()),
        Some(word) => word.choice(
            &[("replace", IfPresent::Replace), ("keep", IfPresent::Keep)],
            problems,
        ),
    };
    // Sources and members hold the version: without it, what follows would be noise.
    let version = version?;
    let sources = sources(&fields, version, arch, problems);
    let format = match &sources {
        Some(sources) => format(&fields, sources, problems),
        None => None,
    };
    let members = format.and_then(|format| members(&fields, format, version, arch, problems));
    Some(Artifact {
        name: name?.as_str().to_owned(),
        version: version.to_owned(),
        arch,
        pin: pin?,
        sources: sources?,
        format: format?,
        if_present: if_present?,
        members: members?,
    })
}

/// A version goes into URLs and paths, so it is one plain word.
fn version_of<'a>(node: &'a Node, problems: &mut Problems) -> Option<&'a str> {
    let text = node.text(problems)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    if text.is_empty() || !text.chars().all(plain) {
        problems.add(
            &node.at,
            format!("'{text}' is not a version; use letters, digits and . _ + ~ - only"),
        );
        return None;
    }
    Some(text)
}

fn sources(
    fields: &Fields<'_>,
    version: &str,
    arch: Arch,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let mend = "list at least one https://, http:// or file:// URL";
    let node = fields.require("sources", mend, problems)?;
    let items = node.items(problems)?;
    if items.is_empty() {
        problems.add(&node.at, format!("the list is empty; {mend}"));
        return None;
    }
    let read = |item: &Node, problems: &mut Problems| {
        let text = item.text(problems)?;
        let filled = item.note(fill(text, version, arch), problems)?;
        item.note(check_source(&filled), problems)?;
        Some(filled)
    };
    let all: Vec<Option<String>> = items.iter().map(|item| read(item, problems)).collect();
    all.into_iter().collect()
}

/// The digest for this architecture. The digests of all others are read too: a slip in one of them would
/// otherwise show on another node only.
fn pin(fields: &Fields<'_>, arch: Arch, problems: &mut Problems) -> Option<Pin> {
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

/// The place to speak of pins: the mapping that is there, else the one that is missing.
fn at_pins(fields: &Fields<'_>) -> Place {
    let there = fields.get("sha256").or_else(|| fields.get("sha512"));
    there.map_or_else(|| fields.at.key("sha256"), |node| node.at.clone())
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

fn format(fields: &Fields<'_>, sources: &[String], problems: &mut Problems) -> Option<Format> {
    if let Some(word) = fields.get("format") {
        return word.choice(
            &[
                ("tar.gz", Format::TarGz),
                ("tar", Format::Tar),
                ("raw", Format::Raw),
            ],
            problems,
        );
    }
    let mut guesses = sources.iter().map(|source| guess_format(source));
    let first = guesses.next().flatten();
    let what = match first {
        None => {
            "the sources' names show a packing that is not read; repack as .tar.gz, or write format: tar.gz, tar or raw"
        }
        Some(_) if guesses.any(|guess| guess != first) => {
            "the sources' names show different packings; write format: tar.gz, tar or raw"
        }
        Some(format) => return Some(format),
    };
    problems.add(&fields.at.key("format"), what);
    None
}

fn members(
    fields: &Fields<'_>,
    format: Format,
    version: &str,
    arch: Arch,
    problems: &mut Problems,
) -> Option<Vec<Member>> {
    let mend = "list the plugins to install, such as [bridge, host-local, loopback, portmap]";
    let node = fields.require("plugins", mend, problems)?;
    let items = node.items(problems)?;
    if items.is_empty() {
        problems.add(&node.at, format!("the list is empty; {mend}"));
        return None;
    }
    if format == Format::Raw && items.len() != 1 {
        problems.add(
            &node.at,
            format!(
                "a raw artifact is one plugin, here are {}; give each its own artifact",
                items.len()
            ),
        );
        return None;
    }
    let all: Vec<Option<Member>> = items
        .iter()
        .map(|item| match item.value {
            Yaml::Map(_) => described(item, format, version, arch, problems),
            _ => plain(item, problems),
        })
        .collect();
    all.into_iter().collect()
}

/// `bridge`: the member is named as the plugin.
fn plain(item: &Node, problems: &mut Problems) -> Option<Member> {
    let text = item.text(problems)?;
    if text.contains(['{', '/']) {
        problems.add(
            &item.at,
            format!("'{text}' is not a plugin's name; write {{member: \"{text}\", as: <name>}}"),
        );
        return None;
    }
    let plugin = item.parse::<PluginName>("", problems)?;
    Some(Member {
        path: text.to_owned(),
        plugin,
        sha256: None,
    })
}

/// `{member, as, sha256}`: each given on its own.
fn described(
    item: &Node,
    format: Format,
    version: &str,
    arch: Arch,
    problems: &mut Problems,
) -> Option<Member> {
    let fields = item.fields(&["member", "as", "sha256"], problems)?;
    let sha256 = match fields.get("sha256") {
        Some(node) => Some(member_pin(node, arch, problems)?),
        None => None,
    };
    let alias = match fields.get("as") {
        Some(node) => Some(node.parse::<PluginName>("", problems)?),
        None => None,
    };
    if format == Format::Raw {
        if let Some(member) = fields.get("member") {
            problems.add(&member.at, "a raw artifact has no members; leave only 'as'");
            return None;
        }
        fields.require("as", "write the name that the plugin gets", problems)?;
        let plugin = alias?;
        let path = plugin.as_str().to_owned();
        return Some(Member {
            path,
            plugin,
            sha256,
        });
    }
    let member = fields.require("member", "write the file's path in the archive", problems)?;
    let text = member.text(problems)?;
    let filled = member.note(fill(text, version, arch), problems)?;
    let path = member.note(member_path(&filled), problems)?;
    // Without a placeholder or directory the member's name will do for the plugin's.
    let plugin = match alias.or_else(|| text.parse().ok().filter(|_| !text.contains('{'))) {
        Some(plugin) => plugin,
        None => {
            problems.add(
                &item.at.key("as"),
                "missing; write the name that the plugin gets",
            );
            return None;
        }
    };
    Some(Member {
        path,
        plugin,
        sha256,
    })
}

/// A plugin's own digest: plain, or by architecture like the artifact's.
fn member_pin(node: &Node, arch: Arch, problems: &mut Problems) -> Option<Sha256> {
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

/// A member's path without the leading `./` that upstream's archives have.
fn member_path(text: &str) -> Result<String, String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(odd) || path.chars().any(char::is_control) {
        return Err(format!(
            "'{text}' is not a path within an archive; write it as tar -t lists it, without '..' or a leading '/'"
        ));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_path_stays_inside_the_archive() {
        for (text, path) in [("./bridge", "bridge"), ("bin/cni/calico", "bin/cni/calico")] {
            assert_eq!(member_path(text).as_deref(), Ok(path));
        }
        for bad in [
            "",
            "./",
            "/bridge",
            "../bridge",
            "a/../b",
            "a//b",
            "a/",
            "././a",
            "a\nb",
        ] {
            assert!(member_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_kernels_names_of_architectures_are_translated() {
        assert!(unknown_arch("x86_64").contains("'amd64'"));
        assert!(unknown_arch("aarch64").contains("'arm64'"));
        assert!(unknown_arch("amd46").contains("'amd64'"));
        assert!(unknown_arch("sparc").contains("known are amd64"));
    }
}
