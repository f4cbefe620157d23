//! Readiness never lies: an answer is never older than its question.

use std::time::Instant;

use super::agent::{Agent, DEADLINE, Looks, broken, fail, ready};

#[test]
fn ready_or_a_line_for_each_failing_check() {
    assert_eq!(Agent::ready().connect().get("/readyz").body, "ok\n");
    let agent = Agent::of(broken());
    let answer = agent.connect().get("/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "binaries: /opt/cni/bin/bridge is missing\n");
}

#[test]
fn verbose_excluded_and_single_checks() {
    let agent = Agent::of(broken());
    let mut client = agent.connect();
    let answer = client.get("/readyz?verbose");
    let text = "[+]config ok\n[-]binaries failed: /opt/cni/bin/bridge is missing\n\
                [+]conflist ok\n[+]watch ok\nreadyz check failed\n";
    assert_eq!((answer.status, answer.body.as_str()), (503, text));
    assert_eq!(client.get("/readyz?exclude=binaries").status, 200);
    assert_eq!(client.get("/readyz?exclude=config").status, 503);
    assert_eq!(client.get("/readyz/config").body, "ok\n");
    let answer = client.get("/readyz/binaries");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "binaries: /opt/cni/bin/bridge is missing\n");
    let answer = client.get("/readyz/nope");
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("config binaries conflist watch"));
    let text = "[+]loop ok\nlivez check passed\n";
    assert_eq!(client.get("/livez?verbose").body, text);
}

/// Fault 36: what was damaged before the question is in the answer, whether or not anybody has noticed yet.
#[test]
fn fault_36_an_answer_is_never_older_than_its_question() {
    let agent = Agent::ready();
    let mut client = agent.connect();
    for round in 0..50 {
        assert_eq!(client.get("/readyz").status, 200, "round {round}");
        agent.damage(|disk| *disk = broken());
        assert_eq!(client.get("/readyz").status, 503, "round {round}");
        agent.damage(|disk| *disk = ready());
        assert_eq!(client.get("/status").json()["ready"], true, "round {round}");
        agent.damage(|disk| *disk = broken());
        assert_eq!(
            client.get("/status").json()["ready"],
            false,
            "round {round}"
        );
        agent.damage(|disk| *disk = ready());
        assert_eq!(gauge(&client.get("/metrics").body), "1", "round {round}");
        agent.damage(|disk| *disk = broken());
        assert_eq!(gauge(&client.get("/metrics").body), "0", "round {round}");
        agent.damage(|disk| *disk = ready());
    }
    let before = client.get("/").body;
    agent.damage(|disk| *disk = broken());
    assert!(client.get("/").body != before, "the page is old");
}

fn gauge(metrics: &str) -> &str {
    let value = |line: &'_ str| line.starts_with("cni_keeper_ready ");
    let line = metrics.lines().find(|line| value(line)).unwrap();
    line.rsplit(' ').next().unwrap()
}

/// A disk that hangs: no answer says ready, none waits long, and the agent is alive.
#[test]
fn a_look_that_does_not_end_is_not_ready() {
    let agent = Agent::looking(ready(), Looks::Never);
    let mut client = agent.connect();
    let asked = Instant::now();
    let answer = client.get("/readyz");
    assert!(asked.elapsed() < DEADLINE / 2, "{:?}", asked.elapsed());
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.starts_with("look: the disk could not be read"),
        "{}",
        answer.body
    );
    assert_eq!(client.get("/readyz/config").status, 503);
    assert_eq!(client.get("/readyz?exclude=binaries").status, 503);
    let reported = client.get("/status").json();
    assert_eq!(
        (&reported["ready"], &reported["checks"][4]["name"]),
        (&false.into(), &"look".into())
    );
    assert_eq!(gauge(&client.get("/metrics").body), "0");
    for path in [
        "/livez",
        "/healthz",
        "/drift",
        "/conflist",
        "/statusz",
        "/flagz",
    ] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
}

/// Failures that were seen before the disk hung come first.
#[test]
fn a_look_that_does_not_end_keeps_the_reasons() {
    let mut status = broken();
    fail(&mut status, "conflist", "10-pods.conflist is missing");
    let agent = Agent::looking(status, Looks::Never);
    let body = agent.connect().get("/readyz").body;
    let reasons =
        "binaries: /opt/cni/bin/bridge is missing\nconflist: 10-pods.conflist is missing\n";
    assert!(body.starts_with(reasons), "{body}");
}

#[test]
fn a_loop_that_has_ended_is_neither_alive_nor_ready() {
    let agent = Agent::looking(ready(), Looks::Over);
    for (path, reason) in [
        ("/livez", "loop: the loop has ended\n"),
        ("/healthz", "loop: the loop has ended\n"),
        ("/readyz", "look: the loop has ended\n"),
    ] {
        let answer = agent.connect().get(path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, reason),
            "{path}"
        );
    }
}
