//! "Did you mean": the known name nearest to an unknown one.

/// More names are not written by hand, and comparing with all of them would take seconds.
const CANDIDATES_MAX: usize = 2000;

/// A hint with the candidate nearest to `name`, if one is near enough to be a slip of the finger: one letter, in
/// longer names up to a third of them.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let letters = name.chars().count();
    let limit = (letters / 3).max(1);
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        // The difference in length is the least distance; a name may be a megabyte of nonsense.
        .filter(|candidate| candidate.chars().count().abs_diff(letters) <= limit)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit && *distance < letters)
        .min()
        .map(|(_, candidate)| format!("did you mean \"{candidate}\"?"))
}

/// How many letters to insert, delete or replace (Levenshtein), one row of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        let hint = did_you_mean(name, ["url", "targets", "forward_to"]);
        assert_eq!(hint, expected.map(|expected| format!("did you mean \"{expected}\"?")), "{name}");
    }

    #[test]
    fn only_near_names_are_suggested() {
        check("ur", Some("url"));
        check("target", Some("targets"));
        check("forwardto", Some("forward_to"));
        check("job", None);
        check("x", None);
        check("", None);
    }
}
