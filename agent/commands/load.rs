//! Loads what a command works on: the configuration, the node, and the Kubernetes API's data about the node.

use std::path::{Path, PathBuf};

use super::failure::CommandError;
use super::show;
use crate::cli::Global;
use crate::config::{LoadedConfig, Overrides, load};
use crate::host::{Host, HostError, InputStream};
use crate::kube::{self, KubeClient, RequestPurpose};
use crate::model::Arch;
use crate::reconcile::{Context, KnownNode, ReconcileError};

/// The largest configuration file that is read, in bytes: what a ConfigMap can hold.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Reads and checks the configuration.
pub(super) fn load_config(global: &Global, file: &Path) -> Result<LoadedConfig, CommandError> {
    load_config_for_arch(global, file, None)
}

/// The same for an architecture that may differ from this machine's.
pub(super) fn load_config_for_arch(
    global: &Global,
    file: &Path,
    arch: Option<Arch>,
) -> Result<LoadedConfig, CommandError> {
    let (name, bytes) = match InputStream::from_path(file) {
        Some(stream) => (
            PathBuf::from(stream.describe()),
            stream.read_to_vec(MAX_CONFIG_BYTES),
        ),
        None => (file.to_owned(), read_config_file(file)),
    };
    let file = &*name;
    let text = String::from_utf8(bytes.map_err(config_error)?)
        .map_err(|_| CommandError::NotText(file.display().to_string()))?;
    let seeds = global.seeds.iter().map(std::path::absolute).collect();
    let seeds: Result<_, std::io::Error> = seeds;
    let overrides = Overrides {
        bin_dir: global.bin_dir.clone(),
        conf_dir: global.conf_dir.clone(),
        state_dir: global.state_dir.clone(),
        seeds: seeds.map_err(|error| config_error(HostError::new("find", file, error)))?,
        arch,
    };
    Ok(load(&text, file, &overrides)?)
}

fn read_config_file(file: &Path) -> Result<Vec<u8>, HostError> {
    let absolute =
        std::path::absolute(file).map_err(|error| HostError::new("find", file, error))?;
    Host::open(Path::new("/"))?.read_file(&absolute, MAX_CONFIG_BYTES)
}

/// The error for a configuration that cannot be read. If the machine itself has a problem, such as no descriptors left,
/// naming another file would not help.
fn config_error(error: HostError) -> CommandError {
    match error.is_the_machines() {
        true => ReconcileError::Host(error).into(),
        false => CommandError::NoConfig(error),
    }
}

/// The configuration, and the host that it is for.
pub(super) fn open_node(global: &Global) -> Result<(Host, LoadedConfig), CommandError> {
    let loaded = load_config(global, &global.config)?;
    let host = Host::open(&global.host_root).map_err(CommandError::HostRoot)?;
    if !host.is_root() {
        let owner = host.owner();
        tracing::warn!(
            "not running as root: files will belong to {}:{}, which a real node's runtime should not trust",
            owner.uid,
            owner.gid
        );
    }
    Ok((host, loaded))
}

/// The settings, the host and the node of a command.
pub(super) fn open_context(global: &Global) -> Result<(Context, LoadedConfig), CommandError> {
    let (host, loaded) = open_node(global)?;
    let context = Context::new(loaded.settings.clone(), host, global.node_name.clone());
    Ok((context, loaded))
}

/// The same with the Kubernetes API's data about the node, if the conflist depends on that. If the API does not answer,
/// its last answer is used.
pub(super) async fn open_informed_context(
    global: &Global,
) -> Result<(Context, LoadedConfig), CommandError> {
    let (context, loaded) = open_context(global)?;
    if !context.needs_node_facts() {
        return Ok((context, loaded));
    }
    let name = context.node_name();
    let api = KubeClient::new(
        loaded.settings.kubernetes.clone(),
        name.clone(),
        kube::RequestLog::default(),
    );
    let known = KnownNode::default();
    known.record_answer(match api.get_node(RequestPurpose::NodeFacts).await {
        Ok(node) => Ok(node.into_facts(name.unwrap_or_default())),
        Err(error) => Err(error.to_string()),
    });
    Ok((context.with_node(known), loaded))
}

/// Puts file and line before each mistake in the conflist.
pub(super) fn locate_error(loaded: &LoadedConfig, error: ReconcileError) -> CommandError {
    match error {
        ReconcileError::Conflist(findings) => {
            let lines = findings
                .iter()
                .map(|finding| show::locate_finding(loaded, &finding.at, &finding.describe()))
                .collect();
            CommandError::Conflist(lines)
        }
        ReconcileError::Render(error) => {
            let lines = error
                .problems
                .iter()
                .map(|problem| show::locate_problem(loaded, problem))
                .collect();
            CommandError::Conflist(lines)
        }
        other => other.into(),
    }
}
