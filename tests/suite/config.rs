//! Configuration files as an operator writes them: the settings they become, and the errors for mistakes.

mod bad_input;
mod good_input;
mod mistakes;
mod properties;

use std::path::Path;

use cni_keeper::config::{ConfigErrors, LoadedConfig, Overrides, load};
use cni_keeper::model::Arch;

/// A valid file with every section.
const WHOLE: &str = include_str!("config/whole.yaml");

/// Loads a text as `config.yaml` on an amd64 node.
fn load_text(text: &str) -> Result<LoadedConfig, ConfigErrors> {
    load_for(text, Arch::Amd64)
}

fn load_for(text: &str, arch: Arch) -> Result<LoadedConfig, ConfigErrors> {
    let overrides = Overrides {
        arch: Some(arch),
        ..Overrides::default()
    };
    load(text, Path::new("config.yaml"), &overrides)
}

/// The whole file with one piece of it replaced; the piece must be there exactly once.
fn whole_with(from: &str, to: &str) -> String {
    assert_eq!(WHOLE.matches(from).count(), 1, "{from:?}");
    WHOLE.replace(from, to)
}
