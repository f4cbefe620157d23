//! Reads a source of an artifact: fills in placeholders, checks the URL, and guesses the format from the name.

use url::Url;

use crate::model::{Arch, Format};

/// The values of `{version}` and `{arch}`. `{os}` is always `linux`.
#[derive(Clone, Copy)]
pub(super) struct Placeholders<'a> {
    pub version: &'a str,
    pub arch: Arch,
}

impl Placeholders<'_> {
    /// Fills the placeholders of a source or a member path.
    ///
    /// # Errors
    /// One sentence, if a brace does not belong to one of the three placeholders.
    pub(super) fn fill(self, template: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(open) = rest.find(['{', '}']) {
            filled.push_str(&rest[..open]);
            let tail = &rest[open..];
            let inner = tail.strip_prefix('{');
            let Some((name, after)) = inner.and_then(|tail| tail.split_once('}')) else {
                return Err(
                    "a brace has no partner; the placeholders are {version}, {arch} and {os}"
                        .to_owned(),
                );
            };
            filled.push_str(match name {
                "version" => self.version,
                "arch" => self.arch.as_str(),
                "os" => "linux",
                _ => {
                    return Err(format!(
                        "{{{name}}} is not a placeholder; the placeholders are {{version}}, {{arch}} and {{os}}"
                    ));
                }
            });
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// Checks an artifact's source: `https://`, `http://` or `file://`.
///
/// No message contains the text itself, because it may contain a password.
///
/// # Errors
/// One sentence that says what to write.
pub(super) fn check_source_url(text: &str) -> Result<(), String> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        "not a URL; write https://HOST/PATH, http://HOST/PATH or file:///PATH".to_owned()
    })?;
    match scheme {
        "https" | "http" => parse_web_url(text).map(drop),
        "file" if rest.starts_with('/') && rest.len() > 1 => parse_url(text).map(drop),
        "file" => Err(
            "a file URL needs an absolute path; write file:///PATH, with three slashes".to_owned(),
        ),
        _ => Err(format!(
            "'{scheme}' is not a supported scheme; use https://, http://, file:// or oci://"
        )),
    }
}

/// Whether a source is an image: `oci://REGISTRY/REPOSITORY…`.
pub(super) fn is_image_source(source: &str) -> bool {
    source.starts_with("oci://")
}

/// Parses an `https://` or `http://` URL.
///
/// # Errors
/// One sentence that says what to write.
pub(super) fn parse_web_url(text: &str) -> Result<Url, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(|| {
            "not a web address; write https://HOST/PATH or http://HOST/PATH".to_owned()
        })?;
    // The URL standard skips extra slashes and uses the next word as the host. Nobody means that.
    if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) {
        return Err("the URL has no host; write the server's name after ://".to_owned());
    }
    let url = parse_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL contains a user name or password; remove it (fetch.access gives downloads their credentials)"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Parses a URL, and refuses characters that the URL standard would silently change or drop.
///
/// # Errors
/// One sentence that says what to write.
fn parse_url(text: &str) -> Result<Url, String> {
    // The URL standard drops tabs and line breaks and turns a backslash into a slash.
    if let Some(stranger) = text
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || *c == '\\')
    {
        return Err(format!(
            "the URL contains {stranger:?}; remove it, or write it percent-encoded"
        ));
    }
    Url::parse(text).map_err(|error| format!("not a URL: {error}; write https://HOST/PATH"))
}

/// The format according to the name of the source's file. `None` if that format is not supported.
pub(super) fn guess_format(source: &str) -> Option<Format> {
    let path = source.split(['?', '#']).next().unwrap_or_default();
    let file = path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| file.ends_with(ending));
    if ends(&[".tgz", ".tar.gz"]) {
        Some(Format::TarGz)
    } else if ends(&[".tar"]) {
        Some(Format::Tar)
    } else if ends(&[
        ".gz", ".xz", ".txz", ".zst", ".bz2", ".tbz", ".lz4", ".zip", ".7z", ".deb", ".rpm",
    ]) {
        None
    } else {
        Some(Format::Raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_strangers_refused() {
        let placeholders = Placeholders {
            version: "v1",
            arch: Arch::Arm64,
        };
        assert_eq!(
            placeholders.fill("a-{os}-{arch}-{version}{arch}"),
            Ok("a-linux-arm64-v1arm64".to_owned())
        );
        assert_eq!(placeholders.fill(""), Ok(String::new()));
        for bad in [
            "{", "}", "a{b", "{}", "{Arch}", "${arch}}", "{{arch}}", "{arch",
        ] {
            assert!(placeholders.fill(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_has_a_scheme_and_a_host_or_an_absolute_path() {
        for good in [
            "https://example.com/a.tgz",
            "http://127.0.0.1:8080/a?token=b",
            "http://[::1]:80/a",
            "file:///srv/a.tgz",
        ] {
            assert_eq!(check_source_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a.tgz",
            "/srv/a.tgz",
            "https:example.com",
            "https://",
            "https:///a",
            "https://?a",
            "https://a b/c",
            "https://a/\tb",
            "https://a\\b/c",
            "https://:80/",
            "https://a:99999/",
            "file://a/b",
            "file://",
            "file:///",
            "ftp://a/b",
            "HTTPS://a/b",
            "oci://a/b",
            "https://user@a/b",
            "https://user:word@a/b",
            "https://:word@a/b",
        ] {
            assert!(check_source_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_password_reaches_a_message() {
        for text in [
            "https://u:secret@h/a",
            "https://u:secret@h:x/a",
            "https://u:secret@h /a",
            "ftp://u:secret@h/",
        ] {
            let message = check_source_url(text).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn the_format_is_guessed_from_the_file_name() {
        for (source, format) in [
            ("https://h/a.tgz", Some(Format::TarGz)),
            ("https://h/a.TAR.GZ?x=y.zip", Some(Format::TarGz)),
            ("file:///a.tar", Some(Format::Tar)),
            ("https://h/v1.9.1/flannel-amd64", Some(Format::Raw)),
            ("https://h/plugin-v1.9", Some(Format::Raw)),
            ("https://h/a.tar.xz", None),
            ("https://h/a.zip", None),
        ] {
            assert_eq!(guess_format(source), format, "{source}");
        }
    }
}
