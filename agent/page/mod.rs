//! `/`: the node's state at a glance, for somebody who was woken by it.
//!
//! One document without script and without any other file; it loads itself anew every few seconds. It is XML as
//! well as HTML, so that a parser can prove that nothing from outside breaks out of its place.

mod drift;
mod facts;
mod files;
mod headline;
mod html;
mod network;
mod reasons;

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use crate::model::Status;

/// The time between two loads of the page, in seconds.
const REFRESH: u32 = 5;

const STYLE: &str = include_str!("page.css");

/// Where the machine's views of the same are.
const VIEWS: [(&str, &str); 5] = [
    ("/status", "all of this as JSON"),
    ("/drift", "the whole drift log"),
    ("/conflist", "what the runtimes take, and why"),
    ("/readyz?verbose", "the checks"),
    ("/metrics", "for Prometheus"),
];

/// The page as it is at a certain time, which only ages are measured from.
#[must_use]
pub fn render_page(status: &Status, now: SystemTime) -> String {
    let mut page = String::with_capacity(32 << 10);
    // A String takes all that is written to it.
    let _ = document(&mut page, status, now);
    page
}

fn document(page: &mut String, status: &Status, now: SystemTime) -> fmt::Result {
    head(page, status)?;
    page.push_str(html::SHAPES);
    headline::write(page, status, now)?;
    page.push_str("<main>\n");
    reasons::write(page, status)?;
    drift::errors(page, status, now)?;
    facts::checks(page, status)?;
    network::write(page, status)?;
    files::write(page, status)?;
    drift::write(page, status, now)?;
    facts::agent(page, status, now)?;
    page.push_str("</main>\n");
    foot(page)
}

fn head(page: &mut String, status: &Status) -> fmt::Result {
    let (word, mark) = headline::word(status);
    let class = mark.class();
    let node = status.agent.node.as_deref().unwrap_or("cni-keeper");
    write!(
        page,
        r#"<!DOCTYPE html>
<html lang="en" xmlns="http://www.w3.org/1999/xhtml">
<head>
<meta charset="utf-8"/>
<title>{word} · {node}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta http-equiv="refresh" content="{REFRESH}"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
<link rel="icon" href="{icon}"/>
<style>
{STYLE}</style>
</head>
<body class="{class}">
"#,
        node = html::text(node),
        icon = icon(mark),
    )
}

/// The disc in the browser's tab: a glance at the tabs tells which node is ill.
fn icon(mark: html::Mark) -> String {
    let (colour, shape) = match mark {
        html::Mark::Good => ("1f7a46", "M5.5 10.5l3 3 6-7"),
        _ => ("b3261e", "M6.5 6.5l7 7M13.5 6.5l-7 7"),
    };
    let shape = shape.replace(' ', "%20");
    format!(
        "data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'%20viewBox='0%200%2020%2020'%3E\
         %3Ccircle%20cx='10'%20cy='10'%20r='10'%20fill='%23{colour}'/%3E\
         %3Cpath%20d='{shape}'%20fill='none'%20stroke='white'%20stroke-width='2.2'/%3E%3C/svg%3E"
    )
}

fn foot(page: &mut String) -> fmt::Result {
    page.push_str("<footer>\n<nav aria-label=\"The same for machines\"><ul>\n");
    for (path, what) in VIEWS {
        writeln!(page, r#"<li><a href="{path}">{path}</a> {what}</li>"#)?;
    }
    writeln!(
        page,
        "</ul></nav>\n<p>This page loads itself anew every {REFRESH} seconds.</p>\n</footer>\n</body>\n</html>"
    )
}
