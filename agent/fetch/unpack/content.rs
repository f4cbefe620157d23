//! What was fetched of an artifact, as it is unpacked.

use super::layer::Layer;

/// The verified bytes of an artifact: an archive or a plugin itself, which is a single layer, or the layers of an image
/// that hold wanted files.
#[derive(Debug)]
pub struct FetchedArtifact<S> {
    pub(in crate::fetch) layers: Vec<Layer<S>>,
    /// Where in an image the wanted files are, one for each member; empty for an archive, which is not searched before.
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
