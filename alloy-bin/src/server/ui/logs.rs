//! `/logs`: what is on disk for each endpoint, and how long it has waited.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::Response;
use maud::{Markup, html};

use super::super::routes::State;
use super::page::{bytes, duration, framed};
use super::{drawing, page::state_word};

pub(super) async fn page(Extract(state): Extract<Arc<State>>) -> Response {
    let figures = state.figures();
    let column = |name: &str| -> BTreeMap<String, f64> { figures.series(name).into_iter().collect() };
    let [records, seconds, disk, limit, dropped, damaged] = [
        "alloy_wal_lag_records",
        "alloy_wal_lag_seconds",
        "alloy_wal_disk_bytes",
        "alloy_wal_limit_bytes",
        "alloy_wal_dropped_records_total",
        "alloy_wal_damaged_records_total",
    ]
    .map(column);
    let of = |column: &BTreeMap<String, f64>, labels: &str| column.get(labels).copied().unwrap_or_default();
    let logs = figures.series("alloy_wal_lag_bytes");
    let body = html! {
        @if logs.is_empty() { p .faint { "No component sends anything: there is no log." } }
        @for (labels, lag) in &logs {
            @let (used, most) = (of(&disk, labels), of(&limit, labels));
            h2 .mono { (told(labels)) }
            dl {
                dt { "Not delivered" } dd { (of(&records, labels)) " records, " (bytes(*lag)) }
                dt { "The oldest waits for" } dd { (duration(of(&seconds, labels) as u64)) }
                dt { "On disk" } dd { (bytes(used)) " of " (bytes(most)) @if most > 0.0 { " (" (format!("{:.1}", used * 100.0 / most)) " %)" } }
                dt { "Dropped by a limit" } dd { (loss(of(&dropped, labels))) }
                dt { "Damaged" } dd { (loss(of(&damaged, labels))) }
                dt { "The last hour" } dd {
                    @let points = state.lag.of(labels);
                    @let most = points.iter().copied().fold(0.0, f64::max);
                    @if points.len() > 1 {
                        (drawing::line(&points, &format!("Bytes not delivered, at most {}", bytes(most))))
                        span .faint { "at most " (bytes(most)) " not delivered" }
                    } @else { span .faint { "too early to tell" } }
                }
            }
        }
        p { a href="/metrics" { "All figures" } }
    };
    framed(&state, "/logs", "Logs", &body)
}

fn loss(records: f64) -> Markup {
    html! { @if records > 0.0 { (state_word(&format!("{records} records"), "bad")) } @else { "nothing" } }
}

/// `{a="b",c="d"}` as `b, d`.
fn told(labels: &str) -> String {
    let values: Vec<&str> = labels.split('"').skip(1).step_by(2).filter(|value| *value != "/").collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_of_by_its_labels() {
        assert_eq!(told(r#"{component_id="a.b",component_path="/",url="http://x/y"}"#), "a.b, http://x/y");
    }
}
