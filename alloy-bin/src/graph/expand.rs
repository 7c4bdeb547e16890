//! Statements -> nodes. Modules and templates are unfolded where they are used, each into its own frame of names, so that
//! what comes out is one list in which every node lies behind those that it needs.
//!
//! The same walk checks a configuration and makes it. Without a [`Maker`] nothing is made: exports are placeholders, values
//! that are known only at run time are [`Value::Unknown`], and everything that is wrong anywhere is found. With one,
//! components that are new are made as the walk comes to them, until the first error.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Reference, Scope, Value, decode_block, did_you_mean, references};
use crate::syntax::ast::{Block, Statement};
use crate::syntax::{Diagnostic, Diagnostics, Sources, Span};

use super::component::Registration;
use super::definitions::Definitions;
use super::imports::Contents;
use super::live::Given;
use super::make::Maker;
use super::modules::Export;
use super::node::{Formula, Node, Role, content};
use super::plan::{Kind, Place, plan};

/// One walk over a configuration.
pub(super) struct Expansion<'a> {
    pub(super) registrations: &'a [Registration],
    pub(super) stdlib: &'a Arc<Scope>,
    pub(super) contents: Contents,
    /// `None`: only a check.
    pub(super) maker: Option<Maker<'a>>,
    pub(super) sources: Sources,
    pub(super) diagnostics: Diagnostics,
    pub(super) nodes: Vec<Node>,
    /// Components, those in modules and templates counted where they are used.
    pub(super) blocks: usize,
    /// The blocks whose bodies are being unfolded.
    pub(super) open: Vec<Span>,
    /// It was said that there are too many nodes.
    pub(super) is_full: bool,
}

/// The names of one body.
pub(super) struct Frame<'f> {
    /// Empty at the root, else the path of the module: `mymod.thing.a/foreach.b`.
    pub(super) path: String,
    /// Ids and where their nodes are; `None`: there is no node, because of an error that is reported already.
    pub(super) names: BTreeMap<String, Option<usize>>,
    /// Templates see what is around them; modules do not.
    pub(super) outer: Option<&'f Frame<'f>>,
    pub(super) definitions: Arc<Definitions>,
    /// Whether figures of its components are shown.
    pub(super) shows_figures: bool,
}

/// What expressions refer to.
#[derive(Default)]
pub(super) struct Needs {
    pub(super) nodes: Vec<(String, usize)>,
    /// Names for which there is no node.
    pub(super) missing: Vec<String>,
}

impl Frame<'_> {
    pub(super) fn id(&self, local: &str) -> String {
        if self.path.is_empty() { local.to_owned() } else { format!("{}/{local}", self.path) }
    }

    /// The node with the longest name that begins the path; of equally long ones the innermost.
    fn find(&self, reference: &Reference) -> Option<(String, Option<usize>)> {
        reference.prefixes().find_map(|name| {
            let mut frames = std::iter::successors(Some(self), |frame| frame.outer);
            frames.find_map(|frame| frame.names.get(&name).copied()).map(|node| (name, node))
        })
    }
}

impl<'a> Expansion<'a> {
    pub(super) fn new(
        registrations: &'a [Registration],
        stdlib: &'a Arc<Scope>,
        contents: Contents,
        sources: Sources,
        maker: Option<Maker<'a>>,
    ) -> Self {
        Expansion {
            registrations,
            stdlib,
            contents,
            maker,
            sources,
            diagnostics: Diagnostics::default(),
            nodes: Vec::new(),
            blocks: 0,
            open: Vec::new(),
            is_full: false,
        }
    }

    /// Unfolds the configuration.
    pub(super) fn root(&mut self, statements: &[Statement], module_path: &str) {
        let base = Definitions::base(self.stdlib, module_path);
        let definitions = Definitions::new(statements, None, base);
        self.body(statements, Place::Root, Frame::module(String::new(), BTreeMap::new(), definitions, true));
    }

    /// Unfolds one body and returns the nodes of its exports.
    pub(super) fn body(
        &mut self,
        statements: &[Statement],
        place: Place,
        mut frame: Frame<'_>,
    ) -> Vec<(String, usize)> {
        let found = (&self.sources, &mut self.diagnostics);
        let plan = plan(statements, place, &frame.definitions, self.registrations, found);
        for id in plan.ids {
            frame.names.entry(id).or_insert(None);
        }
        let mut exports = Vec::new();
        for (block, kind) in plan.blocks {
            let id = block.id();
            let node = match kind {
                Kind::Component(registration) => self.component(&frame, block, registration),
                Kind::Custom => self.custom(&frame, block),
                Kind::Foreach => {
                    self.foreach(&frame, block);
                    continue;
                }
                Kind::Import => {
                    self.import(&frame, block);
                    continue;
                }
                Kind::Declare => {
                    self.declare(&frame, block);
                    continue;
                }
                Kind::Export => {
                    let needs = self.needs(&frame, &block.statements);
                    let shared = block.clone();
                    let formula: Formula =
                        Arc::new(move |scope| Ok(decode_block::<Export>(&shared, scope)?.value));
                    let node = self.evaluated(&frame, frame.id(&id), needs, formula, Role::Value);
                    let label = block.label.as_ref().map(|label| label.text.clone()).unwrap_or_default();
                    exports.push((label, node));
                    continue;
                }
                // Made by who uses the module; decoded where the agent as a whole is set up.
                Kind::Argument | Kind::Settings => continue,
            };
            frame.names.insert(id, node);
        }
        exports
    }

