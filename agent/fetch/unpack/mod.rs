//! From verified bytes to the wanted plugins, within limits.

mod content;
mod elf;
mod error;
mod layer;
mod limits;
mod members;
mod names;
mod scan;
mod tar_entries;

pub use content::FetchedArtifact;
pub(super) use content::FileLocation;
pub use elf::NotAPlugin;
pub use error::ArchiveError;
pub(super) use layer::Layer;
pub use limits::{LimitExceeded, UnpackLimits};
pub use members::read_members;
pub(super) use names::{MAX_LISTED_NAMES, short_name};
pub(super) use tar_entries::{TarEntryKind, normalize_image_path};
