//! Downloads through proxies: real ones, and a scripted one.

use std::net::TcpListener;

use super::{declare, node, secret};
use crate::support::node::{BIN, Node, Outcome, start};
use crate::support::proxy::{Kind, LOGIN, ORIGIN, Proxy};
use crate::support::release::RELEASE;
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

const BOTH: [Kind; 2] = [Kind::Squid, Kind::Tinyproxy];

/// The reason if a proxy gives no tunnel.
const REFUSED: &str = "it does not answer CONNECT with HTTP 200";

fn install(node: &Node, variables: &[(&str, &str)]) -> Outcome {
    let mut command = node.command("install");
    let outcome = start(command.envs(variables.iter().copied())).end();
    outcome.does_not_say("HUSH");
    outcome
}

/// A node that is to get [`RELEASE`] from a TLS server of this authority.
fn trusting(authority: &Authority, source: &str) -> Node {
    let node = Node::empty();
    let ca = secret(&node, "ca.pem", &authority.pem());
    declare(&node, &[source.to_owned()], &format!("caFile: {ca}"));
    node
}

/// A proxy that gives this answer to CONNECT to [`ORIGIN`], and the output of an installation from there by https.
fn answered(reply: Reply) -> (Server, Outcome) {
    let proxy = Server::http();
    proxy.on(&format!("{ORIGIN}:443"), [reply]);
    let node = node(&format!("https://{ORIGIN}/p.tgz"), "connectTimeout: 2s");
    let url = proxy.url_as("user:HUSH@127.0.0.1", "");
    let outcome = install(&node, &[("HTTPS_PROXY", &url)]);
    outcome.exits(2);
    assert!(!node.has(BIN));
    (proxy, outcome)
}

/// A port on which nothing listens.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// By CONNECT for https and by the whole URL for http, with user and password. The name of the server is known to
/// the proxies alone.
#[test]
fn real_proxies_carry_https_and_http() {
    let authority = Authority::new();
    let secure = Server::https(authority.server(&[ORIGIN]));
    let plain = Server::http();
    for server in [&secure, &plain] {
        server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    }
    for kind in BOTH {
        let Some(proxy) = Proxy::start(kind) else {
            continue;
        };
        let url = proxy.url();
        for (server, variable) in [
            (&secure, "HTTPS_PROXY"),
            (&secure, "https_proxy"),
            (&secure, "all_proxy"),
            (&plain, "HTTP_PROXY"),
            (&plain, "http_proxy"),
            (&plain, "ALL_PROXY"),
        ] {
            let node = trusting(&authority, &server.url_as(ORIGIN, "/p.tgz"));
            install(&node, &[(variable, &url)]).exits(0);
        }
        // The proxy of the other scheme is not asked, and hosts in NO_PROXY are asked directly.
        let node = trusting(&authority, &secure.url_as(ORIGIN, "/p.tgz"));
        for variables in [
            &[("HTTP_PROXY", url.as_str())][..],
            &[("HTTPS_PROXY", &url), ("NO_PROXY", "a.test, .example")],
            &[("HTTPS_PROXY", &url), ("no_proxy", ORIGIN)],
            &[("HTTPS_PROXY", &url), ("NO_PROXY", "*")],
        ] {
            install(&node, variables)
                .exits(2)
                .says(&format!("the name {ORIGIN} does not resolve"))
                .says("kind=\"dns\"");
        }
        let elsewhere = [
            ("HTTPS_PROXY", url.as_str()),
            ("NO_PROXY", "192.0.2.0/24,other.test"),
        ];
        install(&node, &elsewhere).exits(0);
    }
    let requests = plain.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.header("proxy-authorization").is_none())
    );
}

