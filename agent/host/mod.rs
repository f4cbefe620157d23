//! The one door to the host's file system: every path is resolved inside the host root, every file is
//! reached through the descriptor of its directory, and nothing is ever written in place.
//!
//! It holds no policy. What is right, what is ours and what comes first is decided by the callers.
// The one place where these calls belong; clippy refuses them everywhere else.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod dir;
mod error;
mod identity;
mod lock;
mod observe;
mod root;
mod sys;
mod temp;
mod walk;

pub use dir::{Dir, Entry};
pub use error::{HostError, kernel_reason};
pub use identity::Identity;
pub use lock::Lock;
pub use observe::{Print, Reader, Seen};
pub use root::{Host, machine_name};
pub use sys::{Kind, Metadata};
pub use temp::{Sealed, Spool, Temp};
