//! Block -> struct. A component reads its arguments from a [`Body`]; whatever is wrong is collected there, so that
//! all errors of a block are reported at once.

use super::asked::{Asked, AskedBody, What};
use super::eval::evaluate;
use super::from_value::{ConversionError, FromValue};
use super::scope::Scope;
use super::secret::Secret;
use super::shown::{Argument, Content};
use super::suggest::did_you_mean;
use super::value::Value;
use crate::syntax::ast::{Attribute, Block, Expr, ExprKind, Ident, Statement};
use crate::syntax::{Diagnostic, Diagnostics, Sources, Span};

/// A struct that is read from a block's body.
///
/// # Contract
/// 1. `decode` asks for every attribute and block it knows, whatever it has found before: what was not asked for is
///    reported as unknown.
/// 2. It always returns a value. After an error, and in place of a value that is not known yet, the body hands out
///    placeholders, and nobody sees the result.
pub trait Decode: Sized {
    /// Reads the fields.
    fn decode(body: &mut Body<'_>) -> Self;
}

/// Decodes a block; its label is the caller's.
pub fn decode_block<T: Decode>(block: &Block, scope: &Scope) -> Result<T, Diagnostics> {
    decode_statements(&block.statements, block.header(), scope)
}

/// Decodes statements that have no block of their own, or are none at all; `header` is where messages about missing
/// attributes point.
pub fn decode_statements<T: Decode>(
    statements: &[Statement],
    header: Span,
    scope: &Scope,
) -> Result<T, Diagnostics> {
    let mut body = Body::new(statements, header, None, scope);
    let decoded = T::decode(&mut body);
    let diagnostics = body.finish();
    if diagnostics.has_errors() { Err(diagnostics) } else { Ok(decoded) }
}

/// What a block says to those who decode it so, for people: in the order in which it is read, secrets hidden.
pub fn shown_arguments<T: Decode>(block: &Block, scope: &Scope) -> Vec<Argument> {
    let mut body = Body::new(&block.statements, block.header(), None, scope);
    T::decode(&mut body);
    body.arguments
}

/// What those who are decoded so ask for, blocks inside one another included.
pub fn asked<T: Decode>() -> AskedBody {
    let source = Sources::default().add("", "");
    let scope = Scope::default();
    let mut body = Body::new(&[], Span { source, start: 0, end: 0 }, None, &scope);
    body.survey = Some(Survey::default());
    T::decode(&mut body);
    body.surveyed()
}

/// Takes down what a body is asked for.
#[derive(Default)]
struct Survey {
    asked: Vec<Asked>,
    /// The blocks that it is in: some may be in themselves.
    around: Vec<String>,
}

/// The body of a block, while its fields are read.
pub struct Body<'a> {
    statements: &'a [Statement],
    header: Span,
    label: Option<&'a Ident>,
    label_is_known: bool,
    scope: &'a Scope,
    known_attributes: Vec<String>,
    known_blocks: Vec<String>,
    diagnostics: Diagnostics,
    /// What was read, for people.
    arguments: Vec<Argument>,
    /// Attributes whose values are not known yet.
    unknown: Vec<String>,
    /// One of them may be anything: what the struct's own checks find may be owed to its placeholder.
    is_doubtful: bool,
    survey: Option<Survey>,
}

impl<'a> Body<'a> {
    fn new(statements: &'a [Statement], header: Span, label: Option<&'a Ident>, scope: &'a Scope) -> Self {
        Body {
            statements,
            header,
            label,
            label_is_known: false,
            scope,
            known_attributes: Vec::new(),
            known_blocks: Vec::new(),
            diagnostics: Diagnostics::default(),
            arguments: Vec::new(),
            unknown: Vec::new(),
            is_doubtful: false,
            survey: None,
        }
    }

    /// An attribute that must be set. The placeholder after an error is the type's default.
    pub fn required<T: FromValue + Default>(&mut self, name: &str) -> T {
        self.note_attribute::<T>(name, None);
        let before = self.diagnostics.iter().count();
        self.attribute(name).unwrap_or_else(|| {
            if self.diagnostics.iter().count() == before && !self.is_unknown(name) {
                self.diagnostics.error(self.header, format!("missing required attribute {name:?}"));
            }
            T::default()
        })
    }

    /// An attribute that may be left out. For `Option<T>` the default is `None`.
    pub fn optional<T: FromValue>(&mut self, name: &str, default: T) -> T {
        self.note_attribute(name, Some(&default));
        self.attribute(name).unwrap_or(default)
    }

    /// A block that may appear once.
    pub fn block<T: Decode>(&mut self, name: &str) -> Option<T> {
        self.note_block(name, T::decode);
        self.single(name).map(|block| self.nested(block, T::decode))
    }

