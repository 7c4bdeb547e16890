//! Tables for people: columns as wide as what is in them.

use std::fmt::Write as _;

/// Rows under a head, two blanks between columns. Columns whose head begins with `>` are set to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let titles = head.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&titles).chain(rows).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for ((cell, width), title) in line.iter().zip(&widths).zip(head) {
            let _ = match title.starts_with('>') {
                true => write!(shown, "{cell:>width$}  "),
                false => write!(shown, "{cell:<width$}  "),
            };
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [vec!["é".to_owned(), "7".to_owned()], vec!["longer".to_owned(), "1234".to_owned()]];
        assert_eq!(table(&["name", ">keys"], &rows), "name    keys\né          7\nlonger  1234\n");
        assert_eq!(table(&["name", ">keys"], &[]), "name  keys\n");
    }
}
