//! What the configuration says about an artifact's digest.

use serde::{Deserialize, Serialize};

use super::blob_signature::{BlobKey, BlobSignature};
use super::list_key::ListKey;
use crate::model::{Artifact, Companion, Pin};

/// How the digest of a declared artifact is found. An `Artifact<DeclaredPin>` is declared, an `Artifact<Pin>` may
/// be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPin {
    /// Where the digest comes from.
    pub source: DigestSource,
    /// A signature over the digest, if one is required.
    pub signature: Option<RequiredSignature>,
}

/// Where a digest comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DigestSource {
    /// The configuration itself. This is the strongest source and needs no network.
    Configuration(Pin),
    /// A signed list.
    List(PinList),
    /// A checksum file. It only shows that the artifact was transferred without damage.
    ChecksumFile(Companion),
}

/// A list of digests, signed with minisign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinList {
    /// Where the list is. Its signature is beside it in each place.
    pub sources: Vec<Companion>,
    /// The key that it must be signed with.
    pub key: ListKey,
}

/// A signature that an artifact must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredSignature {
    /// The key that it must be made with.
    pub key: BlobKey,
    /// Where it is.
    pub location: SignatureLocation,
}

/// Where a signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureLocation {
    /// In the configuration.
    Inline(BlobSignature),
    /// In a file of its own.
    At(Companion),
}

/// What a resolved digest is valid for. When the configuration says something else, the digest is resolved again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinDeclaration {
    artifact: String,
    version: String,
    arch: String,
    file: String,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

impl DeclaredPin {
    /// The digest, if it is known without a request. A digest that a signature in a file must confirm is not.
    #[must_use]
    pub const fn known_pin(&self) -> Option<Pin> {
        match (&self.source, &self.signature) {
            (DigestSource::Configuration(pin), None) => Some(*pin),
            // The signature was verified when the configuration was read.
            (
                DigestSource::Configuration(pin),
                Some(RequiredSignature {
                    location: SignatureLocation::Inline(_),
                    ..
                }),
            ) => Some(*pin),
            _ => None,
        }
    }

    /// Where the digest comes from, for people: `configuration`, `signed list (key 767272C6298AD344)` or `checksum
    /// file`, with the key of the artifact's own signature if one is required.
    #[must_use]
    pub fn describe_source(&self) -> String {
        let by = match &self.source {
            DigestSource::Configuration(_) => "configuration".to_owned(),
            DigestSource::List(list) => format!("signed list (key {})", list.key.id()),
            DigestSource::ChecksumFile(_) => "checksum file".to_owned(),
        };
        match &self.signature {
            None => by,
            Some(signature) => format!("{by}, signed (key {})", signature.key),
        }
    }
}

impl PinDeclaration {
    /// What a digest that is resolved for this artifact is valid for.
    #[must_use]
    pub fn of(artifact: &Artifact<DeclaredPin>) -> Self {
        let signature = artifact.pin.signature.as_ref();
        Self {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
            arch: artifact.arch.to_string(),
            file: artifact_file_name(artifact).to_owned(),
            by: match &artifact.pin.source {
                DigestSource::Configuration(pin) => pin.to_string(),
                DigestSource::List(list) => format!("minisign {}", list.key),
                DigestSource::ChecksumFile(_) => "checksum file".to_owned(),
            },
            signature: signature.map(|signature| signature.key.fingerprint().to_string()),
        }
    }
}

/// The name of an artifact in a list: the name of its file at the source.
#[must_use]
pub fn artifact_file_name(artifact: &Artifact<DeclaredPin>) -> &str {
    let source = artifact.sources.first();
    source.map_or("", |source| file_name(source))
}

/// The last segment of a URL's path.
#[must_use]
pub fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    path.rsplit_once('/').map_or("", |(_, name)| name)
}

/// The URL of the signature of a list, which is beside the list.
#[must_use]
pub fn list_signature_url(url: &str) -> String {
    // The query stays, because mirrors with a token need it.
    let end = url.find(['?', '#']).unwrap_or(url.len());
    format!("{}.minisig{}", &url[..end], &url[end..])
}

/// Why the source of an artifact's digest is weak, and what would be better; `None` if it is not.
#[must_use]
pub fn describe_weakness(artifact: &Artifact<DeclaredPin>) -> Option<String> {
    let DigestSource::ChecksumFile(file) = &artifact.pin.source else {
        return None;
    };
    let how = match file.url.starts_with("https://") {
        true => "a checksum file, which anyone who can change the artifact can change as well",
        false => {
            "a checksum file over plain HTTP, where anyone on the network path can change it and the artifact"
        }
    };
    Some(format!(
        "the digest of {} {} comes from {how}; pin it with sha256, or have a list signed (trust.pinList)",
        artifact.name, artifact.version
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_is_the_last_of_its_path() {
        for (url, name) in [
            ("https://h/a/p.tgz", "p.tgz"),
            ("https://h/a/p.tgz?token=a/b", "p.tgz"),
            ("file:///srv/p", "p"),
            ("https://h", ""),
            ("https://h/", ""),
            ("https://h/a/", ""),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }

    #[test]
    fn the_signature_lies_beside_the_list() {
        for (url, signature) in [
            ("https://h/SHA256SUMS", "https://h/SHA256SUMS.minisig"),
            ("https://h/s?sv=1&sig=2", "https://h/s.minisig?sv=1&sig=2"),
            ("file:///srv/s", "file:///srv/s.minisig"),
        ] {
            assert_eq!(list_signature_url(url), signature);
        }
    }
}
