//! The container runtimes that read the configuration directory.

use super::label_enum;

label_enum! {
    /// A runtime, or a generation of one, that has rules of its own for choosing a conflist.
    pub enum ContainerRuntime {
        /// containerd 2.1 and later.
        Containerd = "containerd",
        /// containerd 1.6 and 1.7.
        ContainerdUpTo17 = "containerd up to 1.7",
        /// CRI-O.
        Crio = "CRI-O",
    }
}
