//! The only access to the host's file system: every path is resolved inside the host root, every file is
//! reached through the descriptor of its directory, and nothing is ever written in place.
//!
//! It has no policy. The callers decide what is right, which files are ours and what comes first.
// The one place where these calls belong; clippy refuses them everywhere else.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod advice;
mod attributes;
mod circumstances;
mod dir;
mod dir_identity;
mod error;
mod input_stream;
mod link_memory;
mod lock;
mod memory;
mod observe;
mod resolve;
mod root;
mod syscalls;
mod temp;

pub use dir::{Dir, ListedEntry};
pub use dir_identity::DirIdentity;
pub use error::{HostError, kernel_reason};
pub use input_stream::InputStream;
pub use link_memory::MissingLink;
pub use lock::Lock;
pub use memory::{MemoryLimit, MemoryLimitError, describe_size, offer_to_oom_killer};
pub use observe::{FileFingerprint, FileReader, HashedFile};
pub use root::{Host, check_executable, machine_name};
pub use syscalls::{FileKind, FileMetadata, end_readings};
pub use temp::{Sealed, SpoolFile, Temp};
