//! Which conflist each runtime takes from the configuration directory, and whether that is ours.

use std::ffi::OsStr;
use std::path::Path;

use super::observed_network::{ObservedNetwork, RenderedConflist};
use super::observer::ObservedState;
use super::probes::ProbeAnswers;
use crate::cni::{
    ChoiceOutcome, ConflistRefusal, ConflistSummary, Precedence, RuntimeChoice, check_name_is_free,
    choose_conflist, list_merged_drop_ins, precedence_of,
};
use crate::config::{ForeignConflists, NetworkSettings};
use crate::model::{Check, CheckName, ContainerRuntime, Effective, FileName, RuntimeView};

/// How many foreign files are named for one reason. Others decide how many there are.
const MOST_REASONS: usize = 32;

/// The choice of every supported runtime.
pub(super) struct RuntimeChoices(Vec<(ContainerRuntime, RuntimeChoice)>);

impl RuntimeChoices {
    /// Determines the choice of every runtime; `None` if no network is declared.
    pub(super) fn of_observed(observed: &ObservedState, answers: &ProbeAnswers) -> Option<Self> {
        let network = observed.network.as_ref()?;
        Some(Self::of(network, answers))
    }

    fn of(network: &ObservedNetwork, answers: &ProbeAnswers) -> Self {
        let answers = |plugin: &str| answers.supported_versions(plugin);
        Self(network.with_conf_dir(|dir| {
            ContainerRuntime::ALL
                .map(|runtime| (runtime, choose_conflist(runtime, dir, &answers)))
                .into()
        }))
    }

    /// The files that the newest containerd and CRI-O take.
    pub(super) fn effective(&self) -> Effective {
        let picked = |runtime| match &self.choice_of(runtime)?.outcome {
            ChoiceOutcome::Picked { file, .. } => Some(file.to_string_lossy().into_owned()),
            ChoiceOutcome::Aborted { .. } | ChoiceOutcome::Nothing => None,
        };
        Effective {
            containerd: picked(ContainerRuntime::Containerd),
            crio: picked(ContainerRuntime::Crio),
        }
    }

    fn choice_of(&self, runtime: ContainerRuntime) -> Option<&RuntimeChoice> {
        let mut choices = self.0.iter();
        choices.find_map(|(other, choice)| (*other == runtime).then_some(choice))
    }

    /// What becomes of our file, with the runtimes of which that is true. If both generations of containerd agree, only
    /// the newest is named.
    fn group_by_precedence(
        &self,
        ours: &FileName,
        runtimes: &[ContainerRuntime],
    ) -> Vec<(Precedence, Vec<ContainerRuntime>)> {
        let mut groups: Vec<(Precedence, Vec<ContainerRuntime>)> = Vec::new();
        for runtime in runtimes {
            let Some(choice) = self.choice_of(*runtime) else {
                continue;
            };
            let precedence = precedence_of(ours, choice);
            match groups.iter_mut().find(|(other, _)| *other == precedence) {
                Some((_, same)) => same.push(*runtime),
                None => groups.push((precedence, vec![*runtime])),
            }
        }
        for (_, runtimes) in &mut groups {
            if runtimes.contains(&ContainerRuntime::Containerd) {
                runtimes.retain(|runtime| *runtime != ContainerRuntime::ContainerdUpTo17);
            }
        }
        groups
    }

    /// What every runtime takes, and why it skips other files.
    pub(super) fn runtime_views(&self) -> Vec<RuntimeView> {
        let view = |(runtime, choice): &(ContainerRuntime, RuntimeChoice)| {
            let mut why: Vec<String> = choice
                .skipped
                .iter()
                .take(MOST_REASONS)
                .map(|(file, reason)| format!("{} is skipped: {reason}", file.display()))
                .collect();
            let (takes, network) = match &choice.outcome {
                ChoiceOutcome::Picked { file, network } => {
                    let file = file.to_string_lossy().into_owned();
                    (Some(file), Some(network.name.clone()))
                }
                ChoiceOutcome::Aborted { file, error } => {
                    why.push(format!("{} stops the whole load: {error}", file.display()));
                    (None, None)
                }
                ChoiceOutcome::Nothing => {
                    why.push("no file is left to load".to_owned());
                    (None, None)
                }
            };
            RuntimeView {
                runtime: *runtime,
                takes,
                network,
                why,
            }
        };
        self.0.iter().map(view).collect()
    }

