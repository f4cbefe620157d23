//! Every declared file: what must be there and what is.

use std::fmt::{self, Write as _};

use super::html::{Mark, code, digest, text};
use crate::model::{Difference, FileReport, Sha256, Standing, Status};

/// The files, with what is wrong first.
pub(super) fn write(page: &mut String, status: &Status) -> fmt::Result {
    let declared = &status.declared;
    page.push_str("<section aria-labelledby=\"files\">\n<h2 id=\"files\">Files</h2>\n");
    if status.snapshot.files.is_empty() {
        page.push_str("<p class=\"note\">No file is declared.</p>\n</section>\n");
        return Ok(());
    }
    write!(
        page,
        "<p class=\"note\">Plugins are in {}",
        code(declared.bin_dir.display())
    )?;
    if declared.conflist.is_some() {
        write!(
            page,
            ", the conflist is in {}",
            code(declared.conf_dir.display())
        )?;
    }
    page.push_str(
        ".</p>\n<table>\n<thead><tr><th scope=\"col\">File</th><th scope=\"col\">State</th>\
         <th scope=\"col\">From</th><th scope=\"col\">SHA-256</th></tr></thead>\n<tbody>\n",
    );
    let (wrong, right): (Vec<&FileReport>, _) = status
        .snapshot
        .files
        .iter()
        .partition(|file| mark(file) != Mark::Good);
    for file in wrong.into_iter().chain(right) {
        row(page, file)?;
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
    Ok(())
}

fn row(page: &mut String, file: &FileReport) -> fmt::Result {
    let mark = mark(file);
    let name = file.path.file_name().unwrap_or(file.path.as_os_str());
    writeln!(
        page,
        "<tr class=\"{}\"><th scope=\"row\" title=\"{}\">{}</th><td>{mark} {}</td><td>{}</td><td>{}</td></tr>",
        mark.class(),
        text(file.path.display()),
        code(name.display()),
        state(file),
        text(&file.origin),
        digests(file),
    )
}

fn mark(file: &FileReport) -> Mark {
    match file.standing {
        Standing::Ok | Standing::Kept => Mark::Good,
        Standing::Waiting => Mark::Odd,
        Standing::Drift => Mark::Bad,
    }
}

fn state(file: &FileReport) -> String {
    match file.standing {
        Standing::Ok => "as declared".to_owned(),
        Standing::Kept => "the node’s own build, kept".to_owned(),
        Standing::Waiting => "what it must be is not known yet".to_owned(),
        Standing::Drift => {
            let told: Vec<String> = file.drifts.iter().map(in_words).collect();
            text(told.join("; ")).to_string()
        }
    }
}

/// What the column of digests tells is not told beside it.
fn in_words(drift: &Difference) -> String {
    match drift {
        Difference::Content { .. } => "has other content".to_owned(),
        other => other.to_string(),
    }
}

/// One digest where there is only one to tell.
fn digests(file: &FileReport) -> String {
    match (&file.expected, &file.actual) {
        (Some(expected), Some(actual)) if expected == actual => digest(actual),
        (None, Some(actual)) if file.standing == Standing::Kept => digest(actual),
        (expected, actual) => {
            let told = |one: &Option<Sha256>, none: &str| {
                one.as_ref().map_or_else(|| none.to_owned(), digest)
            };
            format!(
                "<span class=\"pair\"><span>expected</span> {}</span><span class=\"pair\"><span>found</span> {}</span>",
                told(expected, "not known yet"),
                told(actual, "none"),
            )
        }
    }
}
