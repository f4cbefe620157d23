//! `trust.pinList`: a signed list of digests, and the key that signs it.

use super::config_value::{ConfigValue, Fields};
use super::mirrors::Mirrors;
use super::source_url::{check_source_url, is_image_source};
use crate::model::Companion;
use crate::trust::{ListKey, PinList};

/// What the configuration says about a signed list.
pub(super) enum DeclaredPinList {
    Absent,
    Present(PinList),
    /// It has a mistake, which was noted.
    Invalid,
}

/// Reads `trust.pinList`.
pub(super) fn read_pin_list(root: &Fields<'_>, mirrors: &Mirrors) -> DeclaredPinList {
    let Some(trust) = root.get("trust") else {
        return DeclaredPinList::Absent;
    };
    read_list(trust, mirrors).map_or(DeclaredPinList::Invalid, DeclaredPinList::Present)
}

fn read_list(trust: ConfigValue<'_>, mirrors: &Mirrors) -> Option<PinList> {
    let fix = "write the list's sources and the publicKey that it is signed with";
    let list = trust.fields(&["pinList"])?.require("pinList", fix)?;
    let fields = list.fields(&["sources", "publicKey"])?;
    let fix = "list at least one URL, such as https://mirror.example/pins/SHA256SUMS";
    let sources = fields.require("sources", fix).and_then(|sources| {
        sources.read_some_items(fix, |item| {
            let url = item.text()?;
            item.accept(check_file_url(url))?;
            Some(companion(url.to_owned(), mirrors))
        })
    });
    let fix = "copy the line of minisign.pub that begins with RW";
    let key = fields.require("publicKey", fix);
    Some(PinList {
        key: key.and_then(ConfigValue::parse::<ListKey>)?,
        sources: sources?,
    })
}

/// A small file that belongs to artifacts, with the addresses of its mirrors.
pub(super) fn companion(url: String, mirrors: &Mirrors) -> Companion {
    Companion {
        sources: mirrors.place_before(vec![url.clone()]),
        url,
    }
}

/// Checks the URL of a file. It must not be an image.
pub(super) fn check_file_url(url: &str) -> Result<(), String> {
    check_source_url(url)?;
    match is_image_source(url) {
        true => {
            Err("a file is needed here, not an image; use https://, http:// or file://".to_owned())
        }
        false => Ok(()),
    }
}
