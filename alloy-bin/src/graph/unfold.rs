//! Modules, templates and imports -> the nodes of their bodies: the part of the walk that goes inside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{Scope, Value, decode_block, did_you_mean, evaluate};
use crate::syntax::ast::{Block, Statement};
use crate::syntax::{Diagnostic, Span};

use super::definitions::{Definitions, Lookup};
use super::expand::{Expansion, Frame, Needs, formula_of};
use super::load;
use super::modules::{Argument, Foreach};
use super::node::{Formula, Role};
use super::plan::Place;

/// Modules within modules, at most: each takes a part of the stack.
const DEPTH_MAX: usize = 32;
/// Nodes, at most: a few declarations that use each other twice would unfold to millions. Each has some 2 KiB.
const NODES_MAX: usize = 100_000;

impl Expansion<'_> {
    /// Unfolds the module that a custom component is an instance of.
    pub(super) fn custom(&mut self, frame: &Frame<'_>, block: &Block) -> Option<usize> {
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
        let exports = self.module(frame, (&module, &home), Some(block));
        let names: Vec<String> = exports.iter().map(|(name, _)| name.clone()).collect();
        let formula: Formula = Arc::new(move |scope| {
            let export = |name: &String| Some((name.clone(), scope.resolve(&[name])?.1.clone()));
            Ok(Value::object(names.iter().filter_map(export)))
        });
        let needs = Needs { nodes: exports, missing: Vec::new() };
        Some(self.evaluated(frame, frame.id(&block.id()), needs, formula, Role::Value))
    }

    /// Unfolds a module and returns the nodes of its exports. Without a user nothing is known of its arguments.
    fn module(
        &mut self,
        frame: &Frame<'_>,
        (module, home): (&Block, &Arc<Definitions>),
        user: Option<&Block>,
    ) -> Vec<(String, usize)> {
        let named = user.unwrap_or(module);
        let path = frame.id(&named.id());
        let names = self.arguments(frame, (module, home), user, &path);
        let definitions = Definitions::inside(home, &module.statements);
        let inner = Frame::module(path, names, definitions, frame.shows_figures);
        let mut exports = Vec::new();
        self.inside(named, module.span, |walk| exports = walk.body(&module.statements, Place::Module, inner));
        exports
    }

    /// Nodes for the arguments of a module: evaluated where the module is used, seen inside it.
    fn arguments(
        &mut self,
        frame: &Frame<'_>,
        (module, home): (&Block, &Arc<Definitions>),
        user: Option<&Block>,
        path: &str,
    ) -> BTreeMap<String, Option<usize>> {
        let mut names = BTreeMap::new();
        let mut known = Vec::new();
        for block in module.blocks().filter(|block| block.full_name() == "argument") {
            let Argument { optional, default } = match decode_block(block, &home.base) {
                Ok(argument) => argument,
                Err(found) => {
                    self.diagnostics.extend(found);
                    Argument { optional: true, default: Some(Value::ANYTHING) }
                }
            };
            let Some(label) = block.label.as_ref().map(|label| label.text.clone()) else { continue };
            let given = user.and_then(|user| user.attributes().find(|given| given.name.text == label));
            let (needs, formula): (Needs, Formula) = match given {
                Some(given) => {
                    let needs = self.needs(frame, &[Statement::Attribute(given.clone())]);
                    let (given, default) = (given.value.clone(), default.unwrap_or_default());
                    let formula = move |scope: &Scope| match evaluate(&given, scope)? {
                        Value::Null => Ok(argument(default.clone())),
                        value => Ok(argument(value)),
                    };
                    (needs, Arc::new(formula))
                }
                None => {
                    let value = match user {
                        None => Value::ANYTHING,
                        Some(_) if optional => default.unwrap_or_default(),
                        Some(user) => {
                            let message = format!("missing required attribute {label:?}");
                            self.diagnostics.error(user.header(), message);
                            Value::ANYTHING
                        }
                    };
                    (Needs::default(), Arc::new(move |_| Ok(argument(value.clone()))))
                }
            };
            let id = format!("{path}/{}", block.id());
            let node = self.evaluated(frame, id, needs, formula, Role::Value);
            names.insert(block.id(), Some(node));
            known.push(label);
        }
        if let Some(user) = user {
            self.unknown_arguments(user, &known);
        }
        names
    }

    fn unknown_arguments(&mut self, user: &Block, known: &[String]) {
        let mut seen = BTreeSet::new();
        for statement in &user.statements {
            let (kind, name, span) = match statement {
                Statement::Attribute(given) => ("attribute", given.name.text.clone(), given.name.span),
                Statement::Block(block) => ("block", block.full_name(), block.header()),
            };
            if kind == "block" || !known.contains(&name) {
                let hint = did_you_mean(&name, known.iter().map(String::as_str));
                let message = format!("unrecognized {kind} name {name:?}");
                self.diagnostics.push(Diagnostic::error(span, message).with_hint(hint));
            } else if !seen.insert(name.clone()) {
                self.diagnostics.error(span, format!("attribute {name:?} may only be set once"));
            }
        }
    }

    /// Whether or not it is used, a module is checked once with arguments of which nothing is known.
    pub(super) fn declare(&mut self, frame: &Frame<'_>, block: &Block) {
        if self.maker.is_none() {
            let before = self.blocks;
            self.module(frame, (block, &frame.definitions), None);
            self.blocks = before;
        }
    }

    /// Unfolds the template once for each element.
    pub(super) fn foreach(&mut self, frame: &Frame<'_>, block: &Block) {
        let is_template = |block: &Block| block.full_name() == "template";
        let is_own = |statement: &&Statement| !statement.as_block().is_some_and(is_template);
        let own: Vec<Statement> = block.statements.iter().filter(is_own).cloned().collect();
        let needs = self.needs(frame, &own);
        let scope = self.scope(frame, &needs);
        let decoded = match decode_block::<Foreach>(block, &scope) {
            Ok(decoded) => decoded,
            Err(found) => {
                self.diagnostics.extend(found);
                return;
            }
        };
        let Some(template) = block.blocks().find(|block| is_template(block)) else { return };
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
        let all = self.push(frame, frame.id(&local), needs, (formula, value, Role::Keys));
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
            let item = self.evaluated(frame, id, needs, formula, Role::Value);
            let inner = Frame {
                path,
                names: BTreeMap::from([(decoded.variable.clone(), Some(item))]),
                outer: Some(frame),
                definitions: Definitions::inside(&frame.definitions, &template.statements),
                shows_figures: frame.shows_figures && decoded.enable_metrics,
            };
            self.inside(block, template.span, |walk| {
                drop(walk.body(&template.statements, Place::Template, inner))
            });
        }
    }

    /// Reads a module; what it declares is found under the block's label from now on.
    pub(super) fn import(&mut self, frame: &Frame<'_>, block: &Block) {
        let needs = self.needs(frame, &block.statements);
        let scope = self.scope(frame, &needs);
        let label = block.label.as_ref().map(|label| label.text.clone()).unwrap_or_default();
        let id = frame.id(&block.id());
        let read = self.contents.read(&id, block, &scope, self.maker.is_some());
        self.evaluated(frame, id.clone(), needs, formula_of(Arc::new(block.clone())), Role::Shape);
        let read = match read {
            Ok(read) => read,
            Err(found) => {
                self.diagnostics.extend(found);
                None
            }
        };
        let module = read.map(|(texts, module_path)| {
            let statements = load::parse_all(&texts, &mut self.sources, &mut self.diagnostics);
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
}

/// What is seen of an argument.
fn argument(value: Value) -> Value {
    Value::object([("value", value)])
}
