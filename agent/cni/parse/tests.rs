use super::*;

fn problem(text: &str) -> String {
    parse_json(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_document_is_kept_as_written() {
    let document =
        parse_json(br#" {"b": [1.50, null, {}], "a": "x\u00e9\ud83d\ude00\/", "b": []} "#);
    let root = document.unwrap().root;
    let keys: Vec<_> = root
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, ["b", "a", "b"]);
    assert_eq!(root.get("a"), Some(&Json::Text("xé😀/".to_owned())));
    assert_eq!(
        root.as_object().unwrap()[0].1.as_list().unwrap()[0],
        Json::Number("1.50".to_owned())
    );
}

#[test]
fn what_go_refuses_is_refused_where_it_stands() {
    assert_eq!(
        problem("{\n  \"é\": 1,\n}"),
        "it is not JSON: line 3, column 1: a key in double quotes is expected here"
    );
    assert_eq!(
        problem("{\"é\": tru"),
        "it is not JSON: line 1, column 10: the document ends, but 'true' is expected"
    );
    assert!(problem("\u{feff}{}").contains("byte order mark"));
    for bad in [
        "",
        " ",
        "{",
        "[1",
        "{} x",
        "{}\0",
        "01",
        "1.",
        "-",
        "1e",
        "+1",
        ".5",
        "'a'",
        "\"a",
        "\"\t\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "[1,]",
        "{\"a\" 1}",
        "{a: 1}",
        "nul",
        "NaN",
        "{} // c",
    ] {
        assert!(parse_json(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(parse_json(b"[\xff]").is_err());
}

#[test]
fn what_go_forgives_is_noted_with_its_path() {
    let document =
        parse_json(b"{\"a\": [\"x\xe2\x28y\", \"\\ud800\\u0041\"], \"n\": {\"m\": 1e400}}");
    let JsonDocument { root, flaws, .. } = document.unwrap();
    assert_eq!(flaws.invalid_utf8.as_deref(), Some("a[0]"));
    assert_eq!(flaws.lone_surrogate.as_deref(), Some("a[1]"));
    assert_eq!(flaws.overflow.as_deref(), Some("n.m"));
    let list = root.get("a").unwrap().as_list().unwrap();
    assert_eq!(list[0].as_text(), Some("x\u{fffd}(y"));
    assert_eq!(list[1].as_text(), Some("\u{fffd}A"));
    assert!(
        parse_json(b"[5e-324, 1e-999, -1.7e308]")
            .unwrap()
            .flaws
            .overflow
            .is_none()
    );
}

#[test]
fn nesting_is_bounded_as_in_go_and_never_kept_deep() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let at_bound = parse_json(nested(DEPTH).as_bytes()).unwrap();
    assert!(at_bound.flaws.too_deep.is_none());
    let beyond = parse_json(nested(DEPTH + 1).as_bytes()).unwrap();
    assert!(beyond.flaws.too_deep.is_some());
    assert!(parse_json(nested(10_000).as_bytes()).is_ok());
    assert!(parse_json(nested(10_001).as_bytes()).is_err());
}
