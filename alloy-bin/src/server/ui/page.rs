//! The frame around each page, and small parts that all use.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};

use super::super::routes::State;
use super::{cluster, components, logs, ownership, tail};

/// Everything comes from here, and nobody else may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const PAGES: [(&str, &str); 4] =
    [("/", "Cluster"), ("/ownership", "Ownership"), ("/components", "Components"), ("/logs", "Logs")];

pub(in crate::server) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(cluster::page))
        .route("/ownership", get(ownership::page))
        .route("/ownership/{key}", get(ownership::explained))
        .route("/components", get(components::page))
        .route("/component/{*id}", get(components::details))
        .route("/debug/{*id}", get(tail::page))
        .route("/logs", get(logs::page))
        .route("/ui/style.css", get(async || asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route(
            "/ui/script.js",
            get(async || asset("text/javascript; charset=utf-8", include_str!("script.js"))),
        )
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}

/// A page; `path` is its place in the menu.
pub(super) fn framed(state: &State, path: &str, title: &str, body: &Markup) -> Response {
    let me = state.ownership.me();
    let (epoch, digest) = state.ownership.view();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " - " (me) " - alloy" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/ui/style.css";
                script src="/ui/script.js" defer {}
            }
            body {
                a .skip href="#main" { "Skip to the content" }
                header {
                    strong { "alloy " span .faint { "on " (me) } }
                    nav aria-label="Pages" {
                        @for (place, name) in PAGES {
                            @if place == path { a href=(place) aria-current="page" { (name) } }
                            @else { a href=(place) { (name) } }
                        }
                    }
                    span .live #live role="status" { "as of now" }
                }
                main #main tabindex="-1" {
                    h1 { (title) }
                    (body)
                    p .faint { "View " (epoch) ", " span .mono { (format!("{digest:016x}")) } " - version " (env!("CARGO_PKG_VERSION")) }
                }
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page.into_string()).into_response()
}

/// A page that says that there is no such thing.
pub(super) fn nothing(state: &State, path: &str, what: &str) -> Response {
    let body = html! { p { (what) } };
    (StatusCode::NOT_FOUND, framed(state, path, "There is no such thing", &body)).into_response()
}

/// A figure with its name.
pub(super) fn tile(figure: &str, name: &str, class: &str) -> Markup {
    html! { li { b class=(class) { (figure) } span { (name) } } }
}

/// A word that says how something is: never by its colour alone.
pub(super) fn state_word(word: &str, class: &str) -> Markup {
    html! { span class={ "state " (class) } { (word) } }
}

/// `3 s`, `5 min`, `2 h`, `4 d`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `17 B`, `1.5 MiB`.
pub(super) fn bytes(bytes: f64) -> String {
    let mut size = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{size:.0} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [duration(119), duration(120), duration(7200), duration(200_000)],
            ["119 s", "2 min", "2 h", "2 d"]
        );
        assert_eq!([bytes(1023.0), bytes(1536.0), bytes(5e12)], ["1023 B", "1.5 KiB", "4.5 TiB"]);
    }
}
