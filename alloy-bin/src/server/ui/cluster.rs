//! `/`: the members, how the keys are spread over them, and what happened lately.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::Response;
use maud::html;

use super::super::routes::State;
use super::drawing;
use super::page::{framed, state_word, tile};
use crate::ownership::Plan;

/// Changes that are shown.
const CHANGES_MAX: usize = 50;

pub(super) async fn page(Extract(state): Extract<Arc<State>>) -> Response {
    let peers = state.ownership.peers();
    // A plan in which nothing happens says who has what.
    let shares = state.ownership.simulate(&Plan::default());
    let (keys, shares) = shares.map(|simulated| (simulated.keys, simulated.members)).unwrap_or_default();
    let of = |name: &str| shares.iter().find(|share| share.name == name).map_or(0, |share| share.before);
    let active: Vec<_> = peers.iter().filter(|peer| peer.phase == "active").collect();
    let drift = peers.iter().filter(|peer| peer.configuration_differs).count();
    let unhealthy = state.components.unhealthy().len();
    let all = active.iter().map(|peer| peer.weight).sum::<f64>().max(f64::MIN_POSITIVE);
    let bars: Vec<_> = active
        .iter()
        .map(|peer| (peer.name.clone(), of(&peer.name), keys as f64 * peer.weight / all))
        .collect();
    let changes = state.ownership.changes();
    let class = |is_bad: bool| if is_bad { "bad" } else { "" };
    let body = html! {
        ul .tiles {
            (tile(&format!("{} of {}", active.len(), peers.len()), "members active", ""))
            (tile(&keys.to_string(), "shared keys", ""))
            (tile(&drift.to_string(), "run another configuration", class(drift > 0)))
            (tile(&unhealthy.to_string(), "components unhealthy here", class(unhealthy > 0)))
        }
        @if let Some(reason) = state.ownership.withdrawn() { p .bad role="alert" { (reason) } }
        h2 { "Members" }
        div .scroll tabindex="0" role="region" aria-label="Members" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Phase" } th scope="col" .number { "Keys" }
                    th scope="col" { "Zone" } th scope="col" .number { "Weight" } th scope="col" { "Address" }
                    th scope="col" { "Version" } th scope="col" { "Configuration" }
                } }
                tbody {
                    @for peer in &peers {
                        tr {
                            td { (peer.name) @if peer.is_self { " " span .faint { "(this one)" } } }
                            td { (state_word(peer.phase, if peer.phase == "active" { "good" } else { "warn" })) }
                            td .number { a href={ "/ownership?owner=" (crate::http_client::escape(&peer.name)) } { (of(&peer.name)) } }
                            td { (peer.zone) }
                            td .number { (peer.weight) }
                            td .mono { (peer.address) }
                            td { (peer.version) }
                            td { span .mono { (peer.configuration.get(..12).unwrap_or(&peer.configuration)) }
                                @if peer.configuration_differs { " " (state_word("differs", "bad")) } }
                        }
                    }
                }
            }
        }
        h2 { "Balance" }
        @if keys == 0 { p .faint { "Nothing is shared: no component has clustering enabled, or discovery has found nothing yet." } }
        @else { (drawing::bars(&bars)) }
        h2 { "Lately" }
        @if changes.is_empty() { p .faint { "Nothing has happened since this agent started." } }
        @else {
            div .scroll tabindex="0" role="region" aria-label="Changes" {
                table {
                    thead { tr { th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Who" } th scope="col" { "More" } } }
                    tbody {
                        @for change in changes.iter().rev().take(CHANGES_MAX) {
                            tr {
                                td .mono { time datetime=(change.time) { (change.time.replace('T', " ")) } }
                                td class=(match change.level { "error" => "bad", "warn" => "warn", _ => "" }) { (change.what) }
                                td { (change.member) }
                                td { (change.detail) }
                            }
                        }
                    }
                }
            }
        }
    };
    framed(&state, "/", "Cluster", &body)
}
