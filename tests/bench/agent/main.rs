//! The running agent from outside: how soon it is ready, how long damage lasts, and what it costs when nothing happens.
//!
//! `scripts/bench` runs it. It prints a line for every case.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

mod cost;
mod figures;
mod heal;
mod running;

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

use cost::{flood, idle, memory};
use figures::{Sample, heading, line};
use heal::{Damage, by_hand, heal};
use running::Node;

const BIN: &str = "opt/cni/bin";
const CONF: &str = "etc/cni/net.d";
const CONFLIST: &str = "10-cni-keeper.conflist";

fn main() -> io::Result<()> {
    // Cargo itself passes `--bench`.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [what, keeper, config, root, count] = args.as_slice() else {
        return Err(io::Error::other(
            "usage: agent ready|conflist|plugins|cost KEEPER CONFIG ROOT COUNT",
        ));
    };
    let node = Node {
        keeper: keeper.into(),
        config: config.into(),
        root: root.into(),
    };
    let count = count.parse().map_err(io::Error::other)?;
    match what.as_str() {
        "ready" => ready(&node, count),
        "conflist" => conflist(&node, count),
        "plugins" => plugins(&node, count),
        "cost" => cost(&node, count),
        other => Err(io::Error::other(format!("what is {other}?"))),
    }
}

fn ready(node: &Node, count: usize) -> io::Result<()> {
    let mut times = Sample::default();
    for _ in 0..count {
        let agent = node.start()?;
        times.push(agent.wait_until_ready()?);
        agent.wait_until_idle()?;
    }
    heading("start");
    line("start -> ready, everything read", &times, "<= 100");
    Ok(())
}

fn conflist(node: &Node, count: usize) -> io::Result<()> {
    let files = [node.path(CONF).join(CONFLIST)];
    heading("heal");
    let by_hand = by_hand(&node.path(CONF), count)?;
    line("(a file written, made durable, renamed)", &by_hand, "");
    for (what, damage) in [
        ("conflist deleted", Damage::Delete),
        ("conflist overwritten", Damage::Overwrite),
    ] {
        let healed = heal(node, &files, damage, count)?;
        line(what, &healed.outside, "p50 <= 2, p99 <= 8");
        line("  durable, by /drift", &healed.own, "");
    }
    Ok(())
}

fn plugins(node: &Node, count: usize) -> io::Result<()> {
    let files = fs::read_dir(node.path(BIN))?;
    let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    files.retain(|file| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("sized-"))
    });
    let bytes = fs::metadata(files.first().ok_or(io::ErrorKind::NotFound)?)?.len();
    let size = bytes / 1_000_000;
    let to_hold = if size <= 4 { "p99 <= 50" } else { "" };
    for (what, damage) in [
        ("deleted", Damage::Delete),
        ("corrupted in place", Damage::Corrupt),
    ] {
        let healed = heal(node, &files, damage, count)?;
        line(
            &format!("plugin of {size} MB {what}"),
            &healed.outside,
            to_hold,
        );
        line("  durable, by /drift", &healed.own, "");
    }
    Ok(())
}

fn cost(node: &Node, count: usize) -> io::Result<()> {
    println!();
    let fresh = Node {
        root: node.root.with_extension("fresh"),
        ..node.clone()
    };
    fs::create_dir(&fresh.root)?;
    let agent = fresh.start_and_settle()?;
    memory(
        "after it has installed everything",
        &agent,
        "<= 6, peak <= 12",
    )?;
    drop(agent);
    fs::remove_dir_all(&fresh.root)?;
    let agent = node.start_and_settle()?;
    memory("after a start on a right node", &agent, "<= 6")?;
    idle(&agent)?;
    flood(node, &agent, CONF, count)?;
    flood(node, &agent, BIN, count)?;
    memory("after all that", &agent, "<= 6")
}
