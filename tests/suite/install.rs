//! The commands as a user runs them: the real program, real plugins, a node's disk before and after.

mod advice;
mod configuration;
mod damaged_state;
mod drift;
mod facts;
mod fresh;
mod gates;
mod in_the_way;
mod interrupted;
mod keep;
mod network;
mod output;
mod plugins;
mod precedence;
mod ranges;
mod same_content;
mod store;
mod uninstall;
