//! Which redirects are followed. Pure.

use reqwest::Url;

use super::redact::redact_foreign_url;

/// The longest chain that is followed; release hosts in use need two.
const MAX_HOPS: usize = 5;

/// Why a redirect is not followed. Addresses are shown without user information and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// A redirect whose `Location` is missing or is no URL.
    #[error("the redirect names no usable location")]
    NoLocation,
    /// From https to http, where others on the network could read and change what follows.
    #[error("it redirects from https down to {0}; use the final https URL as the source")]
    Downgrade(String),
    /// To something that is neither http nor https.
    #[error("it redirects to {0}, which is neither http nor https")]
    Scheme(String),
    /// Back to an address that was asked already.
    #[error("it redirects in a loop, back to {0}")]
    Loop(String),
    /// From a public address to one of this machine or its network.
    #[error(
        "a public server sends to {0}, which is an address of this machine or its network; if that is right, name it as a \
         prefix under fetch.access"
    )]
    Internal(String),
    /// More hops than are followed.
    #[error("it redirects more than {MAX_HOPS} times")]
    TooMany,
}

/// The addresses asked so far for one download.
#[derive(Debug)]
pub(in crate::fetch) struct RedirectChain {
    asked: Vec<Url>,
    current: Url,
    is_public_only: bool,
}

impl RedirectChain {
    /// Starts at the source itself.
    pub(in crate::fetch) const fn new(source: Url) -> Self {
        Self {
            asked: Vec::new(),
            current: source,
            is_public_only: false,
        }
    }

    /// Whether the current address must not lead to this machine or its network, because a public server named it.
    pub(super) const fn is_public_only(&self) -> bool {
        self.is_public_only
    }

    /// The same with another answer to [`Self::is_public_only`].
    pub(in crate::fetch) fn restricted(self, is_public_only: bool) -> Self {
        Self {
            is_public_only,
            ..self
        }
    }

    /// Sets the answer to [`Self::is_public_only`].
    pub(super) const fn restrict(&mut self, is_public_only: bool) {
        self.is_public_only = is_public_only;
    }

    /// The address to ask.
    pub(in crate::fetch) const fn current(&self) -> &Url {
        &self.current
    }

    /// Moves on to where `location` points, relative to the current address.
    pub(super) fn follow(&mut self, location: Option<&str>) -> Result<(), RedirectError> {
        let next = location
            .and_then(|location| self.current.join(location).ok())
            .ok_or(RedirectError::NoLocation)?;
        match (self.current.scheme(), next.scheme()) {
            ("https", "http") => return Err(RedirectError::Downgrade(redact_foreign_url(&next))),
            (_, "http" | "https") => {}
            _ => return Err(RedirectError::Scheme(redact_foreign_url(&next))),
        }
        if next == self.current || self.asked.contains(&next) {
            return Err(RedirectError::Loop(redact_foreign_url(&next)));
        }
        if self.asked.len() == MAX_HOPS {
            return Err(RedirectError::TooMany);
        }
        self.asked.push(std::mem::replace(&mut self.current, next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(from: &str) -> RedirectChain {
        RedirectChain::new(from.parse().unwrap())
    }

    #[test]
    fn a_relative_and_an_upgrading_redirect_are_followed() {
        let mut chain = start("http://mirror/a/b.tgz");
        chain.follow(Some("c.tgz?sig=1")).unwrap();
        assert_eq!(chain.current().as_str(), "http://mirror/a/c.tgz?sig=1");
        chain.follow(Some("https://cdn/x")).unwrap();
        assert_eq!(chain.current().as_str(), "https://cdn/x");
    }

    /// Fault 44: no downgrade, no other scheme, no loop, no endless chain; secrets of a signed URL stay out.
    #[test]
    fn fault_44_bad_redirects_are_refused() {
        assert_eq!(
            start("https://a/x").follow(Some("http://u:p@b/y?token=s")),
            Err(RedirectError::Downgrade("http://b/y?…".to_owned()))
        );
        for stranger in ["file:///etc/shadow", "ftp://b/y", "data:,x"] {
            assert!(
                matches!(
                    start("http://a/x").follow(Some(stranger)),
                    Err(RedirectError::Scheme(_))
                ),
                "{stranger}"
            );
        }
        assert_eq!(
            start("http://a/x").follow(None),
            Err(RedirectError::NoLocation)
        );
        assert_eq!(
            start("http://a/x").follow(Some("http://[")),
            Err(RedirectError::NoLocation)
        );

        let mut circle = start("http://a/1");
        circle.follow(Some("/2")).unwrap();
        assert_eq!(
            circle.follow(Some("/1")),
            Err(RedirectError::Loop("http://a/1".to_owned()))
        );
        assert!(matches!(
            circle.follow(Some("/2")),
            Err(RedirectError::Loop(_))
        ));

        let mut long = start("http://a/0");
        for hop in 1..=MAX_HOPS {
            long.follow(Some(&format!("/{hop}"))).unwrap();
        }
        assert_eq!(long.follow(Some("/more")), Err(RedirectError::TooMany));
    }
}
