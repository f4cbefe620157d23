//! What the container runtimes take from the configuration directory.

use maud::{Markup, html};

use super::elements::{code, mark, section};
use crate::view::{CandidateRow, NetworkView, RuntimeRow, SeenNetwork, TakenNetwork};

/// The network in effect as a chain, what each runtime takes, and the files in the order of the runtimes.
pub(super) fn render_network(network: &NetworkView) -> Markup {
    let content = match network {
        NetworkView::Seen(seen) => render_seen(seen),
        NetworkView::Undeclared => html! {
            p.note { "No network is declared: only plugins are installed here." }
        },
        NetworkView::Unseen(directory) => html! {
            p.note { (code(directory)) " could not be read." }
        },
    };
    section("network", "Network", &content)
}

fn render_seen(seen: &SeenNetwork) -> Markup {
    html! {
        @if let Some(taken) = &seen.taken { (render_chain(taken)) } @else {
            p.nothing { "containerd would load no network." }
        }
        h3 { "Runtimes" }
        ul.plain { @for runtime in &seen.runtimes { (render_runtime(runtime)) } }
        h3 { "Files in " (code(&seen.directory)) ", in the order of the runtimes" }
        @if seen.candidates.is_empty() {
            p.note { "There is no file that a runtime would read." }
        } @else {
            ol.plain { @for file in &seen.candidates { (render_candidate(file)) } }
        }
    }
}

fn render_chain(taken: &TakenNetwork) -> Markup {
    html! {
        div.network {
            ol.chain { @for plugin in &taken.chain { li { (code(plugin)) } } }
            p {
                "network " strong { (taken.name) } " in " (code(&taken.file))
                ", CNI " (taken.cni_version)
            }
        }
    }
}

fn render_runtime(runtime: &RuntimeRow) -> Markup {
    html! {
        li {
            (mark(runtime.tone))
            div {
                strong { (runtime.name) } " "
                @if let Some(file) = &runtime.takes { "takes " (code(file)) } @else { "takes nothing" }
                @if let Some(network) = &runtime.network { ", network " strong { (network) } }
                @for reason in &runtime.reasons { p.note { (reason) } }
            }
        }
    }
}

fn render_candidate(file: &CandidateRow) -> Markup {
    html! {
        li {
            (mark(file.tone))
            div {
                (code(&file.name)) " "
                @if file.is_declared { span.tag.ours { "declared" } } @else { span.tag { "foreign" } }
                @if let Some(network) = &file.network { " network " strong { (network) } }
                @if let Some(error) = &file.error { p.note { "does not load: " (error) } }
            }
        }
    }
}