#[test]
fn a_real_proxy_that_does_not_know_us_says_so() {
    let authority = Authority::new();
    let servers = [Server::https(authority.server(&[ORIGIN])), Server::http()];
    for kind in BOTH {
        let Some(proxy) = Proxy::start(kind) else {
            continue;
        };
        for (server, user) in servers.iter().flat_map(|server| {
            [
                (server, String::new()),
                (server, format!("{}:HUSH-wrong@", LOGIN.0)),
            ]
        }) {
            let node = trusting(&authority, &server.url_as(ORIGIN, "/p.tgz"));
            let url = proxy.url_for(&user);
            let outcome = install(&node, &[("ALL_PROXY", &url)]);
            // Tinyproxy answers 401 to a wrong password. Without a tunnel that could be the server's own answer, and
            // with one the client does not tell the status.
            if kind == Kind::Tinyproxy && !user.is_empty() {
                let (why, kind) = match server.url("").starts_with("http:") {
                    true => ("it answers HTTP 401", "kind=\"auth\""),
                    false => (REFUSED, "kind=\"proxy\""),
                };
                outcome.exits(2).says(why).says(kind);
                continue;
            }
            outcome
                .exits(2)
                .says(&format!(
                    "the proxy {} asks for a user and a password",
                    proxy.url_for("")
                ))
                .says("kind=\"proxy-auth\"");
        }
    }
    assert!(servers.iter().all(|server| server.requests().is_empty()));
}

/// A server behind a real proxy that cannot be reached: over https it is the proxy that says so.
#[test]
fn a_real_proxy_that_finds_nobody_is_reported() {
    for kind in BOTH {
        let Some(proxy) = Proxy::start(kind) else {
            continue;
        };
        let node = node(&format!("https://{ORIGIN}:{}/p.tgz", closed_port()), "");
        install(&node, &[("HTTPS_PROXY", &proxy.url())])
            .exits(2)
            .says(&format!(
                "no connection to {ORIGIN} through the proxy {}: {REFUSED}",
                proxy.url_for("")
            ))
            .says("kind=\"proxy\"");
    }
}

/// Fault 47: each kind of bad certificate has its own reason through a tunnel as well.
#[test]
fn fault_47_certificates_are_judged_through_the_tunnel() {
    let [authority, unknown] = [(); 2].map(|()| Authority::new());
    for kind in BOTH {
        let Some(proxy) = Proxy::start(kind) else {
            continue;
        };
        for (tls, reason) in [
            (unknown.server(&[ORIGIN]), "tls-unknown-ca"),
            (authority.expired_server(&[ORIGIN]), "tls-expired"),
            (authority.server(&["other.example"]), "tls-name"),
        ] {
            let server = Server::https(tls);
            let node = trusting(&authority, &server.url_as(ORIGIN, "/p.tgz"));
            install(&node, &[("HTTPS_PROXY", &proxy.url())])
                .exits(2)
                .says(&format!("kind=\"{reason}\""));
            assert!(server.requests().is_empty());
        }
    }
}

/// Faults 44 to 46: redirects, Retry-After and a page instead of an archive, through real proxies.
#[test]
fn faults_44_to_46_are_the_same_through_a_proxy() {
    let authority = Authority::new();
    for kind in BOTH {
        let Some(proxy) = Proxy::start(kind) else {
            continue;
        };
        let server = Server::https(authority.server(&[ORIGIN]));
        server.on("/down", [Reply::redirect("http://origin.example/p.tgz")]);
        server.on("/circle", [Reply::redirect("/circle")]);
        server.on(
            "/busy",
            [
                Reply::status(503).with("Retry-After", "0"),
                Reply::ok(&RELEASE.bytes),
            ],
        );
        server.on("/page", [Reply::ok(b"<html>please log in</html>")]);
        for (path, kind) in [
            ("/down", Some("redirect")),
            ("/circle", Some("redirect")),
            ("/page", Some("digest")),
            ("/busy", None),
        ] {
            let node = Node::empty();
            let ca = secret(&node, "ca.pem", &authority.pem());
            let url = server.url_as(ORIGIN, path);
            // The last one's name shows no packing.
            declare(&node, &[url], &format!("caFile: {ca}"));
            let text = std::fs::read_to_string(node.config()).unwrap();
            let text = text.replace("attempts: 1", "attempts: 3");
            node.redeclare(&text.replace("    plugins:", "    format: tar.gz\n    plugins:"));
            let outcome = install(&node, &[("HTTPS_PROXY", &proxy.url())]);
            match kind {
                Some(kind) => outcome.exits(2).says(&format!("kind=\"{kind}\"")),
                None => outcome.exits(0).says("kind=\"http-status\""),
            };
        }
        let counts = ["/down", "/circle", "/page", "/busy"].map(|path| server.count(path));
        assert_eq!(counts, [1, 1, 1, 2]);
    }
}

