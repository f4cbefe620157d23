//! Network configuration lists: parse, validate, render, and which one a runtime picks.
//!
//! Two questions are kept apart: what libcni would load (`loader`, `precedence`: as lenient as it is,
//! since foreign files are judged by it) and what we are willing to write (`validate`: strict). Both
//! read the same tree (`parse`).

mod json;
mod loader;
mod parse;
mod plugin;
mod precedence;
mod version;

pub use loader::{DropIns, Form, Libcni, LoadError, Network, load};
pub use parse::SyntaxError;
pub use precedence::{
    Answers, ConfDir, DirEntry, EntryKind, Outcome, PassedOver, Standing, Verdict, containerd,
    crio, merged_drop_ins, standing,
};
pub use version::SPEC_VERSIONS;
