//! Tables for people: columns as wide as what is in them.

use std::fmt::Write as _;

use anstyle::Style;

/// Rows under a bold head, two blanks between columns. Columns whose head begins with `>` are set to the right. What names
/// have of control characters does nothing to a terminal.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let titles = head.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
    let harmless = |cell: &String| cell.replace(char::is_control, "\u{fffd}");
    let rows = rows.iter().map(|row| row.iter().map(harmless).collect());
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let bold = Style::new().bold();
    for (index, line) in lines.iter().enumerate() {
        let mut shown = String::new();
        for ((cell, width), title) in line.iter().zip(&widths).zip(head) {
            let _ = match title.starts_with('>') {
                true => write!(shown, "{cell:>width$}  "),
                false => write!(shown, "{cell:<width$}  "),
            };
        }
        let shown = shown.trim_end();
        let _ = match index {
            0 => writeln!(text, "{bold}{shown}{bold:#}"),
            _ => writeln!(text, "{shown}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [vec!["é".to_owned(), "7".to_owned()], vec!["longer".to_owned(), "1234".to_owned()]];
        let head = "\u{1b}[1mname    keys\u{1b}[0m\n";
        assert_eq!(table(&["name", ">keys"], &rows), format!("{head}é          7\nlonger  1234\n"));
        assert_eq!(
            table(&["name"], &[vec!["a\u{1b}[2Jb\n".to_owned()]]).lines().last(),
            Some("a\u{fffd}[2Jb\u{fffd}")
        );
    }
}
