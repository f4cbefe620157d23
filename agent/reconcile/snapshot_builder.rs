//! Makes the snapshot of a pass, with its checks, from what was observed and what gates and plugins answered.

use super::error::ReconcileError;
use super::observed_network::{LoadedCandidate, NotRendered, ObservedNetwork, RenderedConflist};
use super::observer::{ObservedState, Observer};
use super::plugin_answers::PluginVersion;
use super::probes::ProbeAnswers;
use super::runtime_choices::RuntimeChoices;
use crate::cni::{Finding, RequiredPlugin, check_plugin_versions};
use crate::model::{
    Candidate, Check, CheckName, ContainerRuntime, Difference, Directory, EffectiveNetwork,
    FileName, FileReport, ManagedDir, PluginName, Snapshot,
};
use crate::plan::ComparedFile;
use crate::trust::describe_weakness;

/// How many files of the configuration directory are shown. Others decide how many there are; the first ones count.
const MOST_CANDIDATES: usize = 256;

/// Makes the snapshot of one pass.
pub(super) fn build_snapshot(
    observer: &Observer,
    observed: &ObservedState,
    answers: &ProbeAnswers,
    choices: Option<&RuntimeChoices>,
) -> Snapshot {
    let settings = &observer.context.settings;
    let report = |file: &ComparedFile| report_file(observer, file);
    let files: Vec<FileReport> = observed.files.iter().map(report).collect();
    let (plugins, conflist) = files.split_at(observed.desired.plugins.len());
    let mut checks = vec![check_binaries(observer, observed, plugins)];
    let mut effective = None;
    let network = observed.network.as_ref().zip(settings.network.as_ref());
    if let Some(((network, declared), choices)) = network.zip(choices) {
        let policy = settings.drift.foreign_conflists;
        checks.push(check_conflist(conflist, network));
        let socket = settings.runtime.as_ref().map(|runtime| &runtime.socket);
        let runtimes = socket.map_or(&ContainerRuntime::ALL[..], |socket| {
            ContainerRuntime::list_by_socket(socket)
        });
        checks.push(choices.check_precedence(runtimes, declared, policy, observed, network));
        checks.push(check_plugins(observed, network, answers));
        checks.push(Check {
            failures: answers.closed_gates.clone(),
            ..Check::new(CheckName::Gates)
        });
        effective = Some(choices.effective());
    }
    Snapshot {
        checks,
        effective,
        files,
    }
}

fn report_file(observer: &Observer, file: &ComparedFile) -> FileReport {
    let context = &observer.context;
    let origin = match &file.artifact {
        Some(name) => {
            let mut artifacts = context.settings.artifacts.iter();
            let artifact = artifacts.find(|artifact| artifact.name == *name);
            let version = artifact.map(|artifact| artifact.version.as_str());
            format!("{name} {}", version.unwrap_or_default())
        }
        None => "configuration".to_owned(),
    };
    FileReport {
        path: context.shown_path(file.dir, &file.name),
        standing: file.standing,
        expected: file.expected,
        actual: file.actual.digest(),
        origin,
        drifts: file.differences.clone(),
    }
}

fn describe_differences(file: &FileReport) -> impl Iterator<Item = String> {
    file.drifts
        .iter()
        .map(|drift| format!("{} {drift}", file.path.display()))
}

fn describe_finding(finding: &Finding) -> String {
    format!("{}: {}", finding.at, finding.describe())
}

fn check_binaries(observer: &Observer, observed: &ObservedState, plugins: &[FileReport]) -> Check {
    let mut failures: Vec<String> = plugins.iter().flat_map(describe_differences).collect();
    let absent = plugins
        .iter()
        .all(|file| file.drifts == [Difference::Missing]);
    if absent && plugins.len() > 1 && observed.bin_is_absent {
        // One line replaces a line for each plugin.
        let path = observer.context.shown_dir(ManagedDir::Bin);
        failures = vec![format!(
            "{} does not exist, so its {} plugins are missing",
            path.display(),
            plugins.len()
        )];
    }
    if let Some(fault) = &observed.bin_fault {
        failures = vec![fault.clone()];
    }
    failures.extend(observer.describe_unknown_pins(observed.plan.artifacts_to_fetch()));
    Check {
        name: CheckName::Binaries,
        failures,
        warnings: list_weaknesses(observer)
            .chain(list_undeclared_files(observer, observed))
            .chain(observed.links.iter().cloned())
            .chain(observed.damaged.iter().map(ToString::to_string))
            .chain(observer.recovered.list())
            .collect(),
    }
}

/// Warnings about sources of digests that protect less than they could.
fn list_weaknesses(observer: &Observer) -> impl Iterator<Item = String> {
    observer
        .context
        .settings
        .artifacts
        .iter()
        .filter_map(describe_weakness)
}

