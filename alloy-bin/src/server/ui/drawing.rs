//! Pictures: bars, the graph of components, lines over time. SVG, with the same in words for those who do not see it.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::super::components::Component;
use crate::http_client::escape;

const WIDTH: usize = 540;
const ROW: usize = 26;
const NAME: usize = 130;

/// A bar for each name with its figure, and a mark where it would be if all were even.
pub(super) fn bars(rows: &[(String, usize, f64)]) -> Markup {
    let most = rows.iter().map(|(_, keys, even)| (*keys as f64).max(*even)).fold(1.0, f64::max);
    let rail = WIDTH - NAME - 70;
    let x = |figure: f64| NAME + (figure / most * rail as f64) as usize;
    let told: Vec<String> = rows.iter().map(|(name, keys, _)| format!("{name} {keys}")).collect();
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (rows.len() * ROW) } width=(WIDTH) role="img"
            aria-label={ "Keys of each active member: " (told.join(", ")) } {
            @for (index, (name, keys, even)) in rows.iter().enumerate() {
                text x="0" y=(index * ROW + 18) { (shortened(name, 18)) }
                rect .rail x=(NAME) y=(index * ROW + 4) width=(rail) height=(ROW - 8) {}
                rect .bar x=(NAME) y=(index * ROW + 4) width=(x(*keys as f64) - NAME) height=(ROW - 8) {}
                line .mark x1=(x(*even)) x2=(x(*even)) y1=(index * ROW + 1) y2=(index * ROW + ROW - 1) {}
                text x=(WIDTH - 62) y=(index * ROW + 18) { (keys) }
            }
        }
        p .faint { "The dashed line is an even share by weight." }
    }
}

/// Components in columns: data flows from left to right.
pub(super) fn graph(components: &[Component]) -> Markup {
    const BOX: (usize, usize) = (210, 40);
    const STEP: (usize, usize) = (260, 56);
    let takers: BTreeSet<String> =
        components.iter().filter(|component| component.takes_data).map(Component::id).collect();
    let mut edges = Vec::new();
    for component in components {
        for other in &component.references_to {
            let (this, other) = (component.id(), other.clone());
            edges.push(if takers.contains(&other) { (this, other) } else { (other, this) });
        }
    }
    let mut columns: BTreeMap<String, usize> =
        components.iter().map(|component| (component.id(), 0)).collect();
    // As often as the longest way could have steps.
    for _ in components {
        for (from, to) in &edges {
            let behind = columns.get(from).map_or(0, |column| column + 1);
            columns.entry(to.clone()).and_modify(|column| *column = behind.max(*column));
        }
    }
    let mut used: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for component in components {
        let column = columns[&component.id()];
        let row = used.entry(column).or_default();
        places.insert(component.id(), (column * STEP.0, *row * STEP.1));
        *row += 1;
    }
    let width = columns.values().max().map_or(0, |last| last * STEP.0 + BOX.0) + 2;
    let height = used.values().max().map_or(0, |rows| rows * STEP.1);
    html! {
        div .scroll tabindex="0" role="region" aria-label="Graph of the components" {
            svg viewBox={ "-1 -1 " (width) " " (height + 2) } width=(width) height=(height) role="group"
                aria-label="The table below says the same" {
                @for (from, to) in edges.iter().filter_map(|(from, to)| Some((places.get(from)?, places.get(to)?))) {
                    @let (x1, y1, x2, y2) = (from.0 + BOX.0, from.1 + BOX.1 / 2, to.0, to.1 + BOX.1 / 2);
                    path .edge d={ "M" (x1) " " (y1) " C" (x1 + 25) " " (y1) " " (x2.saturating_sub(25)) " " (y2) " " (x2) " " (y2) } {}
                }
                @for component in components {
                    @let (x, y) = places[&component.id()];
                    a href={ "/component/" (path_of(&component.id())) } {
                        title { (component.id()) }
                        rect .box .bad[component.trouble.is_some()] x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="5" {}
                        text x=(x + 8) y=(y + 17) { (shortened(&component.name, 28)) }
                        text x=(x + 8) y=(y + 33) { (shortened(&component.label, 28)) @if component.trouble.is_some() { " (unhealthy)" } }
                    }
                }
            }
        }
    }
}

/// An id as a part of a URL: its slashes stay.
pub(super) fn path_of(id: &str) -> String {
    id.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// One figure over time, the newest at the right.
pub(super) fn line(points: &[f64], told: &str) -> Markup {
    const HEIGHT: f64 = 36.0;
    const LENGTH: f64 = 240.0;
    let most = points.iter().copied().fold(1.0, f64::max);
    let step = LENGTH / (points.len().max(2) - 1) as f64;
    let place = |(index, value): (usize, &f64)| {
        format!("{:.1},{:.1}", index as f64 * step, HEIGHT - 2.0 - value / most * (HEIGHT - 4.0))
    };
    let points: Vec<String> = points.iter().enumerate().map(place).collect();
    html! {
        svg viewBox={ "0 0 " (LENGTH) " " (HEIGHT) } width=(LENGTH) height=(HEIGHT) role="img" aria-label=(told) {
            polyline .lag points=(points.join(" ")) {}
        }
    }
}

fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['\u{2026}']).collect(),
        false => text.to_owned(),
    }
}