    fn component(&mut self, frame: &Frame<'_>, block: &Block, registration: Registration) -> Option<usize> {
        self.blocks += 1;
        let needs = self.needs(frame, &block.statements);
        let scope = Arc::new(self.scope(frame, &needs));
        let id = frame.id(&block.id());
        let placeholder = || {
            let exports = registration.exports.iter().map(|(name, value)| (*name, value()));
            (Value::object(exports), Role::Value)
        };
        let block = Arc::new(block.clone());
        let formula = formula_of(block.clone());
        let made = match self.maker.as_mut().filter(|_| self.diagnostics.is_empty()) {
            None => (registration.check)(&block, &scope).map(|()| placeholder()),
            Some(maker) => formula(&scope).and_then(|arguments| {
                let shows_figures = frame.shows_figures;
                let given = Given { block, scope, arguments: arguments.clone(), shows_figures };
                Ok((arguments, Role::Component(maker.make(registration, given, &id)?)))
            }),
        };
        let (value, role) = made.unwrap_or_else(|found| {
            self.diagnostics.extend(found);
            placeholder()
        });
        Some(self.push(frame, id, needs, (formula, value, role)))
    }

    /// The nodes that statements refer to. What there is not is reported.
    pub(super) fn needs(&mut self, frame: &Frame<'_>, statements: &[Statement]) -> Needs {
        let mut needs = Needs::default();
        for reference in references(statements) {
            let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
            match frame.find(&reference) {
                Some((name, Some(node))) => {
                    if !needs.nodes.iter().any(|(known, _)| *known == name) {
                        needs.nodes.push((name, node));
                    }
                }
                Some((name, None)) => needs.missing.push(name),
                None if frame.definitions.base.resolve(&path[..1]).is_some() => {}
                None => {
                    self.unresolved(frame, &path, reference.span);
                    needs.missing.push(path.join("."));
                }
            }
        }
        needs
    }

    fn unresolved(&mut self, frame: &Frame<'_>, path: &[&str], span: Span) {
        let whole = path.join(".");
        let message = match path.len() {
            1 => format!("identifier {whole:?} does not exist or is out of scope"),
            _ => format!("component \"{whole}\" does not exist or is out of scope"),
        };
        if !self.diagnostics.has_room() {
            return self.diagnostics.error(span, message);
        }
        let field = path.last().copied().unwrap_or_default();
        let ids =
            std::iter::successors(Some(frame), |frame| frame.outer).flat_map(|frame| frame.names.keys());
        let candidates: Vec<String> = ids.flat_map(|id| [id.clone(), format!("{id}.{field}")]).collect();
        let hint = did_you_mean(&whole, candidates.iter().map(String::as_str));
        self.diagnostics.push(Diagnostic::error(span, message).with_hint(hint));
    }

    /// What expressions with these needs see.
    pub(super) fn scope(&self, frame: &Frame<'_>, needs: &Needs) -> Scope {
        let mut scope = Scope::inside(frame.definitions.base.clone());
        for (name, node) in &needs.nodes {
            scope.set(name.clone(), self.nodes[*node].seen());
        }
        for name in &needs.missing {
            scope.set(name.clone(), Value::ANYTHING);
        }
        scope
    }

    /// A node with the value that its formula gives now. After an error it may be anything.
    pub(super) fn evaluated(
        &mut self,
        frame: &Frame<'_>,
        id: String,
        needs: Needs,
        formula: Formula,
        role: Role,
    ) -> usize {
        let value = formula(&self.scope(frame, &needs)).unwrap_or_else(|found| {
            self.diagnostics.extend(found);
            Value::ANYTHING
        });
        self.push(frame, id, needs, (formula, value, role))
    }

    pub(super) fn push(
        &mut self,
        frame: &Frame<'_>,
        id: String,
        needs: Needs,
        (formula, value, role): (Formula, Value, Role),
    ) -> usize {
        let base = frame.definitions.base.clone();
        let node = Node { id: id.into(), base, needs: needs.nodes, formula, value, role, trouble: None };
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

impl Frame<'_> {
    pub(super) fn module(
        path: String,
        names: BTreeMap<String, Option<usize>>,
        definitions: Arc<Definitions>,
        shows_figures: bool,
    ) -> Self {
        Frame { path, names, outer: None, definitions, shows_figures }
    }
}

/// What all that the block says comes to.
pub(super) fn formula_of(block: Arc<Block>) -> Formula {
    Arc::new(move |scope| content(&block.statements, scope).map_err(Into::into))
}
