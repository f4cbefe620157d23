//! `validate`: checks the configuration. No node is needed.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::failure::CommandError;
use super::load::load_config;
use super::output::Exit;
use super::{output, show};
use crate::cli::{Global, Output};
use crate::cni::{
    Facts, FilledTemplate, Finding, Severity, check_plugins, check_ranges, fill_known_facts,
    list_required_plugins, validate_template,
};
use crate::config::{FactSource, LoadedConfig, NetworkSettings};
use crate::model::{NodeFacts, PluginName, with_related_facts};
use crate::trust::describe_weakness;

pub(super) fn run_validate(
    global: &Global,
    file: Option<&Path>,
    format: Output,
) -> Result<Exit, CommandError> {
    let file = file.unwrap_or(&global.config);
    let loaded = match load_config(global, file) {
        Err(CommandError::Config(errors)) if format == Output::Json => {
            let lines: Vec<String> = errors.all().iter().map(ToString::to_string).collect();
            output::print_json(
                &json!({ "valid": false, "errors": lines, "warnings": [], "notes": [] }),
            );
            return Ok(Exit::Usage);
        }
        other => other?,
    };
    let (findings, mut notes) = match &loaded.settings.network {
        Some(network) => check_conflist(&loaded, network),
        None => (Vec::new(), Vec::new()),
    };
    let reported = |severity: Severity| -> Vec<String> {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .map(|finding| show::locate_finding(&loaded, &finding.at, &finding.describe()))
            .collect()
    };
    let (errors, mut warnings) = (reported(Severity::Error), reported(Severity::Warning));
    warnings.extend(undeclared_plugins(&loaded));
    warnings.extend(describe_weaknesses(&loaded));
    // The same mirrors are often used by clusters with other networks.
    notes.extend(loaded.settings.warnings.iter().cloned());
    match format {
        Output::Json => {
            output::print_json(
                &json!({ "valid": errors.is_empty(), "errors": errors, "warnings": warnings, "notes": notes }),
            );
        }
        Output::Text => {
            for warning in &warnings {
                output::print_line(format!("warning: {warning}"));
            }
            errors
                .iter()
                .for_each(|error| output::print_complaint(global.log_format, error));
            if errors.is_empty() {
                for note in &notes {
                    output::print_line(format!("note: {note}"));
                }
                output::print_line(format!("{}: valid", file.display()));
            }
        }
    }
    Ok(if errors.is_empty() {
        Exit::Done
    } else {
        Exit::Usage
    })
}

/// Checks the conflist as far as that is possible without a node, and notes what could not be checked.
fn check_conflist(loaded: &LoadedConfig, network: &NetworkSettings) -> (Vec<Finding>, Vec<String>) {
    let mut findings = validate_template(&network.conflist, |name| may_be_known(loaded, name));
    let FilledTemplate {
        conflist,
        unknown,
        findings: of_facts,
    } = fill_known_facts(&network.conflist, &given_facts(network));
    findings.extend(of_facts);
    findings.extend(check_plugins(&conflist));
    findings.extend(check_ranges(
        &conflist,
        &network.pod_ranges,
        &network.reserved,
    ));
    if unknown.is_empty() {
        return (findings, Vec::new());
    }
    let names: Vec<String> = unknown.into_iter().collect();
    let note = format!(
        "only known on a node: {}; `cni-keeper render` there shows and checks the conflist with them",
        names.join(", ")
    );
    (findings, vec![note])
}

/// The facts that the configuration itself gives, without those that a later source may override.
fn given_facts(network: &NetworkSettings) -> Facts {
    let mut given = Facts::new();
    for source in &network.facts {
        match source {
            FactSource::Values(values) => given.extend(with_related_facts(values.clone())),
            FactSource::EnvFile(_) => given.retain(|name, _| name.contains('.')),
            FactSource::KubernetesNode => given.retain(|name, _| !NodeFacts::is_node_fact(name)),
        }
    }
    given
}

/// Whether a node could know a fact. Its own facts and the environment's are always known; a file's depend on the file.
fn may_be_known(loaded: &LoadedConfig, name: &str) -> bool {
    let network = loaded.settings.network.iter();
    let declared = network
        .flat_map(|network| &network.facts)
        .any(|source| match source {
            FactSource::Values(values) => with_related_facts(values.clone()).contains_key(name),
            FactSource::EnvFile(_) => !name.contains('.'),
            FactSource::KubernetesNode => NodeFacts::is_node_fact(name),
        });
    declared || name.starts_with("env.") || ["node.name", "host.mtu", "host.arch"].contains(&name)
}

/// Pins without a trusted source.
fn describe_weaknesses(loaded: &LoadedConfig) -> impl Iterator<Item = String> {
    let artifacts = loaded.settings.artifacts.iter().enumerate();
    artifacts.filter_map(|(index, artifact)| {
        let weakness = describe_weakness(artifact)?;
        let key = format!("artifacts[{index}].checksumUrl");
        Some(show::locate(loaded, &key, &weakness))
    })
}

/// The plugins that the conflist needs and no artifact installs. That is right only if the node's image contains them.
fn undeclared_plugins(loaded: &LoadedConfig) -> Vec<String> {
    let settings = &loaded.settings;
    let Some(network) = &settings.network else {
        return Vec::new();
    };
    let declared = |plugin: &PluginName| {
        let mut members = settings
            .artifacts
            .iter()
            .flat_map(|artifact| &artifact.members);
        members.any(|member| member.plugin == *plugin)
    };
    let mut seen = BTreeSet::new();
    list_required_plugins(&network.conflist)
        .into_iter()
        .filter(|needed| !declared(&needed.plugin) && seen.insert(needed.plugin.clone()))
        .map(|needed| {
            let text = format!(
                "{} is needed and no artifact installs it; add it to the plugins of one, unless the node's image has it",
                needed.plugin
            );
            show::locate_finding(loaded, &needed.at, &text)
        })
        .collect()
}
