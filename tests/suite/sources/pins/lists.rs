//! A signed list instead of a digest in the configuration.

use cni_keeper::model::Sha256;

use super::{ARCHIVE, LIST, REMEMBERED, SIGNATURE, declare, line, mirror, publish, trusting};
use crate::support::node::{BIN, CONFLIST, Node, Outcome};
use crate::support::release::{Artifact, NEXT_RELEASE, PLUGINS, RELEASE, Release, plugin};
use crate::support::server::{Reply, Server};
use crate::support::signers::{ListSigner, has_tools};

/// A fresh node becomes right. The answer is kept, so that a second run needs nobody (fault 49).
#[test]
fn a_node_learns_its_digests_once() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = mirror(&signer, &line(&RELEASE.bytes));
    let node = Node::empty();
    declare(&node, &server, &signer);
    let open =
        "the digest of cni-plugins v1.1.1 is not known yet: the signed list has to be asked (key ";
    node.run("validate").exits(0).does_not_say("warning");
    node.run("plan").exits(1).says(&format!("ask       {open}"));
    node.run("verify").exits(1).says(open);
    assert!(!node.has("opt"), "neither writes anything");
    let before = server.count(LIST);
    assert_eq!(before, 0, "neither asks anybody");

    node.run("install")
        .exits(0)
        .says("done: 4 files are as declared");
    assert_eq!(node.names(BIN), PLUGINS);
    assert_eq!((server.count(LIST), server.count(SIGNATURE)), (1, 1));
    drop(server);
    let tree = node.whole_tree();
    for command in ["install --offline", "install"] {
        node.run(command).exits(0).says("nothing to do: 4 files");
    }
    node.run("plan").exits(0).does_not_say("ask ");
    node.run("verify")
        .exits(0)
        .says("clean: 4 files are as declared");
    assert_eq!(tree, node.whole_tree());

    node.run("uninstall").exits(0);
    assert!(!node.has(REMEMBERED));
}

/// Signatures of older releases are over the list itself; lists may be of SHA-512.
#[test]
fn older_signatures_and_longer_digests() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let digest = <sha2::Sha512 as sha2::Digest>::digest(&RELEASE.bytes);
    let digest = base16ct::HexDisplay(&digest);
    let list = format!("{digest:x} *p.tgz\n");
    let server = mirror(&signer, &list);
    publish(&server, &list, &signer.sign_as_before_0_10(&list));
    let node = Node::empty();
    declare(&node, &server, &signer);
    node.run("install").exits(0).says("sha512:");
}

/// A list that cannot be verified is reported. The archive is never requested, and nothing is placed.
fn refuses(signer: &ListSigner, list: &str, signature: &[u8]) -> Outcome {
    let server = mirror(signer, list);
    publish(&server, list, signature);
    let node = Node::empty();
    declare(&node, &server, signer);
    let outcome = node.run("install");
    outcome.exits(2).says(&format!(
        "error: cannot learn what cni-plugins v1.1.1 must be: {}: ",
        server.url(LIST)
    ));
    assert!(!node.has(BIN) && !node.has(CONFLIST) && !node.has(REMEMBERED));
    assert_eq!(server.count(ARCHIVE), 0, "{outcome}");
    assert_eq!(server.count(LIST), 1, "an answer is not asked for twice");
    outcome
}

#[test]
fn each_way_of_tampering_has_its_reason() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let list = line(&RELEASE.bytes);
    let good = signer.sign(&list);
    let text = String::from_utf8(good.clone()).unwrap();
    refuses(&signer, &line(&NEXT_RELEASE.bytes), &good).says("it is not the list that was signed");
    refuses(&signer, &list, &ListSigner::new().sign(&list))
        .says("it is signed with the key ")
        .says("sign it with that one, or declare the new key");
    let comment = text.replace("a trusted comment", "another comment");
    refuses(&signer, &list, comment.as_bytes())
        .says("the list, its signature or the trusted comment has been changed");
    refuses(&signer, &list, b"<html>please log in</html>").says("is not a minisign signature");
}

#[test]
fn each_mistake_of_a_list_has_its_reason() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let message = |list: &str| refuses(&signer, list, &signer.sign(list));
    message(&line(&RELEASE.bytes).replace("p.tgz", "other.tgz")).says("it has no line for p.tgz");
    let twice = line(&RELEASE.bytes) + &line(&NEXT_RELEASE.bytes);
    message(&twice).says("it has two digests for p.tgz, sha256:");
    let half = line(&RELEASE.bytes) + "p.tgz\n";
    message(&half).says("its line 2 is not as sha256sum prints it: write DIGEST, two blanks, NAME");
    let escaped = line(&RELEASE.bytes) + "\\" + &line(&RELEASE.bytes).replace("p.tgz", "a\\nb");
    message(&escaped)
        .says("its line 2 is not as sha256sum prints it: escaped names are not supported");
    let endless = line(&RELEASE.bytes).repeat(20_000);
    message(&endless).says("it has more than 1048576 bytes");
}