    /// A block that may appear once, and is decoded as an empty one if it does not.
    pub fn block_or_empty<T>(&mut self, name: &str, decode: impl FnOnce(&mut Body<'a>) -> T) -> T {
        match self.single(name) {
            Some(block) => self.nested(block, decode),
            None if self.survey.is_some() => self.note_block(name, decode).expect("this is a survey"),
            None => decode(&mut Body::new(&[], self.header, None, self.scope)),
        }
    }

    /// A block that must appear once.
    pub fn required_block<T: Decode>(&mut self, name: &str) -> T {
        if let Some(decoded) = self.block(name) {
            return decoded;
        }
        self.diagnostics.error(self.header, format!("missing required block {name:?}"));
        T::decode(&mut Body::new(&[], self.header, None, self.scope))
    }

    /// A block that may appear any number of times.
    pub fn blocks<T: Decode>(&mut self, name: &str) -> Vec<T> {
        self.blocks_of(&[name], |_, body| T::decode(body))
    }

    /// Blocks of several names whose common order matters, such as the stages of a pipeline.
    pub fn blocks_of<T>(
        &mut self,
        names: &[&str],
        mut decode: impl FnMut(&str, &mut Body<'a>) -> T,
    ) -> Vec<T> {
        for name in names {
            self.note_block(name, |body| decode(name, body));
        }
        self.known_blocks.extend(names.iter().map(|name| (*name).to_owned()));
        let mut decoded = Vec::new();
        for block in self.statements.iter().filter_map(Statement::as_block) {
            let name = block.full_name();
            if names.contains(&name.as_str()) {
                decoded.push(self.nested(block, |body| decode(&name, body)));
            }
        }
        decoded
    }

    /// A block that may appear once and is not decoded, because its content has a meaning of its own.
    pub fn raw_block(&mut self, name: &str) -> Option<&'a Block> {
        self.note_block(name, |_| ());
        self.single(name)
    }

    /// Takes note of attributes and blocks that Alloy has and we have not.
    pub fn unsupported(&mut self, names: &[&str]) {
        for name in names {
            self.note(|_| Asked { name: (*name).to_owned(), what: What::Unsupported, is_refused: true });
        }
        for statement in self.statements {
            let (kind, name, span) = match statement {
                Statement::Attribute(attribute) => {
                    ("attribute", attribute.name.text.clone(), attribute.name.span)
                }
                Statement::Block(block) => ("block", block.full_name(), block.header()),
            };
            if names.contains(&name.as_str()) {
                let message = format!("{kind} {name:?} is known to Alloy but not supported here");
                self.diagnostics.error(span, message);
                match statement {
                    Statement::Attribute(_) => self.known_attributes.push(name),
                    Statement::Block(_) => self.known_blocks.push(name),
                }
            }
        }
    }

    /// Takes note that the last attribute that was asked for has one value alone.
    pub fn is_refused(&mut self) {
        if let Some(last) = self.survey.as_mut().and_then(|survey| survey.asked.last_mut()) {
            last.is_refused = true;
        }
    }

    /// The block's label. Blocks inside another have none unless it is asked for.
    pub fn label(&mut self) -> Option<&'a str> {
        self.label_is_known = true;
        self.label.map(|label| label.text.as_str())
    }

    /// Whether an attribute stands in the body.
    pub fn has(&self, name: &str) -> bool {
        attributes(self.statements, name).next().is_some()
    }

    /// Reports an error about an attribute's value; about the block if the attribute is not set.
    pub fn error_at(&mut self, name: &str, message: impl Into<String>) {
        if self.is_doubtful || self.is_unknown(name) {
            return;
        }
        let span =
            attributes(self.statements, name).next().map_or(self.header, |attribute| attribute.value.span);
        self.diagnostics.error(span, message);
    }

    /// Reports an error about the block.
    pub fn error(&mut self, message: impl Into<String>) {
        if !self.is_doubtful {
            self.diagnostics.error(self.header, message);
        }
    }

    fn note(&mut self, asked: impl FnOnce(&mut Survey) -> Asked) {
        if let Some(mut survey) = self.survey.take() {
            let asked = asked(&mut survey);
            survey.asked.push(asked);
            self.survey = Some(survey);
        }
    }

    fn note_attribute<T: FromValue>(&mut self, name: &str, default: Option<&T>) {
        self.note(|_| Asked::attribute(name, default));
    }

