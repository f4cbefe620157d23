//! The answer to a reader's first question: is the node ready?

use maud::{Markup, html};

use super::elements::mark;
use crate::view::Headline;

/// The word, and either the first reason or what the word means here.
pub(super) fn render_header(headline: &Headline) -> Markup {
    html! {
        header {
            p.brand {
                "cni-keeper"
                @if let Some(node) = &headline.node { " on " strong { (node) } }
            }
            div.headline {
                (mark(headline.tone))
                div { (render_answer(headline)) }
            }
            p.fresh {
                @for part in &headline.freshness { span { (part) } " " }
            }
        }
    }
}

fn render_answer(headline: &Headline) -> Markup {
    html! {
        @if let Some(reason) = &headline.reason {
            h1 { (headline.word) span.colon { ": " } span.reason { (reason) } }
        } @else {
            h1 { (headline.word) }
            p.reason { (headline.meaning) }
        }
    }
}
