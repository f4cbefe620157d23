//! Files of `KEY=value` lines, such as flannel's `/run/flannel/subnet.env`.

use serde_json::Value;

/// A line of an env file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EnvFileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it and how to fix it.
    pub problem: &'static str,
}

/// The largest integer that libcni keeps exact: it reads every number as a 64-bit float.
const EXACT: i64 = 1 << 53;

/// Reads the variables of an env file in its order. If a variable is set twice, the later value counts.
///
/// Blank lines, `#` comments, a leading `export` and quotes are read as a shell reads them, but nothing is expanded. A
/// value gets a type, whether it is quoted or not, because a shell's quotes do not show a type:
/// - a decimal integer in its plain form (`1450`, not `01450`) becomes a number;
/// - `true` and `false` become booleans.
///
/// # Errors
/// When a line has another form. The error has the line's number.
pub fn parse_env_file(text: &str) -> Result<Vec<(String, Value)>, EnvFileError> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable = parse_assignment(line).map_err(|problem| EnvFileError {
            line: index + 1,
            problem,
        })?;
        variables.push(variable);
    }
    Ok(variables)
}

fn parse_assignment(line: &str) -> Result<(String, Value), &'static str> {
    let assignment = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map_or(line, str::trim_start);
    let Some((key, value)) = assignment.split_once('=') else {
        return Err("there is no '='; write KEY=value");
    };
    let first_is_digit = key.starts_with(|c: char| c.is_ascii_digit());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if key.is_empty() || first_is_digit || !key.chars().all(plain) {
        return Err("the name before '=' holds more than letters, digits and '_'; write KEY=value");
    }
    Ok((key.to_owned(), typed_value(unquote(value)?)))
}

fn unquote(value: &str) -> Result<String, &'static str> {
    let mut text = String::new();
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (Some('"'), '\\') => match chars.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => text.push(escaped),
                Some(other) => text.extend(['\\', other]),
                None => break,
            },
            (None, '\\') => return Err("a backslash outside quotes; put the value in quotes"),
            (None, _) if c.is_whitespace() => {
                let rest = chars.as_str().trim_start();
                if rest.is_empty() || rest.starts_with('#') {
                    return Ok(text);
                }
                return Err("a space within the value; put the value in quotes");
            }
            _ => text.push(c),
        }
    }
    match quote {
        None => Ok(text),
        Some(_) => Err("a quote is not closed; close it on the same line"),
    }
}

fn typed_value(text: String) -> Value {
    match text.as_str() {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    match text.parse::<i64>() {
        // Only a number that is written back as it was read: no leading zero and no plus sign.
        Ok(number) if (-EXACT..=EXACT).contains(&number) && number.to_string() == text => {
            Value::from(number)
        }
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flannels_file_is_read_with_its_types() {
        let text = "# written by flanneld\n\nFLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_MTU=1450\r\n\
                    export FLANNEL_IPMASQ=true # on\n  export\tA='b c'";
        assert_eq!(
            parse_env_file(text).unwrap(),
            [
                ("FLANNEL_NETWORK".to_owned(), json!("10.244.0.0/16")),
                ("FLANNEL_MTU".to_owned(), json!(1450)),
                ("FLANNEL_IPMASQ".to_owned(), json!(true)),
                ("A".to_owned(), json!("b c")),
            ]
        );
    }

    #[test]
    fn values_are_quoted_as_in_a_shell() {
        for (value, want) in [
            ("", json!("")),
            ("\"a # b\"", json!("a # b")),
            ("'a\\b$c'", json!("a\\b$c")),
            (r#""a\"b\\c\$d\e""#, json!(r#"a"b\c$d\e"#)),
            ("a'b'\"c\"", json!("abc")),
            ("a=b#c", json!("a=b#c")),
            ("'1450'", json!(1450)),
            ("-7", json!(-7)),
            ("007", json!("007")),
            ("+7", json!("+7")),
            ("-0", json!("-0")),
            ("True", json!("True")),
            ("9007199254740992", json!(9_007_199_254_740_992_i64)),
            ("9007199254740993", json!("9007199254740993")),
        ] {
            let variables = parse_env_file(&format!("K={value}")).unwrap();
            assert_eq!(variables, [("K".to_owned(), want)], "{value}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_named_by_its_number() {
        for bad in [
            "K", "=x", "1K=x", "K-L=x", "K =x", "K=a b", "K=\"a", "K='a", "K=a\\ b", "K=\"a\\",
            "exportK",
        ] {
            let error = parse_env_file(&format!("A=1\n{bad}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{bad}");
        }
        assert_eq!(
            parse_env_file("K=a b").unwrap_err().to_string(),
            "line 1: a space within the value; put the value in quotes"
        );
    }
}
