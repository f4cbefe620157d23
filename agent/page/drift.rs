//! The drift of the files, and the failures of the agent's own work.

use maud::{Markup, html};

use super::elements::{class_of, code, mark, section, time};
use crate::view::{DriftRow, ErrorRow, ShownTime, Tone, count_of};

/// How many drifts are shown. `/drift` has all of them.
const MAX_DRIFTS: usize = 30;

/// The drift log, newest first.
pub(super) fn render_drifts(drifts: &[DriftRow], started: &ShownTime) -> Markup {
    let more = drifts.len().saturating_sub(MAX_DRIFTS);
    let log = html! {
        @if drifts.is_empty() {
            p.note { "None since the agent started, " (time(started)) "." }
        } @else {
            ol.log { @for drift in drifts.iter().take(MAX_DRIFTS) { (render_drift(drift)) } }
        }
        @if more > 0 {
            p.note { (count_of(more, "more drift")) " before that: " a href="/drift" { "/drift" } "." }
        }
    };
    section("drift", "Drift", &log)
}

fn render_drift(drift: &DriftRow) -> Markup {
    html! {
        li {
            (mark(drift.tone))
            div {
                p.event { span title=(drift.path) { (code(&drift.name)) } " " (drift.what) }
                p class={ "end " (class_of(drift.tone)) } {
                    (drift.end)
                    @if let Some(reason) = &drift.end_reason { ": " (reason) }
                }
                p.note {
                    (time(&drift.at)) " " span.tag { (drift.kind) } " " (code(&drift.before))
                    @if let Some(after) = &drift.after { " → " (code(after)) }
                }
                @if !drift.details.is_empty() { p.more { (drift.details.join(", ")) } }
            }
        }
    }
}

/// The last failures of the agent's own work.
pub(super) fn render_errors(errors: &[ErrorRow]) -> Markup {
    if errors.is_empty() {
        return Markup::default();
    }
    let row = |error: &ErrorRow| {
        html! {
            li {
                (mark(Tone::Odd))
                div {
                    p.event { (error.what) }
                    p.note {
                        (time(&error.at))
                        @if let Some(times) = &error.times { ", " (times) }
                    }
                }
            }
        }
    };
    let log = html! {
        ol.log { @for error in errors { (row(error)) } }
    };
    section("errors", "Failures of the agent’s own work", &log)
}
