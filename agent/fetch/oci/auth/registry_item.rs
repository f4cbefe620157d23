//! The repository and digest that a registry's URL asks for.

use reqwest::Url;
use url::Origin;

use crate::model::has_loopback_host;

/// The media types of manifests that can be read, for `Accept`. A registry gives no other kind, or converts.
pub(super) const MANIFEST_MEDIA_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Something in a repository of a registry, as the distribution API names it: `ORIGIN/v2/NAME/KIND/DIGEST`.
#[derive(Debug, Clone)]
pub(in crate::fetch) struct RegistryItem {
    pub(super) repository: Repository,
    pub(super) digest: String,
    pub(super) is_manifest: bool,
    /// Whether it is asked for without TLS.
    pub(super) is_plain: bool,
    /// Whether nobody on the network can read the request.
    pub(super) is_private: bool,
}

/// A repository of a registry: what one authorization is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Repository {
    pub(super) origin: Origin,
    /// `HOST` or `HOST:PORT`.
    pub(super) registry: String,
    pub(super) name: String,
}

impl RegistryItem {
    /// What `url` asks for, where that is a registry's.
    pub(in crate::fetch) fn from_url(url: &Url) -> Option<Self> {
        let (rest, digest) = url.path().strip_prefix("/v2/")?.rsplit_once('/')?;
        let (name, kind) = rest.rsplit_once('/')?;
        let is_manifest = kind == "manifests";
        let is_known = is_manifest || kind == "blobs";
        (is_known && digest.contains(':')).then(|| Self {
            repository: Repository {
                origin: url.origin(),
                registry: host_and_port(url),
                name: name.to_owned(),
            },
            digest: digest.to_owned(),
            is_manifest,
            is_plain: url.scheme() == "http",
            is_private: is_private_url(url),
        })
    }

    /// Whether a request to `url` goes to the registry itself, and not where it redirected to.
    pub(in crate::fetch) fn is_at(&self, url: &Url) -> bool {
        url.origin() == self.repository.origin
    }
}

/// `HOST` or `HOST:PORT`, as credentials are filed and messages speak of it.
pub(super) fn host_and_port(url: &Url) -> String {
    url.authority()
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Whether nobody on the network can read a request to `url`: it goes by TLS, or to a loopback address. The name
/// `localhost` does not count, since it may resolve to another address.
pub(super) fn is_private_url(url: &Url) -> bool {
    url.scheme() == "https" || has_loopback_host(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_url_says_what_is_asked_for() {
        let item = |url: &str| RegistryItem::from_url(&url.parse().unwrap());
        let manifest = item("https://u:p@r.example:5000/v2/a/blobs/b/manifests/sha256:1").unwrap();
        assert_eq!(manifest.repository.registry, "r.example:5000");
        assert_eq!(manifest.repository.name, "a/blobs/b");
        assert!(manifest.is_manifest && manifest.digest == "sha256:1");
        assert!(manifest.is_at(&"https://r.example:5000/other".parse().unwrap()));
        for elsewhere in [
            "https://r.example/v2/",
            "http://r.example:5000/",
            "https://cdn/",
        ] {
            assert!(!manifest.is_at(&elsewhere.parse().unwrap()), "{elsewhere}");
        }
        let blob = item("http://[::1]/v2/a/blobs/sha256:1").unwrap();
        assert!(!blob.is_manifest && blob.is_plain && blob.is_private);
        for other in [
            "https://h/v2/a/tags/list",
            "https://h/v2/blobs/sha256:1",
            "https://h/v2/a/manifests/latest",
            "https://h/x/v2/a/blobs/sha256:1",
            "https://h/",
        ] {
            assert!(item(other).is_none(), "{other}");
        }
    }

    #[test]
    fn only_an_address_is_surely_this_machine() {
        let private = |url: &str| is_private_url(&url.parse().unwrap());
        assert!(private("https://a") && private("http://127.9.9.9:1") && private("http://[::1]"));
        assert!(!private("http://localhost") && !private("http://10.0.0.1"));
    }
}
