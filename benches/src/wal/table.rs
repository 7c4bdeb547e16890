//! Medians and tables.

use std::time::Duration;

use super::append::{self, Round};
use super::{Candidate, Case};

/// What one candidate reached in one case, over all rounds.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Bytes a second, the median.
    pub speed: f64,
    /// Candidate / first candidate of the same round: the median, the least, the most.
    pub ratio: [f64; 3],
    /// How long a commit takes, if there were any: the median and the 99th of 100, of all rounds.
    pub commit: Option<[Duration; 2]>,
}

/// Measures the candidates that can do the case, in turn, `rounds` times; the first that can is the limit.
pub fn measure(
    candidates: &[&dyn Candidate],
    case: &Case,
    rounds: usize,
    directory: &std::path::Path,
) -> Vec<Row> {
    let able: Vec<_> = candidates.iter().filter(|candidate| candidate.can(case)).collect();
    let directories: Vec<_> =
        able.iter().map(|_| tempfile::tempdir_in(directory).expect("a writable directory")).collect();
    let subjects: Vec<_> =
        able.iter().zip(&directories).map(|(candidate, own)| candidate.open(own.path(), case)).collect();
    // One round to warm up. Later rounds begin with another candidate each, so that none is always the first.
    let mut results: Vec<Vec<Round>> = vec![Vec::new(); subjects.len()];
    for round in 0..=rounds {
        for turn in 0..subjects.len() {
            let index = (turn + round) % subjects.len();
            let result = append::run(&*subjects[index], case);
            if round > 0 {
                results[index].push(result);
            }
        }
    }
    let limit: Vec<f64> = results[0].iter().map(Round::speed).collect();
    let row = |(candidate, rounds): (&&&dyn Candidate, &Vec<Round>)| {
        let speeds: Vec<f64> = rounds.iter().map(Round::speed).collect();
        let ratios: Vec<f64> = speeds.iter().zip(&limit).map(|(speed, limit)| speed / limit).collect();
        let commits: Vec<Duration> = rounds.iter().flat_map(|round| round.commits.clone()).collect();
        Row {
            name: candidate.name(),
            speed: quantile(speeds, 0.5).unwrap_or_default(),
            ratio: [0.5, 0.0, 1.0].map(|at| quantile(ratios.clone(), at).unwrap_or_default()),
            commit: quantile(commits.clone(), 0.5).zip(quantile(commits, 0.99)).map(|(p50, p99)| [p50, p99]),
        }
    };
    able.iter().zip(&results).map(row).collect()
}

/// The value below which this part of all values lies.
pub fn quantile<T: PartialOrd + Clone>(mut values: Vec<T>, part: f64) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * part).round() as usize).cloned()
}

/// A table with a row for each candidate; the columns are what the rows of each case say.
pub fn print(title: &str, columns: &[String], cases: &[Vec<Row>], cell: impl Fn(&Row) -> String) {
    println!("\n### {title}\n");
    println!("| | {} |", columns.join(" | "));
    println!("| --- |{}", " --- |".repeat(columns.len()));
    let mut names: Vec<&str> = Vec::new();
    for row in cases.iter().flatten() {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    for name in names {
        let cells = cases
            .iter()
            .map(|rows| rows.iter().find(|row| row.name == name).map_or_else(|| "–".into(), &cell));
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
