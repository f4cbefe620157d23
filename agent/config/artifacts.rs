//! `artifacts`: what to download, from where, and how it is verified.

use std::collections::BTreeMap;

use super::artifact_pins::{ArtifactContext, complete_pin, read_digest_source, read_image_digest};
use super::config_value::{ConfigValue, Fields};
use super::members::read_members;
use super::source_url::{Placeholders, check_source_url, guess_format, is_image_source};
use super::yaml::Yaml;
use crate::model::{Artifact, FileName, Format, IfPresent, PluginName, Reference};
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

/// Reads the whole list for one architecture.
pub(super) fn read_artifacts(
    list: ConfigValue<'_>,
    context: &ArtifactContext<'_>,
) -> Option<Vec<Artifact<DeclaredPin>>> {
    let mut artifacts: Vec<Artifact<DeclaredPin>> = Vec::new();
    let mut owners: BTreeMap<PluginName, String> = BTreeMap::new();
    for item in list.items()? {
        let Some(artifact) = read_artifact(item, context) else {
            continue;
        };
        if artifacts.iter().any(|other| other.name == artifact.name) {
            item.get("name").unwrap_or(item).note(format!(
                "another artifact is named '{}'; give each its own name",
                artifact.name
            ));
        }
        for member in &artifact.members {
            if let Some(owner) = owners.insert(member.plugin.clone(), artifact.name.clone()) {
                item.get("plugins").unwrap_or(item).note(format!(
                    "'{}' is installed by artifact '{owner}' already; name each plugin once",
                    member.plugin
                ));
            }
        }
        artifacts.push(artifact);
    }
    Some(artifacts)
}

fn read_artifact(
    item: ConfigValue<'_>,
    context: &ArtifactContext<'_>,
) -> Option<Artifact<DeclaredPin>> {
    let fields = item.fields(&KEYS)?;
    let name = fields.require("name", "give the artifact a name of its own");
    let name = name.and_then(|name| name.parse_or_suggest::<FileName>("; choose a plain word"));
    let version = fields.require("version", "write the release's tag, such as v1.9.1");
    let version = version.and_then(read_version);
    let if_present = fields.read_or("ifPresent", IfPresent::default(), |value| {
        value.choice(&IfPresent::ALL, IfPresent::as_str)
    });
    // Sources and members contain the version. Without it, further mistakes would only repeat this one.
    let placeholders = Placeholders {
        version: version?,
        arch: context.arch,
    };
    let sources = read_sources(&fields, placeholders);
    let is_image = names_an_image(&fields);
    let digest = match &sources {
        Some(sources) if is_image => read_image_digest(&fields, sources),
        // The digest of an image is in its sources, and these have a mistake.
        None if is_image => None,
        _ => read_digest_source(&fields, placeholders, context),
    };
    let sources = sources?;
    let format = match is_image {
        true => read_image_format(&fields),
        false => read_format(&fields, &sources),
    };
    let pin =
        digest.and_then(|digest| complete_pin(&fields, digest, &sources, placeholders, context));
    let members = format.and_then(|format| read_members(&fields, format, placeholders));
    Some(Artifact {
        name: name?.as_str().to_owned(),
        version: placeholders.version.to_owned(),
        arch: context.arch,
        pin: pin?,
        sources: context.mirrors.place_before(sources),
        format: format?,
        if_present,
        members: members?,
    })
}

/// Reads a version. It is inserted into URLs and paths, so it must be one plain word.
fn read_version<'a>(value: ConfigValue<'a>) -> Option<&'a str> {
    let text = value.text()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return value.reject(format!(
            "'{text}' is not a version; use letters, digits and . _ + ~ - only"
        ));
    }
    Some(text)
}

fn read_sources(fields: &Fields<'_>, placeholders: Placeholders<'_>) -> Option<Vec<String>> {
    let fix = "list at least one https://, http://, file:// or oci:// URL";
    let list = fields.require("sources", fix)?;
    let sources = list.read_some_items(fix, |item| {
        let filled = item.accept(placeholders.fill(item.text()?))?;
        if is_image_source(&filled) {
            // Without the tag before the digest, because rules of mirrors apply to repositories.
            let reference = item.accept(filled.parse::<Reference>())?;
            return Some(reference.to_string());
        }
        item.accept(check_source_url(&filled))?;
        Some(filled)
    })?;
    let images = sources
        .iter()
        .filter(|source| is_image_source(source))
        .count();
    if images != 0 && images != sources.len() {
        return list.reject(
            "an artifact cannot have images and files as sources; declare two artifacts, or keep one kind of source",
        );
    }
    Some(sources)
}

/// Whether a source is meant to be an image, even if it has a mistake.
fn names_an_image(fields: &Fields<'_>) -> bool {
    let list = fields.get("sources").map(ConfigValue::yaml);
    let Some(Yaml::List(items)) = list else {
        return false;
    };
    items
        .iter()
        .any(|item| matches!(&item.value, Yaml::Text { text, .. } if is_image_source(text)))
}

fn read_image_format(fields: &Fields<'_>) -> Option<Format> {
    match fields.get("format") {
        Some(value) => value.reject("the layers of an image tell its format; remove this key"),
        None => Some(Format::Image),
    }
}

fn read_format(fields: &Fields<'_>, sources: &[String]) -> Option<Format> {
    if let Some(value) = fields.get("format") {
        return value.choice(&Format::OF_FILES, Format::as_str);
    }
    let mut guesses = sources.iter().map(|source| guess_format(source));
    let first = guesses.next().flatten();
    let what = match first {
        None => {
            "the file names of the sources show a format that is not supported; repack as .tar.gz, or write format: tar.gz, tar or raw"
        }
        Some(_) if guesses.any(|guess| guess != first) => {
            "the file names of the sources show different formats; write format: tar.gz, tar or raw"
        }
        Some(format) => return Some(format),
    };
    fields.reject("format", what)
}
