//! The pieces of HTML that every part of the page uses.

use maud::{Markup, PreEscaped, html};

use crate::model::Sha256;
use crate::view::{ShownTime, Tone};

/// The class that gives the colour.
pub(super) const fn class_of(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Odd => "odd",
        Tone::Bad => "bad",
        Tone::Quiet => "quiet",
    }
}

/// The shape that stands beside a word. It refers to [`shapes`].
pub(super) fn mark(tone: Tone) -> Markup {
    let class = class_of(tone);
    html! {
        svg class={ "mark " (class) } aria-hidden="true" { use href={ "#" (class) } {} }
    }
}

/// A tick, an exclamation mark and a cross, each on a disc, and a dot: once on the page, before the first [`mark`].
pub(super) fn shapes() -> Markup {
    html! {
        svg width="0" height="0" class="shapes" aria-hidden="true" {
            (shape(Tone::Good, "9.7", "M5.5 10.5l3 3 6-7"))
            (shape(Tone::Odd, "9.7", "M10 5v6M10 14.6v.1"))
            (shape(Tone::Bad, "9.7", "M6.5 6.5l7 7M13.5 6.5l-7 7"))
            (shape(Tone::Quiet, "4", ""))
        }
    }
}

fn shape(tone: Tone, radius: &str, path: &str) -> Markup {
    html! {
        // Names in SVG have capitals, which `html!` keeps.
        symbol id=(class_of(tone)) viewBox="0 0 20 20" {
            circle cx="10" cy="10" r=(radius) {}
            @if !path.is_empty() { path d=(path) {} }
        }
    }
}

/// A name, such as `10-pods.conflist`, as code.
pub(super) fn code(text: &str) -> Markup {
    html! { code { (text) } }
}

/// A text in which the parts between backquotes are code.
pub(super) fn text_with_code(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { (code(part)) } @else { (part) }
        }
    }
}

/// The first digits of a digest. Its tooltip has all of them.
pub(super) fn digest(digest: &Sha256) -> Markup {
    html! {
        code.digest title={ "sha256 " (digest) } { (digest.short()) "…" }
    }
}

/// A point in time, and how long ago that was.
pub(super) fn time(at: &ShownTime) -> Markup {
    let seconds = at.exact.get(..19).unwrap_or(&at.exact).replace('T', " ");
    html! {
        time datetime=(at.exact) { (seconds) " UTC" }
        @if let Some(age) = &at.age { " " span.ago { (age) } }
    }
}

/// A section with its heading.
pub(super) fn section(id: &str, title: &str, content: &Markup) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) }
            (content)
        }
        (PreEscaped("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn no_text_ends_a_tag_an_attribute_or_an_entity() {
        let shown = code(r#"<script>"&amp;"#).into_string();
        assert_eq!(shown, "<code>&lt;script&gt;&quot;&amp;amp;</code>");
    }

    #[test]
    fn code_stands_between_backquotes() {
        let shown = text_with_code("run `a <b>` once").into_string();
        assert_eq!(shown, "run <code>a &lt;b&gt;</code> once");
    }

    #[test]
    fn a_time_is_shown_with_its_age() {
        let at = ShownTime {
            exact: humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH).to_string(),
            age: Some("3 min ago".to_owned()),
        };
        assert_eq!(
            time(&at).into_string(),
            "<time datetime=\"1970-01-01T00:00:00.000Z\">1970-01-01 00:00:00 UTC</time> \
             <span class=\"ago\">3 min ago</span>"
        );
    }
}
