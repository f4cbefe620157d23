//! The state of a node on a terminal. Failures come first and in full. What is right takes few words.

use super::columns::{Cell, Paint, render_columns};
use crate::view::{
    CheckRow, DriftRow, ErrorRow, FileDigests, FileRow, NetworkView, NodeView, SeenNetwork, Tone,
};

/// Up to this number of files, each right file gets a line of its own.
const MAX_SINGLE_FILES: usize = 8;

/// How many drifts are shown.
const MAX_DRIFTS: usize = 8;

/// The view as text with line ends.
pub(super) fn render_table(view: &NodeView, paint: Paint) -> String {
    let sections = [
        ("CHECKS", check_lines(&view.checks)),
        ("FILES", file_lines(&view.files)),
        ("NETWORK", network_lines(&view.network)),
        ("LAST DRIFTS", drift_lines(&view.drifts)),
        ("THE AGENT'S OWN FAILURES", error_lines(&view.errors)),
    ];
    let mut table = headline(view, paint);
    for (title, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
        let title = paint.title(title);
        table.push_str(&format!("\n{title}\n{}", render_columns(lines, paint)));
    }
    table
}

fn headline(view: &NodeView, paint: Paint) -> String {
    let headline = &view.headline;
    let word = paint.toned(headline.tone, headline.word);
    let node = match &headline.node {
        Some(node) if !node.is_empty() => format!("  {}", paint.title(node)),
        _ => String::new(),
    };
    let freshness = paint.toned(Tone::Quiet, &headline.freshness.join(", "));
    format!("{word}{node}  {freshness}\n")
}

fn check_lines(checks: &[CheckRow]) -> Vec<Vec<Cell>> {
    let mut lines = Vec::new();
    for check in checks {
        lines.extend(reason_lines(Tone::Bad, "failed", check, &check.failures));
    }
    for check in checks {
        lines.extend(reason_lines(Tone::Odd, "odd", check, &check.warnings));
    }
    let right = checks.iter().filter(|check| check.tone == Tone::Good);
    let right: Vec<&str> = right.map(|check| check.name.as_str()).collect();
    if !right.is_empty() {
        lines.push(vec![
            Cell::toned(Tone::Good, "ok"),
            Cell::plain(right.join(", ")),
        ]);
    }
    lines
}

/// A line for each reason. Word and name stand on the first line only.
fn reason_lines(tone: Tone, word: &str, check: &CheckRow, reasons: &[String]) -> Vec<Vec<Cell>> {
    let line = |(index, reason): (usize, &String)| {
        let (word, name) = match index {
            0 => (word, check.name.as_str()),
            _ => ("", ""),
        };
        vec![
            Cell::toned(tone, word),
            Cell::title(name),
            Cell::plain(reason),
        ]
    };
    reasons.iter().enumerate().map(line).collect()
}

/// A line for each file, the wrong ones first. If there are many files, the right ones of a directory share a line.
fn file_lines(files: &[FileRow]) -> Vec<Vec<Cell>> {
    if files.len() <= MAX_SINGLE_FILES {
        return files.iter().map(file_line).collect();
    }
    let wrong = files.iter().filter(|file| !file.is_right());
    let mut lines: Vec<Vec<Cell>> = wrong.map(file_line).collect();
    let right: Vec<&FileRow> = files.iter().filter(|file| file.is_right()).collect();
    for in_one_directory in right.chunk_by(|one, next| one.directory == next.directory) {
        let names: Vec<&str> = in_one_directory.iter().map(|file| &*file.name).collect();
        let directory = &in_one_directory[0].directory;
        lines.push(vec![
            Cell::toned(Tone::Good, "ok"),
            Cell::plain(format!("{directory}: {}", names.join(" "))),
        ]);
    }
    lines
}

/// One file: its state, its path, where it comes from, and its declared and actual digests.
fn file_line(file: &FileRow) -> Vec<Cell> {
    let digests = match &file.digests {
        FileDigests::One(digest) => digest.short(),
        FileDigests::Pair {
            expected: Some(expected),
            actual: Some(actual),
        } => format!("expected {}, found {}", expected.short(), actual.short()),
        FileDigests::Pair {
            expected: Some(expected),
            actual: None,
        } => format!("expected {}", expected.short()),
        FileDigests::Pair {
            expected: None,
            actual,
        } => actual.map(|actual| actual.short()).unwrap_or_default(),
    };
    vec![
        Cell::toned(file.tone, &file.word),
        Cell::plain(&file.path),
        Cell::toned(Tone::Quiet, &file.origin),
        Cell::toned(Tone::Quiet, digests),
    ]
}

fn network_lines(network: &NetworkView) -> Vec<Vec<Cell>> {
    match network {
        NetworkView::Seen(seen) => seen_network_lines(seen),
        NetworkView::Undeclared | NetworkView::Unseen(_) => Vec::new(),
    }
}

fn seen_network_lines(seen: &SeenNetwork) -> Vec<Vec<Cell>> {
    let taken = seen.taken.iter().map(|taken| {
        let chain = taken.chain.join(" → ");
        vec![Cell::plain(format!(
            "{chain}  ({} in {}, CNI {})",
            taken.name, taken.file, taken.cni_version
        ))]
    });
    let runtimes = seen.runtimes.iter().map(|runtime| {
        let takes = match &runtime.takes {
            Some(file) => Cell::plain(format!("takes {file}")),
            None => Cell::toned(Tone::Bad, "takes nothing"),
        };
        vec![
            Cell::title(&runtime.name),
            takes,
            Cell::toned(Tone::Quiet, runtime.reasons.join("; ")),
        ]
    });
    taken.chain(runtimes).collect()
}

fn drift_lines(drifts: &[DriftRow]) -> Vec<Vec<Cell>> {
    let line = |drift: &DriftRow| {
        let reason = drift.end_reason.iter().map(|reason| format!("; {reason}"));
        let details = drift.details.iter().map(|detail| format!(", {detail}"));
        let more: String = reason.chain(details).collect();
        vec![
            Cell::toned(Tone::Quiet, drift.at.age_or_exact()),
            Cell::toned(drift.tone, &drift.end),
            // Fields that may be long come last.
            Cell::plain(format!("{} {}{more}", drift.name, drift.what)),
        ]
    };
    drifts.iter().take(MAX_DRIFTS).map(line).collect()
}

fn error_lines(errors: &[ErrorRow]) -> Vec<Vec<Cell>> {
    let line = |error: &ErrorRow| {
        let times = error.times.as_ref().map(|times| format!(" ({times})"));
        vec![
            Cell::toned(Tone::Quiet, error.at.age_or_exact()),
            Cell::plain(format!("{}{}", error.what, times.unwrap_or_default())),
        ]
    };
    errors.iter().map(line).collect()
}
