//! Absolute paths of the host.

use std::path::{Component, Path, PathBuf};

use super::config_value::ConfigValue;

/// Reads an absolute path.
pub(super) fn read_path(value: ConfigValue<'_>) -> Option<PathBuf> {
    let text = value.number_or_text()?;
    value.accept(normalize_path(Path::new(text)))
}

/// Reads a unix socket, written as for a kubelet: `unix:///PATH`. Percent signs have no special meaning.
pub(super) fn read_socket(value: ConfigValue<'_>) -> Option<PathBuf> {
    let text = value.text()?;
    let Some(path) = text.strip_prefix("unix://") else {
        return value.reject(format!(
            "'{text}' is not a unix socket; write unix:// and its absolute path, such as unix:///run/containerd/containerd.sock"
        ));
    };
    value.accept(normalize_path(Path::new(path)))
}

/// The path without `.` and without doubled or trailing slashes. `..` is refused and not resolved, because its meaning
/// depends on symbolic links of the host.
///
/// # Errors
/// One sentence that says what to write.
pub(super) fn normalize_path(path: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!(
            "'{shown}' is not an absolute path; begin it with /"
        ));
    }
    let mut bytes = path.as_os_str().as_encoded_bytes().iter();
    if bytes.any(u8::is_ascii_control) {
        return Err(format!("'{shown}' contains a control character; remove it"));
    }
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                return Err(format!(
                    "'{shown}' contains '..'; write the path without it"
                ));
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if normal.parent().is_none() {
        return Err("the root directory cannot be used; write a directory below it".to_owned());
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_is_absolute_and_comes_out_normal() {
        for (text, normal) in [("/a/b", "/a/b"), ("//a/./b//", "/a/b"), ("/a/.b", "/a/.b")] {
            let normal = PathBuf::from(normal);
            assert_eq!(normalize_path(Path::new(text)), Ok(normal), "{text}");
        }
        for bad in [
            "", "a", "./a", "/", "//", "/a/../b", "/..", "/a\nb", "/a\0b",
        ] {
            assert!(normalize_path(Path::new(bad)).is_err(), "{bad:?}");
        }
    }
}
