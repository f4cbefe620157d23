//! Network configuration lists: parse, validate, render, and which one a runtime picks.
//!
//! Two questions are kept apart: what libcni would load (`loader`, `precedence`: as lenient as it is,
//! since foreign files are judged by it) and what we are willing to write (`validate`: strict). Both
//! read the same tree (`parse`).

mod directory;
mod env_file;
mod json;
mod loader;
mod node;
mod parse;
mod plugin;
mod precedence;
mod ranges;
mod render;
mod template;
mod validate;
mod version;

pub use directory::{ConfDir, DirEntry, DropIns, EntryKind};
pub use env_file::{EnvFileError, parse_env_file};
pub use loader::{Form, Libcni, LoadError, Network, load};
pub use node::{Needed, Role, check_name_is_free, check_plugins, needed_plugins};
pub use parse::SyntaxError;
pub use precedence::{
    Answers, Outcome, PassedOver, Standing, Verdict, chains_up_to, containerd, crio,
    earlier_candidates, merged_drop_ins, standing, survey,
};
pub use ranges::check_ranges;
pub use render::{Facts, RenderError, RenderProblem, render};
pub use template::{fill_known, validate_template};
pub use validate::{Finding, Report, Severity, Summary, validate};
pub use version::SPEC_VERSIONS;
