//! Tables in Markdown, with the ratio of the first agent to each other one, and a plot in text.

use std::fmt;

use super::rivals::Rival;

/// A figure of one agent.
pub(crate) struct Cell {
    name: &'static str,
    value: f64,
    /// Digits behind the point.
    digits: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Less is better, and a ratio says something.
    Cost,
    /// A count or a condition.
    Plain,
}

impl Cell {
    /// What has to be paid.
    pub(crate) fn cost(name: &'static str, value: f64, digits: usize) -> Cell {
        Cell { name, value, digits, kind: Kind::Cost }
    }

    /// What is only said.
    pub(crate) fn plain(name: &'static str, value: f64, digits: usize) -> Cell {
        Cell { name, value, digits, kind: Kind::Plain }
    }
}

/// All agents in one scenario.
pub(crate) struct Table {
    scenario: String,
    rows: Vec<(String, Vec<Cell>)>,
}

impl Table {
    pub(crate) fn new(scenario: &str) -> Table {
        Table { scenario: scenario.to_owned(), rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, rival: &Rival, cells: Vec<Cell>) {
        self.rows.push((rival.name().to_owned(), cells));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, ours)) = self.rows.first() else { return Ok(()) };
        let names: Vec<&str> = ours.iter().map(|cell| cell.name).collect();
        writeln!(out, "\n| {} | {} |", self.scenario, names.join(" | "))?;
        writeln!(out, "| --- |{}", " --- |".repeat(names.len()))?;
        for (name, cells) in &self.rows {
            let cells: Vec<String> =
                cells.iter().map(|cell| format!("{:.*}", cell.digits, cell.value)).collect();
            writeln!(out, "| {name} | {} |", cells.join(" | "))?;
        }
        for (name, cells) in &self.rows[1..] {
            let ratios: Vec<String> =
                ours.iter().zip(cells).map(|(ours, theirs)| ratio(ours, theirs)).collect();
            writeln!(out, "| **{first} / {name}** | {} |", ratios.join(" | "))?;
        }
        self.plot(out)
    }
}

impl Table {
    /// The first cost, as bars.
    fn plot(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: f64 = 48.0;
        let first = self.rows[0].1.iter().position(|cell| cell.kind == Kind::Cost);
        let Some(column) = first.filter(|_| self.rows.len() > 1) else { return Ok(()) };
        let values = self.rows.iter().map(|(_, cells)| cells[column].value);
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        writeln!(out, "\n```text\n{}: {}", self.scenario, self.rows[0].1[column].name)?;
        for (name, cells) in &self.rows {
            let cell = &cells[column];
            let bar = "#".repeat((cell.value / most * WIDTH).round() as usize);
            writeln!(out, "{name:<12} {bar} {:.*}", cell.digits, cell.value)?;
        }
        writeln!(out, "```")
    }
}

fn ratio(ours: &Cell, theirs: &Cell) -> String {
    if ours.kind == Kind::Cost && theirs.value > 0.0 {
        format!("**{:.2}**", ours.value / theirs.value)
    } else {
        String::new()
    }
}
