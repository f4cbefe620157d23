//! What a placeholder such as `${env.POD_MTU}` looks like.

/// How a placeholder begins; it ends with a closing brace.
const PLACEHOLDER: &str = "${";

/// Whether a text holds a placeholder, so that its value is not known yet.
pub(super) fn has_placeholder(text: &str) -> bool {
    text.contains(PLACEHOLDER)
}

/// The name of the fact, if the text is one placeholder and nothing else.
pub(super) fn whole_placeholder(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (!name.contains('}')).then_some(name)
}
