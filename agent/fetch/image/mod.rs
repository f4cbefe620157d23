//! Files out of a container image, without a runtime: index → manifest → layers, each by its digest.
//!
//! [`gather`] asks for one blob after the other and looks at none whose digest was not proven. Layers are looked at
//! from the top down, and only as many are fetched as it takes to find every wanted path. What holds wanted files
//! is kept, and is read like an archive afterwards.

mod gather;
mod layer;
mod manifest;
mod nearby;
mod platform;
mod search;

use std::future::Future;

pub use gather::Image;
pub(super) use gather::gather;
pub(super) use layer::{Content, Layer};
pub use manifest::ImageError;
pub(super) use manifest::{Descriptor, Kind};

use super::{FetchError, Verified};

/// Gives the blobs of an image.
pub(super) trait Blobs<S> {
    /// The verified bytes of `blob`. They need not have the size that the descriptor announces: that is looked at
    /// here.
    ///
    /// # Errors
    /// When no source gives the bytes that its digest names, or they cannot be kept.
    fn get(&mut self, blob: &Descriptor) -> impl Future<Output = Result<Verified<S>, FetchError>>;
}

#[cfg(test)]
mod tests;
