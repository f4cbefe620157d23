//! Manifests and indexes as the OCI image specification and Docker's "image manifest version 2, schema 2" have them.
//! Pure, from bytes whose digest is already verified.
//!
//! Only what an image consists of is read; who made it, when and why is ignored.

use serde::Deserialize;

use crate::model::{Arch, DigestError, FailureKind, Pin, escape_name, quote_error};

/// The largest manifest: what registries accept.
const LARGEST_MANIFEST: u64 = 4 << 20;
/// The most layers: the kernel's overlay file system takes one less.
const MOST_LAYERS: usize = 128;
/// The longest title: that of a path.
const LONGEST_TITLE: usize = 4096;
/// The media type of the layer in an artifact that has only a manifest.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Which of a registry's two kinds of content a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fetch) enum BlobKind {
    /// An index or a manifest, under `/manifests/`.
    Manifest,
    /// A layer, under `/blobs/`.
    Layer,
}

/// A blob by its digest, as the index or manifest above it describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fetch) struct BlobDescriptor {
    pub(in crate::fetch) kind: BlobKind,
    pub(in crate::fetch) pin: Pin,
    /// Its bytes as announced; of the topmost manifest nobody announces them.
    pub(in crate::fetch) size: Option<u64>,
    /// The name of the file that it is, for an artifact that is no container image: the annotation
    /// `org.opencontainers.image.title`.
    pub(in crate::fetch) title: Option<String>,
}

impl BlobDescriptor {
    /// What an image's reference names.
    #[must_use]
    pub(in crate::fetch) const fn from_reference(pin: Pin) -> Self {
        Self {
            kind: BlobKind::Manifest,
            pin,
            size: None,
            title: None,
        }
    }

    /// Compares with the size that was announced. What is larger or smaller is refused although its digest is right,
    /// as the OCI specification asks.
    pub(in crate::fetch) const fn check_size(&self, bytes: u64) -> Result<(), ImageError> {
        let pin = self.pin;
        match (self.size, self.kind) {
            (Some(announced), _) if announced != bytes => Err(ImageError::Size {
                pin,
                announced,
                actual: bytes,
            }),
            (_, BlobKind::Manifest) if bytes > LARGEST_MANIFEST => {
                Err(ImageError::LargeManifest { pin, bytes })
            }
            _ => Ok(()),
        }
    }

    /// The most bytes that are worth fetching, within `max_size` for a layer.
    #[must_use]
    pub(in crate::fetch) fn max_size(&self, max_size: u64) -> u64 {
        let most = match self.kind {
            BlobKind::Manifest => LARGEST_MANIFEST,
            BlobKind::Layer => max_size,
        };
        self.size.map_or(most, |size| size.min(most))
    }
}

/// Why the bytes of a verified digest are no image that can be used on this node.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a manifest at all.
    #[error(
        "{pin} is not the manifest or index of an image: {}; check that the digest is of one, not of a layer or a configuration",
        quote_error(source)
    )]
    NotAManifest {
        pin: Pin,
        #[source]
        source: serde_json::Error,
    },
    /// JSON, and neither or both of index and manifest.
    #[error("{pin} is refused: it has {what}")]
    Shape { pin: Pin, what: &'static str },
    /// A form that has gone out of use.
    #[error(
        "{0} is a schema 1 manifest, which says nothing about what its layers hold that could be relied on; push the image again with a tool of today"
    )]
    Schema1(Pin),
    /// A manifest that is too large to be one.
    #[error("{pin} has {bytes} bytes, a manifest has {LARGEST_MANIFEST} at most")]
    LargeManifest { pin: Pin, bytes: u64 },
    /// It has no image for this platform.
    #[error("{pin} has no image for linux/{arch}; it has {there}")]
    Platform {
        pin: Pin,
        arch: Arch,
        /// What it has, shortened.
        there: String,
    },
    /// Indexes in indexes.
    #[error("{0} is an index within an index within an index; pin the inner one")]
    Nested(Pin),
    /// A digest of a kind that is not known here.
    #[error("{pin} names a blob by the digest '{digest}': {reason}")]
    Digest {
        pin: Pin,
        digest: String,
        reason: String,
    },
    /// A layer that registries may not hold.
    #[error(
        "layer {0} is non-distributable: it is only at URLs of its own; build the image without such a base"
    )]
    Foreign(Pin),
    /// More layers than any system can mount.
    #[error("{pin} has {layers} layers, {MOST_LAYERS} are the most")]
    Layers { pin: Pin, layers: usize },
    /// A blob is not as large as was announced.
    #[error("{pin} has {actual} bytes where {announced} were announced; the image is damaged")]
    Size {
        pin: Pin,
        announced: u64,
        actual: u64,
    },
}

