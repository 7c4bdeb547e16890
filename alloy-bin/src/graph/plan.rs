//! The statements of one body -> its blocks in the order in which they are evaluated, each behind those it refers to.
//! Names that are used twice, blocks that do not belong there and cycles are reported here.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{references, unknown_component};
use crate::syntax::ast::{Block, Statement};
use crate::syntax::{Diagnostic, Diagnostics, Sources, Span};

use super::component::Registration;
use super::definitions::Definitions;

/// Where a body stands: not every block belongs everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The configuration itself.
    Root,
    /// A `declare` block.
    Module,
    /// What an `import` block has read.
    Library,
    /// The `template` block of a `foreach`.
    Template,
}

/// What a block is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Component(Registration),
    /// A custom component: a module with arguments.
    Custom,
    Foreach,
    Import,
    Argument,
    Export,
    /// A definition, evaluated where it is used.
    Declare,
    /// Settings of the agent as a whole.
    Settings,
}

/// Blocks that Alloy has beside its components: where they belong.
const BLOCKS: &[(&str, Kind, &[Place])] = &[
    ("argument", Kind::Argument, &[Place::Module]),
    ("declare", Kind::Declare, &[Place::Root, Place::Module, Place::Library]),
    ("export", Kind::Export, &[Place::Module]),
    ("foreach", Kind::Foreach, &[Place::Root, Place::Module, Place::Template]),
    ("http", Kind::Settings, &[Place::Root]),
    ("import.file", Kind::Import, &[Place::Root, Place::Module, Place::Library]),
    ("import.http", Kind::Import, &[Place::Root, Place::Module, Place::Library]),
    ("import.string", Kind::Import, &[Place::Root, Place::Module, Place::Library]),
    ("livedebugging", Kind::Settings, &[Place::Root]),
    ("logging", Kind::Settings, &[Place::Root]),
];

/// A component that there is one of: it has no label, and stands at the top. Without its feature it is one of the next.
const SINGLE: &str = "tracing";
const ROOT: &[Place] = &[Place::Root];

/// Blocks that Alloy has and this agent has not.
const UNSUPPORTED_BLOCKS: &[&str] = &["import.git", "remotecfg", "tracing"];

/// A body's blocks.
pub(super) struct Plan<'a> {
    /// Each behind those of this body that it refers to; those of a cycle come last.
    pub(super) blocks: Vec<(&'a Block, Kind)>,
    /// All ids of the body, also of blocks with errors.
    pub(super) ids: BTreeSet<String>,
}

