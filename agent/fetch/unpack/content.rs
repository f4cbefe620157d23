//! What was fetched of an artifact, as it is unpacked.

use super::layer::Layer;
use crate::fetch::verify::Verified;

/// The verified bytes of an artifact.
#[derive(Debug)]
pub enum FetchedContent<S> {
    /// The archive, or the plugin itself.
    Blob(Verified<S>),
    /// The layers of a container image that hold the wanted files.
    Image(ImageContent<S>),
}

/// The layers of an image that hold wanted files, every byte of them verified, and where in them the files are.
#[derive(Debug)]
pub struct ImageContent<S> {
    pub(in crate::fetch) layers: Vec<Layer<S>>,
    /// One for each member of the artifact.
    pub(in crate::fetch) files: Vec<FileLocation>,
}

/// Where in an image a wanted file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fetch) struct FileLocation {
    /// Layers are counted from the top.
    pub(in crate::fetch) layer: usize,
    /// The path of a regular file in it.
    pub(in crate::fetch) path: String,
}
