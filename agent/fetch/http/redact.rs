//! URLs as they may be shown.

use reqwest::Url;

/// How many characters are shown of a URL that a server gave: a header may be as long as half a megabyte.
const MAX_FOREIGN_URL_CHARS: usize = 200;

/// A URL as it may be shown: without user information and fragment, and with the query as `?…`.
#[must_use]
pub fn redact_url(source: &str) -> String {
    // `user:secret@host/…` parses too, as an opaque URL of the scheme `user`.
    let Some(mut url) = Url::parse(source)
        .ok()
        .filter(|url| !url.cannot_be_a_base())
    else {
        return "(not a URL)".to_owned();
    };
    // Both fail only for URLs that cannot hold user information in the first place.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let query = if url.query().is_some() { "?…" } else { "" };
    url.set_query(None);
    format!("{url}{query}")
}

/// The same for a URL that a server gave, cut to one line.
pub(in crate::fetch) fn redact_foreign_url(url: &Url) -> String {
    let text = redact_url(url.as_str());
    match text.char_indices().nth(MAX_FOREIGN_URL_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_source_are_not_shown() {
        for (source, shown) in [
            (
                "https://user:pw@host:8443/a.tgz?sig=s#f",
                "https://host:8443/a.tgz?…",
            ),
            ("file:///srv/a.tgz", "file:///srv/a.tgz"),
            ("user:pw@host/a", "(not a URL)"),
            ("//user:pw@host/a?sig=s", "(not a URL)"),
        ] {
            assert_eq!(redact_url(source), shown);
        }
    }
}
