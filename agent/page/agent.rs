//! The running agent and its settings.

use maud::{Markup, html};

use super::elements::{code, section, time};
use crate::view::AgentView;

pub(super) fn render_agent(agent: &AgentView) -> Markup {
    let facts = [
        ("Last check", time(&agent.observed)),
        ("All files read", render_verified(agent)),
        ("Changes noticed by", html! { (agent.watch) }),
        (
            "Agent",
            html! {
                (agent.version) ", process " (agent.pid) ", up since " (time(&agent.started))
            },
        ),
        (
            "Configuration",
            html! {
                (code(&agent.config))
                @if let Some(profile) = &agent.profile { ", profile " (code(profile)) }
            },
        ),
        ("Policy", html! { (agent.policies) }),
    ];
    let list = html! {
        dl.facts {
            @for (name, value) in facts { div { dt { (name) } dd { (value) } } }
        }
    };
    section("agent", "Agent", &list)
}

fn render_verified(agent: &AgentView) -> Markup {
    html! {
        @if let Some(at) = &agent.verified { (time(at)) ", again every " (agent.resync) } @else {
            "not yet, then every " (agent.resync)
        }
    }
}
