//! `plugins` of an artifact: which files are installed, and under which names.

use super::artifact_pins::read_member_pin;
use super::config_value::{ConfigValue, Fields};
use super::source_url::Placeholders;
use super::yaml::Yaml;
use crate::model::{Format, Member, PluginName};

/// Reads the whole list.
pub(super) fn read_members(
    fields: &Fields<'_>,
    format: Format,
    placeholders: Placeholders<'_>,
) -> Option<Vec<Member>> {
    let fix = "list the plugins to install, such as [bridge, host-local, loopback, portmap]";
    let list = fields.require("plugins", fix)?;
    let count = list.items()?.len();
    if format == Format::Raw && count > 1 {
        return list.reject(format!(
            "a raw artifact contains one plugin, but {count} are listed; declare an artifact for each"
        ));
    }
    list.read_some_items(fix, |item| match item.yaml() {
        Yaml::Map(_) => read_described_member(item, format, placeholders),
        _ => read_plain_member(item),
    })
}

/// Reads an item such as `bridge`: the member and the plugin have the same name.
fn read_plain_member(item: ConfigValue<'_>) -> Option<Member> {
    let text = item.text()?;
    if text.contains(['{', '/']) {
        return item.reject(format!(
            "'{text}' is not a plugin's name; write {{member: \"{text}\", as: <name>}}"
        ));
    }
    Some(Member {
        path: text.to_owned(),
        plugin: item.parse::<PluginName>()?,
        sha256: None,
    })
}

/// Reads an item such as `{member, as, sha256}`.
fn read_described_member(
    item: ConfigValue<'_>,
    format: Format,
    placeholders: Placeholders<'_>,
) -> Option<Member> {
    let fields = item.fields(&["member", "as", "sha256"])?;
    let before = item.problems().count();
    let sha256 = fields.read("sha256", |pin| read_member_pin(pin, placeholders.arch));
    let alias = fields.read("as", ConfigValue::parse::<PluginName>);
    let (path, plugin) = match format {
        Format::Raw => read_raw_member(&fields, alias)?,
        _ => read_archive_member(&fields, format, placeholders, alias)?,
    };
    (item.problems().count() == before).then_some(Member {
        path,
        plugin,
        sha256,
    })
}

fn read_raw_member(fields: &Fields<'_>, alias: Option<PluginName>) -> Option<(String, PluginName)> {
    if let Some(member) = fields.get("member") {
        return member.reject("a raw artifact has no members; keep only 'as'");
    }
    fields.require("as", "write the name that the plugin gets")?;
    let plugin = alias?;
    Some((plugin.as_str().to_owned(), plugin))
}

fn read_archive_member(
    fields: &Fields<'_>,
    format: Format,
    placeholders: Placeholders<'_>,
    alias: Option<PluginName>,
) -> Option<(String, PluginName)> {
    let member = fields.require("member", "write the file's path in the archive")?;
    let text = member.text()?;
    let filled = member.accept(placeholders.fill(text))?;
    // Paths in an image are paths of a file system and often begin with a slash.
    let inside = match format {
        Format::Image => filled.strip_prefix('/').unwrap_or(&filled),
        _ => &filled,
    };
    let path = member.accept(check_member_path(inside))?;
    if fields.get("as").is_some() {
        return alias.map(|plugin| (path, plugin));
    }
    // Without `as`, the plugin gets the name of the member's file, unless the path contains a placeholder.
    let file = path.rsplit('/').next().unwrap_or(&path);
    let named = file.parse().ok().filter(|_| !text.contains('{'));
    match named {
        Some(plugin) => Some((path, plugin)),
        None => fields.reject("as", "missing; write the name that the plugin gets"),
    }
}

/// Checks a member's path, and removes the leading `./` that upstream's archives have.
fn check_member_path(text: &str) -> Result<String, String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(is_odd) || path.chars().any(char::is_control) {
        return Err(format!(
            "'{text}' is not a path within an archive; write it as tar -t lists it, without '..' or a leading '/'"
        ));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_path_stays_inside_the_archive() {
        for (text, path) in [("./bridge", "bridge"), ("bin/cni/calico", "bin/cni/calico")] {
            assert_eq!(check_member_path(text).as_deref(), Ok(path));
        }
        for bad in [
            "",
            "./",
            "/bridge",
            "../bridge",
            "a/../b",
            "a//b",
            "a/",
            "././a",
            "a\nb",
        ] {
            assert!(check_member_path(bad).is_err(), "{bad:?}");
        }
    }
}
