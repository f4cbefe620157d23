//! The real program on a whole node: killed at every change that it makes, refused by the kernel, on a full
//! disk, without descriptors.

mod bundle;
mod disk;
mod errno;
mod kill;
mod limits;
mod node;
mod order;
mod scenario;
mod stepper;