impl ImageError {
    /// The kind for metrics, which also decides whether to try again.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        FailureKind::Image
    }
}

/// What a digest turned out to name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ManifestDocument {
    Index(Vec<IndexEntry>),
    /// The layers, the topmost first.
    Manifest(Vec<BlobDescriptor>),
}

/// One of the manifests that an index offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) manifest: BlobDescriptor,
    pub(super) platform: Option<Platform>,
    /// Whether it is an index itself.
    pub(super) nested: bool,
}

/// Names as Go has them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
}

#[derive(Deserialize)]
struct RawDocument {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    manifests: Option<Vec<RawDescriptor>>,
    layers: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    urls: Option<Vec<String>>,
    annotations: Option<RawAnnotations>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct RawAnnotations {
    #[serde(rename = "org.opencontainers.image.title")]
    title: Option<String>,
}

/// Reads what `pin` names.
pub(super) fn parse_manifest(pin: Pin, bytes: &[u8]) -> Result<ManifestDocument, ImageError> {
    let raw: RawDocument =
        serde_json::from_slice(bytes).map_err(|source| ImageError::NotAManifest { pin, source })?;
    if raw.schema_version == Some(1) {
        return Err(ImageError::Schema1(pin));
    }
    match (raw.manifests, raw.layers) {
        (Some(entries), None) => {
            let entries = entries.into_iter().map(|raw| raw.into_index_entry(pin));
            Ok(ManifestDocument::Index(entries.collect::<Result<_, _>>()?))
        }
        (None, Some(layers)) if layers.len() > MOST_LAYERS => Err(ImageError::Layers {
            pin,
            layers: layers.len(),
        }),
        (None, Some(layers)) => {
            let layers = layers.into_iter().rev();
            let layers = layers.filter(|raw| raw.media_type != EMPTY);
            let layers = layers.map(|raw| raw.into_layer(pin));
            Ok(ManifestDocument::Manifest(
                layers.collect::<Result<_, _>>()?,
            ))
        }
        // One reader takes it for an index and the next for a manifest (CVE-2021-41190).
        (Some(_), Some(_)) => Err(ImageError::Shape {
            pin,
            what: "both manifests and layers, which tools read in different ways",
        }),
        (None, None) => Err(ImageError::Shape {
            pin,
            what: "neither manifests nor layers; pin an image's manifest or index",
        }),
    }
}

impl RawDescriptor {
    fn into_index_entry(self, within: Pin) -> Result<IndexEntry, ImageError> {
        Ok(IndexEntry {
            manifest: self.to_descriptor(within, BlobKind::Manifest)?,
            nested: self.media_type.ends_with(".image.index.v1+json")
                || self.media_type.ends_with(".manifest.list.v2+json"),
            platform: self.platform,
        })
    }

    fn into_layer(self, within: Pin) -> Result<BlobDescriptor, ImageError> {
        let mut layer = self.to_descriptor(within, BlobKind::Layer)?;
        if self.urls.is_some_and(|urls| !urls.is_empty()) {
            return Err(ImageError::Foreign(layer.pin));
        }
        let title = self.annotations.and_then(|annotations| annotations.title);
        layer.title = title.filter(|title| title.len() <= LONGEST_TITLE);
        Ok(layer)
    }

