//! `artifacts`: what to fetch, from where, proven by which digest.

use std::collections::BTreeMap;

use super::error::Problems;
use super::mirrors::Mirrors;
use super::pins::{Declared, Said, artifact_pin, member_pin};
use super::read::Fields;
use super::source::{check_source, fill, guess_format};
use super::tree::{Node, Place, Yaml};
use super::trust::Trusted;
use crate::model::{
    Arch, Artifact, FileName, Format, IfPresent, Member, Pin, PluginName, Reference,
};
use crate::trust::DeclaredPin;

const KEYS: [&str; 10] = [
    "name",
    "version",
    "sources",
    "sha256",
    "sha512",
    "checksumUrl",
    "signature",
    "format",
    "ifPresent",
    "plugins",
];

/// Reads the whole list for one architecture. Every artifact is looked at, and every mistake noted.
pub(super) fn artifacts(
    node: &Node,
    arch: Arch,
    mirrors: &Mirrors,
    trusted: &Trusted,
    problems: &mut Problems,
) -> Option<Vec<Artifact<DeclaredPin>>> {
    let before = problems.count();
    let mut list: Vec<Artifact<DeclaredPin>> = Vec::new();
    let mut owners: BTreeMap<PluginName, String> = BTreeMap::new();
    for item in node.items(problems)? {
        let Some(artifact) = artifact(item, arch, mirrors, trusted, problems) else {
            continue;
        };
        if list.iter().any(|other| other.name == artifact.name) {
            problems.add(
                &place_in(item, "name"),
                format!(
                    "a second artifact is named '{}'; give each its own name",
                    artifact.name
                ),
            );
        }
        for member in &artifact.members {
            if let Some(owner) = owners.insert(member.plugin.clone(), artifact.name.clone()) {
                problems.add(
                    &place_in(item, "plugins"),
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

fn artifact(
    node: &Node,
    arch: Arch,
    mirrors: &Mirrors,
    trusted: &Trusted,
    problems: &mut Problems,
) -> Option<Artifact<DeclaredPin>> {
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
    let is_image = names_an_image(&fields);
    let pin = match &sources {
        Some(sources) if is_image => image_pin(&fields, sources, problems).map(Said::Here),
        // The digest of an image is sought in its sources, which have a mistake.
        None if is_image => None,
        _ => artifact_pin(&fields, arch, trusted, problems),
    };
    let format = match &sources {
        Some(_) if is_image => image_format(&fields, problems),
        Some(sources) => format(&fields, sources, problems),
        None => None,
    };
    let pinned = match (pin, &sources) {
        (Some(pin), Some(sources)) => Declared {
            fields: &fields,
            version,
            arch,
            sources,
            mirrors,
        }
        .pinned(pin, problems),
        _ => None,
    };
    let members = format.and_then(|format| members(&fields, format, version, arch, problems));
    Some(Artifact {
        name: name?.as_str().to_owned(),
        version: version.to_owned(),
        arch,
        pin: pinned?,
        sources: mirrors.before(sources?),
        format: format?,
        if_present: if_present?,
        members: members?,
    })
}

/// Where a key of an artifact is that has been read already.
fn place_in(artifact: &Node, key: &str) -> Place {
    artifact
        .get(key)
        .map_or(&artifact.at, |node| &node.at)
        .clone()
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
    let mend = "list at least one https://, http://, file:// or oci:// URL";
    let node = fields.require("sources", mend, problems)?;
    let all = node.at_least_one(mend, problems, |item, problems| {
        let text = item.text(problems)?;
        let filled = item.note(fill(text, version, arch), problems)?;
        if filled.starts_with("oci://") {
            // Without the tag that may stand before the digest: mirrors are for repositories.
            let reference = filled.parse::<Reference>();
            let reference = item.note(reference.map_err(|error| error.to_string()), problems)?;
            return Some(reference.to_string());
        }
        item.note(check_source(&filled), problems)?;
        Some(filled)
    })?;
    let is_image = |source: &String| source.starts_with("oci://");
    if all.iter().any(is_image) && !all.iter().all(is_image) {
        problems.add(
            &node.at,
            "an image and a file are never the same bytes; make two artifacts of them, or keep one kind of source",
        );
        return None;
    }
    Some(all)
}

/// Whether a source is meant to be an image, right or wrong.
fn names_an_image(fields: &Fields<'_>) -> bool {
    let Some(Yaml::List(items)) = fields.get("sources").map(|node| &node.value) else {
        return false;
    };
    items
        .iter()
        .any(|item| matches!(&item.value, Yaml::Text { text, .. } if text.starts_with("oci://")))
}

/// An image is pinned by the digest that all its sources name.
fn image_pin(fields: &Fields<'_>, sources: &[String], problems: &mut Problems) -> Option<Pin> {
    for key in ["sha256", "sha512", "checksumUrl"] {
        if let Some(node) = fields.get(key) {
            problems.add(
                &node.at,
                "an image is pinned by the digest in its source; take this out",
            );
            return None;
        }
    }
    let digests = sources
        .iter()
        .map(|source| source.parse::<Reference>().ok().map(|it| *it.digest()));
    let digests: Vec<Pin> = digests.collect::<Option<_>>()?;
    let first = digests.first()?;
    if digests.iter().any(|digest| digest != first) {
        problems.add(
            &fields.place_of("sources"),
            "the sources name different digests, and are the same image only with the same one",
        );
        return None;
    }
    Some(*first)
}

fn image_format(fields: &Fields<'_>, problems: &mut Problems) -> Option<Format> {
    if let Some(node) = fields.get("format") {
        problems.add(
            &node.at,
            "what an image is packed in is told by its layers; take this out",
        );
        return None;
    }
    Some(Format::Image)
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
    problems.add(&fields.place_of("format"), what);
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
    // A path in an image is one of a file system, and mostly written as such.
    let inside = match format {
        Format::Image => filled.strip_prefix('/').unwrap_or(&filled),
        _ => &filled,
    };
    let path = member.note(member_path(inside), problems)?;
    // Without a placeholder the member's file name will do for the plugin's.
    let file = path.rsplit('/').next().unwrap_or(&path);
    let named = || file.parse().ok().filter(|_| !text.contains('{'));
    let plugin = match alias.or_else(named) {
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
}
