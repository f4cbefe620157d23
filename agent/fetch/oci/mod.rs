//! Files out of a container image, without a runtime: index → manifest → layers, each by its digest.
//!
//! [`gather_image`] asks for one blob after the other and reads none whose digest was not verified. Layers are searched
//! from the top down, and only as many are fetched as it takes to find every wanted path. What holds wanted files
//! is kept, and is read like an archive afterwards.

mod auth;
mod gather;
mod manifest;
mod nearby;
mod path_search;
mod platform;

pub use auth::RegistryError;
pub(super) use auth::{RegistryAuth, RegistryItem};
pub(super) use gather::{BlobFetcher, GatherError, gather_image};
pub use manifest::ImageError;
pub(super) use manifest::{BlobDescriptor, BlobKind};

#[cfg(test)]
mod tests;
