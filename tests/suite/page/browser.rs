//! The page in headless Chromium, which measures the layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cni_keeper::model::Status;
use serde_json::Value;

use super::page;
use crate::support::node::{Outcome, start};
use crate::support::rerun::has_program;
use crate::support::server::{Reply, Server};
use crate::support::skipped;
use crate::support::status::{bare, blocked, drifting, healed, hostile, ready};

const LIGHT: &str = "1";
const DARK: &str = "0";

/// Chromium with a profile of its own; nothing but loopback is there for it.
fn chromium(profile: &Path, scheme: &str) -> Command {
    let mut command = Command::new("chromium");
    command
        .env("HOME", profile)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args(["--hide-scrollbars", "--enable-logging=stderr"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg("--no-proxy-server")
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!(
            "--user-data-dir={}",
            profile.join("profile").display()
        ));
    command
}

/// Runs it, and fails if it reports anything about the page.
fn browse(command: &mut Command) -> Outcome {
    let outcome = start(command).end();
    outcome.exits(0).does_not_say(":CONSOLE");
    outcome
}

/// Whether there is a browser to test in.
fn absent() -> bool {
    let absent = !has_program("chromium");
    if absent {
        skipped("there is no Chromium (Debian's package chromium)");
    }
    absent
}

fn profile() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn html(text: &str) -> Reply {
    Reply::ok(text.as_bytes()).with("Content-Type", "text/html; charset=utf-8")
}

/// In each state, at the width of a phone and of a desktop, in light and in dark: nothing overflows, everything can be
/// read, and foreign text stays text.
#[test]
fn a_browser_shows_all_of_it_to_everybody() {
    if absent() {
        return;
    }
    let server = Server::http();
    let image = r#""><img src=x onerror=console.log(1)>"#;
    let long = "a-name-that-nobody-would-give-".repeat(8);
    let pages = [
        ("/ready", ready(), "Ready"),
        ("/healed", healed(), "Ready"),
        (
            "/drifting",
            drifting(),
            "Not ready: /opt/cni/bin/bridge is missing",
        ),
        (
            "/blocked",
            blocked(),
            "Not ready: /etc/cni-keeper/config.yaml:14: ",
        ),
        ("/bare", bare(), "Ready"),
        (
            "/script",
            hostile("<script>console.log(1)</script>"),
            "Not ready: <script>",
        ),
        ("/image", hostile(image), "Not ready: \"><img src=x "),
        ("/long", hostile(&long), "Not ready: a-name-"),
    ];
    for (path, status, _) in &pages {
        // A page that loads itself anew while others are still on their way would be measured half.
        let lasting = page(status).replace(r#"content="5""#, r#"content="5000""#);
        server.on(path, [html(&lasting)]);
    }
    let paths = pages.each_ref().map(|(path, _, _)| *path);
    let measure = include_str!("measure.html").replace("PAGES", &format!("{paths:?}"));
    server.on("/measure", [html(&measure)]);
    for scheme in [LIGHT, DARK] {
        let profile = profile();
        let seen =
            browse(chromium(profile.path(), scheme).args(["--dump-dom", &server.url("/measure")]));
        let (_, rest) = seen.stdout.split_once("<pre>").unwrap();
        let seen: Vec<Value> = serde_json::from_str(rest.split_once("</pre>").unwrap().0).unwrap();
        assert_eq!(seen.len(), 3 * pages.len());
        for page in &seen {
            let (_, _, headline) = pages
                .iter()
                .find(|(path, _, _)| *path == page["page"])
                .unwrap();
            assert!(
                page["headline"].as_str().unwrap().starts_with(headline),
                "{page:#}"
            );
            assert_eq!(page["dark"], scheme == DARK, "{page:#}");
            assert!(
                page["needs"].as_u64() <= page["width"].as_u64(),
                "sticks out: {page:#}"
            );
            assert!(
                page["palest"][0].as_f64() >= Some(4.5),
                "too pale: {page:#}"
            );
            assert!(page["texts"].as_u64() > Some(20), "{page:#}");
            assert_eq!(page["foreign"], 0, "{page:#}");
            assert_eq!(page["unlabelled"], 0, "{page:#}");
            assert_eq!(page["landmarks"].as_array().unwrap().len(), 4, "{page:#}");
            assert!(
                page["headings"].as_str().unwrap().starts_with("H1 H2"),
                "{page:#}"
            );
        }
    }
}

/// Read as XML, which forgives nothing: every tag is closed, and no foreign text opens one.
#[test]
fn a_browser_finds_no_mistake_in_it() {
    if absent() {
        return;
    }
    let profile = profile();
    let file = profile.path().join("page.xhtml");
    let url = format!("file://{}", file.display());
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        start(chromium(profile.path(), LIGHT).args(["--dump-dom", &url])).end()
    };
    for status in [
        drifting(),
        blocked(),
        bare(),
        hostile("\u{ffff}\0]]><x a='\">"),
    ] {
        read(&page(&status))
            .exits(0)
            .says("<main>")
            .does_not_say("<parsererror");
    }
    // A mistake would be reported.
    read(&page(&ready()).replacen("</section>", "", 1)).says("<parsererror");
}

/// A picture of each state beside the build, for people to look at.
#[test]
fn a_browser_draws_each_state() {
    if absent() {
        return;
    }
    let profile = profile();
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    fs::create_dir_all(&pictures).unwrap();
    let draw = |name: &str, status: &Status, scheme: &str, size: (u32, u32)| {
        let file = profile.path().join(format!("{name}.html"));
        fs::write(&file, page(status)).unwrap();
        let picture = pictures.join(format!("{name}.png"));
        let _ = fs::remove_file(&picture);
        browse(
            chromium(profile.path(), scheme)
                .arg(format!("--window-size={},{}", size.0, size.1))
                .arg(format!("--screenshot={}", picture.display()))
                .arg(format!("file://{}", file.display())),
        );
        let bytes = fs::read(&picture).unwrap();
        assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), size);
    };
    draw("ready", &ready(), LIGHT, (1100, 1600));
    draw("drifting", &drifting(), LIGHT, (1100, 2400));
    draw("not-ready", &blocked(), DARK, (1100, 2000));
}
