//! The page `/`: what it says in each state, and how a real browser shows it.

mod browser;

use cni_keeper::model::{DriftPolicy, Status};
use cni_keeper::page::render_page;

use crate::support::status::{bare, blocked, drifting, fail, healed, hostile, now, ready};

fn page(status: &Status) -> String {
    render_page(status, now())
}

/// What a reader sees of the page: the text between the tags, white space squeezed.
fn text(page: &str) -> String {
    let body = page.split_once("<body").unwrap().1;
    let mut text = String::new();
    for piece in body.split('<').skip(1) {
        let (tag, message) = piece.split_once('>').unwrap();
        // Blocks stand apart, words within a line do not.
        if !["code", "/code", "em", "/em", "/span", "a", "/a"].contains(&tag) {
            text.push(' ');
        }
        text.push_str(message);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(page: &str, lines: &[&str]) {
    let shown = text(page);
    for line in lines {
        assert!(shown.contains(line), "not in the output: {line}\n{shown}");
    }
}

#[test]
fn a_ready_node_says_so_and_by_what_right() {
    let page = page(&ready());
    says(
        &page,
        &[
            "cni-keeper on worker-7.example Ready 7 files as declared, and the runtimes take the network pod-network from 10-cni-keeper.conflist.",
            "binaries ok",
            "Last check 2026-11-22 16:03:10 UTC 2 s ago",
            "All files read 2026-11-22 16:00:02 UTC 3 min ago, again every 5 min",
            "0.1.0, process 4242, up since 2026-11-19 14:39:52 UTC 3 d 1 h ago",
            "bridge portmap bandwidth firewall network pod-network in 10-cni-keeper.conflist, CNI 1.0.0",
            "CRI-O takes 10-cni-keeper.conflist, network pod-network",
            "None since the agent started",
        ],
    );
    assert!(page.contains("<title>Ready · worker-7.example</title>"));
    assert!(!page.contains("What is wrong") && !page.contains("Odd, but it works"));
    assert!(
        !page.contains("SECRET"),
        "the conflist's text is not for the page"
    );
}

#[test]
fn a_node_that_is_not_ready_begins_with_the_reason_and_how_to_fix_it() {
    let page = page(&blocked());
    let reason =
        "/etc/cni-keeper/config.yaml:14: drift.resync: '5 minutes' is no duration; write 5m";
    says(
        &page,
        &[
            &format!("Not ready : {reason}"),
            &format!("What is wrong config {reason} The last good configuration stays in force."),
            "gates file /run/flannel/subnet.env does not exist yet The conflist is written as soon as this holds",
            "containerd would load no network.",
            "containerd takes nothing 05-broken.conf does not load: line 1 column 2",
            "05-broken.conf foreign does not load: line 1 column 2: EOF",
            "10-cni-keeper.conflist declared network pod-network",
            "10-cni-keeper.conflist what it must be is not known yet configuration expected not known yet",
        ],
    );
    assert!(page.contains("<title>Not ready · worker-7.example</title>"));
}

#[test]
fn drift_is_reported_with_its_end_and_its_cause() {
    let page = page(&drifting());
    says(
        &page,
        &[
            "Not ready : /opt/cni/bin/bridge is missing",
            "bridge is missing open: backing off, tried again in 12 s 2026-11-22 16:03:04 UTC 8 s ago missing absent 7 times in a row, by a program that deletes it",
            "bridge is missing healed in 1.3 ms: placed from the store",
            "portmap has mode 0666, expected 0755 healed in 0.4 ms: mode and owner set",
            "mode mode 0666 → mode 0755",
            "gone by itself after 1 min",
            "cannot reach mirror.example: no such host; check the DNS of the node 2026-11-22 16:02:42 UTC 30 s ago, 4 times in a row",
            "looking every 2 s, because there are no events: fs.inotify",
            "failed",
        ],
    );
    // What is wrong comes first among the files.
    let (table, _) = page.split_once("<code>bandwidth</code></th>").unwrap();
    assert!(table.contains("<code>bridge</code></th>"));
}

#[test]
fn the_policy_decides_what_is_advised() {
    let mut status = drifting();
    says(&page(&status), &["The agent fixes it without your help"]);
    status.declared.policy = DriftPolicy::Report;
    says(
        &page(&status),
        &["The policy is report, so nothing is written."],
    );
}

/// A page of a nearly empty status still makes sense.
#[test]
fn missing_facts_are_stated_in_words() {
    let status = bare();
    says(
        &page(&status),
        &[
            "cni-keeper Ready Nothing is declared.",
            "not yet, then every 5 min",
            "No network is declared",
            "No file is declared.",
            "None since the agent started",
        ],
    );
    let mut status = ready();
    status.directory = None;
    says(&page(&status), &["/etc/cni/net.d could not be read."]);
    let mut status = ready();
    status.directory.as_mut().unwrap().candidates.clear();
    says(
        &page(&status),
        &["There is no file that a runtime would read."],
    );
}

/// The drift log grows, but the page does not.
#[test]
fn a_long_drift_log_is_cut() {
    let mut status = healed();
    let one = status.drift[0].clone();
    status.drift = vec![one; 31];
    says(&page(&status), &["1 more drift before that: /drift."]);
    status.drift.pop();
    assert!(!page(&status).contains("before that"));
}

/// One document: it fetches nothing, runs nothing, and reloads itself.
#[test]
fn the_page_needs_nothing_else() {
    let page = page(&drifting());
    for other in [
        "<script",
        "src=",
        "@import",
        "url(",
        "https://",
        "javascript:",
    ] {
        assert!(!page.contains(other), "{other}");
    }
    assert!(page.contains(r#"<meta http-equiv="refresh" content="5"/>"#));
    assert!(page.contains("default-src 'none'"));
}

/// File names, reasons, foreign conflists and plugin output stay text wherever they stand.
#[test]
fn nothing_from_outside_becomes_markup() {
    for text in [
        "<script>alert(1)</script>",
        r#""><img src=x onerror=alert(1)>"#,
        "'><svg onload=alert(1)>",
        "&lt;b&gt;",
    ] {
        let page = page(&hostile(text));
        assert!(!page.contains(text), "{text}");
        let escaped = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;");
        assert!(
            page.matches(&escaped).count() > 40,
            "{text} is hardly shown"
        );
    }
}

/// Every reason is on the page, not only the first.
#[test]
fn all_reasons_are_reported() {
    let mut status = ready();
    let reasons = ["reason one", "reason two", "reason three"];
    reasons
        .iter()
        .for_each(|reason| fail(&mut status, "plugins", reason));
    says(
        &page(&status),
        &["plugins reason one reason two reason three Until then, pods"],
    );
}
