//! The container runtimes that read the configuration directory.

use std::path::Path;

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

impl ContainerRuntime {
    /// The runtimes that may listen at this socket, by its file name: `containerd.sock` in the packages of containerd and
    /// in k3s, RKE2 and MicroK8s, `crio.sock` in those of CRI-O. All of them, if the name says nothing.
    #[must_use]
    pub fn list_by_socket(socket: &Path) -> &'static [Self] {
        match socket.file_name().and_then(|name| name.to_str()) {
            Some("containerd.sock") => &[Self::Containerd, Self::ContainerdUpTo17],
            Some("crio.sock") => &[Self::Crio],
            _ => &Self::ALL,
        }
    }
}