/// Files that we placed and that are no longer declared. They stay, because the teardown of running pods may still need
/// them.
fn list_undeclared_files(observer: &Observer, observed: &ObservedState) -> Vec<String> {
    let context = &observer.context;
    let declared = |name: &FileName| {
        let plugins = &observed.desired.plugins;
        plugins.iter().any(|wanted| wanted.plugin.file() == name)
    };
    let placed = &observed.disk;
    let plugins = placed.placed_plugins.keys().filter(|name| !declared(name));
    // If a network is declared, a pass removes our earlier conflists.
    let has_network = context.settings.network.is_some();
    let conflists = placed.placed_conflists.keys().filter(|_| !has_network);
    plugins
        .map(|name| context.shown_path(ManagedDir::Bin, name))
        .chain(conflists.map(|name| context.shown_path(ManagedDir::Conf, name)))
        .map(|path| {
            let path = path.display();
            format!("{path} was placed earlier and is no longer declared; it stays until uninstall")
        })
        .collect()
}

fn check_conflist(files: &[FileReport], network: &ObservedNetwork) -> Check {
    let mut check = Check::new(CheckName::Conflist);
    check.failures.extend(network.dir_fault.clone());
    check.failures.extend(network.broken_facts.iter().cloned());
    match &network.rendered {
        Ok(RenderedConflist { warnings, .. }) => {
            if network.dir_fault.is_none() {
                check
                    .failures
                    .extend(files.iter().flat_map(describe_differences));
            }
            check.warnings.extend(warnings.iter().map(describe_finding));
        }
        Err(NotRendered::Wrong(ReconcileError::Conflist(findings))) => {
            check.failures.extend(findings.iter().map(describe_finding));
        }
        // A broken file is told already.
        Err(NotRendered::Waiting(reason)) if *reason == network.broken_facts.join("; ") => {}
        Err(unrendered) => check.failures.push(unrendered.to_string()),
    }
    check
}

/// Whether every plugin that the conflist needs is there and answers. A declared plugin whose file is wrong is left
/// out, because the check `binaries` reports it.
fn check_plugins(
    observed: &ObservedState,
    network: &ObservedNetwork,
    answers: &ProbeAnswers,
) -> Check {
    let mut check = Check::new(CheckName::Plugins);
    for (plugin, version) in &answers.versions {
        match version {
            PluginVersion::Broken(reason) => check.failures.push(format!("{plugin}: {reason}")),
            PluginVersion::NotRunnable(reason) | PluginVersion::Unknown(reason) => {
                check.warnings.push(format!("{plugin}: {reason}"));
            }
            PluginVersion::Absent | PluginVersion::NotAsDeclared | PluginVersion::Supports(_) => {}
        }
    }
    let Ok(RenderedConflist {
        summary, needed, ..
    }) = &network.rendered
    else {
        return check;
    };
    let is_reported = |plugin: &PluginName| {
        let broken = matches!(
            answers.versions.get(plugin.as_str()),
            Some(PluginVersion::Broken(_))
        );
        broken || observed.plan.is_plugin_wrong(plugin)
    };
    let needed: Vec<RequiredPlugin> = needed
        .iter()
        .filter(|needed| !is_reported(&needed.plugin))
        .cloned()
        .collect();
    for finding in check_plugin_versions(&needed, summary, &|plugin| {
        answers.supported_versions(plugin)
    }) {
        let line = finding.describe();
        if !check.failures.contains(&line) {
            check.failures.push(line);
        }
    }
    check
}

/// The configuration directory as the runtimes see it.
pub(super) fn build_directory_view(
    observer: &Observer,
    observed: &ObservedState,
    choices: &RuntimeChoices,
) -> Option<Directory> {
    let (network, declared) = observed
        .network
        .as_ref()
        .zip(observer.context.settings.network.as_ref())?;
    let effective = network.candidates.first().and_then(|(file, loaded)| {
        let loaded = loaded.as_ref().ok()?;
        Some(EffectiveNetwork {
            file: file.clone(),
            name: loaded.name.clone(),
            cni_version: loaded.version.clone(),
            chain: loaded.chain.clone(),
            text: network.effective_text.clone().unwrap_or_default(),
        })
    });
    let candidate = |(name, loaded): &LoadedCandidate| Candidate {
        name: name.clone(),
        ours: name == declared.file_name.as_str(),
        network: loaded.as_ref().ok().map(|network| network.name.clone()),
        error: loaded.as_ref().err().map(ToString::to_string),
    };
    let shown = network.candidates.iter().take(MOST_CANDIDATES);
    Some(Directory {
        path: observer.context.shown_dir(ManagedDir::Conf),
        runtimes: choices.runtime_views(),
        candidates: shown.map(candidate).collect(),
        effective,
    })
}
