//! The agent that stays: the real program, watching and mending a node's disk.

mod company;
mod config;
mod directories;
mod drift;
mod faults;
mod fight;
mod gates;
mod limits;
mod network;
mod stop;
mod store;
