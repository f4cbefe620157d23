//! What the thread that inflates hands to the one that writes: a handful of buffers that travel back and forth.

use std::sync::mpsc::{Receiver, Sender};

/// How many buffers there are.
pub(super) const BUFFERS: usize = 4;
/// The size of each in bytes: large enough that handing it over costs nothing.
pub(super) const BUFFER_SIZE: usize = 64 << 10;

/// What the inflating thread hands over.
pub(super) enum MemberStep {
    /// The wanted file of this index begins and has this size.
    Begin(usize, u64),
    /// Its next bytes.
    Bytes(Vec<u8>),
    /// It is complete.
    End,
}

/// The inflating thread's end.
pub(super) struct MemberSender {
    pub(super) steps: Sender<MemberStep>,
    pub(super) spare: Receiver<Vec<u8>>,
}

/// The receiving side gave up; it has the reason.
#[derive(Debug)]
pub(super) struct ReceiverGone;

impl MemberSender {
    /// An empty buffer of full capacity; waits until the other side has written one out.
    pub(super) fn take_buffer(&self) -> Result<Vec<u8>, ReceiverGone> {
        let mut buffer = self.spare.recv().map_err(|_| ReceiverGone)?;
        buffer.resize(BUFFER_SIZE, 0);
        Ok(buffer)
    }

    pub(super) fn send_step(&self, step: MemberStep) -> Result<(), ReceiverGone> {
        self.steps.send(step).map_err(|_| ReceiverGone)
    }
}
