//! Parsed statements -> nodes and edges: which components there are, who refers to whom, in which order they are made.
//! Everything that is wrong is reported at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Scope, did_you_mean, references};
use crate::syntax::ast::{Block, Statement};
use crate::syntax::{Diagnostic, Diagnostics, Sources};

use super::component::Registration;

/// Blocks that Alloy has beside its components, and that this agent does not have.
const UNSUPPORTED_BLOCKS: &[&str] = &[
    "argument",
    "declare",
    "export",
    "foreach",
    "http",
    "import.file",
    "import.git",
    "import.http",
    "import.string",
    "livedebugging",
    "remotecfg",
    "tracing",
];

/// What a configuration asks for.
pub(super) struct Plan {
    /// Each after the ones it refers to.
    pub(super) nodes: Vec<Planned>,
    /// The `logging` block.
    pub(super) logging: Option<Block>,
}

/// A component to be made.
pub(super) struct Planned {
    pub(super) block: Block,
    pub(super) registration: Registration,
    /// Indexes of the nodes that it refers to; all smaller than its own.
    pub(super) needs: BTreeSet<usize>,
}

/// Plans the statements of all files together.
pub(super) fn plan(
    statements: Vec<Statement>,
    registrations: &[Registration],
    stdlib: &Scope,
    sources: &Sources,
) -> Result<Plan, Diagnostics> {
    let mut diagnostics = Diagnostics::default();
    let mut logging = None;
    let mut blocks: Vec<(Block, Registration)> = Vec::new();
    let mut declared = BTreeMap::new();
    for statement in statements {
        let block = match statement {
            Statement::Block(block) => block,
            Statement::Attribute(attribute) => {
                let message = format!("unrecognized attribute name \"{}\"", attribute.name.text);
                let hint = "only blocks stand at the top: components and logging".to_owned();
                diagnostics.push(Diagnostic::error(attribute.name.span, message).with_hint(Some(hint)));
                continue;
            }
        };
        if let Some(first) = declared.insert(block.id(), block.header()) {
            let message = format!("block {} already declared at {}", block.id(), sources.location(first));
            diagnostics.error(block.header(), message);
        } else if block.full_name() == "logging" {
            logging = Some(block);
        } else {
            match registration(&block, registrations) {
                Ok(registration) => blocks.push((block, registration)),
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
    }
    let needs = edges(&blocks, &declared, stdlib, &mut diagnostics);
    let order = order(&blocks, &needs, &mut diagnostics);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    Ok(Plan { nodes: arrange(blocks, &needs, &order), logging })
}

fn registration(block: &Block, registrations: &[Registration]) -> Result<Registration, Diagnostic> {
    let name = block.full_name();
    let Some(found) = registrations.iter().find(|registration| registration.name == name) else {
        if UNSUPPORTED_BLOCKS.contains(&name.as_str()) {
            let message = format!("block \"{name}\" is known to Alloy but not supported here");
            return Err(Diagnostic::error(block.header(), message));
        }
        let message = format!("cannot find the definition of component name \"{name}\"");
        let near = did_you_mean(&name, registrations.iter().map(|registration| registration.name));
        let names: Vec<&str> = registrations.iter().map(|registration| registration.name).collect();
        let hint = near.unwrap_or_else(|| format!("components here: {}", names.join(", ")));
        return Err(Diagnostic::error(block.header(), message).with_hint(Some(hint)));
    };
    if block.label.is_none() {
        let message = format!("component \"{name}\" must have a label");
        let hint = format!("{name} \"default\" {{");
        return Err(Diagnostic::error(block.header(), message).with_hint(Some(hint)));
    }
    Ok(*found)
}

/// For each block the indexes of the blocks it refers to.
fn edges(
    blocks: &[(Block, Registration)],
    declared: &BTreeMap<String, crate::syntax::Span>,
    stdlib: &Scope,
    diagnostics: &mut Diagnostics,
) -> Vec<BTreeSet<usize>> {
    let ids: BTreeMap<String, usize> =
        blocks.iter().enumerate().map(|(index, (block, _))| (block.id(), index)).collect();
    let mut all = Vec::new();
    for (index, (block, _)) in blocks.iter().enumerate() {
        let mut needs = BTreeSet::new();
        for reference in references(&block.statements) {
            let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
            let prefix = (1..=path.len())
                .rev()
                .map(|parts| path[..parts].join("."))
                .find(|id| declared.contains_key(id));
            match prefix.and_then(|id| ids.get(&id).copied()) {
                Some(other) if other == index => diagnostics.error(reference.span, "cannot reference self"),
                Some(other) => {
                    needs.insert(other);
                }
                // Declared, but with an error of its own that is reported already.
                None if (1..=path.len()).any(|parts| declared.contains_key(&path[..parts].join("."))) => {}
                None if stdlib.resolve(&path[..1]).is_some() => {}
                None => {
                    let message =
                        format!("component \"{}\" does not exist or is out of scope", path.join("."));
                    let field = path.last().copied().unwrap_or_default();
                    let candidates: Vec<String> = ids.keys().map(|id| format!("{id}.{field}")).collect();
                    let hint = did_you_mean(&path.join("."), candidates.iter().map(String::as_str));
                    diagnostics.push(Diagnostic::error(reference.span, message).with_hint(hint));
                }
            }
        }
        all.push(needs);
    }
    all
}

/// The indexes, each behind those it needs; as far as that can be done.
fn order(
    blocks: &[(Block, Registration)],
    needs: &[BTreeSet<usize>],
    diagnostics: &mut Diagnostics,
) -> Vec<usize> {
    let mut placed: BTreeSet<usize> = BTreeSet::new();
    let mut order = Vec::new();
    loop {
        let ready: Vec<usize> = (0..blocks.len())
            .filter(|index| !placed.contains(index) && needs[*index].iter().all(|need| placed.contains(need)))
            .collect();
        if ready.is_empty() {
            break;
        }
        placed.extend(&ready);
        order.extend(ready);
    }
    if let Some(start) = (0..blocks.len()).find(|index| !placed.contains(index)) {
        // Walking along unplaced needs must come round to a node that was seen: that is the cycle.
        let mut path = vec![start];
        let cycle = loop {
            let here = path[path.len() - 1];
            let next = needs[here].iter().find(|need| !placed.contains(need)).copied().unwrap_or(here);
            if let Some(at) = path.iter().position(|seen| *seen == next) {
                break path.split_off(at);
            }
            path.push(next);
        };
        let ids: Vec<String> = cycle.iter().map(|index| blocks[*index].0.id()).collect();
        diagnostics.error(blocks[cycle[0]].0.header(), format!("cycle detected: {}", ids.join(", ")));
    }
    order
}

fn arrange(blocks: Vec<(Block, Registration)>, needs: &[BTreeSet<usize>], order: &[usize]) -> Vec<Planned> {
    let place: BTreeMap<usize, usize> =
        order.iter().enumerate().map(|(place, index)| (*index, place)).collect();
    let mut by_index: BTreeMap<usize, (Block, Registration)> = blocks.into_iter().enumerate().collect();
    let nodes = order.iter().filter_map(|index| {
        let (block, registration) = by_index.remove(index)?;
        let needs = needs[*index].iter().map(|need| place[need]).collect();
        Some(Planned { block, registration, needs })
    });
    nodes.collect()
}