#[test]
fn a_refusal_of_the_proxy_is_reported() {
    for code in [403, 503] {
        let (proxy, outcome) = answered(Reply::status(code));
        outcome
            .says(&format!(
                "no connection to {ORIGIN} through the proxy {}: {REFUSED}",
                proxy.url("")
            ))
            .says("kind=\"proxy\"");
        let credentials = proxy.requests();
        assert!(credentials.iter().all(|request| {
            request.header("proxy-authorization") == Some("Basic dXNlcjpIVVNI")
        }));
    }
    let (_, outcome) = answered(Reply::status(407));
    outcome.says("kind=\"proxy-auth\"");
}

#[test]
fn a_hostile_proxy_is_given_up_on() {
    let long = "x".repeat(64 << 10);
    for (reply, why) in [
        (
            Reply::ok(b"").with("X-Long", &long),
            "response headers too long",
        ),
        (Reply::garbage(b"\0\x01\x02\xff"), "through the proxy"),
        (Reply::garbage(b"SSH-2.0-OpenSSH_9.2\r\n"), REFUSED),
        (Reply::garbage(b""), "unexpected end of file"),
        (Reply::reset(), "through the proxy"),
    ] {
        let (_, outcome) = answered(reply);
        outcome.says(why).says("kind=\"proxy\"");
    }
    let (proxy, outcome) = answered(Reply::silent());
    outcome
        .says(&format!(
            "no connection within fetch.connectTimeout (2 s), through the proxy {}",
            proxy.url("")
        ))
        .says("kind=\"timeout\"");
    // By http the proxy is silent later.
    let proxy = Server::http();
    let origin = format!("http://{ORIGIN}/p.tgz");
    proxy.on(&origin, [Reply::silent()]);
    let node = node(&origin, "connectTimeout: 1s\nreadTimeout: 1s");
    install(&node, &[("HTTP_PROXY", &proxy.url(""))])
        .exits(2)
        .says(&format!("through the proxy {}", proxy.url("")))
        .says("kind=\"timeout\"");
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let closed = format!("127.0.0.1:{}", closed_port());
    for scheme in ["http", "https"] {
        for (proxy, why) in [
            (closed.as_str(), "refused"),
            ("no-such-proxy.invalid:3128", "its name does not resolve"),
        ] {
            let node = node(&format!("{scheme}://{ORIGIN}/p.tgz"), "");
            let url = format!("http://user:HUSH@{proxy}");
            install(&node, &[("ALL_PROXY", &url)])
                .exits(2)
                .says(&format!(
                    "no connection to {ORIGIN} through the proxy http://{proxy}: "
                ))
                .says(why)
                .says("kind=\"proxy\"");
        }
    }
}

/// A bad proxy variable is an error: without the proxy, downloads could be blocked, or seen by others.
#[test]
fn a_variable_that_names_no_proxy_is_an_error() {
    let server = Server::http();
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    for value in [
        "socks5://user:HUSH@127.0.0.1:1080",
        "http://user:HU#SH@127.0.0.1:3128",
    ] {
        let proxied = node(&format!("https://{ORIGIN}/p.tgz"), "");
        install(&proxied, &[("HTTPS_PROXY", value)])
            .exits(2)
            .says("the environment variable HTTPS_PROXY names no usable proxy")
            .says("kind=\"proxy-setting\"");
        let own = node(&server.url("/p.tgz"), "");
        install(&own, &[("HTTP_PROXY", value)]).exits(0);
    }
}