    /// The check `precedence`: whether every runtime takes our conflist. A missing conflist or plugin is not reported
    /// here, because other checks report it. `runtimes` are those that the node may have.
    pub(super) fn check_precedence(
        &self,
        runtimes: &[ContainerRuntime],
        declared: &NetworkSettings,
        policy: ForeignConflists,
        observed: &ObservedState,
        network: &ObservedNetwork,
    ) -> Check {
        let ours = &declared.file_name;
        let is_our_former = |file: &OsStr| {
            let name = file.to_str().and_then(|name| name.parse::<FileName>().ok());
            name.is_some_and(|name| name != *ours && observed.disk.is_our_conflist(&name))
        };
        let mut check = Check::new(CheckName::Precedence);
        for (precedence, runtimes) in self.group_by_precedence(ours, runtimes) {
            let [take, load, does] = match runtimes.len() {
                1 => ["takes", "loads", "does"],
                _ => ["take", "load", "do"],
            };
            let names = join_names(&runtimes);
            let line = match precedence {
                Precedence::Picked | Precedence::Absent => continue,
                // The checks of plugins report this.
                Precedence::Refused(
                    ConflistRefusal::PluginSilent(_) | ConflistRefusal::Version { .. },
                ) => {
                    continue;
                }
                Precedence::Shadowed { by, .. } if is_our_former(&by) => format!(
                    "{} is our own conflist under its former name; it stays in force until {ours} is in place, and is removed \
                     then; leave it",
                    by.display()
                ),
                Precedence::Shadowed { by, network } => format!(
                    "{} sorts before {ours}, so {names} {take} its network '{network}'; {}",
                    by.display(),
                    describe_fix(policy)
                ),
                Precedence::Blocked { by, error } => format!(
                    "{} sorts before {ours} and does not load ({error}), so {names} {load} nothing; {}",
                    by.display(),
                    describe_fix(policy)
                ),
                Precedence::Refused(reason) => {
                    format!("{names} {does} not take {ours}: {reason}")
                }
            };
            check.failures.push(line);
        }
        if let Ok(RenderedConflist { summary, .. }) = &network.rendered {
            check.failures.extend(check_same_network_files(
                summary,
                declared,
                network,
                &is_our_former,
            ));
        }
        check
    }
}

/// The names in a sentence: "containerd and CRI-O".
fn join_names(runtimes: &[ContainerRuntime]) -> String {
    let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.as_str()).collect();
    names.join(" and ")
}

/// What an operator can do about a foreign conflist that sorts first.
const fn describe_fix(policy: ForeignConflists) -> &'static str {
    match policy {
        ForeignConflists::Report => {
            "remove it, or set drift.foreignConflists: disable to have it renamed"
        }
        // The agent has not renamed it, so it cannot handle the name of this file.
        ForeignConflists::Disable => "remove or rename it by hand",
    }
}

/// Other files in the directory that change the network: those with the same network name, and drop-ins.
fn check_same_network_files(
    summary: &ConflistSummary,
    declared: &NetworkSettings,
    network: &ObservedNetwork,
    is_our_former: &dyn Fn(&OsStr) -> bool,
) -> Vec<String> {
    let (taken, merged) = network.with_conf_dir(|dir| {
        let taken = check_name_is_free(&summary.name, &declared.file_name, dir, is_our_former);
        let merged = match summary.only_inlined {
            true => Vec::new(),
            false => list_merged_drop_ins(&summary.name, dir),
        };
        (taken, merged)
    });
    let taken = taken.into_iter().map(|finding| finding.describe());
    let merged = merged.into_iter().map(|file| {
        format!(
            "{} is merged into the network (drop-in, libcni 1.3 and newer); remove it, or set \
             loadOnlyInlinedPlugins: true in network.conflist",
            Path::new(&summary.name).join(file).display()
        )
    });
    let mut failures: Vec<String> = taken.chain(merged).take(MOST_REASONS + 1).collect();
    if failures.len() > MOST_REASONS {
        failures[MOST_REASONS] = "there are more such files".to_owned();
    }
    failures
}
