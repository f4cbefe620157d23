//! Checks a conflist template without its facts and without a node. `render` fills facts in; `model/node_facts.rs` says
//! where `${node.podCIDR}` and its like come from.

use std::collections::BTreeSet;

use serde_json::Value;

use super::json_tree::for_each_value;
use super::placeholder::has_placeholder;
use super::render::{Facts, RenderProblem, render_conflist, source_advice};
use super::validate::{Finding, validate_conflist};

/// Every mistake in a template that can be found before its facts are known. `may_come` says whether a source may
/// provide a fact later.
///
/// - what `validate` finds, except in values that contain a placeholder;
/// - every placeholder whose fact no source will provide.
#[must_use]
pub fn validate_template(template: &Value, may_come: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = render_conflist(template, &Facts::new()) {
        for problem in &error.problems {
            match problem {
                RenderProblem::Unclosed { at } => findings.push(Finding::error(
                    at,
                    "a '${' without its '}'",
                    "close it, or write '$${' for the two characters themselves",
                )),
                RenderProblem::Unknown { at, name, .. } if !may_come(name) => {
                    findings.push(Finding::error(
                        at,
                        format!("no declared source provides the fact '{name}'"),
                        source_advice(name),
                    ));
                }
                RenderProblem::Unknown { .. }
                | RenderProblem::Unfit { .. }
                | RenderProblem::NotText { .. } => {}
            }
        }
    }
    let mut open = BTreeSet::new();
    for_each_value(template, "", "", &mut |at, _, value| {
        if value.as_str().is_some_and(has_placeholder) {
            open.insert(at.to_owned());
        }
    });
    let report = validate_conflist(template.to_string().as_bytes());
    findings.extend(
        report
            .findings
            .into_iter()
            .filter(|finding| !open.contains(&finding.at)),
    );
    findings
}

/// A template with the facts that are known.
#[derive(Debug)]
pub struct FilledTemplate {
    /// The conflist. Placeholders of other facts stay.
    pub conflist: Value,
    /// The names of the other facts.
    pub unknown: BTreeSet<String>,
    /// The known facts that cannot be what is wanted where they are used.
    pub findings: Vec<Finding>,
}

/// Fills in the facts that are known.
#[must_use]
pub fn fill_known_facts(template: &Value, known: &Facts) -> FilledTemplate {
    let unknown: BTreeSet<String> = match render_conflist(template, known) {
        Ok(_) => BTreeSet::new(),
        Err(error) => {
            let names = error.problems.into_iter();
            names
                .filter_map(|problem| match problem {
                    RenderProblem::Unknown { name, .. } => Some(name),
                    _ => None,
                })
                .collect()
        }
    };
    let mut facts = known.clone();
    let placeholder = |name: &String| (name.clone(), Value::from(format!("${{{name}}}")));
    facts.extend(unknown.iter().map(placeholder));
    let (filled, findings) = match render_conflist(template, &facts) {
        Ok(text) => (serde_json::from_str(&text).ok(), Vec::new()),
        Err(error) => (None, list_unfit_facts(error.problems)),
    };
    FilledTemplate {
        // A placeholder that cannot be filled in for another reason is reported as a mistake elsewhere.
        conflist: filled.unwrap_or_else(|| template.clone()),
        unknown,
        findings,
    }
}

fn list_unfit_facts(problems: Vec<RenderProblem>) -> Vec<Finding> {
    let findings = problems.into_iter().filter_map(|problem| match problem {
        RenderProblem::Unfit { at, name, want } => Some(Finding::error(
            at,
            format!("the fact '{name}' is not what is wanted here; it must be {want}"),
            "correct it where it is given",
        )),
        _ => None,
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_fact_will_replace_is_not_judged_and_the_rest_is() {
        let template = json!({
            "cniVersion": "1.0.0",
            "name": "${env.NETWORK}",
            "plugins": [
                { "type": "bridge", "ipam": "${node.ipam}" },
                { "type": "portmap", "capabilities": { "portMappings": "yes" } },
            ],
        });
        let places: Vec<String> = validate_template(&template, |_| true)
            .into_iter()
            .map(|finding| finding.at)
            .collect();
        assert_eq!(places, ["plugins[1].capabilities.portMappings"]);
    }

    #[test]
    fn a_fact_that_nothing_will_know_is_an_error() {
        let template = json!({
            "cniVersion": "1.0.0",
            "name": "${env.NETWORK}",
            "plugins": [{ "type": "bridge", "mtu": "${host.mtuu}" }],
        });
        let findings = validate_template(&template, |name| name.starts_with("env."));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].at, "plugins[0].mtu");
    }

    #[test]
    fn what_is_known_is_filled_in_and_the_rest_named() {
        let template = json!({ "a": "${x}", "b": "${node.podCIDR}", "c": "at ${y}, $${z}" });
        let known = Facts::from([("x".to_owned(), json!(7))]);
        let filled = fill_known_facts(&template, &known);
        assert_eq!(
            filled.conflist,
            json!({ "a": 7, "b": "${node.podCIDR}", "c": "at ${y}, ${z}" })
        );
        assert_eq!(
            filled.unknown.into_iter().collect::<Vec<_>>(),
            ["node.podCIDR", "y"]
        );
    }

    #[test]
    fn an_unclosed_placeholder_is_an_error_without_any_fact() {
        let template =
            json!({ "cniVersion": "1.0.0", "name": "${open", "plugins": [{ "type": "bridge" }] });
        let findings = validate_template(&template, |_| true);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].at, "name");
    }
}
