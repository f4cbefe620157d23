//! Properties that hold for any text.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{WHOLE, load_text};

/// Loads a text. Whatever the mistakes are, the message has one line for each.
fn load_and_check(text: &str) {
    let Err(errors) = load_text(text) else { return };
    let message = errors.to_string();
    let lines: Vec<&str> = message.split('\n').collect();
    assert_eq!(lines.len(), errors.all().len(), "{message:?}");
    assert!(!message.is_empty());
    for line in lines {
        assert!(line.starts_with("config.yaml:"), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

/// JSON such as a conflist may hold.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Eighths: serde_json reads a longer fraction with an error in its last bit, with or without us.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "\\PC{0,12}".prop_map(Value::from),
        "[yesnof${}:#,'\"\\\\ \n\t-]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map("[a-zA-Z.~<&* ]{0,6}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        load_and_check(&text);
    }

    #[test]
    fn no_text_of_yamls_own_characters_makes_it_panic(text in "[a-c0-9:\\-{}\\[\\],&*!|>'\"%@`#?~<. \n\t]{0,80}") {
        load_and_check(&text);
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(
        start in 0..WHOLE.len(),
        length in 0..40_usize,
        put in prop_oneof!["\\PC{0,6}", "[:{}\\[\\]\"'\n \t#&*!-]{0,4}", Just(String::new())],
    ) {
        // The file is ASCII, so every index is a boundary.
        let end = (start + length).min(WHOLE.len());
        load_and_check(&format!("{}{put}{}", &WHOLE[..start], &WHOLE[end..]));
    }

    #[test]
    fn any_json_arrives_unchanged_in_the_conflist(plugin in any_json()) {
        let conflist = json!({"name": "n", "plugins": [plugin]});
        let file = json!({
            "apiVersion": "cni-keeper/v1alpha1",
            "kind": "NodeNetwork",
            "network": {"conflist": conflist},
        });
        let loaded = load_text(&file.to_string());
        let network = loaded.map_err(|errors| TestCaseError::fail(errors.to_string()))?.settings.network;
        prop_assert_eq!(network.map(|network| network.conflist), Some(conflist));
    }
}
