//! `/ownership`: who owns what in the whole cluster, how it fares, and why it is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, State as Extract};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::routes::State;
use super::page::{duration, framed, nothing, state_word};
use crate::http_client::escape;
use crate::ownership::{Fact, Filter, Known};

/// Rows at a time; more come when the end is in sight.
const ROWS: usize = 100;

/// What to show. A form sends empty texts for what was not chosen.
#[derive(Deserialize, Default)]
pub(super) struct Which {
    #[serde(default)]
    component: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    search: String,
    #[serde(default)]
    offset: usize,
}

impl Which {
    fn filter(&self) -> Filter {
        let given = |text: &String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let (component, owner, search) = (given(&self.component), given(&self.owner), given(&self.search));
        Filter { component, owner, search, key: None }
    }

    fn link(&self, offset: usize) -> String {
        let Which { component, owner, search, .. } = self;
        let [component, owner, search] = [component, owner, search].map(|text| escape(text));
        format!("/ownership?component={component}&owner={owner}&search={search}&offset={offset}")
    }
}

pub(super) async fn page(Extract(state): Extract<Arc<State>>, Query(which): Query<Which>) -> Response {
    let list = state.ownership.list(&which.filter());
    let total = list.len();
    let rows: Vec<_> = list.into_iter().skip(which.offset).take(ROWS).collect();
    let end = which.offset + rows.len();
    let rows = state.ownership.know(rows).await;
    let sharing: BTreeSet<String> = state.ownership.components().into_iter().collect();
    let peers = state.ownership.peers();
    let body = html! {
        form method="get" action="/ownership" role="search" {
            label { "Name" input type="search" name="search" value=(which.search) placeholder="part of a target or path"; }
            label { "Component" select name="component" { (choices(&which.component, sharing.iter())) } }
            label { "Owner" select name="owner" { (choices(&which.owner, peers.iter().map(|peer| &peer.name))) } }
            button type="submit" { "Show" }
        }
        p { (total) " targets and files" @if end < total { ", the first " (end) " here" } }
        div .scroll tabindex="0" role="region" aria-label="Targets and files" {
            table {
                thead { tr {
                    th scope="col" { "What" } th scope="col" { "Owner" } th scope="col" { "State" } th scope="col" { "Last" }
                    th scope="col" { "Since" } th scope="col" { "Next" } th scope="col" { "Component" }
                } }
                tbody { @for known in &rows { (row(known)) } }
            }
        }
        @if end < total { p { a #more href=(which.link(end)) { "the next of " (total) } } }
    };
    framed(&state, "/ownership", "Ownership", &body)
}

fn choices<'a>(chosen: &str, all: impl Iterator<Item = &'a String>) -> Markup {
    html! {
        option value="" { "all" }
        @for choice in all {
            @if choice == chosen { option value=(choice) selected { (choice) } } @else { option value=(choice) { (choice) } }
        }
    }
}

fn row(Known { owned, fact }: &Known) -> Markup {
    html! {
        tr {
            td .name { a href={ "/ownership/" (owned.key) } { (owned.name) } }
            td { (owned.owner.as_deref().unwrap_or("nobody"))
                @if let Some(lender) = &owned.stands_in_for { " " span .warn { "for " (lender) } } }
            td { (health(owned.here, fact.as_ref())) }
            td { (fact.as_ref().map(last).unwrap_or_default()) }
            td { (fact.as_ref().map(|fact| duration(fact.seconds)).unwrap_or_default()) }
            td { (owned.successor.as_deref().unwrap_or_default()) }
            td .mono { (owned.component) }
        }
    }
}

fn health(here: &str, fact: Option<&Fact>) -> Markup {
    match fact {
        Some(Fact { error: Some(error), .. }) => {
            html! { (state_word("fails", "bad")) br; span .faint { (error) } }
        }
        Some(_) => state_word("works", "good"),
        None if here == "claiming" || here == "stopping" => state_word(here, "warn"),
        None => state_word("not known yet", "faint"),
    }
}

fn last(fact: &Fact) -> String {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    format!("{} ago", duration((now_ms - fact.last_ms).max(0) as u64 / 1000))
}

pub(super) async fn explained(Extract(state): Extract<Arc<State>>, Path(key): Path<String>) -> Response {
    let filter = Filter { key: Some(key.clone()), ..Filter::default() };
    let explanations = state.ownership.explain(&filter);
    if explanations.is_empty() {
        return nothing(
            &state,
            "/ownership",
            "No component of this agent knows that key. It may be gone since.",
        );
    }
    let known =
        state.ownership.know(explanations.iter().map(|explained| explained.owned.clone()).collect()).await;
    let body = html! {
        @for (explained, Known { owned, fact }) in explanations.iter().zip(&known) {
            h2 { (owned.name) }
            dl {
                dt { "Component" } dd .mono { (owned.component) }
                dt { "Key" } dd .mono { (owned.key) }
                dt { "Owner" } dd { (owned.owner.as_deref().unwrap_or("nobody")) }
                dt { "State" } dd { (health(owned.here, fact.as_ref())) }
                @if let Some(fact) = fact {
                    dt { "Last" } dd { (last(fact)) }
                    dt { "Owned since" } dd { (duration(fact.seconds)) }
                }
                dt { "This node" } dd { (owned.here) " for " (duration(owned.here_seconds)) }
            }
            h2 { "Why" }
            ul { @for reason in &explained.because { li { (reason) } } }
            @if !explained.ranking.is_empty() {
                h2 { "Who follows" }
                div .scroll tabindex="0" role="region" aria-label="Ranking" {
                    table {
                        thead { tr { th scope="col" .number { "Rank" } th scope="col" { "Member" } th scope="col" { "Zone" } th scope="col" .number { "Weight" } } }
                        tbody {
                            @for (place, candidate) in explained.ranking.iter().enumerate() {
                                tr { td .number { (place + 1) } td { (candidate.name) } td { (candidate.zone) } td .number { (candidate.weight) } }
                            }
                        }
                    }
                }
            }
        }
    };
    framed(&state, "/ownership", "Why it is there", &body)
}
