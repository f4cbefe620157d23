//! What the container runtimes make of the configuration directory.

use std::fmt::{self, Write as _};

use super::html::{Mark, code, text};
use crate::model::{Candidate, Directory, EffectiveNetwork, RuntimeView, Status};

/// The effective network as a chain, what each runtime takes, and the files in the order that they are tried.
pub(super) fn write(page: &mut String, status: &Status) -> fmt::Result {
    page.push_str("<section aria-labelledby=\"network\">\n<h2 id=\"network\">Network</h2>\n");
    match (&status.directory, &status.declared.conflist) {
        (Some(directory), ours) => seen(page, directory, ours.as_deref())?,
        (None, None) => {
            page.push_str(
                "<p class=\"note\">No network is declared: only plugins are kept here.</p>\n",
            );
        }
        (None, Some(_)) => writeln!(
            page,
            "<p class=\"note\">{} could not be looked at.</p>",
            code(status.declared.conf_dir.display())
        )?,
    }
    page.push_str("</section>\n");
    Ok(())
}

fn seen(page: &mut String, directory: &Directory, ours: Option<&str>) -> fmt::Result {
    match &directory.effective {
        Some(network) => chain(page, network)?,
        None => page.push_str("<p class=\"nothing\">containerd would load no network.</p>\n"),
    }
    page.push_str("<h3>Runtimes</h3>\n<ul class=\"plain\">\n");
    for view in &directory.runtimes {
        runtime(page, view, ours)?;
    }
    write!(
        page,
        "</ul>\n<h3>Files in {}, in the runtimes’ order</h3>\n",
        code(directory.path.display())
    )?;
    if directory.candidates.is_empty() {
        page.push_str("<p class=\"note\">There is none that a runtime would look at.</p>\n");
        return Ok(());
    }
    page.push_str("<ol class=\"plain\">\n");
    let ours = directory.candidates.iter().position(|file| file.ours);
    for (at, file) in directory.candidates.iter().enumerate() {
        let matters = ours.is_some_and(|ours| at <= ours);
        candidate(page, file, matters)?;
    }
    page.push_str("</ol>\n");
    Ok(())
}

fn chain(page: &mut String, network: &EffectiveNetwork) -> fmt::Result {
    page.push_str("<div class=\"network\">\n<ol class=\"chain\">\n");
    for plugin in &network.chain {
        writeln!(page, "<li>{}</li>", code(plugin))?;
    }
    writeln!(
        page,
        "</ol>\n<p>network <strong>{}</strong> in {}, CNI {}</p>\n</div>",
        text(&network.name),
        code(&network.file),
        text(&network.cni_version)
    )
}

fn runtime(page: &mut String, view: &RuntimeView, ours: Option<&str>) -> fmt::Result {
    let mark = match (&view.takes, ours) {
        (Some(taken), Some(ours)) if taken == ours => Mark::Good,
        // Nothing was declared that it could take instead.
        (_, None) => Mark::Quiet,
        (Some(_) | None, Some(_)) => Mark::Bad,
    };
    write!(
        page,
        "<li>{mark}<div><strong>{}</strong> ",
        text(view.runtime)
    )?;
    match &view.takes {
        Some(file) => write!(page, "takes {}", code(file))?,
        None => page.push_str("takes nothing"),
    }
    if let Some(network) = &view.network {
        write!(page, ", network <strong>{}</strong>", text(network))?;
    }
    for why in &view.why {
        write!(page, r#"<p class="note">{}</p>"#, text(why))?;
    }
    page.push_str("</div></li>\n");
    Ok(())
}

/// A file matters up to the declared one: what sorts after that is not read, or changes nothing.
fn candidate(page: &mut String, file: &Candidate, matters: bool) -> fmt::Result {
    let mark = match (matters, file.ours, &file.error) {
        (false, _, _) => Mark::Quiet,
        (true, true, None) => Mark::Good,
        (true, _, _) => Mark::Bad,
    };
    let whose = match file.ours {
        true => r#"<span class="tag ours">declared</span>"#,
        false => r#"<span class="tag">foreign</span>"#,
    };
    write!(page, "<li>{mark}<div>{} {whose}", code(&file.name))?;
    if let Some(network) = &file.network {
        write!(page, " network <strong>{}</strong>", text(network))?;
    }
    if let Some(error) = &file.error {
        write!(
            page,
            r#"<p class="note">does not load: {}</p>"#,
            text(error)
        )?;
    }
    page.push_str("</div></li>\n");
    Ok(())
}
