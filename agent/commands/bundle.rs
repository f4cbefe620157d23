//! `bundle`: everything that a configuration needs, for nodes without a network.

use std::path::Path;

use serde_json::json;

use super::failure::CommandError;
use super::load::load_config_for_arch;
use super::output;
use super::output::Exit;
use super::progress::Terminal;
use crate::bundle::Bundle;
use crate::cli::{Global, Output};
use crate::host::HostError;
use crate::model::Arch;
use crate::reconcile::DownloadObserver as _;

pub(super) async fn run_bundle(
    global: &Global,
    dir: &Path,
    archs: &[Arch],
    format: Output,
) -> Result<Exit, CommandError> {
    // The configuration of every architecture is read before anything is fetched, so that a missing pin is reported at
    // once.
    let mut declared = Vec::new();
    let archs: Vec<Option<Arch>> = match archs {
        [] => vec![None],
        some => some.iter().copied().map(Some).collect(),
    };
    for arch in archs {
        declared.push(load_config_for_arch(global, &global.config, arch)?.settings);
    }
    let dir = std::path::absolute(dir).map_err(|error| HostError::new("find", dir, error));
    let dir = dir.map_err(|error| CommandError::Bundle(error.into()))?;
    let mut bundle = Bundle::open(&dir)?;
    let terminal = Terminal::new();
    for settings in &declared {
        bundle
            .gather(settings, |artifact| terminal.downloading(artifact))
            .await?;
    }
    let contents = bundle.finish()?;
    if format == Output::Json {
        output::print_json(&json!({ "bundle": dir, "artifacts": contents }));
        return Ok(Exit::Done);
    }
    for it in &contents {
        output::print_line(format!(
            "bundled   {} {} {}  {} from {}, {} verified",
            it.artifact,
            it.version,
            it.arch,
            indicatif::HumanBytes(it.bytes),
            it.source,
            it.pin.chars().take(19).collect::<String>(),
        ));
    }
    let names: Vec<&str> = declared.iter().map(|it| it.arch.as_str()).collect();
    output::print_line(format!(
        "done: {} has everything that this configuration needs for {}; `install --offline --seed {}` uses it",
        dir.display(),
        names.join(", "),
        dir.display()
    ));
    Ok(Exit::Done)
}
