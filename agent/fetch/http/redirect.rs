//! Which redirects are followed. Pure.

use reqwest::Url;

use super::redact::redacted_briefly;

/// The longest chain that is followed; release hosts in use need two.
const MOST_HOPS: usize = 5;

/// Why a redirect is not followed. Addresses are shown without user information and query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A redirect whose `Location` is missing or is no URL.
    #[error("the redirect names no usable location")]
    NoLocation,
    /// From https to http: whoever is between could read and change what follows.
    #[error("it redirects from https down to {0}; use the final https URL as the source")]
    Downgrade(String),
    /// To something that is neither http nor https.
    #[error("it redirects to {0}, which is neither http nor https")]
    Scheme(String),
    /// Back to an address that was asked already.
    #[error("it redirects in a loop, back to {0}")]
    Loop(String),
    /// More hops than are followed.
    #[error("it redirects more than {MOST_HOPS} times")]
    TooMany,
}

/// The addresses asked so far for one download.
#[derive(Debug)]
pub(in crate::fetch) struct Trail {
    asked: Vec<Url>,
    current: Url,
}

impl Trail {
    /// Starts at the source itself.
    pub(in crate::fetch) const fn new(source: Url) -> Self {
        Self {
            asked: Vec::new(),
            current: source,
        }
    }

    /// The address to ask.
    pub(in crate::fetch) const fn current(&self) -> &Url {
        &self.current
    }

    /// Moves on to where `location` points, relative to the current address.
    pub(in crate::fetch) fn follow(&mut self, location: Option<&str>) -> Result<(), Refusal> {
        let next = location
            .and_then(|location| self.current.join(location).ok())
            .ok_or(Refusal::NoLocation)?;
        match (self.current.scheme(), next.scheme()) {
            ("https", "http") => return Err(Refusal::Downgrade(redacted_briefly(&next))),
            (_, "http" | "https") => {}
            _ => return Err(Refusal::Scheme(redacted_briefly(&next))),
        }
        if next == self.current || self.asked.contains(&next) {
            return Err(Refusal::Loop(redacted_briefly(&next)));
        }
        if self.asked.len() == MOST_HOPS {
            return Err(Refusal::TooMany);
        }
        self.asked.push(std::mem::replace(&mut self.current, next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(from: &str) -> Trail {
        Trail::new(from.parse().unwrap())
    }

    #[test]
    fn a_relative_and_an_upgrading_redirect_are_followed() {
        let mut trail = trail("http://mirror/a/b.tgz");
        trail.follow(Some("c.tgz?sig=1")).unwrap();
        assert_eq!(trail.current().as_str(), "http://mirror/a/c.tgz?sig=1");
        trail.follow(Some("https://cdn/x")).unwrap();
        assert_eq!(trail.current().as_str(), "https://cdn/x");
    }

    /// Fault 44: no downgrade, no other scheme, no loop, no endless chain; secrets of a signed URL stay out.
    #[test]
    fn fault_44_bad_redirects_are_refused() {
        assert_eq!(
            trail("https://a/x").follow(Some("http://u:p@b/y?token=s")),
            Err(Refusal::Downgrade("http://b/y?…".to_owned()))
        );
        for stranger in ["file:///etc/shadow", "ftp://b/y", "data:,x"] {
            assert!(
                matches!(
                    trail("http://a/x").follow(Some(stranger)),
                    Err(Refusal::Scheme(_))
                ),
                "{stranger}"
            );
        }
        assert_eq!(trail("http://a/x").follow(None), Err(Refusal::NoLocation));
        assert_eq!(
            trail("http://a/x").follow(Some("http://[")),
            Err(Refusal::NoLocation)
        );

        let mut circle = trail("http://a/1");
        circle.follow(Some("/2")).unwrap();
        assert_eq!(
            circle.follow(Some("/1")),
            Err(Refusal::Loop("http://a/1".to_owned()))
        );
        assert!(matches!(circle.follow(Some("/2")), Err(Refusal::Loop(_))));

        let mut chain = trail("http://a/0");
        for hop in 1..=MOST_HOPS {
            chain.follow(Some(&format!("/{hop}"))).unwrap();
        }
        assert_eq!(chain.follow(Some("/more")), Err(Refusal::TooMany));
    }
}
