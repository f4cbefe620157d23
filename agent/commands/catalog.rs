//! `catalog`: what is built in.

use serde_json::{Value, json};

use super::failure::CommandError;
use super::output;
use super::output::Exit;
use crate::cli::Output;
use crate::config::{Asset, Confidence, PROFILES, Release, read_catalog};

pub(super) fn run_catalog(format: Output) -> Result<Exit, CommandError> {
    let catalog = read_catalog()?;
    if format == Output::Json {
        let profiles: Vec<Value> = PROFILES
            .iter()
            .map(|profile| json!({ "name": profile.name, "about": profile.about, "configuration": profile.text }))
            .collect();
        let projects: Vec<Value> = catalog
            .projects
            .iter()
            .map(|project| {
                let releases: Vec<Value> = project.releases.iter().map(release_json).collect();
                json!({ "name": project.name, "releases": releases })
            })
            .collect();
        output::print_json(&json!({ "profiles": profiles, "projects": projects }));
        return Ok(Exit::Done);
    }
    output::print_line(
        "PROFILES  start from one with `profile: NAME`; `--output json` shows each whole",
    );
    for profile in &PROFILES {
        output::print_line(format!("  {:<17} {}", profile.name, profile.about));
    }
    output::print_line("");
    output::print_line(
        "PINNED UPSTREAM DIGESTS  sha256; * = recorded by a single public project: compare with upstream's own",
    );
    for project in &catalog.projects {
        output::print_line("");
        output::print_line(&project.name);
        for release in &project.releases {
            let advised = if release.advised { "" } else { "  not advised" };
            output::print_line(format!("  {}{advised}", release.version));
            for note in &release.notes {
                output::print_line(format!("      {note}"));
            }
            for asset in &release.assets {
                output::print_line(format!("    {}", asset_line(asset)));
            }
            for asset in &release.superseded {
                output::print_line(format!(
                    "    {}  replaced upstream since",
                    asset_line(asset)
                ));
            }
        }
    }
    Ok(Exit::Done)
}

fn asset_line(asset: &Asset) -> String {
    let mark = match asset.confidence {
        Confidence::CrossChecked => ' ',
        Confidence::SingleSource => '*',
    };
    let file = asset
        .file
        .as_deref()
        .map(|file| format!(" {file}"))
        .unwrap_or_default();
    format!("{:<8} {} {mark}{file}", asset.arch.as_str(), asset.sha256)
}

fn release_json(release: &Release) -> Value {
    let assets = |assets: &[Asset]| -> Vec<Value> {
        assets
            .iter()
            .map(|asset| {
                json!({
                    "arch": asset.arch.as_str(),
                    "url": release.url_of(asset),
                    "sha256": asset.sha256,
                    "singleSource": asset.confidence == Confidence::SingleSource,
                })
            })
            .collect()
    };
    json!({
        "version": release.version,
        "advised": release.advised,
        "notes": release.notes,
        "assets": assets(&release.assets),
        "superseded": assets(&release.superseded),
    })
}
