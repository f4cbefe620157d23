//! What happens in a directory, as a runtime's own watch would see it.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A watch on a directory for everything that changes it; reading and opening do not count.
pub(crate) struct Watch(Inotify);

impl Watch {
    /// Starts watching.
    pub(crate) fn on(dir: &Path) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        let changes = AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(dir, changes).unwrap();
        Self(inotify)
    }

    /// Everything since the last call. The kernel queues an event within the call that causes it,
    /// so nothing is missing of what a process did that has ended.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            match self.0.read_events() {
                Ok(events) => seen.extend(events.into_iter().map(|event| {
                    Event {
                        what: event.mask,
                        cookie: event.cookie,
                        name: event
                            .name
                            .map(|name| name.to_string_lossy().into_owned())
                            .unwrap_or_default(),
                    }
                })),
                Err(Errno::EAGAIN) => return seen,
                Err(error) => panic!("cannot read the watch: {error}"),
            }
        }
    }
}

/// One change of a name in the directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The kind of change.
    pub(crate) what: AddWatchFlags,
    /// Ties the two halves of a rename together.
    pub(crate) cookie: u32,
    /// The name that it happened to.
    pub(crate) name: String,
}
