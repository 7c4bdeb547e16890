//! The tables of arguments on a page beside what the code asks for: names, types, defaults, in both directions.
//!
//! A table belongs to the block whose name its heading has (`## Arguments`: to the component itself); a row may name a
//! block inside, `batch` > `max_size`. What a block does not list itself may stand in the section of another page that
//! its own section has a link to: the block of the same name, or the one that the link's anchor names.

use alloy_bin::config::{AskedBody, ByteSize, Fallback, What, parse_duration};

use super::pages::{Page, quoted};

/// Accepted for the sake of Alloy's configurations, without an effect: its content needs no words.
const WITHOUT_EFFECT: &[&str] = &["debug_metrics"];

/// A row of a table of arguments, for one of the names in it.
#[derive(Clone)]
struct Row {
    line: usize,
    /// The blocks that it is in.
    path: Vec<String>,
    name: String,
    /// Which of how many names of the row.
    place: (usize, usize),
    type_cell: String,
    default_cell: String,
}

/// What stands below one heading.
struct Section {
    /// The blocks that it describes, each with those around it; the component itself is an empty path.
    paths: Vec<Vec<String>>,
    anchor: String,
    /// Page and anchor.
    links: Vec<(String, String)>,
    rows: Vec<Row>,
}

/// An argument of the code.
struct Argument<'a> {
    path: Vec<String>,
    name: &'a str,
    what: &'a What,
    is_refused: bool,
    /// What is said of an empty block.
    complaints: &'a [String],
}

/// What is wrong with a page that describes this body.
pub(super) fn compare(page: &Page, body: &AskedBody, all: &[Page]) -> Vec<String> {
    let sections = sections(page);
    let mut arguments = Vec::new();
    flatten(body, &[], &mut arguments);
    let mut findings = Vec::new();
    for argument in &arguments {
        let shown = shown(&argument.path, argument.name);
        let is_told = || argument.is_refused || matches!(argument.what, What::Block(_));
        match find(argument, &sections, all) {
            Some((path, row)) => {
                let faults = [type_fault(argument, &row), default_fault(argument, &row)];
                let place = format!("{}:{}", path.as_ref().unwrap_or(&page.path), row.line);
                findings
                    .extend(faults.into_iter().flatten().map(|fault| format!("{place}: `{shown}`: {fault}")));
            }
            None if is_told() && is_mentioned(argument.name, page, &sections, all) => {}
            None => findings.push(format!("{}: the code reads `{shown}`, and no table has it", page.path)),
        }
    }
    for row in sections.iter().flat_map(|section| &section.rows) {
        if !arguments.iter().any(|argument| argument.name == row.name && argument.path.ends_with(&row.path)) {
            let shown = shown(&row.path, &row.name);
            findings.push(format!("{}:{}: the code does not read `{shown}`", page.path, row.line));
        }
    }
    for path in sections.iter().flat_map(|section| &section.paths) {
        let is_block = |argument: &Argument| {
            let whole = [argument.path.as_slice(), &[argument.name.to_owned()]].concat();
            whole.ends_with(path) && matches!(argument.what, What::Block(_))
        };
        if !path.is_empty() && !arguments.iter().any(is_block) {
            findings.push(format!("{}: the code reads no block `{}`", page.path, path.join(" > ")));
        }
    }
    findings
}

fn shown(path: &[String], name: &str) -> String {
    [path, &[name.to_owned()]].concat().join(" > ")
}

fn flatten<'a>(body: &'a AskedBody, path: &[String], into: &mut Vec<Argument<'a>>) {
    for asked in &body.asked {
        let (name, what, is_refused) = (asked.name.as_str(), &asked.what, asked.is_refused);
        if into.iter().any(|known| known.name == name && known.path == path) {
            continue;
        }
        into.push(Argument { path: path.to_vec(), name, what, is_refused, complaints: &body.complaints });
        if let What::Block(inner) = what
            && !WITHOUT_EFFECT.contains(&name)
        {
            flatten(inner, &[path, &[name.to_owned()]].concat(), into);
        }
    }
}

