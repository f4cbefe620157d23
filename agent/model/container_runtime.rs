//! The container runtimes that read the configuration directory.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A runtime, or a generation of one, that has rules of its own for choosing a conflist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerRuntime {
    /// containerd 2.1 and later.
    Containerd,
    /// containerd 1.6 and 1.7.
    ContainerdUpTo17,
    /// CRI-O.
    Crio,
}

impl ContainerRuntime {
    /// Every runtime, the newest containerd first.
    pub const ALL: [Self; 3] = [Self::Containerd, Self::ContainerdUpTo17, Self::Crio];

    /// The name, for people and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::ContainerdUpTo17 => "containerd up to 1.7",
            Self::Crio => "CRI-O",
        }
    }
}

impl fmt::Display for ContainerRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ContainerRuntime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ContainerRuntime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let mut runtimes = Self::ALL.into_iter();
        runtimes
            .find(|runtime| runtime.as_str() == name)
            .ok_or_else(|| D::Error::custom(format!("unknown container runtime '{name}'")))
    }
}
