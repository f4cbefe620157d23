//! Reads how an artifact is verified: digests by architecture, a checksum file or the signed list, and a signature if
//! one is required.

use std::collections::BTreeMap;

use super::config_value::{ConfigValue, Fields};
use super::location::Location;
use super::mirrors::Mirrors;
use super::pin_list::{DeclaredPinList, check_file_url, companion};
use super::source_url::{Placeholders, is_image_source, parse_web_url};
use super::yaml::Yaml;
use crate::model::{Arch, Companion, DigestError, Pin, Reference, Sha256, nearest_word};
use crate::trust::{
    BlobKey, BlobSignature, DeclaredPin, DigestSource, RequiredSignature, SignatureLocation,
    file_name,
};

const COPY_AGAIN: &str = "; copy it again from the release's .sha256 file";

/// The parts of the configuration that are needed to read artifacts.
pub(super) struct ArtifactContext<'a> {
    pub arch: Arch,
    pub mirrors: &'a Mirrors,
    pub pin_list: &'a DeclaredPinList,
}

/// Reads where an artifact's digest comes from. The digests of other architectures are checked as well: otherwise a
/// mistake in one of them would show only on another node.
pub(super) fn read_digest_source(
    fields: &Fields<'_>,
    placeholders: Placeholders<'_>,
    context: &ArtifactContext<'_>,
) -> Option<DigestSource> {
    let before = fields.problems().count();
    let pins = read_pins(fields, context.arch);
    let is_pinned = fields
        .get("sha256")
        .or_else(|| fields.get("sha512"))
        .is_some();
    if is_pinned && let Some(url) = fields.get("checksumUrl") {
        url.note("the artifact is pinned, which is safer; remove checksumUrl");
    }
    if fields.problems().count() > before {
        return None;
    }
    let arch = context.arch;
    let what = match pins.get(&arch) {
        Some(pin) => return Some(DigestSource::Configuration(*pin)),
        None if !is_pinned => return read_other_source(fields, placeholders, context),
        None if pins.is_empty() => missing_digest(arch),
        None => {
            let listed: Vec<&str> = pins.keys().map(|arch| arch.as_str()).collect();
            let listed = listed.join(", ");
            format!("no digest for {arch}, only for {listed}; add the one of the {arch} asset")
        }
    };
    fields.problems().add(&locate_pins(fields), what);
    None
}

/// Reads `sha256` and `sha512`. An architecture may have only one of them.
fn read_pins(fields: &Fields<'_>, arch: Arch) -> BTreeMap<Arch, Pin> {
    type Decode = fn(&str) -> Result<Pin, DigestError>;
    let mut pins: BTreeMap<Arch, Pin> = BTreeMap::new();
    for (key, decode) in [("sha256", Pin::sha256 as Decode), ("sha512", Pin::sha512)] {
        let Some(value) = fields.get(key) else {
            continue;
        };
        if matches!(value.yaml(), Yaml::Text { .. } | Yaml::Number(_)) {
            value.note(format!(
                "a digest is listed under its architecture; write {key}: {{{arch}: <digest>}}"
            ));
            continue;
        }
        let fix = format!("; copy it again from the release's .{key} file");
        for (arch, value, pin) in read_by_arch(value, decode, &fix) {
            if pins.insert(arch, pin).is_some() {
                value.note(format!("{arch} has a sha256 already; keep one of the two"));
            }
        }
    }
    pins
}

/// Where the digest comes from if the configuration itself does not have it.
fn read_other_source(
    fields: &Fields<'_>,
    placeholders: Placeholders<'_>,
    context: &ArtifactContext<'_>,
) -> Option<DigestSource> {
    if let Some(url) = fields.get("checksumUrl") {
        let filled = url.accept(placeholders.fill(url.text()?))?;
        url.accept(parse_web_url(&filled))?;
        let file = companion(filled, context.mirrors);
        return Some(DigestSource::ChecksumFile(file));
    }
    match context.pin_list {
        DeclaredPinList::Present(list) => Some(DigestSource::List(list.clone())),
        DeclaredPinList::Absent => fields.reject("sha256", missing_digest(context.arch)),
        DeclaredPinList::Invalid => None,
    }
}

fn missing_digest(arch: Arch) -> String {
    format!(
        "missing; an artifact without a digest is never installed: write sha256: {{{arch}: <digest>}}"
    )
}

/// Reads the digest of an image from its sources, which must all name the same one.
pub(super) fn read_image_digest(fields: &Fields<'_>, sources: &[String]) -> Option<DigestSource> {
    for key in ["sha256", "sha512", "checksumUrl"] {
        if let Some(value) = fields.get(key) {
            return value.reject("an image is pinned by the digest in its source; remove this key");
        }
    }
    let digests = sources
        .iter()
        .map(|source| source.parse::<Reference>().ok().map(|it| *it.digest()));
    let digests: Vec<Pin> = digests.collect::<Option<_>>()?;
    let first = digests.first()?;
    if digests.iter().any(|digest| digest != first) {
        let what =
            "the sources name different digests; images are the same only if their digests are";
        return fields.reject("sources", what);
    }
    Some(DigestSource::Configuration(*first))
}

/// Checks that the file can be found in the list or checksum file, and reads the required signature.
pub(super) fn complete_pin(
    fields: &Fields<'_>,
    source: DigestSource,
    sources: &[String],
    placeholders: Placeholders<'_>,
    context: &ArtifactContext<'_>,
) -> Option<DeclaredPin> {
    if !matches!(source, DigestSource::Configuration(_)) {
        check_one_file_name(fields, sources)?;
    }
    let signature = match fields.get("signature") {
        Some(value) => {
            let signature = read_signature(value, placeholders, context)?;
            value.accept(check_signature(&signature, &source, sources))?;
            Some(signature)
        }
        None => None,
    };
    Some(DeclaredPin { source, signature })
}