/// The argument's row, and on which page if it is another one.
fn find(argument: &Argument, sections: &[Section], all: &[Page]) -> Option<(Option<String>, Row)> {
    let is_of = |row: &Row| {
        row.name == argument.name
            && argument.path.ends_with(&row.path)
            && row.path.is_empty() == argument.path.is_empty()
    };
    let own = sections.iter().flat_map(|section| &section.rows).filter(|row| is_of(row));
    if let Some(row) = own.max_by_key(|row| row.path.len()) {
        return Some((None, row.clone()));
    }
    // The section of the block, or else of the nearest one around it.
    let near = (0..=argument.path.len()).rev().find_map(|end| {
        let path = &argument.path[..end];
        let is_near = |section: &&Section| {
            section.paths.iter().any(|of| path.ends_with(of) && of.is_empty() == path.is_empty())
        };
        sections.iter().find(is_near).map(|section| (section, end == argument.path.len()))
    });
    let (near, is_its_own) = near?;
    for (path, anchor) in &near.links {
        let Some(page) = all.iter().find(|page| page.path == *path) else { continue };
        for section in self::sections(page) {
            let is_meant = is_its_own
                && (section.anchor == *anchor || (path.ends_with("http-client.md") && anchor.is_empty()));
            let fits = |row: &&Row| {
                is_of(row) || (is_meant && row.name == argument.name && section.paths.contains(&row.path))
            };
            if let Some(row) = section.rows.iter().find(fits) {
                return Some((Some(page.path.clone()), row.clone()));
            }
        }
    }
    None
}

/// Whether the page, or one that its sections have a link to, has the name between backticks.
fn is_mentioned(name: &str, page: &Page, sections: &[Section], all: &[Page]) -> bool {
    let linked = sections.iter().flat_map(|section| &section.links);
    let linked = linked.filter_map(|(path, _)| all.iter().find(|page| page.path == *path));
    let is_name = |word: &String| word == name || word.split([' ', '=', '/']).any(|part| part == name);
    std::iter::once(page)
        .chain(linked)
        .any(|page| page.prose().any(|(_, text)| quoted(text).iter().any(is_name)))
}

fn type_fault(argument: &Argument, row: &Row) -> Option<String> {
    let type_name = match argument.what {
        What::Attribute { type_name, .. } if type_name != "any" => type_name.as_str(),
        What::Block(_) => "block",
        _ => return None,
    };
    let all: Vec<&str> = row.type_cell.split(", ").collect();
    let said = if all.len() == row.place.1 { all[row.place.0] } else { row.type_cell.as_str() };
    let fits = said.split(" or ").any(|said| said == type_name || (said, type_name) == ("blocks", "block"));
    (!fits).then(|| format!("the page says {said:?}, the code {type_name:?}"))
}

fn default_fault(argument: &Argument, row: &Row) -> Option<String> {
    let What::Attribute { default, .. } = argument.what else { return None };
    let cell = row.default_cell.as_str();
    let all = quoted(cell);
    let literals = if all.len() == row.place.1 { &all[row.place.0..=row.place.0] } else { &all };
    let is_required = cell.starts_with("required") || cell.starts_with("this or");
    let is_complained_of = || argument.complaints.iter().any(|text| text.contains(argument.name));
    match default {
        Fallback::Required => (!is_required).then(|| format!("is required, and the page says {cell:?}")),
        Fallback::Text(text) if is_required => {
            (cell == "required" && !is_complained_of()).then(|| format!("is not required: {text}"))
        }
        Fallback::Text(text) => {
            let is_nothing = matches!(text.as_str(), "" | "0" | "\"0s\"" | "\"0B\"");
            // Words say what nothing comes to: the system's, all, a share of something.
            let has_words = cell.split('`').step_by(2).any(|words| words.contains(char::is_alphabetic));
            let is_empty = |literal: &String| matches!(literal.as_str(), "\"\"" | "{}" | "[]");
            let is_there = literals.iter().any(|literal| is_same(literal, text));
            (!is_there && !(is_nothing && (has_words || literals.iter().all(is_empty))))
                .then(|| format!("the page says {cell:?}, the code {text}"))
        }
        Fallback::Untold => cell.is_empty().then(|| "has a default, and the page does not say it".to_owned()),
    }
}

