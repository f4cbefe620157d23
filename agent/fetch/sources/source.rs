//! Where one pinned blob is to be had, in the order in which the places are asked. Pure.

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::config;
use crate::fetch::http::redact::redacted;
use crate::fetch::oci::manifest::{Descriptor, Kind};
use crate::model::{Pin, Reference, ReferenceError, Sha256};

/// One place to ask for a blob.
#[derive(Debug)]
pub(in crate::fetch) struct Place {
    /// As it may be shown.
    pub(in crate::fetch) shown: String,
    /// The server behind it, as `SCHEME://HOST:PORT`; `None` for this machine's own files.
    pub(in crate::fetch) server: Option<String>,
    pub(in crate::fetch) way: Way,
}

/// How a blob is had from its place.
#[derive(Debug)]
pub(in crate::fetch) enum Way {
    /// By a GET.
    Web(Url),
    /// A file of this machine.
    File(PathBuf),
    /// A file of a seed, which need not have it.
    Seed(PathBuf),
    /// Not at all, for this reason.
    Unusable(String),
}

impl Place {
    /// The place that a source names.
    pub(in crate::fetch) fn of(source: &str) -> Self {
        let (way, server) = match Url::parse(source) {
            Err(error) => (Way::Unusable(error.to_string()), None),
            Ok(url) => match (url.scheme(), url.to_file_path()) {
                ("http" | "https", _) => {
                    let server = server_of(&url);
                    (Way::Web(url), Some(server))
                }
                ("file", Ok(path)) => (Way::File(path), None),
                ("file", Err(())) => {
                    let what = "a file URL has no host: file:///path".to_owned();
                    (Way::Unusable(what), None)
                }
                (other, _) => (Way::Unusable(format!("its scheme is '{other}'")), None),
            },
        };
        Self {
            shown: redacted(source),
            server,
            way,
        }
    }

    /// The place of a blob of an image in the repository that one of the image's sources names.
    pub(in crate::fetch) fn in_registry(
        source: &str,
        settings: &config::FetchSettings,
        blob: &Descriptor,
    ) -> Self {
        let reference: Reference = match source.parse() {
            Ok(reference) => reference,
            Err(error) => {
                return Self {
                    shown: redacted(source),
                    server: None,
                    way: Way::Unusable(ReferenceError::to_string(&error)),
                };
            }
        };
        let (registry, repository) = (reference.registry(), reference.repository());
        let scheme = settings.registry_scheme(registry, repository);
        let url = match blob.kind {
            Kind::Manifest => reference.manifest_url(scheme, &blob.pin),
            Kind::Layer => reference.blob_url(scheme, &blob.pin),
        };
        Self {
            shown: format!("oci://{registry}/{repository}@{}", blob.pin),
            ..Self::of(&url)
        }
    }

    /// The place in a seed where the blob with this digest would be: as in an OCI image layout, so that one serves as
    /// a seed as it is.
    pub(in crate::fetch) fn in_seed(seed: &Path, pin: &Pin) -> Self {
        let digest = pin.to_string();
        let (algorithm, hex) = digest.split_once(':').unwrap_or(("", &digest));
        Self::seeded(seed, seed.join("blobs").join(algorithm).join(hex))
    }

    /// The place in a seed where a small file without a pin would be, by the URL that it is declared by.
    pub(in crate::fetch) fn by_url(seed: &Path, url: &str) -> Self {
        let name = Sha256::of(url.as_bytes()).to_string();
        Self::seeded(seed, seed.join("by-url").join(name))
    }

    fn seeded(seed: &Path, path: PathBuf) -> Self {
        Self {
            shown: format!("seed {}", seed.display()),
            server: None,
            way: Way::Seed(path),
        }
    }

    /// Whether it takes no network.
    pub(in crate::fetch) const fn is_local(&self) -> bool {
        matches!(self.way, Way::File(_) | Way::Seed(_))
    }
}

fn server_of(url: &Url) -> String {
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
            assert_eq!(Place::of(source).server.as_deref(), server, "{source}");
        }
    }

    #[test]
    fn a_seed_is_laid_out_as_an_image_layout_is() {
        let hex = "b98f74a0f8522f0a83867178729c1aa70f2158f90c45a2ca8fa791db1c76b303";
        let place = Place::in_seed(Path::new("/seed"), &Pin::sha256(hex).unwrap());
        let expected = PathBuf::from(format!("/seed/blobs/sha256/{hex}"));
        assert!(matches!(place.way, Way::Seed(path) if path == expected));
        assert_eq!(place.shown, "seed /seed");
    }
}