/// A signature never replaces the digest check: what the list says is compared with what comes (fault 48).
#[test]
fn fault_48_signed_or_not_the_bytes_are_compared() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = mirror(&signer, &line(&NEXT_RELEASE.bytes));
    let node = Node::empty();
    declare(&node, &server, &signer);
    node.run("install")
        .exits(2)
        .says("are not the pinned ones: expected sha256:");
    assert!(!node.has(BIN));
}

/// Sources are asked in order, and one that cannot be verified is skipped and reported.
#[test]
fn the_next_place_is_asked_where_one_is_not_to_be_believed() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let list = line(&RELEASE.bytes);
    let good = mirror(&signer, &list);
    let bad = Server::http();
    publish(&bad, &line(&NEXT_RELEASE.bytes), &signer.sign(&list));
    let unsigned = Server::http();
    unsigned.on(LIST, [Reply::ok(list.as_bytes())]);
    unsigned.on(SIGNATURE, [Reply::status(404)]);
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(&good.url(ARCHIVE));
    artifact.pin = String::new();
    let lists = [&unsigned, &bad, &good].map(|server| server.url(LIST));
    node.declare(&artifact, &trusting(&signer.public_key(), &lists));
    node.run("install")
        .exits(0)
        .says("it is not the list that was signed")
        .says("HTTP 404");
    assert_eq!(node.names(BIN), PLUGINS);
}

/// Fault 38: a mirror that does not answer costs one wait, not one for each artifact of the list.
#[test]
fn fault_38_a_dead_mirror_of_the_list_is_waited_for_once() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = Server::http();
    let dead = Server::http();
    dead.on(LIST, [Reply::silent()]);
    let node = Node::empty();
    let (artifact, list) = two(&server);
    publish(&server, &list, &signer.sign(&list));
    let lists = [&dead, &server].map(|server| server.url(LIST));
    let trust = trusting(&signer.public_key(), &lists);
    let trust = trust.replace(
        "attempts: 1",
        "attempts: 1, connectTimeout: 500ms, readTimeout: 500ms",
    );
    node.declare(&artifact, &trust);
    node.run("install").exits(0);
    assert_eq!((dead.count(LIST), server.count(LIST)), (1, 2));
}

/// Two artifacts of a server without a digest, and a list of both.
fn two(server: &Server) -> (Artifact, String) {
    let more = Release::new(&["portmap"], plugin);
    server.on(ARCHIVE, [Reply::ok(&RELEASE.bytes)]);
    server.on("/q.tgz", [Reply::ok(&more.bytes)]);
    let mut artifact = RELEASE.artifact(&server.url(ARCHIVE));
    artifact.pin = String::new();
    artifact.more = format!(
        "\n  - name: more\n    version: v1.1.1\n    sources: [{}]\n    plugins: [portmap]",
        server.url("/q.tgz")
    );
    let list = line(&RELEASE.bytes) + &line(&more.bytes).replace("p.tgz", "q.tgz");
    (artifact, list)
}

/// A list that later gives another digest for the same version is not followed. For another version it is asked again.
#[test]
fn a_changed_list_is_followed_for_a_new_version_only() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = mirror(&signer, &line(&RELEASE.bytes));
    let node = Node::empty();
    declare(&node, &server, &signer);
    node.run("install").exits(0);
    let list = line(&NEXT_RELEASE.bytes);
    publish(&server, &list, &signer.sign(&list));
    server.on(ARCHIVE, [Reply::ok(&NEXT_RELEASE.bytes)]);
    let tree = node.tree();
    node.run("install").exits(0).says("nothing to do");
    assert_eq!((tree, server.count(LIST)), (node.tree(), 1));

    let text = std::fs::read_to_string(node.config()).unwrap();
    node.redeclare(&text.replace("v1.1.1", "v1.2.0"));
    node.run("verify")
        .exits(1)
        .says("the digest of cni-plugins v1.2.0 is not known yet");
    node.run("install --offline")
        .exits(2)
        .says("cannot learn what cni-plugins v1.2.0 must be: nobody may be asked; run once without --offline");
    node.run("install").exits(0).says("done: ");
    assert_eq!(server.count(LIST), 2);
    node.run("verify").exits(0);
}

/// An answer that no download ever matched is replaced by a later one: a list can be wrong, and be fixed.
#[test]
fn a_list_that_was_wrong_can_be_fixed() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = Server::http();
    let node = Node::empty();
    let (artifact, right) = two(&server);
    let wrong = right.replace(
        &Sha256::of(&RELEASE.bytes).to_string(),
        &Sha256::of(b"another build").to_string(),
    );
    for (list, code) in [(&wrong, 2), (&wrong, 2), (&right, 0), (&wrong, 0)] {
        publish(&server, list, &signer.sign(list));
        let lists = [server.url(LIST)];
        node.declare(&artifact, &trusting(&signer.public_key(), &lists));
        node.run("install").exits(code);
    }
    assert_eq!(server.count(LIST), 4, "of the other one once");
}