/// Whether two texts say the same: `"60s"` is `"1m"`.
fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim_matches('"'), b.trim_matches('"').replace("\\\\", "\\"));
    let durations = parse_duration(a).zip(parse_duration(&b));
    let sizes = ByteSize::parse(a).zip(ByteSize::parse(&b));
    a == b || durations.is_some_and(|(a, b)| a == b) || sizes.is_some_and(|(a, b)| a == b)
}

/// The sections of a page. Those whose headings name no block, and are not the component's own, have no rows.
fn sections(page: &Page) -> Vec<Section> {
    let mut sections =
        vec![Section { paths: Vec::new(), anchor: String::new(), links: Vec::new(), rows: Vec::new() }];
    let mut outer: Vec<String> = Vec::new();
    let mut columns: Option<(usize, usize)> = None;
    let anchors = page.anchors();
    let mut headings = page.headings().zip(anchors).peekable();
    let links = page.links();
    for (line, text) in page.prose() {
        if headings.peek().is_some_and(|((at, ..), _)| *at == line) {
            let ((_, level, title), anchor) = headings.next().expect("it was seen");
            let mut paths = paths(title);
            if level <= 2 {
                outer = if paths.len() == 1 { paths[0].clone() } else { Vec::new() };
            } else {
                paths.iter_mut().for_each(|path| drop(path.splice(0..0, outer.iter().cloned())));
            }
            sections.push(Section { paths, anchor, links: Vec::new(), rows: Vec::new() });
        }
        let section = sections.last_mut().expect("there is one");
        for (_, target) in links.iter().filter(|(at, _)| *at == line) {
            section.links.push(resolve(&page.path, target));
        }
        let cells = cells(text);
        if cells.is_empty() {
            columns = None;
        } else if let (Some(type_at), Some(default_at)) = (at(&cells, "type"), at(&cells, "default")) {
            columns = Some((type_at, default_at));
        } else if let Some((type_at, default_at)) = columns.filter(|_| !cells[0].starts_with("---")) {
            let (inner, names) = cells[0].rsplit_once(" > ").unwrap_or(("", &cells[0]));
            let names = quoted(names);
            for (index, name) in names.iter().enumerate() {
                for path in &section.paths {
                    section.rows.push(Row {
                        line,
                        path: path.iter().cloned().chain(quoted(inner)).collect(),
                        name: name.clone(),
                        place: (index, names.len()),
                        type_cell: cells[type_at].clone(),
                        default_cell: cells[default_at].clone(),
                    });
                }
            }
        }
    }
    sections
}

/// `Arguments` is the component itself; "`a` > `b`, `c`" are two blocks, the first of them inside of another.
fn paths(title: &str) -> Vec<Vec<String>> {
    match title {
        _ if title.starts_with("Arguments") => vec![Vec::new()],
        _ if title.starts_with('`') => title.split(", ").map(quoted).collect(),
        _ => Vec::new(),
    }
}

/// The cells of a table's row; none if the line is not of a table. `\|` is no border.
fn cells(text: &str) -> Vec<String> {
    let Some(inner) = text.trim().strip_prefix('|').and_then(|text| text.strip_suffix('|')) else {
        return Vec::new();
    };
    let cells = inner.replace("\\|", "\u{0}");
    cells.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).collect()
}

fn at(cells: &[String], title: &str) -> Option<usize> {
    cells.iter().position(|cell| cell == title)
}

/// The page and the anchor that a link on a page leads to.
pub(super) fn resolve(page: &str, target: &str) -> (String, String) {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    if path.is_empty() {
        return (page.to_owned(), anchor.to_owned());
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    (parts.join("/"), anchor.to_owned())
}
