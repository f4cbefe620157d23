//! Notices changes at once. The kernel's inotify events are reduced to "something may have changed".
//!
//! A hint only makes the event loop observe the disk. What the disk shows decides.

mod dir_watcher;
mod error;
mod event_queue;
mod hint;
mod unclosed_files;

pub use dir_watcher::DirWatcher;
pub use error::WatchError;
pub use hint::{Hint, PathFilter};
pub use unclosed_files::UnclosedFiles;
