//! The agent that stays: the real program, watching and mending a node's disk.

mod drift;
