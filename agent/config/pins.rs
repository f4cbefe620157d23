//! Digests as an operator pins them: by architecture, or plain for a single plugin.

use std::collections::BTreeMap;

use super::error::Problems;
use super::mirrors::Mirrors;
use super::read::Fields;
use super::source::{check_web, fill};
use super::tree::{Node, Place, Yaml};
use super::trust::{Trusted, blob_signature, companion};
use crate::model::{Arch, DigestError, Pin, Sha256, nearest_word};
use crate::trust::{
    DeclaredPin, DigestSource, PinList, RequiredSignature, SignatureLocation, file_name,
};

const COPY_AGAIN: &str = "; copy it again from the release's .sha256 file";

/// What is known of an artifact when its pin is read.
pub(super) struct Declared<'a> {
    /// Its mapping.
    pub fields: &'a Fields<'a>,
    /// Its version.
    pub version: &'a str,
    /// For which architecture.
    pub arch: Arch,
    /// Its sources, filled in.
    pub sources: &'a [String],
    /// Other places for what is asked for.
    pub mirrors: &'a Mirrors,
}

impl Declared<'_> {
    /// Brings together who says the digest, and the signature that is asked for beside it.
    pub(super) fn pinned(&self, by: Said<'_>, problems: &mut Problems) -> Option<DeclaredPin> {
        let by = match by {
            Said::Here(pin) => DigestSource::Configuration(pin),
            Said::InFile(node) => {
                self.one_name(problems)?;
                let url = node.note(
                    fill(node.text(problems)?, self.version, self.arch),
                    problems,
                )?;
                node.note(check_web(&url), problems)?;
                DigestSource::ChecksumFile(companion(url, self.mirrors))
            }
            Said::InList(list) => {
                self.one_name(problems)?;
                DigestSource::List(list.clone())
            }
        };
        let signature = match self.fields.get("signature") {
            Some(node) => Some(self.signature(node, &by, problems)?),
            None => None,
        };
        Some(DeclaredPin {
            source: by,
            signature,
        })
    }

    /// Lists and checksum files know an artifact by the name of its file, which therefore is one.
    fn one_name(&self, problems: &mut Problems) -> Option<()> {
        let mut names = self.sources.iter().map(|source| file_name(source));
        let first = names.next().filter(|name| !name.is_empty());
        let what = match first {
            None => {
                "the first source names no file, under which its digest could be found; \
                     end it with the file's name, or write sha256"
            }
            Some(first) if names.any(|name| name != first) => {
                "the sources name different files, so that nobody can tell which digest is meant; \
                 give all of them the same file name, or write sha256"
            }
            Some(_) => return Some(()),
        };
        problems.add(&self.fields.place_of("sources"), what);
        None
    }

    fn signature(
        &self,
        node: &Node,
        by: &DigestSource,
        problems: &mut Problems,
    ) -> Option<RequiredSignature> {
        let signature = blob_signature(node, self.version, self.arch, self.mirrors, problems)?;
        let what = match by {
            DigestSource::ChecksumFile(_) => {
                "a signature is verified over a digest that somebody stands for; write sha256, or have the list signed (trust.pinList)".to_owned()
            }
            _ if self.sources.iter().any(|source| source.starts_with("oci://")) => {
                "signatures of images are not read; their reference is their pin".to_owned()
            }
            DigestSource::Configuration(Pin::Sha512(_)) => {
                "the signature is over the artifact's SHA-256; write sha256 in place of sha512".to_owned()
            }
            DigestSource::Configuration(pin) => match &signature.location {
                SignatureLocation::Inline(signed) => match signature.key.verify(pin, signed) {
                    Ok(()) => return Some(signature),
                    Err(distrust) => distrust.to_string(),
                },
                SignatureLocation::At(_) => return Some(signature),
            },
            DigestSource::List(_) => return Some(signature),
        };
        problems.add(&node.at, what);
        None
    }
}

/// Who says the digest, before anything else is known of the artifact.
#[derive(Clone, Copy)]
pub(super) enum Said<'a> {
    /// This configuration.
    Here(Pin),
    /// A checksum file, by its URL.
    InFile(&'a Node),
    /// The signed list.
    InList(&'a PinList),
}

/// Who says the digest for this architecture. The digests of all others are read too: a slip in one of them would
/// otherwise show on another node only.
pub(super) fn artifact_pin<'a>(
    fields: &Fields<'a>,
    arch: Arch,
    trusted: &'a Trusted,
    problems: &mut Problems,
) -> Option<Said<'a>> {
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
    let is_pinned = fields.get("sha256").or_else(|| fields.get("sha512"));
    if let (Some(_), Some(url)) = (is_pinned, fields.get("checksumUrl")) {
        problems.add(
            &url.at,
            "the artifact is pinned, which is better; take checksumUrl out",
        );
    }
    if problems.count() > before {
        return None;
    }
    if is_pinned.is_none() {
        return by_others(fields, arch, trusted, problems);
    }
    let found = pins.get(&arch).copied();
    if found.is_none() {
        let what = if pins.is_empty() {
            missing(arch)
        } else {
            format!(
                "no digest for {arch}, only for {}; add the one of the {arch} asset",
                listed(&pins)
            )
        };
        problems.add(&at_pins(fields), what);
    }
    found.map(Said::Here)
}

/// Who says the digest where the configuration does not.
fn by_others<'a>(
    fields: &Fields<'a>,
    arch: Arch,
    trusted: &'a Trusted,
    problems: &mut Problems,
) -> Option<Said<'a>> {
    if let Some(url) = fields.get("checksumUrl") {
        return Some(Said::InFile(url));
    }
    match trusted {
        Some(Some(list)) => Some(Said::InList(list)),
        Some(None) => {
            problems.add(&at_pins(fields), missing(arch));
            None
        }
        // Its mistake is noted already.
        None => None,
    }
}

fn missing(arch: Arch) -> String {
    format!(
        "missing; an artifact without a digest is never installed: write sha256: {{{arch}: <digest>}}"
    )
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
        _ => nearest_word(name, &known),
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
