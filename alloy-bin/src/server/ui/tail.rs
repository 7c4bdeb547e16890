//! `/debug/ID`: what comes into a component, as it comes. The path is Alloy's.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::response::Response;
use maud::html;

use super::super::routes::State;
use super::super::tail::OFF;
use super::drawing::path_of;
use super::page::{framed, nothing};

pub(super) async fn page(Extract(state): Extract<Arc<State>>, Path(id): Path<String>) -> Response {
    let component = state.components.list().into_iter().find(|component| component.id() == id);
    let Some(component) = component else {
        return nothing(&state, "/components", "There is no such component. A reload may have removed it.");
    };
    let source = format!("/api/v0/web/debug/{}", path_of(&id));
    let to = |id: &str, page: &str, word: &str| html! { a href={ (page) (path_of(id)) } { (word) } };
    let body = html! {
        p { "What comes into " (to(&id, "/component/", &id)) ", before it does anything with it." }
        @if !state.tail.is_allowed() {
            p { (OFF) "." }
        } @else if !component.takes_data {
            p { "Nothing comes into this component. It refers to:" }
            ul { @for other in &component.references_to { li { (to(other, "/debug/", other)) } } }
        } @else {
            noscript { p { "This page needs JavaScript. Without it: " code { "curl -N AGENT" (source) } } }
            form #tail data-source=(source) {
                label { "Share" select name="share" {
                    @for (share, name) in [("1", "all"), ("0.1", "one in 10"), ("0.01", "one in 100"), ("0.001", "one in 1,000")] {
                        option value=(share) { (name) }
                    }
                } }
                label { "Contains" input type="search" name="part" autocomplete="off"; }
                button type="button" name="pause" { "Pause" }
                button type="button" name="clear" { "Clear" }
            }
            p #seen .faint role="status" { "nothing yet" }
            ol #items .mono tabindex="0" aria-label="What came in, the newest first" {}
        }
    };
    framed(&state, "/components", &format!("{id}, live"), &body)
}
