//! Where a blob can be had. Pure.

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::config;
use crate::fetch::http::redact_url;
use crate::fetch::oci::{BlobDescriptor, BlobKind};
use crate::model::{FileName, Pin, Reference, ReferenceError, Sha256};

/// One source of a blob: a URL, a registry, a file, or a seed.
#[derive(Debug, Clone)]
pub(in crate::fetch) struct BlobSource {
    /// As it may be shown.
    pub(in crate::fetch) shown: String,
    /// The server behind it, as `SCHEME://HOST:PORT`; `None` for this machine's own files.
    pub(in crate::fetch) server: Option<String>,
    pub(in crate::fetch) location: SourceLocation,
}

/// Where the bytes of a source are.
#[derive(Debug, Clone)]
pub(in crate::fetch) enum SourceLocation {
    /// Asked for by a GET.
    Web(Url),
    /// A file of this machine.
    File(PathBuf),
    /// A file of a seed, which need not have it.
    Seed {
        path: PathBuf,
        /// What is looked for in the seed, for the message that it is not there; empty where another source of the
        /// same seed says it.
        looked_for: String,
    },
    /// Cannot be asked, for this reason.
    Unusable(String),
}

impl BlobSource {
    /// From a source of the configuration.
    pub(in crate::fetch) fn from_url(source: &str) -> Self {
        let (location, server) = match Url::parse(source) {
            Err(error) => (SourceLocation::Unusable(error.to_string()), None),
            Ok(url) => match (url.scheme(), url.to_file_path()) {
                ("http" | "https", _) => {
                    let server = server_address(&url);
                    (SourceLocation::Web(url), Some(server))
                }
                ("file", Ok(path)) => (SourceLocation::File(path), None),
                ("file", Err(())) => {
                    let what = "a file URL has no host: file:///path".to_owned();
                    (SourceLocation::Unusable(what), None)
                }
                (other, _) => (
                    SourceLocation::Unusable(format!("its scheme is '{other}'")),
                    None,
                ),
            },
        };
        Self {
            shown: redact_url(source),
            server,
            location,
        }
    }

    /// A blob of an image in the repository that one of the image's sources names.
    pub(in crate::fetch) fn in_registry(
        source: &str,
        settings: &config::FetchSettings,
        blob: &BlobDescriptor,
    ) -> Self {
        let reference: Reference = match source.parse() {
            Ok(reference) => reference,
            Err(error) => {
                return Self {
                    shown: redact_url(source),
                    server: None,
                    location: SourceLocation::Unusable(ReferenceError::to_string(&error)),
                };
            }
        };
        let (registry, repository) = (reference.registry(), reference.repository());
        let scheme = settings.registry_scheme(registry, repository);
        let url = match blob.kind {
            BlobKind::Manifest => reference.manifest_url(scheme, &blob.pin),
            BlobKind::Layer => reference.blob_url(scheme, &blob.pin),
        };
        Self {
            shown: format!("oci://{registry}/{repository}@{}", blob.pin),
            ..Self::from_url(&url)
        }
    }

    /// A blob in a seed: by its digest, and then by the names that its sources give it. The layout is that of an OCI
    /// image layout, so that one can be used as a seed; a file under its own name is what people put there by hand.
    pub(in crate::fetch) fn all_in_seed(
        seed: &Path,
        pin: &Pin,
        names: &[FileName],
    ) -> impl Iterator<Item = Self> {
        let digest = pin.to_string();
        let (algorithm, hex) = digest.split_once(':').unwrap_or(("", &digest));
        let blob = format!("blobs/{algorithm}/{hex}");
        let also = names.iter().map(|name| format!(" or {name}"));
        let looked_for = format!("{blob}{}", also.collect::<String>());
        let by_digest = Self::in_seed_at(seed, seed.join(blob), looked_for);
        let by_name = names.iter().map(|name| {
            let path = seed.join(name.as_str());
            Self::in_seed_at(seed, path, String::new())
        });
        std::iter::once(by_digest).chain(by_name.collect::<Vec<_>>())
    }

    /// The name of the file behind a source; `None` where it has none, as in a registry.
    pub(in crate::fetch) fn file_name(&self) -> Option<FileName> {
        let name = match &self.location {
            SourceLocation::Web(url) => url.path_segments()?.next_back()?.to_owned(),
            SourceLocation::File(path) => path.file_name()?.to_str()?.to_owned(),
            SourceLocation::Seed { .. } | SourceLocation::Unusable(_) => return None,
        };
        // A digest at a registry, or a name that is written in another way in the URL.
        let is_plain = !name.contains([':', '%']);
        name.parse().ok().filter(|_| is_plain)
    }

    /// A small file without a pin in a seed, by the URL of its declaration.
    pub(in crate::fetch) fn in_seed_by_url(seed: &Path, url: &str) -> Self {
        let name = format!("by-url/{}", Sha256::of(url.as_bytes()));
        Self::in_seed_at(seed, seed.join(&name), name)
    }

    fn in_seed_at(seed: &Path, path: PathBuf, looked_for: String) -> Self {
        Self {
            shown: format!("seed {}", seed.display()),
            server: None,
            location: SourceLocation::Seed { path, looked_for },
        }
    }

    /// Whether it takes no network.
    pub(in crate::fetch) const fn is_local(&self) -> bool {
        matches!(
            self.location,
            SourceLocation::File(_) | SourceLocation::Seed { .. }
        )
    }
}

fn server_address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}://{host}:{port}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_scheme_host_and_port() {
        for (source, server) in [
            ("https://h/a", Some("https://h:443")),
            ("https://h:443/b?c", Some("https://h:443")),
            ("http://H/a", Some("http://h:80")),
            ("https://[::1]:8443/a", Some("https://[::1]:8443")),
            ("file:///a", None),
            ("ftp://h/a", None),
            ("a", None),
        ] {
            assert_eq!(
                BlobSource::from_url(source).server.as_deref(),
                server,
                "{source}"
            );
        }
    }

    #[test]
    fn a_seed_is_laid_out_as_an_image_layout_is() {
        let hex = "b98f74a0f8522f0a83867178729c1aa70f2158f90c45a2ca8fa791db1c76b303";
        let names: Vec<FileName> = [
            "https://h/a/p.tgz?x",
            "http://h/v2/a/blobs/sha256:1",
            "https://h/",
            "https://h/..",
        ]
        .iter()
        .filter_map(|url| BlobSource::from_url(url).file_name())
        .collect();
        let pin = Pin::sha256(hex).unwrap();
        let places: Vec<(PathBuf, String)> =
            BlobSource::all_in_seed(Path::new("/seed"), &pin, &names)
                .map(|place| match place.location {
                    SourceLocation::Seed { path, looked_for } => (path, looked_for),
                    other => panic!("{other:?}"),
                })
                .collect();
        let blob = format!("blobs/sha256/{hex}");
        let expected = [
            (
                PathBuf::from(format!("/seed/{blob}")),
                format!("{blob} or p.tgz"),
            ),
            (PathBuf::from("/seed/p.tgz"), String::new()),
        ];
        assert_eq!(places, expected);
    }
}