/// Plans one body.
pub(super) fn plan<'a>(
    statements: &'a [Statement],
    place: Place,
    definitions: &Definitions,
    registrations: &[Registration],
    (sources, diagnostics): (&Sources, &mut Diagnostics),
) -> Plan<'a> {
    let mut blocks: Vec<(&Block, Kind)> = Vec::new();
    let mut declared: BTreeMap<String, Span> = BTreeMap::new();
    for statement in statements {
        let block = match statement {
            Statement::Block(block) => block,
            Statement::Attribute(attribute) => {
                let message = format!("unrecognized attribute name \"{}\"", attribute.name.text);
                let hint = "only blocks stand here, such as components".to_owned();
                diagnostics.push(Diagnostic::error(attribute.name.span, message).with_hint(Some(hint)));
                continue;
            }
        };
        let id = block.id();
        // Declarations and imports name one kind of thing: what blocks begin with.
        let key = match (block.full_name().split('.').next(), &block.label) {
            (Some("declare" | "import"), Some(label)) => format!("declare.{}", label.text),
            _ => id.clone(),
        };
        if let Some(first) = declared.get(&key) {
            let message = format!("block {id} already declared at {}", sources.location(*first));
            diagnostics.error(block.header(), message);
            continue;
        }
        declared.insert(key, block.header());
        match kind(block, place, definitions, registrations) {
            Ok(kind) => blocks.push((block, kind)),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    let needs = edges(&blocks, definitions, diagnostics);
    let order = order(&blocks, &needs, diagnostics);
    // What expressions may refer to. Items of a template, for one, are nobody's business outside of it.
    let has_value = |block: &&Block| {
        let name = block.full_name();
        block.label.is_some() && (name == "argument" || !BLOCKS.iter().any(|(known, ..)| *known == name))
    };
    let ids = statements.iter().filter_map(Statement::as_block).filter(has_value).map(Block::id).collect();
    Plan { ids, blocks: order.into_iter().map(|index| blocks[index]).collect() }
}

fn kind(
    block: &Block,
    place: Place,
    definitions: &Definitions,
    registrations: &[Registration],
) -> Result<Kind, Diagnostic> {
    let name = block.full_name();
    let at_header = |message: String, hint: Option<String>| {
        Err(Diagnostic::error(block.header(), message).with_hint(hint))
    };
    let with_label = |kind: Kind, what: &str| match block.label {
        Some(_) => Ok(kind),
        None => {
            at_header(format!("{what} \"{name}\" must have a label"), Some(format!("{name} \"default\" {{")))
        }
    };
    let known = BLOCKS.iter().find(|(known, ..)| *known == name).map(|(_, kind, places)| (*kind, *places));
    let single = || registrations.iter().find(|found| name == SINGLE && found.name == name);
    if let Some((kind, places)) = known.or_else(|| Some((Kind::Component(*single()?), ROOT))) {
        if !places.contains(&place) {
            let place = match place {
                Place::Root => "only in a declare block",
                Place::Module => "only at the top of the configuration",
                Place::Library => "not in a module that is imported: only declare and import blocks do",
                Place::Template => "not in a template",
            };
            return at_header(
                format!("block \"{name}\" does not belong here"),
                Some(format!("it belongs {place}")),
            );
        }
        return match (kind, &block.label) {
            (Kind::Settings | Kind::Component(_), None) => Ok(kind),
            (Kind::Settings | Kind::Component(_), Some(label)) => {
                Err(Diagnostic::error(label.span, format!("block {name:?} has no label")))
            }
            _ => with_label(kind, "block"),
        };
    }
    if UNSUPPORTED_BLOCKS.contains(&name.as_str()) {
        return at_header(format!("block \"{name}\" is known to Alloy but not supported here"), None);
    }
    if place == Place::Library {
        let hint = "put it into a declare block and use that".to_owned();
        return at_header(format!("component \"{name}\" stands in a module that is imported"), Some(hint));
    }
    if definitions.is_custom(&block.name) {
        return with_label(Kind::Custom, "component");
    }
    if let Some(found) = registrations.iter().find(|registration| registration.name == name) {
        return with_label(Kind::Component(*found), "component");
    }
    let known = registrations.iter().map(|registration| registration.name);
    let (message, hint) = unknown_component(&name, &known.chain(definitions.declared()).collect::<Vec<_>>());
    at_header(message, Some(hint))
}

/// For each block the indexes of the blocks it refers to.
fn edges(
    blocks: &[(&Block, Kind)],
    definitions: &Definitions,
    diagnostics: &mut Diagnostics,
) -> Vec<BTreeSet<usize>> {
    let by_id = |(index, (block, _)): (usize, &(&Block, Kind))| (block.id(), index);
    let ids: BTreeMap<String, usize> = blocks.iter().enumerate().map(by_id).collect();
    let imports: Vec<(&str, usize)> = blocks
        .iter()
        .enumerate()
        .filter(|(_, (_, kind))| matches!(kind, Kind::Import))
        .filter_map(|(index, (block, _))| Some((block.label.as_ref()?.text.as_str(), index)))
        .collect();
    let mut all = Vec::new();
    for (index, (block, kind)) in blocks.iter().enumerate() {
        let mut needs = BTreeSet::new();
        // Where a definition is used, its own references count.
        let statements: &[Statement] = if let Kind::Declare = kind { &[] } else { &block.statements };
        for reference in references(statements) {
            match reference.prefixes().find_map(|id| ids.get(&id)) {
                Some(other) if *other == index => diagnostics.error(reference.span, "cannot reference self"),
                Some(other) => drop(needs.insert(*other)),
                None => {}
            }
        }
        if let Kind::Custom | Kind::Foreach = kind {
            let used = definitions.imports_used(block);
            needs.extend(imports.iter().filter(|(label, _)| used.contains(label)).map(|(_, index)| index));
        }
        all.push(needs);
    }
    all
}

/// The indexes, each behind those it needs; those that need each other at the end.
fn order(blocks: &[(&Block, Kind)], needs: &[BTreeSet<usize>], diagnostics: &mut Diagnostics) -> Vec<usize> {
    let mut users = vec![Vec::new(); blocks.len()];
    for (user, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|need| users[*need].push(user));
    }
    // How many of those that each needs are not placed yet.
    let mut open: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut order: Vec<usize> = (0..blocks.len()).filter(|index| open[*index] == 0).collect();
    let mut done = 0;
    while let Some(placed) = order.get(done).copied() {
        for user in &users[placed] {
            open[*user] -= 1;
            if open[*user] == 0 {
                order.push(*user);
            }
        }
        done += 1;
    }
    let rest: Vec<usize> = (0..blocks.len()).filter(|index| open[*index] > 0).collect();
    if let Some(start) = rest.first() {
        // Walking along unplaced needs must come round to a node that was seen: that is the cycle.
        let (mut path, mut seen) = (Vec::new(), BTreeMap::new());
        let mut here = *start;
        let cycle = loop {
            if let Some(at) = seen.insert(here, path.len()) {
                break path.split_off(at);
            }
            path.push(here);
            here = needs[here].iter().find(|need| open[**need] > 0).copied().unwrap_or(here);
        };
        let ids: Vec<String> = cycle.iter().map(|index| blocks[*index].0.id()).collect();
        diagnostics.error(blocks[cycle[0]].0.header(), format!("cycle detected: {}", ids.join(", ")));
    }
    order.extend(rest);
    order
}