/// Lists and checksum files identify an artifact by the name of its file, so all sources must have the same name.
fn check_one_file_name(fields: &Fields<'_>, sources: &[String]) -> Option<()> {
    let mut names = sources.iter().map(|source| file_name(source));
    let first = names.next().filter(|name| !name.is_empty());
    match first {
        None => fields.reject(
            "sources",
            "the first source names no file, so that its digest cannot be looked up; end it with the file's name, or write sha256",
        ),
        Some(first) if names.any(|name| name != first) => fields.reject(
            "sources",
            "the sources name different files, so that it is not clear which digest is meant; give all of them the same file name, or write sha256",
        ),
        Some(_) => Some(()),
    }
}

/// Reads `signature`.
fn read_signature(
    value: ConfigValue<'_>,
    placeholders: Placeholders<'_>,
    context: &ArtifactContext<'_>,
) -> Option<RequiredSignature> {
    let fields = value.fields(&["publicKey", "url", "value"])?;
    let fix = "write the key in PEM, as cosign public-key prints it, behind a |";
    let key = fields.require("publicKey", fix);
    let key = key.and_then(ConfigValue::parse::<BlobKey>);
    let location = match (fields.get("url"), fields.get("value")) {
        (Some(url), None) => {
            read_signature_url(url, placeholders, context).map(SignatureLocation::At)
        }
        (None, Some(value)) => value
            .parse::<BlobSignature>()
            .map(SignatureLocation::Inline),
        (None, None) => {
            value.reject("the signature itself is missing; write its url, or its value")
        }
        (Some(_), Some(value)) => value.reject("both url and value are given; keep one of the two"),
    };
    Some(RequiredSignature {
        key: key?,
        location: location?,
    })
}

fn read_signature_url(
    value: ConfigValue<'_>,
    placeholders: Placeholders<'_>,
    context: &ArtifactContext<'_>,
) -> Option<Companion> {
    let url = value.accept(placeholders.fill(value.text()?))?;
    value.accept(check_file_url(&url))?;
    Some(companion(url, context.mirrors))
}

/// Whether a signature can be verified over the digest. A signature in the configuration is verified here.
fn check_signature(
    signature: &RequiredSignature,
    source: &DigestSource,
    sources: &[String],
) -> Result<(), String> {
    if sources.iter().any(|source| is_image_source(source)) {
        return Err(
            "signatures of images are not supported; the digest in their source pins them"
                .to_owned(),
        );
    }
    match (source, &signature.location) {
        (DigestSource::ChecksumFile(_), _) => Err(
            "a signature needs a digest that is trusted; write sha256, or have the list signed (trust.pinList)".to_owned(),
        ),
        (DigestSource::Configuration(Pin::Sha512(_)), _) => Err(
            "the signature is over the artifact's SHA-256; write sha256 in place of sha512".to_owned(),
        ),
        (DigestSource::Configuration(pin), SignatureLocation::Inline(inline)) => signature
            .key
            .verify(pin, inline)
            .map_err(|error| error.to_string()),
        (DigestSource::Configuration(_) | DigestSource::List(_), _) => Ok(()),
    }
}

/// Reads a plugin's own digest: as text, or by architecture like the artifact's.
pub(super) fn read_member_pin(value: ConfigValue<'_>, arch: Arch) -> Option<Sha256> {
    if !matches!(value.yaml(), Yaml::Map(_)) {
        return value.parse_or_suggest(COPY_AGAIN);
    }
    let before = value.problems().count();
    let mut pins = read_by_arch(value, str::parse::<Sha256>, COPY_AGAIN).into_iter();
    let found = pins.find(|(of, ..)| *of == arch);
    if found.is_none() && value.problems().count() == before {
        value.note(format!(
            "no digest for {arch}; add one, or leave all of them out"
        ));
    }
    found.map(|(_, _, digest)| digest)
}

/// Where pins are declared: the mapping that exists, or where `sha256` would be.
fn locate_pins(fields: &Fields<'_>) -> Location {
    match fields.get("sha256") {
        None if fields.get("sha512").is_some() => fields.location_of("sha512"),
        _ => fields.location_of("sha256"),
    }
}

/// Reads `{amd64: …, arm64: …}`.
fn read_by_arch<'a, T>(
    value: ConfigValue<'a>,
    decode: impl Fn(&str) -> Result<T, DigestError>,
    fix: &str,
) -> Vec<(Arch, ConfigValue<'a>, T)> {
    let mut found = Vec::new();
    for (key, value) in value.entries().into_iter().flatten() {
        let Ok(arch) = key.parse::<Arch>() else {
            value.note(describe_unknown_arch(key));
            continue;
        };
        if let Some(text) = value.text()
            && let Some(digest) =
                value.accept(decode(text).map_err(|error| format!("{error}{fix}")))
        {
            found.push((arch, value, digest));
        }
    }
    found
}

/// Upstream names its assets by Go's names of architectures. Many people write the kernel's names, so those are
/// suggested.
fn describe_unknown_arch(name: &str) -> String {
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
        None => format!(
            "unknown architecture; the known ones are {}",
            known.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_names_of_architectures_are_translated() {
        assert!(describe_unknown_arch("x86_64").contains("'amd64'"));
        assert!(describe_unknown_arch("aarch64").contains("'arm64'"));
        assert!(describe_unknown_arch("amd46").contains("'amd64'"));
        assert!(describe_unknown_arch("sparc").contains("known ones are amd64"));
    }
}
