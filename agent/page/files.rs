//! Every declared file: what must be there and what is.

use maud::{Markup, html};

use super::elements::{class_of, code, digest, mark, section};
use crate::model::Sha256;
use crate::view::{AgentView, FileDigests, FileRow};

/// The table of files.
pub(super) fn render_files(files: &[FileRow], agent: &AgentView) -> Markup {
    if files.is_empty() {
        let note = html! { p.note { "No file is declared." } };
        return section("files", "Files", &note);
    }
    let table = html! {
        p.note {
            "Plugins are in " (code(&agent.bin_dir))
            @if let Some(conf_dir) = &agent.conf_dir {
                ", the conflist is in " (code(conf_dir))
            }
            "."
        }
        table {
            thead {
                tr {
                    @for title in ["File", "State", "From", "SHA-256"] {
                        th scope="col" { (title) }
                    }
                }
            }
            tbody { @for file in files { (render_row(file)) } }
        }
    };
    section("files", "Files", &table)
}

fn render_row(file: &FileRow) -> Markup {
    html! {
        tr class=(class_of(file.tone)) {
            th scope="row" title=(file.path) { (code(&file.name)) }
            td { (mark(file.tone)) " " (file.state) }
            td { (file.origin) }
            td { (render_digests(&file.digests)) }
        }
    }
}

fn render_digests(digests: &FileDigests) -> Markup {
    match digests {
        FileDigests::One(one) => digest(one),
        FileDigests::Pair { expected, actual } => html! {
            (render_named("expected", expected.as_ref(), "not known yet"))
            (render_named("found", actual.as_ref(), "none"))
        },
    }
}

fn render_named(name: &str, sha256: Option<&Sha256>, otherwise: &str) -> Markup {
    html! {
        span.pair {
            span { (name) } " "
            @if let Some(sha256) = sha256 { (digest(sha256)) } @else { (otherwise) }
        }
    }
}
