//! Statements -> nodes. Modules and templates are unfolded where they are used, each into its own frame of names, so that
//! what comes out is one list in which every node lies behind those that it needs.
//!
//! The same walk checks a configuration and makes it. Without a [`Maker`] nothing is made: exports are placeholders, values
//! that are known only at run time are [`Value::Unknown`], and everything that is wrong anywhere is found. With one,
//! components that are new are made as the walk comes to them, until the first error.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Decode, Reference, Scope, Value, decode_block, did_you_mean, references};
use crate::syntax::ast::{Block, Statement};
use crate::syntax::{Diagnostic, Diagnostics, Sources, Span};

use super::component::Registration;
use super::definitions::{Definitions, Lookup};
use super::imports::Contents;
use super::live::Given;
use super::make::{Made, Maker};
use super::modules::{Argument, Export, Foreach};
use super::node::{Formula, Node, Role, content};
use super::plan::{Kind, Place, plan};

/// Modules within modules, at most: each takes a part of the stack.
const DEPTH_MAX: usize = 32;
/// Nodes, at most: a few declarations that use each other twice would unfold to millions. Each has some 2 KiB.
const NODES_MAX: usize = 100_000;

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
    open: Vec<Span>,
    /// It was said that there are too many nodes.
    is_full: bool,
}

/// The names of one body.
struct Frame<'f> {
    /// Empty at the root, else the path of the module: `mymod.thing.a/foreach.b`.
    path: String,
    /// Ids and where their nodes are; `None`: there is no node, because of an error that is reported already.
    names: BTreeMap<String, Option<usize>>,
    /// Templates see what is around them; modules do not.
    outer: Option<&'f Frame<'f>>,
    definitions: Arc<Definitions>,
    /// Whether figures of its components are shown.
    shows_figures: bool,
}

/// What expressions refer to.
#[derive(Default)]
struct Needs {
    nodes: Vec<(String, usize)>,
    /// Names for which there is no node.
    missing: Vec<String>,
}

