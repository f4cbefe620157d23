//! The few pieces of HTML that every part of the page is made of.

use std::fmt::{self, Display, Write};
use std::time::SystemTime;

use crate::model::{Sha256, Timestamp, escape_controls};
use crate::redact::redact_text;

/// How something stands. Its colour never stands alone: a shape and a word go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Odd,
    Bad,
    /// It is there and does not matter.
    Quiet,
}

/// A text from anywhere, made safe between tags and between double quotes, without the secrets in it.
pub(super) struct Safe<T>(T);

/// Makes a text safe. Whatever was not written in this directory goes through here: file names, reasons, foreign
/// conflists and what plugins print are hostile.
pub(super) const fn text<T: Display>(value: T) -> Safe<T> {
    Safe(value)
}

/// `10-pods.conflist` in the type for names.
pub(super) fn code(value: impl Display) -> String {
    format!("<code>{}</code>", text(value))
}

/// The first digits of a digest; all of them when pointed at.
pub(super) fn digest(digest: &Sha256) -> String {
    let short = digest.short();
    format!(r#"<code class="digest" title="sha256 {digest}">{short}…</code>"#)
}

/// A point in time, and how long ago that was.
pub(super) fn time(at: Timestamp, now: SystemTime) -> String {
    let exact = at.to_string();
    let seconds = exact.get(..19).unwrap_or(&exact).replace('T', " ");
    let ago = at.format_age(now);
    let ago = ago.map_or_else(String::new, |ago| {
        format!(r#" <span class="ago">{ago}</span>"#)
    });
    format!(r#"<time datetime="{exact}">{seconds} UTC</time>{ago}"#)
}

/// `1 file`, `3 files`.
pub(super) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

impl Mark {
    /// The class that gives the colour.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Odd => "odd",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }
}

/// The shape; [`SHAPES`] has to stand somewhere before it.
impl Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class();
        write!(
            f,
            r##"<svg class="mark {class}" aria-hidden="true"><use href="#{class}"/></svg>"##
        )
    }
}

/// A tick, an exclamation mark and a cross, each on a disc, and a dot.
pub(super) const SHAPES: &str = concat!(
    r#"<svg width="0" height="0" class="shapes" aria-hidden="true">"#,
    r#"<symbol id="good" viewBox="0 0 20 20"><circle cx="10" cy="10" r="9.7"/><path d="M5.5 10.5l3 3 6-7"/></symbol>"#,
    r#"<symbol id="odd" viewBox="0 0 20 20"><circle cx="10" cy="10" r="9.7"/><path d="M10 5v6M10 14.6v.1"/></symbol>"#,
    r#"<symbol id="bad" viewBox="0 0 20 20"><circle cx="10" cy="10" r="9.7"/><path d="M6.5 6.5l7 7M13.5 6.5l-7 7"/></symbol>"#,
    r#"<symbol id="quiet" viewBox="0 0 20 20"><circle cx="10" cy="10" r="4"/></symbol>"#,
    "</svg>\n",
);

impl<T: Display> Display for Safe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `/status` does not tell, its reader need not know either.
        Escape(f).write_str(&redact_text(&self.0.to_string()))
    }
}

struct Escape<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in escape_controls(text).chars() {
            match c {
                '&' => self.0.write_str("&amp;"),
                '<' => self.0.write_str("&lt;"),
                '>' => self.0.write_str("&gt;"),
                '"' => self.0.write_str("&quot;"),
                '\'' => self.0.write_str("&#39;"),
                c => self.0.write_char(c),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_tag_an_attribute_or_an_entity() {
        let hostile = r#"<script>"'&amp;"#;
        let shown = "&lt;script&gt;&quot;&#39;&amp;amp;";
        assert_eq!(text(hostile).to_string(), shown);
        assert_eq!(code(hostile), format!("<code>{shown}</code>"));
    }

    #[test]
    fn no_text_speaks_to_the_browser_unseen() {
        assert_eq!(text("a\nb\0\x1b[2J").to_string(), r"a\nb\u{0}\u{1b}[2J");
        assert_eq!(text("conf\u{202e}tsilf").to_string(), r"conf\u{202e}tsilf");
        assert_eq!(text("Überlänge 网络").to_string(), "Überlänge 网络");
    }

    /// Fault 58: a page is no place for secrets.
    #[test]
    fn no_text_holds_a_secret() {
        let reason = "https://user:HUSH@mirror/p.tgz?sig=HUSH: <no> answer";
        let shown = text(reason).to_string();
        assert!(!shown.contains("HUSH"), "{shown}");
        assert!(shown.contains("mirror/p.tgz"), "{shown}");
        assert!(shown.ends_with("&lt;no&gt; answer"), "{shown}");
    }

    #[test]
    fn a_time_is_told_twice_and_an_age_that_is_none_not_at_all() {
        let at = Timestamp(SystemTime::UNIX_EPOCH);
        let later = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(180);
        assert_eq!(
            time(at, later),
            "<time datetime=\"1970-01-01T00:00:00.000Z\">1970-01-01 00:00:00 UTC</time> \
             <span class=\"ago\">3 min ago</span>"
        );
        assert!(time(Timestamp(later), at.0).ends_with("</time>"));
    }
}
