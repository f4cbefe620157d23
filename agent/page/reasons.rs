//! The checks: everything that is wrong, every warning, what can be done about it, and a line with all checks.

use maud::{Markup, html};

use super::elements::{class_of, mark, section, text_with_code};
use crate::view::CheckRow;

/// All failures and warnings, check by check.
pub(super) fn render_reasons(checks: &[CheckRow]) -> Markup {
    let failed: Vec<&CheckRow> = with_lines(checks, |check| &check.failures);
    let odd: Vec<&CheckRow> = with_lines(checks, |check| &check.warnings);
    html! {
        @if !failed.is_empty() {
            section.reasons.bad aria-labelledby="all-bad" {
                h2 id="all-bad" { "What is wrong" }
                dl {
                    @for (index, check) in failed.iter().enumerate() {
                        (render_lines(check, &check.failures))
                        @if let Some(advice) = advice_after(&failed, index) {
                            dd.advice { (text_with_code(advice)) }
                        }
                    }
                }
            }
        }
        @if !odd.is_empty() {
            section.reasons.odd aria-labelledby="all-odd" {
                h2 id="all-odd" { "Odd, but it works" }
                dl {
                    @for check in odd { (render_lines(check, &check.warnings)) }
                }
            }
        }
    }
}

fn with_lines(checks: &[CheckRow], lines: impl Fn(&CheckRow) -> &Vec<String>) -> Vec<&CheckRow> {
    let checks = checks.iter();
    checks.filter(|check| !lines(check).is_empty()).collect()
}

/// The advice on a check. If the next check has the same advice, it is shown once, after that check.
fn advice_after(failed: &[&CheckRow], index: usize) -> Option<&'static str> {
    let advice = failed[index].advice;
    let next = failed.get(index + 1).and_then(|check| check.advice);
    advice.filter(|advice| Some(*advice) != next)
}

fn render_lines(check: &CheckRow, lines: &[String]) -> Markup {
    html! {
        dt { (check.name.as_str()) }
        @for line in lines { dd { (line) } }
    }
}

/// All checks in a row.
pub(super) fn render_checks(checks: &[CheckRow]) -> Markup {
    let chip = |check: &CheckRow| {
        html! {
            li class=(class_of(check.tone)) {
                (mark(check.tone)) (check.name.as_str()) " "
                span.word { (check.word) }
            }
        }
    };
    let chips = html! {
        ul.chips { @for check in checks { (chip(check)) } }
    };
    match checks {
        [] => Markup::default(),
        [..] => section("checks", "Checks", &chips),
    }
}
