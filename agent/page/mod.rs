//! `/`: the state of the node on one page, for somebody who was woken by an alert.
//!
//! The page is one document without a script and without any other file, and it reloads itself every few seconds. It
//! is XML as well as HTML, so that a parser can prove that no text from outside becomes markup.

mod agent;
mod drift;
mod elements;
mod files;
mod headline;
mod network;
mod reasons;

use std::time::SystemTime;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::model::Status;
use crate::view::{NodeView, Tone};

/// The time between two loads of the page, in seconds. It also stands in [`HEAD`].
const REFRESH_SECONDS: u32 = 5;

const STYLE: &str = include_str!("page.css");

/// The parts of the head that are the same on every page. `html!` would not close these tags as XML demands.
const HEAD: &str = r#"<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta http-equiv="refresh" content="5"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
"#;

/// The endpoints with the same content for programs.
const OTHER_ENDPOINTS: [(&str, &str); 5] = [
    ("/status", "all of this as JSON"),
    ("/drift", "the whole drift log"),
    ("/conflist", "what the runtimes take, and why"),
    ("/readyz?verbose", "the checks"),
    ("/metrics", "for Prometheus"),
];

/// The page for a status. `now` decides nothing but ages such as `3 min ago`.
#[must_use]
pub fn render_page(status: &Status, now: SystemTime) -> String {
    let view = NodeView::new(status, now);
    let headline = &view.headline;
    let page = html! {
        (DOCTYPE)
        html lang="en" xmlns="http://www.w3.org/1999/xhtml" {
            (head(&view))
            body class=(elements::class_of(headline.tone)) {
                (elements::shapes())
                (headline::render_header(headline))
                main {
                    (reasons::render_reasons(&view.checks))
                    (drift::render_errors(&view.errors))
                    (reasons::render_checks(&view.checks))
                    (network::render_network(&view.network))
                    (files::render_files(&view.files, &view.agent))
                    (drift::render_drifts(&view.drifts, &view.agent.started))
                    (agent::render_agent(&view.agent))
                }
                (footer())
            }
        }
    };
    page.into_string()
}

fn head(view: &NodeView) -> Markup {
    let headline = &view.headline;
    let node = headline.node.as_deref().unwrap_or("cni-keeper");
    html! {
        head {
            (PreEscaped(HEAD))
            title { (headline.word) " · " (node) }
            (PreEscaped(icon_link(headline.tone)))
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// The disc in the browser's tab: it shows which node is not ready when many tabs are open.
fn icon_link(tone: Tone) -> String {
    let (colour, shape) = match tone {
        Tone::Good => ("1f7a46", "M5.5%2010.5l3%203%206-7"),
        Tone::Odd | Tone::Bad | Tone::Quiet => ("b3261e", "M6.5%206.5l7%207M13.5%206.5l-7%207"),
    };
    format!(
        "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'%20viewBox='0%200%2020%2020'%3E\
         %3Ccircle%20cx='10'%20cy='10'%20r='10'%20fill='%23{colour}'/%3E\
         %3Cpath%20d='{shape}'%20fill='none'%20stroke='white'%20stroke-width='2.2'/%3E%3C/svg%3E\"/>"
    )
}

fn footer() -> Markup {
    html! {
        footer {
            nav aria-label="The same for programs" {
                ul {
                    @for (path, what) in OTHER_ENDPOINTS {
                        li { a href=(path) { (path) } " " (what) }
                    }
                }
            }
            p { "This page reloads itself every " (REFRESH_SECONDS) " seconds." }
        }
    }
}
