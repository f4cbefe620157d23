//! `validate`: the configuration and nothing else; no node is needed.

use std::path::Path;

use serde_json::json;

use super::{Exit, Failure, declaration, output, show};
use crate::cli::{Global, Output};
use crate::conflist::{Severity, validate_template};

/// Runs it.
pub(super) fn run(global: &Global, file: Option<&Path>, format: Output) -> Result<Exit, Failure> {
    let file = file.unwrap_or(&global.config);
    let loaded = match declaration(global, file) {
        Err(Failure::Config(errors)) if format == Output::Json => {
            let lines: Vec<String> = errors.all().iter().map(ToString::to_string).collect();
            output::json(&json!({ "valid": false, "errors": lines, "warnings": [] }));
            return Ok(Exit::Usage);
        }
        other => other?,
    };
    let template = loaded
        .settings
        .network
        .as_ref()
        .map(|network| &network.conflist);
    let findings = template.map(validate_template).unwrap_or_default();
    let told = |severity: Severity| -> Vec<String> {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .map(|finding| {
                show::finding(
                    &loaded,
                    &finding.at,
                    &format!("{}; {}", finding.problem, finding.mend),
                )
            })
            .collect()
    };
    let (errors, warnings) = (told(Severity::Error), told(Severity::Warning));
    match format {
        Output::Json => {
            output::json(
                &json!({ "valid": errors.is_empty(), "errors": errors, "warnings": warnings }),
            );
        }
        Output::Text => {
            for warning in &warnings {
                output::line(format!("warning: {warning}"));
            }
            errors
                .iter()
                .for_each(|error| output::complaint(global.log_format, error));
            if errors.is_empty() {
                output::line(format!("{}: valid", file.display()));
            }
        }
    }
    Ok(if errors.is_empty() {
        Exit::Done
    } else {
        Exit::Usage
    })
}
