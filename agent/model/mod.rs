//! The shared terms as plain data: digests, names, declared files, observed files.
//!
//! Nothing here touches the disk, the network or the clock.

mod api_use;
mod artifact;
mod cidr;
mod container_runtime;
mod digest;
mod download_outcome;
mod drift;
mod duration;
mod failure_kind;
mod foreign_text;
mod label_enum;
mod loopback;
mod name;
mod node_facts;
mod observed;
mod policy;
mod reference;
mod serde_as_text;
mod snapshot;
mod spelling;
mod status;
mod timestamp;

pub use api_use::{ApiOutcome, ApiUse};
pub use artifact::{Arch, Artifact, Companion, Format, IfPresent, Member, UnknownArch};
pub use cidr::{Cidr, CidrError};
pub use container_runtime::ContainerRuntime;
pub use digest::{DigestError, Pin, Sha256};
pub use download_outcome::{DownloadOutcome, SourceFailure};
pub use drift::{Difference, DriftKind};
pub use duration::format_duration;
pub use failure_kind::FailureKind;
pub use foreign_text::{
    clip, clip_middle, escape_controls, escape_json, escape_name, one_line, quote_error,
};
pub(crate) use label_enum::label_enum;
pub use loopback::{has_loopback_host, is_loopback};
pub use name::{FileMode, FileName, NameError, PluginName};
pub use node_facts::{NodeFacts, NodeObject, with_related_facts};
pub use observed::{
    FileAttributes, FileState, FileType, LARGEST_PLUGIN, ManagedDir, Owner, Regular,
};
pub use policy::{DriftPolicy, ForeignConflists};
pub use reference::{Reference, ReferenceError};
pub use snapshot::{Check, CheckName, Effective, FileReport, Snapshot, Standing};
pub use spelling::{nearest_word, spelling_distance};
pub use status::{
    Agent, Candidate, Counters, Declared, DeclaredArtifact, Directory, DriftLog, DriftRecord,
    EffectiveNetwork, Histogram, Outcome, RecordedError, RuntimeView, Status, StatusDocument,
    WatchMode,
};
pub use timestamp::Timestamp;
