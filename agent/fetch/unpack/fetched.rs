//! What was fetched for an artifact, as it is unpacked.

use crate::fetch::oci::gather::Image;
use crate::fetch::sources::error::Tried;
use crate::fetch::sources::partial::Verified;

/// What was fetched for an artifact, every byte of it verified.
#[derive(Debug)]
pub enum Fetched<S> {
    /// The archive, or the plugin itself.
    Whole(Verified<S>),
    /// The layers of a container image that hold the wanted files.
    Image(Image<S>),
}

impl<S> Fetched<S> {
    /// How many bytes were fetched.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.bytes(),
            Self::Image(image) => image.bytes(),
        }
    }

    /// The source that gave them, without user information and query; of an image the one of what its reference
    /// names.
    #[must_use]
    pub fn source(&self) -> &str {
        match self {
            Self::Whole(bytes) => bytes.source(),
            Self::Image(image) => image.source(),
        }
    }

    /// What failed on the way.
    #[must_use]
    pub fn tried(&self) -> &[Tried] {
        match self {
            Self::Whole(bytes) => bytes.tried(),
            Self::Image(image) => image.tried(),
        }
    }
}

impl<S> From<Verified<S>> for Fetched<S> {
    fn from(bytes: Verified<S>) -> Self {
        Self::Whole(bytes)
    }
}

impl<S> From<Image<S>> for Fetched<S> {
    fn from(image: Image<S>) -> Self {
        Self::Image(image)
    }
}
