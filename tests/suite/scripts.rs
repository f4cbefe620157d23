//! What every script does with an argument that it does not know.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Far more than refusing takes, and too little for anything else that a script does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every script that is run, not sourced.
fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let scripts: Vec<PathBuf> = files.filter(|file| file.extension().is_none()).collect();
    assert!(scripts.len() >= 10, "{scripts:?}");
    scripts
}

/// Runs a script with what it must refuse; ends it, with all that it has started, where it does something else.
fn refusal(script: &Path, args: &[&str]) -> Output {
    let mut child = Command::new(script)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            killpg(
                Pid::from_raw(child.id().try_into().unwrap()),
                Signal::SIGKILL,
            )
            .unwrap();
            child.wait().unwrap();
            panic!("{} {args:?} is not refused at once", script.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn an_unknown_argument_is_refused_in_one_line_before_anything_is_done() {
    for script in scripts() {
        let name = script.file_name().unwrap().to_str().unwrap();
        for args in [
            &["--nope"][..],
            &["nope", "--nope"],
            &["--nope", "nope", "1", "2", "3"],
            &["-x"],
            &["nope/../nope"],
        ] {
            let output = refusal(&script, args);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{name} {args:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{name} {args:?}: {said}");
            assert!(said.starts_with(&format!("{name}: ")), "{args:?}: {said}");
            assert_eq!(output.stdout, b"", "{name} {args:?}");
        }
    }
}

/// One more than a script takes is as unknown as a wrong one.
#[test]
fn an_argument_too_many_is_refused() {
    for (name, args) in [
        ("bench", &["10", "10", "10"][..]),
        ("build", &["amd64", "arm64"]),
        ("e2e", &["upgrade", "upgrade"]),
        ("e2e-kubernetes", &["upgrade", "upgrade"]),
        ("image", &["0.1.0", "/nowhere/image.tar", "seed", "more"]),
        ("quickstart", &["--upstream", "--upstream"]),
        ("test", &["--all", "--all"]),
        ("vm", &["arm64", "arm64"]),
    ] {
        let script = scripts().into_iter().find(|script| script.ends_with(name));
        let output = refusal(&script.unwrap(), args);
        assert_eq!(output.status.code(), Some(2), "{name} {args:?}");
    }
}
