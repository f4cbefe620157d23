//! Fault 58: no answer shows the secrets that the conflist holds for plugins.

use super::agent::{Agent, ready};

/// Every value that begins like this is a secret in this test.
const MARK: &str = "HUSH";

const CONFLIST: &str = r#"{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [{
    "type": "calico",
    "etcd_endpoints": "https://HUSH-user:HUSH-pw@etcd-1:2379,https://HUSH@etcd-2:2379/v2?sig=HUSH",
    "etcd_key": "HUSH-etcd",
    "policy": {"type": "k8s", "k8s_auth_token": "HUSH-token"},
    "clientSecret": {"value": "HUSH-nested", "list": ["HUSH-list"]},
    "PASSWORD": "HUSH-upper",
    "my-credentials": ["HUSH-c"],
    "inline": "-----BEGIN RSA PRIVATE KEY-----\nHUSH-pem\n-----END RSA PRIVATE KEY-----\n",
    "mtu": 1450
  }]
}"#;

fn agent(text: &str) -> Agent {
    let mut status = ready();
    let directory = status.directory.as_mut().unwrap();
    directory.effective.as_mut().unwrap().text = text.to_owned();
    let flags = [
        ("pull-token", "HUSH-flag"),
        ("mirror", "https://HUSH:HUSH@mirror/"),
    ];
    let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
    status.agent.flags.extend(flags);
    Agent::of(status)
}

#[test]
fn fault_58_planted_secrets_come_out_nowhere() {
    let agent = agent(CONFLIST);
    let mut client = agent.connect();
    let paths = [
        "/",
        "/livez",
        "/readyz?verbose",
        "/healthz",
        "/metrics",
        "/status",
        "/drift",
        "/conflist",
        "/statusz",
        "/flagz",
        "/nope",
    ];
    for path in paths {
        let body = client.get(path).body;
        assert!(!body.contains(MARK), "{path}: {body}");
    }
    let reported = client.get("/conflist").json();
    let plugin = &reported["content"]["plugins"][0];
    assert_eq!(plugin["mtu"], 1450, "what is no secret is shown");
    assert_eq!(plugin["etcd_key"], "[redacted]");
    assert_eq!(plugin["policy"]["k8s_auth_token"], "[redacted]");
}

/// The agent cannot redact what its parser cannot read, so it does not show it.
#[test]
fn fault_58_what_cannot_be_parsed_is_not_shown() {
    let agent = agent(r#"{"token": "HUSH", "#);
    let answer = agent.connect().get("/conflist");
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains(MARK), "{}", answer.body);
    assert_eq!(answer.json()["file"], "10-pods.conflist");
}