impl Frame<'_> {
    fn id(&self, local: &str) -> String {
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
    fn body(&mut self, statements: &[Statement], place: Place, mut frame: Frame<'_>) -> Vec<(String, usize)> {
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
                    let node = self.decoded::<Export>(&frame, block, |export| export.value);
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
        let local = block.id();
        let id = frame.id(&local);
        let placeholder = || Value::object(registration.exports.iter().map(|(name, value)| (*name, value())));
        let block = Arc::new(block.clone());
        let formula = formula_of(block.clone());
        let maker = self.maker.as_mut().filter(|_| self.diagnostics.is_empty());
        let made = match maker {
            None => (registration.check)(&block, &scope).map(|()| None),
            Some(maker) => {
                content(&block.statements, &scope).map_err(Diagnostics::from).and_then(|arguments| {
                    let given = Given { block: block.clone(), scope, arguments };
                    let place = (frame.path.clone(), local);
                    maker.make(registration, given, place, &id, frame.shows_figures).map(Some)
                })
            }
        };
        let (value, role) = match made {
            Ok(Some(Made { live, arguments })) => (arguments, Role::Component(live, block)),
            Ok(None) => (placeholder(), Role::Value),
            Err(found) => {
                self.diagnostics.extend(found);
                (placeholder(), Role::Value)
            }
        };
        Some(self.push(frame, id, needs, formula, value, role))
    }

    /// A node whose value is what a block says, by way of a struct.
    fn decoded<T: Decode + 'static>(
        &mut self,
        frame: &Frame<'_>,
        block: &Block,
        value: fn(T) -> Value,
    ) -> usize {
        let needs = self.needs(frame, &block.statements);
        let shared = Arc::new(block.clone());
        let formula: Formula = Arc::new(move |scope| decode_block::<T>(&shared, scope).map(value));
        self.evaluated(frame, &block.id(), needs, formula, Role::Value)
    }

    /// Unfolds the module that a custom component is an instance of.
    fn custom(&mut self, frame: &Frame<'_>, block: &Block) -> Option<usize> {
        let (module, home) = match frame.definitions.find(&block.name) {
            Lookup::Declared(module, home) => (module, home),
            Lookup::Unknown => {
                self.needs(frame, &block.statements);
                return None;
            }
            Lookup::Missing(there) => {
                let name = block.full_name();
                let message = format!("cannot find the definition of component name \"{name}\"");
                let hint = did_you_mean(&name, there.iter().map(String::as_str))
                    .unwrap_or_else(|| format!("the module declares: {}", there.join(", ")));
                self.diagnostics.push(Diagnostic::error(block.header(), message).with_hint(Some(hint)));
                return None;
            }
        };
        let local = block.id();
        let path = frame.id(&local);
        let names = self.arguments(frame, block, &module, &home, &path);
        let definitions = Definitions::new(&module.statements, Some(home.clone()), home.base.clone());
        let inner = Frame::module(path, names, definitions, frame.shows_figures);
        let mut exports = Vec::new();
        self.inside(block, module.span, |walk| exports = walk.body(&module.statements, Place::Module, inner));
        let names: Vec<String> = exports.iter().map(|(name, _)| name.clone()).collect();
        let formula: Formula = Arc::new(move |scope| {
            let export = |name: &String| Some((name.clone(), scope.resolve(&[name])?.1.clone()));
            Ok(Value::object(names.iter().filter_map(export)))
        });
        let needs = Needs { nodes: exports, missing: Vec::new() };
        Some(self.evaluated(frame, &local, needs, formula, Role::Value))
    }

    /// Nodes for the arguments of a module: evaluated where the module is used, seen inside it.
    fn arguments(
        &mut self,
        frame: &Frame<'_>,
        user: &Block,
        module: &Block,
        home: &Definitions,
        path: &str,
    ) -> BTreeMap<String, Option<usize>> {
        let mut names = BTreeMap::new();
        let mut known = Vec::new();
        for block in blocks(&module.statements).filter(|block| block.full_name() == "argument") {
            let Some(label) = block.label.as_ref().map(|label| label.text.clone()) else { continue };
            let argument = match decode_block::<Argument>(block, &home.base) {
                Ok(argument) => argument,
                Err(found) => {
                    self.diagnostics.extend(found);
                    Argument { optional: true, default: Some(Value::ANYTHING) }
                }
            };
            let given = user.statements.iter().find(
                |statement| matches!(statement, Statement::Attribute(given) if given.name.text == label),
            );
            let (needs, formula): (Needs, Formula) = match given {
                Some(statement) => {
                    let statement = [statement.clone()];
                    let needs = self.needs(frame, &statement);
                    let default = argument.default.unwrap_or_default();
                    let formula = move |scope: &Scope| {
                        let given = super::node::evaluate_attribute(&statement, scope)?;
                        let value = if given == Value::Null { default.clone() } else { given };
                        Ok(Value::object([("value", value)]))
                    };
                    (needs, Arc::new(formula))
                }
                None => {
                    let mut value = argument.default.unwrap_or_default();
                    if !argument.optional {
                        let message = format!("missing required attribute {label:?}");
                        self.diagnostics.error(user.header(), message);
                        value = Value::ANYTHING;
                    }
                    (Needs::default(), Arc::new(move |_| Ok(Value::object([("value", value.clone())]))))
                }
            };
            let id = format!("{path}/{}", block.id());
            let node = self.evaluated_as(frame, id, needs, formula, Role::Value);
            names.insert(block.id(), Some(node));
            known.push(label);
        }
        self.unknown_arguments(user, &known);
        names
    }

    fn unknown_arguments(&mut self, user: &Block, known: &[String]) {
        let mut seen: Vec<&str> = Vec::new();
        for statement in &user.statements {
            let (kind, name, span) = match statement {
                Statement::Attribute(given) => ("attribute", given.name.text.clone(), given.name.span),
                Statement::Block(block) => ("block", block.full_name(), block.header()),
            };
            let is_attribute = matches!(statement, Statement::Attribute(_));
            if is_attribute && seen.contains(&name.as_str()) {
                self.diagnostics.error(span, format!("attribute {name:?} may only be set once"));
            } else if is_attribute && let Some(known) = known.iter().find(|known| **known == name) {
                seen.push(known);
            } else {
                let hint = did_you_mean(&name, known.iter().map(String::as_str));
                let message = format!("unrecognized {kind} name {name:?}");
                self.diagnostics.push(Diagnostic::error(span, message).with_hint(hint));
            }
        }
    }

    /// Whether or not it is used, a module is checked once with arguments of which nothing is known.
    fn declare(&mut self, frame: &Frame<'_>, block: &Block) {
        if self.maker.is_some() {
            return;
        }
        let mut names = BTreeMap::new();
        for argument in blocks(&block.statements).filter(|block| block.full_name() == "argument") {
            if let Err(found) = decode_block::<Argument>(argument, &frame.definitions.base) {
                self.diagnostics.extend(found);
            }
            let formula: Formula = Arc::new(|_| Ok(Value::object([("value", Value::ANYTHING)])));
            let node = self.evaluated(frame, &argument.id(), Needs::default(), formula, Role::Value);
            if argument.label.is_some() {
                names.insert(argument.id(), Some(node));
            }
        }
        let outer = frame.definitions.clone();
        let definitions = Definitions::new(&block.statements, Some(outer.clone()), outer.base.clone());
        let inner = Frame::module(frame.id(&block.id()), names, definitions, true);
        let before = self.blocks;
        self.inside(block, block.span, |walk| drop(walk.body(&block.statements, Place::Module, inner)));
        self.blocks = before;
    }

    /// Unfolds the template once for each element.
    fn foreach(&mut self, frame: &Frame<'_>, block: &Block) {
        let is_template = |statement: &&Statement| matches!(statement, Statement::Block(block) if block.full_name() == "template");
        let own: Vec<Statement> =
            block.statements.iter().filter(|statement| !is_template(statement)).cloned().collect();
        let needs = self.needs(frame, &own);
        let scope = self.scope(frame, &needs);
        let decoded = match decode_block::<Foreach>(block, &scope) {
            Ok(decoded) => decoded,
            Err(found) => {
                self.diagnostics.extend(found);
                return;
            }
        };
        let template = block.statements.iter().find(is_template);
        let Some(Statement::Block(template)) = template else { return };
        let mut items = decoded.items();
        if self.maker.is_none() && items.is_empty() {
            // Nothing may be known of the elements, and still the template may be wrong.
            items.push(("foreach_1".to_owned(), Value::ANYTHING));
        }
        let shared = Arc::new(block.clone());
        let formula: Formula =
            Arc::new(move |scope| Ok(Value::object(decode_block::<Foreach>(&shared, scope)?.items())));
        let local = block.id();
        let value = Value::object(items.iter().cloned());
        let all = self.push(frame, frame.id(&local), needs, formula, value, Role::Keys);
        for (name, _) in items {
            let key = name.clone();
            let formula: Formula = Arc::new(move |scope| {
                let element = scope.resolve(&["all"]).and_then(|(_, all)| match all {
                    Value::Object(all) => all.get(&key).cloned(),
                    _ => None,
                });
                Ok(element.unwrap_or(Value::ANYTHING))
            });
            let path = format!("{}/{name}", frame.id(&local));
            let needs = Needs { nodes: vec![("all".to_owned(), all)], missing: Vec::new() };
            let id = format!("{path}/{}", decoded.variable);
            let item = self.evaluated_as(frame, id, needs, formula, Role::Value);
            let outer = frame.definitions.clone();
            let inner = Frame {
                path,
                names: BTreeMap::from([(decoded.variable.clone(), Some(item))]),
                outer: Some(frame),
                definitions: Definitions::new(&template.statements, Some(outer.clone()), outer.base.clone()),
                shows_figures: frame.shows_figures && decoded.enable_metrics,
            };
            self.inside(block, template.span, |walk| {
                drop(walk.body(&template.statements, Place::Template, inner))
            });
        }
    }

    /// Reads a module; what it declares is found under the block's label from now on.
    fn import(&mut self, frame: &Frame<'_>, block: &Block) {
        let needs = self.needs(frame, &block.statements);
        let scope = self.scope(frame, &needs);
        let label = block.label.as_ref().map(|label| label.text.clone()).unwrap_or_default();
        let id = frame.id(&block.id());
        let read = self.contents.read(&id, block, &scope, self.maker.is_some());
        let shared = block.clone();
        let formula: Formula = Arc::new(move |scope| content(&shared.statements, scope).map_err(Into::into));
        self.evaluated(frame, &block.id(), needs, formula, Role::Shape);
        let read = match read {
            Ok(read) => read,
            Err(found) => {
                self.diagnostics.extend(found);
                None
            }
        };
        let module = read.map(|(texts, module_path)| {
            let statements = super::load::parse_all(&texts, &mut self.sources, &mut self.diagnostics);
            let base = match module_path {
                Some(path) => Definitions::base(self.stdlib, &path),
                None => frame.definitions.base.clone(),
            };
            let definitions = Definitions::new(&statements, None, base);
            let inner = Frame::module(id, BTreeMap::new(), definitions.clone(), true);
            self.inside(block, block.span, |walk| drop(walk.body(&statements, Place::Library, inner)));
            definitions
        });
        frame.definitions.imported(&label, module);
    }

    /// Unfolds the body of `opened`, unless that has no end. `user` is where that is said.
    fn inside(&mut self, user: &Block, opened: Span, unfold: impl FnOnce(&mut Self)) {
        let message = if self.open.contains(&opened) {
            format!("{} uses itself", user.id())
        } else if self.open.len() >= DEPTH_MAX {
            format!("{} lies in more than {DEPTH_MAX} modules", user.id())
        } else if self.nodes.len() >= NODES_MAX {
            if std::mem::replace(&mut self.is_full, true) {
                return;
            }
            format!("the configuration unfolds to more than {NODES_MAX} nodes")
        } else {
            self.open.push(opened);
            unfold(self);
            self.open.pop();
            return;
        };
        self.diagnostics.error(user.header(), message);
    }

    /// The nodes that statements refer to. What there is not is reported.
    fn needs(&mut self, frame: &Frame<'_>, statements: &[Statement]) -> Needs {
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
    fn scope(&self, frame: &Frame<'_>, needs: &Needs) -> Scope {
        let mut scope = Scope::inside(frame.definitions.base.clone());
        for (name, node) in &needs.nodes {
            scope.set(name.clone(), self.nodes[*node].seen());
        }
        for name in &needs.missing {
            scope.set(name.clone(), Value::ANYTHING);
        }
        scope
    }

    fn evaluated(
        &mut self,
        frame: &Frame<'_>,
        local: &str,
        needs: Needs,
        formula: Formula,
        role: Role,
    ) -> usize {
        self.evaluated_as(frame, frame.id(local), needs, formula, role)
    }

    /// A node with the value that its formula gives now. After an error it may be anything.
    fn evaluated_as(
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
        self.push(frame, id, needs, formula, value, role)
    }

    fn push(
        &mut self,
        frame: &Frame<'_>,
        id: String,
        needs: Needs,
        formula: Formula,
        value: Value,
        role: Role,
    ) -> usize {
        let base = frame.definitions.base.clone();
        let node = Node { id: id.into(), base, needs: needs.nodes, formula, value, role, trouble: None };
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

impl Frame<'_> {
    fn module(
        path: String,
        names: BTreeMap<String, Option<usize>>,
        definitions: Arc<Definitions>,
        shows_figures: bool,
    ) -> Self {
        Frame { path, names, outer: None, definitions, shows_figures }
    }
}

fn formula_of(block: Arc<Block>) -> Formula {
    Arc::new(move |scope| content(&block.statements, scope).map_err(Into::into))
}

fn blocks(statements: &[Statement]) -> impl Iterator<Item = &Block> {
    statements.iter().filter_map(|statement| match statement {
        Statement::Block(block) => Some(block),
        Statement::Attribute(_) => None,
    })
}
