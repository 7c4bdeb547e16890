//! `/components`: what runs, how it is, what it was given.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::super::components::Component;
use super::super::routes::State;
use super::drawing::{self, path_of};
use super::page::{framed, nothing, state_word};

/// Elements of a list that a page shows; the API has more.
const ELEMENTS_MAX: usize = 20;

pub(super) async fn page(Extract(state): Extract<Arc<State>>) -> Response {
    let components = state.components.list();
    let body = html! {
        (drawing::graph(&components))
        h2 { "All of them" }
        div .scroll tabindex="0" role="region" aria-label="Components" {
            table {
                thead { tr { th scope="col" { "Component" } th scope="col" { "Health" } th scope="col" { "Refers to" } th scope="col" { "Where" } } }
                tbody {
                    @for component in &components {
                        tr {
                            td .name { (link(&component.id())) }
                            td { (health(component)) }
                            td { @for id in &component.references_to { (link(id)) br; } }
                            td .mono .faint { (component.position) }
                        }
                    }
                }
            }
        }
    };
    framed(&state, "/components", "Components", &body)
}

pub(super) async fn details(Extract(state): Extract<Arc<State>>, Path(id): Path<String>) -> Response {
    let Some(details) = state.components.details(&id) else {
        return nothing(&state, "/components", "There is no such component. A reload may have removed it.");
    };
    let component = &details.component;
    let body = html! {
        dl {
            dt { "Health" } dd { (health(component)) }
            dt { "Where" } dd .mono { (component.position) }
            dt { "Refers to" } dd { @for id in &component.references_to { (link(id)) " " } }
            dt { "Referred to by" } dd { @for id in &component.referenced_by { (link(id)) " " } }
        }
        @if component.takes_data { p { a href={ "/debug/" (path_of(&id)) } { "What comes in, live" } } }
        h2 { "Arguments" }
        (listing(&details.arguments))
        h2 { "Exports" }
        (listing(&details.exports))
    };
    framed(&state, "/components", &id, &body)
}

fn link(id: &str) -> Markup {
    html! { a .mono href={ "/component/" (path_of(id)) } { (id) } }
}

fn health(component: &Component) -> Markup {
    match &component.trouble {
        Some(trouble) => html! { (state_word("unhealthy", "bad")) br; span .faint { (trouble) } },
        None => state_word("healthy", "good"),
    }
}

fn listing(arguments: &[Value]) -> Markup {
    html! { @if arguments.is_empty() { p .faint { "none" } } @else { pre .mono tabindex="0" { (lines(arguments, 0)) } } }
}

/// Arguments in the way in which they are written.
fn lines(arguments: &[Value], depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let line = |argument: &Value| {
        let name = argument["name"].as_str().unwrap_or_default();
        match argument["body"].as_array() {
            Some(body) => {
                let label = argument["label"].as_str().map(|label| format!(" {label:?}")).unwrap_or_default();
                format!("{indent}{name}{label} {{\n{}{indent}}}\n", lines(body, depth + 1))
            }
            None => format!("{indent}{name} = {}\n", value(&argument["value"])),
        }
    };
    arguments.iter().map(line).collect()
}

fn value(shown: &Value) -> String {
    let inner = &shown["value"];
    match shown["type"].as_str().unwrap_or_default() {
        "string" => inner.to_string(),
        "array" => {
            let all = inner.as_array().map_or(&[] as &[Value], Vec::as_slice);
            let mut elements: Vec<String> = all.iter().take(ELEMENTS_MAX).map(value).collect();
            if all.len() > ELEMENTS_MAX {
                elements.push("(and more)".to_owned());
            }
            format!("[{}]", elements.join(", "))
        }
        "object" => {
            let fields = inner.as_array().map_or(&[] as &[Value], Vec::as_slice).iter();
            let fields = fields.map(|field| format!("{} = {}", field["key"], value(&field["value"])));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        _ => inner.as_str().map_or_else(|| inner.to_string(), str::to_owned),
    }
}
