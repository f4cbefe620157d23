//! `trust`, and an artifact's `signature`: the keys of those who say what a digest is.

use super::error::Problems;
use super::mirrors::Mirrors;
use super::read::Fields;
use super::source::{check_source, fill};
use super::tree::Node;
use super::validate::section;
use crate::model::{Arch, Companion};
use crate::trust::{
    BlobKey, BlobSignature, ListKey, PinList, RequiredSignature, SignatureLocation,
};

/// The declared list; `None` where it has a mistake, which is noted by then.
pub(super) type Trusted = Option<Option<PinList>>;

/// Reads `trust.pinList`.
pub(super) fn pin_list(root: &Fields<'_>, mirrors: &Mirrors, problems: &mut Problems) -> Trusted {
    let Some(trust) = section(root, "trust", &["pinList"], problems)? else {
        return Some(None);
    };
    let mend = "write the list's sources and the publicKey that it is signed with";
    let list = trust.require("pinList", mend, problems)?;
    let list = list.fields(&["sources", "publicKey"], problems)?;
    let sources = sources(&list, mirrors, problems);
    let mend = "copy the line of minisign.pub that begins with RW";
    let key = list
        .require("publicKey", mend, problems)
        .and_then(|key| key.parse::<ListKey>("", problems));
    Some(Some(PinList {
        sources: sources?,
        key: key?,
    }))
}

fn sources(
    list: &Fields<'_>,
    mirrors: &Mirrors,
    problems: &mut Problems,
) -> Option<Vec<Companion>> {
    let mend = "list at least one URL, such as https://mirror.example/pins/SHA256SUMS";
    let node = list.require("sources", mend, problems)?;
    node.at_least_one(mend, problems, |item, problems| {
        let text = item.text(problems)?;
        item.note(check_file(text), problems)?;
        Some(companion(text.to_owned(), mirrors))
    })
}

/// Reads an artifact's `signature`.
pub(super) fn blob_signature(
    node: &Node,
    version: &str,
    arch: Arch,
    mirrors: &Mirrors,
    problems: &mut Problems,
) -> Option<RequiredSignature> {
    let fields = node.fields(&["publicKey", "url", "value"], problems)?;
    let mend = "write the key in PEM, as cosign public-key prints it, behind a |";
    let key = fields
        .require("publicKey", mend, problems)
        .and_then(|key| key.parse::<BlobKey>("", problems));
    let whereabouts = match (fields.get("url"), fields.get("value")) {
        (Some(url), None) => at(url, version, arch, problems)
            .map(|url| SignatureLocation::At(companion(url, mirrors))),
        (None, Some(value)) => value
            .parse::<BlobSignature>("", problems)
            .map(SignatureLocation::Inline),
        (None, None) => {
            problems.add(
                &node.at,
                "the signature itself is missing; write the url where it is, or its value",
            );
            None
        }
        (Some(_), Some(value)) => {
            problems.add(&value.at, "there is a url already; keep one of the two");
            None
        }
    };
    Some(RequiredSignature {
        key: key?,
        location: whereabouts?,
    })
}

fn at(node: &Node, version: &str, arch: Arch, problems: &mut Problems) -> Option<String> {
    let filled = node.note(fill(node.text(problems)?, version, arch), problems)?;
    node.note(check_file(&filled), problems)?;
    Some(filled)
}

/// A small file beside artifacts, with its mirrors.
pub(super) fn companion(url: String, mirrors: &Mirrors) -> Companion {
    Companion {
        sources: mirrors.before(vec![url.clone()]),
        url,
    }
}

/// A source that is a file, and no image.
fn check_file(url: &str) -> Result<(), String> {
    check_source(url)?;
    match url.starts_with("oci://") {
        true => Err("what is looked for is a file; use https://, http:// or file://".to_owned()),
        false => Ok(()),
    }
}
