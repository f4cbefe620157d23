//! What the agent costs when there is nothing to do for it.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::running::{Node, Running};

/// How long threads that wait for more work do so before they end.
const KEPT_ALIVE: Duration = Duration::from_secs(12);
/// How long an idle agent is watched.
const IDLE: Duration = Duration::from_secs(60);

/// Tells what memory the agent holds, and the most that it ever held, in MiB.
pub(super) fn memory(what: &str, agent: &Running, to_hold: &str) -> io::Result<()> {
    let [resident, own, files, peak] =
        ["VmRSS", "RssAnon", "RssFile", "VmHWM"].map(|name| agent.memory(name));
    let mib = |kib: io::Result<u64>| kib.map(|kib| format!("{:.1}", kib as f64 / 1024.0));
    let (resident, own, files, peak) = (mib(resident)?, mib(own)?, mib(files)?, mib(peak)?);
    println!(
        "{what:<44} {resident} MiB resident (own {own}, files {files}), peak {peak}  {to_hold}"
    );
    Ok(())
}

/// Measures an idle agent.
pub(super) fn idle(agent: &Running) -> io::Result<()> {
    thread::sleep(KEPT_ALIVE);
    let before = agent.usage()?;
    thread::sleep(IDLE);
    let after = agent.usage()?;
    let wakeups = after.wakeups - before.wakeups;
    let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e3;
    println!(
        "{:<44} {wakeups} wakeups, {cpu:.2} ms of CPU  0",
        "an idle minute"
    );
    Ok(())
}

/// Writes files that do not concern the agent; each causes one event or more.
pub(super) fn flood(node: &Node, agent: &Running, dir: &str, count: usize) -> io::Result<()> {
    let file = |number: usize| node.path(dir).join(format!("unrelated-{number}"));
    agent.wait_until_idle()?;
    let (before, passes) = (agent.usage()?, passes(agent)?);
    (0..count).try_for_each(|number| fs::write(file(number % 100), "nothing to you\n"))?;
    agent.wait_until_idle()?;
    let cpu = (agent.usage()?.cpu - before.cpu).as_secs_f64();
    // The request makes it observe the disk once.
    let passes = self::passes(agent)? - passes - 1;
    (0..count.min(100)).try_for_each(|number| fs::remove_file(file(number)))?;
    let what = format!("{count} files written beside, in {}", last(dir));
    println!("{what:<44} {cpu:.3} s of CPU, {passes} passes");
    Ok(())
}

fn passes(agent: &Running) -> io::Result<u64> {
    Ok(agent.json("/status")?["passes"]
        .as_u64()
        .unwrap_or_default())
}

fn last(dir: &str) -> String {
    let name = Path::new(dir).file_name();
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