    /// Has an empty block of this name decoded, in a survey.
    fn note_block<T>(&mut self, name: &str, decode: impl FnOnce(&mut Body<'a>) -> T) -> Option<T> {
        let mut decoded = None;
        let (header, scope) = (self.header, self.scope);
        self.note(|survey| {
            let mut inner = Body::new(&[], header, None, scope);
            let is_inside_itself = survey.around.iter().any(|around| around == name);
            let around = survey.around.iter().cloned().chain([name.to_owned()]).collect();
            inner.survey = Some(Survey { asked: Vec::new(), around });
            if !is_inside_itself {
                decoded = Some(decode(&mut inner));
            }
            Asked { name: name.to_owned(), what: What::Block(inner.surveyed()), is_refused: false }
        });
        decoded
    }

    fn surveyed(self) -> AskedBody {
        let complaints = self.diagnostics.iter().map(|diagnostic| diagnostic.message.clone()).collect();
        AskedBody { asked: self.survey.unwrap_or_default().asked, complaints }
    }

    fn is_unknown(&self, name: &str) -> bool {
        self.unknown.iter().any(|unknown| unknown == name)
    }

    /// The attribute's value if it is set, is not null and fits.
    fn attribute<T: FromValue>(&mut self, name: &str) -> Option<T> {
        self.known_attributes.push(name.to_owned());
        let mut found = attributes(self.statements, name);
        let first = found.next()?;
        for again in found {
            let message = format!("attribute {name:?} may only be set once");
            self.diagnostics.error(again.name.span, message);
        }
        match evaluate(&first.value, self.scope) {
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                None
            }
            Ok(value) => match T::from_value(&value) {
                Ok(converted) => {
                    let shown = if T::IS_SECRET { Value::Secret(Secret::default()) } else { value };
                    let content = Content::Value(shown);
                    self.arguments.push(Argument { name: name.to_owned(), label: None, content });
                    Some(converted)
                }
                Err(_) if value == Value::Null => None,
                Err(error) if error.unknown => {
                    self.unknown.push(name.to_owned());
                    self.is_doubtful |=
                        !matches!(value, Value::Array(_) | Value::Object(_) | Value::Unknown("array"));
                    None
                }
                Err(error) => {
                    self.diagnostics.push(locate(error, &first.value));
                    None
                }
            },
        }
    }

    fn single(&mut self, name: &str) -> Option<&'a Block> {
        self.known_blocks.push(name.to_owned());
        let mut blocks =
            self.statements.iter().filter_map(Statement::as_block).filter(|block| block.full_name() == name);
        let first = blocks.next()?;
        for again in blocks {
            let message = format!("block {name:?} may only appear once");
            self.diagnostics.error(again.header(), message);
        }
        Some(first)
    }

    fn nested<T>(&mut self, block: &'a Block, decode: impl FnOnce(&mut Body<'a>) -> T) -> T {
        let mut body = Body::new(&block.statements, block.header(), block.label.as_ref(), self.scope);
        let decoded = decode(&mut body);
        if let Some(label) = body.label.filter(|_| !body.label_is_known) {
            body.diagnostics.error(label.span, format!("block {:?} has no label", block.full_name()));
        }
        self.is_doubtful |= body.is_doubtful;
        self.arguments.push(Argument {
            name: block.full_name(),
            label: block.label.as_ref().map(|label| label.text.clone()),
            content: Content::Body(std::mem::take(&mut body.arguments)),
        });
        self.diagnostics.extend(body.finish());
        decoded
    }

    /// Reports what nobody asked for.
    fn finish(mut self) -> Diagnostics {
        let attributes: Vec<&str> = self.known_attributes.iter().map(String::as_str).collect();
        let blocks: Vec<&str> = self.known_blocks.iter().map(String::as_str).collect();
        for statement in self.statements {
            let (kind, name, span, known, others) = match statement {
                Statement::Attribute(attribute) => {
                    let name = attribute.name.text.clone();
                    ("attribute", name, attribute.name.span, &attributes, &blocks)
                }
                Statement::Block(block) => {
                    let span = block.name[0].span.to(block.name[block.name.len() - 1].span);
                    ("block", block.full_name(), span, &blocks, &attributes)
                }
            };
            if known.contains(&name.as_str()) {
                continue;
            }
            let hint = if others.contains(&name.as_str()) {
                Some(match statement {
                    Statement::Attribute(_) => format!("{name} is a block: {name} {{ ... }}"),
                    Statement::Block(_) => format!("{name} is an attribute: {name} = ..."),
                })
            } else {
                did_you_mean(&name, known.iter().copied())
            };
            let message = format!("unrecognized {kind} name {name:?}");
            self.diagnostics.push(Diagnostic::error(span, message).with_hint(hint));
        }
        self.diagnostics
    }
}

fn attributes<'a>(statements: &'a [Statement], name: &str) -> impl Iterator<Item = &'a Attribute> {
    let attributes = statements.iter().filter_map(Statement::as_attribute);
    attributes.filter(move |attribute| attribute.name.text == name)
}

/// Points at the element that does not fit, as far as the expression is written out; names it otherwise.
fn locate(error: ConversionError, value: &Expr) -> Diagnostic {
    let mut expression = value;
    let mut path = error.path.iter();
    let mut rest = String::new();
    for part in path.by_ref() {
        let inner = match &expression.kind {
            ExprKind::Array(elements) => part.parse().ok().and_then(|index: usize| elements.get(index)),
            ExprKind::Object(fields) => {
                fields.iter().rev().find(|field| field.key.text == *part).map(|field| &field.value)
            }
            _ => None,
        };
        match inner {
            Some(inner) => expression = inner,
            None => {
                rest += &format!("[{part}]");
                break;
            }
        }
    }
    rest.extend(path.map(|part| format!("[{part}]")));
    let message = if rest.is_empty() { error.message } else { format!("{rest}: {}", error.message) };
    Diagnostic::error(expression.span, message).with_hint(error.hint)
}
