//! Who owns what, live: redrawn in place on a terminal, a plain line per change in a pipe.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// One moment of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Picture {
    /// What is going on, for people.
    pub headline: String,
    /// Agent -> its state, `dead` if it does not answer. Sorted by name.
    pub agents: BTreeMap<String, String>,
    /// The owner of each target, in the order of the targets; `None`: nobody.
    pub targets: Vec<Option<String>>,
    /// The owner of each log file.
    pub files: Vec<Option<String>>,
    pub samples: u64,
    pub lines: u64,
}

/// Draws pictures.
pub(crate) struct Table {
    started: Instant,
    is_terminal: bool,
    /// Lines that the last picture took: what has to be overdrawn.
    drawn: usize,
    last: Option<(Picture, Instant)>,
}

/// In a pipe an unchanged picture is repeated after this time, so that the counters are seen to move.
const REPEAT: Duration = Duration::from_secs(5);

impl Table {
    pub(crate) fn new() -> Self {
        Table { started: Instant::now(), is_terminal: std::io::stdout().is_terminal(), drawn: 0, last: None }
    }

    /// A sentence that stays.
    pub(crate) fn say(&mut self, sentence: &str) {
        self.wipe();
        println!("{:6.1} s  {sentence}", self.started.elapsed().as_secs_f64());
    }

    /// Shows the picture.
    pub(crate) fn show(&mut self, picture: &Picture) {
        if self.is_terminal {
            self.wipe();
            let rows = rows(picture);
            println!("{}", rows.join("\n"));
            self.drawn = rows.len();
            return;
        }
        let is_old_news =
            self.last.as_ref().is_some_and(|(last, at)| same(last, picture) && at.elapsed() < REPEAT);
        if !is_old_news {
            println!("{:6.1} s    {}", self.started.elapsed().as_secs_f64(), line(picture));
            self.last = Some((picture.clone(), Instant::now()));
        }
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            // Up to the first line of the last picture, and clear from there to the end of the screen.
            print!("\x1b[{}A\x1b[J", self.drawn);
            let _ = std::io::stdout().flush();
            self.drawn = 0;
        }
    }
}

fn same(a: &Picture, b: &Picture) -> bool {
    (&a.agents, &a.targets, &a.files) == (&b.agents, &b.targets, &b.files)
}

fn count(owners: &[Option<String>], name: &str) -> usize {
    owners.iter().filter(|owner| owner.as_deref() == Some(name)).count()
}

/// Each owner as the first letter of its name; a dot is nobody.
fn letters(owners: &[Option<String>]) -> String {
    owners.iter().map(|owner| owner.as_deref().and_then(|name| name.chars().next()).unwrap_or('.')).collect()
}

fn line(picture: &Picture) -> String {
    let shares = picture.agents.iter().map(|(name, state)| {
        let (targets, files) = (count(&picture.targets, name), count(&picture.files, name));
        let state = if state == "participant" { String::new() } else { format!(" {state}") };
        format!("{name}{state} {targets}+{files}")
    });
    let shares = shares.collect::<Vec<_>>().join(" | ");
    format!(
        "{shares} | {} {} | {} samples, {} lines",
        letters(&picture.targets),
        letters(&picture.files),
        picture.samples,
        picture.lines
    )
}

fn rows(picture: &Picture) -> Vec<String> {
    let mut rows = vec![String::new(), format!("  {}", picture.headline)];
    rows.push(format!("  {:<6} {:<12} {:>7} {:>5}", "agent", "state", "targets", "files"));
    for (name, state) in &picture.agents {
        let (targets, files) = (count(&picture.targets, name), count(&picture.files, name));
        rows.push(format!("  {name:<6} {state:<12} {targets:>7} {files:>5}  {}", "█".repeat(targets)));
    }
    rows.push(format!("  who owns target  {}", letters(&picture.targets)));
    rows.push(format!("  who owns file    {}", letters(&picture.files)));
    rows.push(format!("  received         {} samples, {} lines", picture.samples, picture.lines));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_reads_well_as_a_line() {
        let owner = |name: &str| Some(name.to_owned());
        let picture = Picture {
            agents: [("anna", "participant"), ("bert", "dead")]
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .into(),
            targets: vec![owner("anna"), None, owner("anna")],
            files: vec![owner("anna")],
            samples: 7,
            lines: 8,
            ..Picture::default()
        };
        assert_eq!(line(&picture), "anna 2+1 | bert dead 0+0 | a.a a | 7 samples, 8 lines");
        assert_eq!(rows(&picture).len(), 8);
    }
}
