//! Notices changes at once: inotify, reduced to "something may have changed".
//!
//! A hint is never believed. It only makes the event loop look at the disk, which is the truth.

mod dir_watcher;
mod error;
mod event_queue;
mod hint;

pub use dir_watcher::DirWatcher;
pub use error::WatchError;
pub use hint::{Hint, PathFilter};
