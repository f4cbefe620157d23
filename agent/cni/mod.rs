//! Network configuration lists (conflists):
//!
//! - `parse` reads JSON exactly as Go does, into the tree of `json_tree`;
//! - `loader` and `plugin_conf` load a file as libcni does, so that foreign files are treated as a runtime treats them;
//! - `precedence` decides which file of a directory each runtime takes;
//! - `validate`, `node_checks` and `ranges` check what we write ourselves, and are stricter than libcni;
//! - `plugin_check` holds it to the table of `reference_plugins`: the keys, types and rules of each plugin;
//! - `render` and `template` fill in `${fact}`, `fact_types` gives its value the type that the plugin wants; `env_file` reads facts from a file.

mod directory;
mod env_file;
mod examined_file;
mod fact_types;
mod host_local;
mod ipam_caller;
mod ipam_rules;
mod json_tree;
mod kept_values;
mod loader;
mod node_checks;
mod parse;
mod placeholder;
mod plugin_check;
mod plugin_conf;
mod plugin_rules;
mod precedence;
mod ranges;
mod reference_plugins;
mod render;
mod spec_version;
mod template;
mod validate;
mod value_forms;
mod wanted_value;

pub use directory::{ConfDir, DirEntry, DropIns, EntryKind, has_conflist_extension};
pub use env_file::{EnvFileError, parse_env_file};
pub use examined_file::{ExaminedFile, LibcniNetwork, LoadError};
pub use loader::{ConfForm, Libcni, examine_file, load_as_libcni};
pub use node_checks::{
    PluginRole, RequiredPlugin, check_name_is_free, check_plugin_versions, list_required_plugins,
};
pub use parse::SyntaxError;
pub use plugin_check::check_plugins;
pub use plugin_conf::WrongType;
pub use precedence::{
    ChoiceOutcome, ConflistRefusal, Precedence, RuntimeChoice, SupportedVersions,
    choose_as_containerd, choose_as_crio, choose_conflist, list_earlier_candidates,
    list_merged_drop_ins, list_plugins_asked_by_crio, load_candidates, precedence_of, sorts_before,
};
pub use ranges::check_ranges;
pub use render::{Facts, RenderError, RenderProblem, render_conflist};
pub use spec_version::SPEC_VERSIONS;
pub use template::{FilledTemplate, fill_known_facts, validate_template};
pub use validate::{ConflistSummary, Finding, Severity, ValidationReport, validate_conflist};
