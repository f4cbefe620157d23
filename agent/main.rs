//! The `cni-keeper` program.

fn main() {}