    fn to_descriptor(&self, within: Pin, kind: BlobKind) -> Result<BlobDescriptor, ImageError> {
        Ok(BlobDescriptor {
            kind,
            pin: parse_digest(&self.digest).map_err(|reason| ImageError::Digest {
                pin: within,
                digest: escape_name(&self.digest, 80),
                reason,
            })?,
            size: Some(self.size),
            title: None,
        })
    }
}

/// `sha256:…` or `sha512:…`, the two that the specification registers.
fn parse_digest(text: &str) -> Result<Pin, String> {
    let pin = match text.split_once(':') {
        Some(("sha256", hex)) => Pin::sha256(hex),
        Some(("sha512", hex)) => Pin::sha512(hex),
        _ => return Err("only sha256: and sha512: are known".to_owned()),
    };
    pin.map_err(|error: DigestError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: Pin = Pin::Sha256([7; 32]);

    fn layer(byte: u8, more: &str) -> String {
        let digest = Pin::Sha256([byte; 32]);
        format!(r#"{{"mediaType":"any","digest":"{digest}","size":{byte}{more}}}"#)
    }

    fn manifest(layers: &[String]) -> Result<Vec<BlobDescriptor>, ImageError> {
        let text = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","));
        match parse_manifest(PIN, text.as_bytes())? {
            ManifestDocument::Manifest(layers) => Ok(layers),
            ManifestDocument::Index(_) => panic!("an index"),
        }
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        parse_manifest(PIN, text.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn layers_come_from_the_top_down_and_without_the_empty_one() {
        let title = r#","annotations":{"a":"b","org.opencontainers.image.title":"bridge"}"#;
        let empty = layer(3, "").replace("any", EMPTY);
        let layers = manifest(&[layer(1, ""), empty, layer(2, title)]).unwrap();
        let [top, bottom] = &layers[..] else {
            panic!("{layers:?}");
        };
        assert_eq!(top.pin, Pin::Sha256([2; 32]));
        assert_eq!(top.title.as_deref(), Some("bridge"));
        assert_eq!((bottom.size, &bottom.title), (Some(1), &None));
        assert_eq!(bottom.max_size(100), 1, "no more than was announced");
        assert_eq!(top.max_size(1), 1, "and no more than may be");
        let root = BlobDescriptor::from_reference(PIN);
        assert_eq!(root.max_size(u64::MAX), LARGEST_MANIFEST);
    }

    /// Fault 52: what is within the size of a manifest and no manifest all the same.
    #[test]
    fn fault_52_a_mountain_of_layers_and_huge_annotations() {
        let many: Vec<String> = (0..10_000).map(|n| layer((n % 251) as u8, "")).collect();
        let error = manifest(&many).unwrap_err().to_string();
        assert!(error.contains("10000 layers"), "{error}");
        assert_eq!(manifest(&many[..MOST_LAYERS]).unwrap().len(), MOST_LAYERS);

        let huge = format!(
            r#","annotations":{{"org.opencontainers.image.title":"{0}","x":"{0}"}}"#,
            "x".repeat(1 << 20)
        );
        assert_eq!(manifest(&[layer(1, &huge)]).unwrap()[0].title, None);
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        assert!(refused("<html>").contains("is not the manifest"));
        assert!(refused("[]").contains("is not the manifest"));
        assert!(refused("{}").contains("neither manifests nor layers"));
        assert!(refused(r#"{"manifests":[],"layers":[]}"#).contains("both"));
        assert!(refused(r#"{"schemaVersion":1,"fsLayers":[]}"#).contains("schema 1"));
        let twice = r#"{"layers":[],"layers":[]}"#;
        assert!(refused(twice).contains("duplicate"), "{}", refused(twice));
        let foreign = manifest(&[layer(1, r#","urls":["https://far.example/l"]"#)]);
        assert!(
            foreign
                .unwrap_err()
                .to_string()
                .contains("non-distributable")
        );
        manifest(&[layer(1, r#","urls":[]"#)]).unwrap();
    }

    #[test]
    fn a_digest_of_another_kind_is_refused() {
        for (digest, reason) in [
            ("md5:00", "only sha256: and sha512:"),
            ("sha256:00", "64 hexadecimal digits"),
            ("../../etc", "only sha256: and sha512:"),
        ] {
            let error = refused(&format!(
                r#"{{"layers":[{{"digest":"{digest}","size":1}}]}}"#
            ));
            assert!(error.contains(reason), "{error}");
        }
        let long = format!("sha512:{}", "a".repeat(128));
        assert_eq!(parse_digest(&long).unwrap().to_string(), long);
    }
}
