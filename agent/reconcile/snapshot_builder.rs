//! Makes the snapshot of a pass, with its checks, from what was observed and what gates and plugins answered.

use super::error::ReconcileError;
use super::observed_network::{NotRendered, ObservedNetwork, RenderedConflist};
use super::observer::{ObservedState, Observer};
use super::probes::{PluginVersion, ProbeAnswers};
use super::runtime_choices::RuntimeChoices;
use crate::cni::{RequiredPlugin, check_plugin_versions};
use crate::model::{
    Candidate, Check, CheckName, Difference, Directory, EffectiveNetwork, FileName, FileReport,
    ManagedDir, PluginName, Snapshot,
};
use crate::plan::ComparedFile;
use crate::trust::describe_weakness;

/// Makes the snapshot of one pass.
pub(super) fn build_snapshot(
    observer: &Observer,
    observed: &ObservedState,
    answers: &ProbeAnswers,
) -> Snapshot {
    let settings = &observer.context.settings;
    let report = |file: &ComparedFile| report_file(observer, file);
    let files: Vec<FileReport> = observed.files.iter().map(report).collect();
    let (plugins, conflist) = files.split_at(observed.desired.plugins.len());
    let mut checks = vec![check_binaries(observer, observed, plugins)];
    let mut effective = None;
    if let Some((network, declared)) = observed.network.as_ref().zip(settings.network.as_ref()) {
        let verdicts = RuntimeChoices::of(network, answers);
        let policy = settings.drift.foreign_conflists;
        checks.push(check_conflist(conflist, network));
        checks.push(verdicts.check_precedence(declared, policy, network));
        checks.push(check_plugins(observed, network, answers));
        checks.push(Check {
            failures: answers.closed_gates.clone(),
            ..Check::new(CheckName::Gates)
        });
        effective = Some(verdicts.effective());
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
        actual: file.actual_digest(),
        origin,
        drifts: file.differences.clone(),
    }
}

fn describe_differences(file: &FileReport) -> impl Iterator<Item = String> {
    file.drifts
        .iter()
        .map(|drift| format!("{} {drift}", file.path.display()))
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
    // These come first, because they are the cause, and a short answer shows only the first failure.
    let dead = observed.removed_dirs.iter().map(|dir| {
        format!(
            "{} was removed on the host while it is mounted here, so the host does not see files that are placed there; mount its \
             parent directory instead",
            dir.display()
        )
    });
    failures.splice(..0, dead);
    failures.extend(observer.describe_unknown_pins(observed.plan.artifacts_to_fetch()));
    Check {
        name: CheckName::Binaries,
        failures,
        warnings: list_weaknesses(observer)
            .chain(list_undeclared_files(observer, observed))
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
    match &network.rendered {
        Ok(RenderedConflist { report, .. }) => {
            check
                .failures
                .extend(files.iter().flat_map(describe_differences));
            check.warnings.extend(
                report
                    .warnings()
                    .map(|finding| format!("{}: {}; {}", finding.at, finding.problem, finding.fix)),
            );
        }
        Err(NotRendered::Wrong(ReconcileError::Conflist(findings))) => {
            let lines = findings
                .iter()
                .map(|finding| format!("{}: {}; {}", finding.at, finding.problem, finding.fix));
            check.failures.extend(lines);
        }
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
            PluginVersion::NotRunnable(reason) => {
                check.warnings.push(format!("{plugin}: {reason}"))
            }
            PluginVersion::Absent | PluginVersion::NotAsDeclared | PluginVersion::Supports(_) => {}
        }
    }
    let Ok(RenderedConflist { report, needed, .. }) = &network.rendered else {
        return check;
    };
    let Some(summary) = &report.summary else {
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
        let line = format!("{}; {}", finding.problem, finding.fix);
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
    answers: &ProbeAnswers,
) -> Option<Directory> {
    let (network, declared) = observed
        .network
        .as_ref()
        .zip(observer.context.settings.network.as_ref())?;
    let loaded = network.load_candidates();
    let runtimes = RuntimeChoices::of(network, answers).runtime_views();
    let effective = loaded.first().and_then(|(file, loaded)| {
        let loaded = loaded.as_ref().ok()?;
        Some(EffectiveNetwork {
            file: file.clone(),
            name: loaded.name.clone(),
            cni_version: loaded.version.clone(),
            chain: loaded.chain.clone(),
            text: network.read_file(&file.parse().ok()?).unwrap_or_default(),
        })
    });
    let candidates = loaded.into_iter().map(|(name, loaded)| {
        let (network, error) = match loaded {
            Ok(network) => (Some(network.name), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Candidate {
            ours: name == declared.file_name.as_str(),
            name,
            network,
            error,
        }
    });
    Some(Directory {
        path: observer.context.shown_dir(ManagedDir::Conf),
        runtimes,
        candidates: candidates.collect(),
        effective,
    })
}