/// Fault 49: to go back from an upgrade whose digest was never learned, nobody has to be asked.
#[test]
fn fault_49_a_failed_upgrade_forgets_no_answer() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = Server::http();
    let node = Node::empty();
    let (artifact, list) = two(&server);
    publish(&server, &list, &signer.sign(&list));
    node.declare(
        &artifact,
        &trusting(&signer.public_key(), &[server.url(LIST)]),
    );
    node.run("install").exits(0);
    drop(server);

    let text = std::fs::read_to_string(node.config()).unwrap();
    node.redeclare(&text.replacen("v1.1.1", "v1.2.0", 1));
    node.run("install")
        .exits(2)
        .says("cannot learn what cni-plugins v1.2.0 must be");
    node.redeclare(&text);
    node.run("install").exits(0).says("nothing to do");
}

/// With another key, answers that the old key signed are not trusted any more; files in place stay.
#[test]
fn another_key_is_another_declaration() {
    if !has_tools() {
        return;
    }
    let (old, new) = (ListSigner::new(), ListSigner::new());
    let list = line(&RELEASE.bytes);
    let server = mirror(&old, &list);
    let node = Node::empty();
    declare(&node, &server, &old);
    node.run("install").exits(0);
    declare(&node, &server, &new);
    let tree = node.tree();
    node.run("install")
        .exits(2)
        .says("it is signed with the key ");
    assert_eq!(tree, node.tree());
    publish(&server, &list, &new.sign(&list));
    node.run("install").exits(0).says("nothing to do");
    assert_eq!(server.count(ARCHIVE), 1, "what is here has that digest");
    assert_eq!(tree, node.tree());
}

/// A bundle has the list and its signature too. A node without another source verifies them as it does a mirror's.
#[test]
fn a_bundle_brings_the_list_along() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = mirror(&signer, &line(&RELEASE.bytes));
    let node = Node::empty();
    declare(&node, &server, &signer);
    let bundle = node.config().with_file_name("bundle");
    let shown = bundle.display();
    node.run(&format!("bundle -o {shown}"))
        .exits(0)
        .says("verified");
    let (list, url) = (server.count(LIST), server.url(LIST));
    let signature = server.url(SIGNATURE);
    drop(server);
    assert_eq!(list, 1);
    let by_url = |url: &str| {
        bundle
            .join("by-url")
            .join(Sha256::of(url.as_bytes()).to_string())
    };
    let original = std::fs::read(by_url(&url)).unwrap();
    std::fs::write(by_url(&url), line(&NEXT_RELEASE.bytes)).unwrap();
    let install = format!("install --offline --seed {shown}");
    node.run(&install)
        .exits(2)
        .says(&format!("seed {shown}: it is not the list that was signed"));
    assert!(!node.has(BIN));
    std::fs::write(by_url(&url), original).unwrap();
    assert!(by_url(&signature).exists());
    node.run(&install)
        .exits(0)
        .says("done: 4 files are as declared");
}

/// When a bundle is gathered again, it gets the current list, not the one that it has.
#[test]
fn a_bundle_is_brought_up_to_date_with_the_list() {
    if !has_tools() {
        return;
    }
    let signer = ListSigner::new();
    let server = mirror(&signer, &line(&NEXT_RELEASE.bytes));
    let node = Node::empty();
    declare(&node, &server, &signer);
    let bundle = node.config().with_file_name("bundle");
    let gather = format!("bundle -o {}", bundle.display());
    node.run(&gather).exits(2).says("are not the pinned ones");
    let list = line(&RELEASE.bytes);
    publish(&server, &list, &signer.sign(&list));
    node.run(&gather).exits(0);
    drop(server);
    node.run(&format!("install --offline --seed {}", bundle.display()))
        .exits(0);
}

#[test]
fn mistakes_of_the_declaration() {
    let key = "RWRE04opxnJydroYAtHyxBfvAYHbAspattvwHiAiqQvrYWgxkGIC5QOq";
    let node = Node::empty();
    let list = ["https://mirror.example/SHA256SUMS".to_owned()];
    let mut artifact = RELEASE.artifact("https://mirror.example/p.tgz");
    artifact.pin = String::new();
    node.declare(&artifact, &trusting(key, &list));
    node.run("validate").exits(0);
    node.declare(&artifact, &trusting("RWSECRET", &list));
    node.run("validate")
        .exits(64)
        .says("trust.pinList.publicKey: this is not a minisign public key")
        .does_not_say("SECRET");
    node.declare(
        &artifact,
        &trusting(key, &["oci://registry.example/a".to_owned()]),
    );
    node.run("validate")
        .exits(64)
        .says("trust.pinList.sources[0]: ");
    artifact
        .sources
        .push("https://mirror.example/q.tgz".to_owned());
    node.declare(&artifact, &trusting(key, &list));
    node.run("validate")
        .exits(64)
        .says("artifacts[0].sources: the sources name different files");
    artifact.sources = vec!["https://mirror.example/".to_owned()];
    artifact.more = "format: tar.gz".to_owned();
    node.declare(&artifact, &trusting(key, &list));
    node.run("validate")
        .exits(64)
        .says("the first source names no file");
}
