//! The real program on a whole node: killed at every change that it makes, refused by the kernel, out of
//! room, out of descriptors.

mod bundle;
mod disk;
mod errno;
mod kill;
mod limits;
mod node;
mod order;
mod scenario;
mod stepper;
