//! What must hold for every text that claims to be a configuration. Fuzz targets, their seeds and property tests share
//! these checks; a broken one is a panic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Body, ByteSize, Decode, Scope, Secret, Value};
use crate::config::{decode_statements, evaluate, references, stdlib};
use crate::syntax::ast::{File, Statement};
use crate::syntax::{Diagnostics, Sources, Span, format, parse};

/// A secret that checks look for in everything that is printed.
pub const PLANTED: &str = "pl4nted-s3cret";

/// Parsing ends. What has no error is formatted to text with the same tree, and formatting that changes nothing.
pub fn check_syntax(text: &str) {
    let Some(before) = tree(text) else { return };
    let once = formatted(text).expect("what parses is formatted");
    assert_eq!(tree(&once).as_ref(), Some(&before), "formatting changed the meaning of\n{text}\nto\n{once}");
    assert_eq!(formatted(&once).as_ref(), Some(&once), "formatting is not stable for\n{text}");
    assert!(once.is_empty() || once.ends_with('\n'));
}

/// The tree of a text without positions, or nothing if it has errors.
pub fn tree(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", text);
    let (file, diagnostics) = parse(&sources, id);
    let rendered = diagnostics.render(&sources);
    assert_eq!(diagnostics.is_empty(), rendered.is_empty());
    let mut out = String::new();
    let debug = format!("{file:?}");
    for (index, part) in debug.split("span: Span {").enumerate() {
        out += if index == 0 { part } else { part.split_once('}').map_or("", |(_, rest)| rest) };
    }
    diagnostics.is_empty().then_some(out)
}

fn formatted(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", text);
    format(&sources, id).ok()
}

/// Evaluating every attribute and decoding every block ends, and no message shows the planted secret, which is
/// `planted.secret` and in `planted.list`.
pub fn check_evaluation(text: &str) {
    let mut sources = Sources::default();
    let id = sources.add("test.alloy", text);
    let (File { statements }, diagnostics) = parse(&sources, id);
    if diagnostics.has_errors() {
        return;
    }
    let mut scope = Scope::inside(Arc::new(stdlib("host")));
    let secret = Value::Secret(Secret::new(PLANTED));
    let list = Value::array([secret.clone(), "x".into()]);
    scope.set("planted", Value::object([("secret", secret), ("list", list)]));
    let mut printed = Vec::new();
    check_statements(&statements, &scope, &sources, &mut printed);
    let header = Span { source: id, ..Span::default() };
    if let Err(found) = decode_statements::<Everything>(&statements, header, &scope) {
        printed.push(found.render(&sources));
    }
    // Who asks for the secret in plain text gets it.
    if !text.contains("nonsensitive") && !text.contains(PLANTED) {
        let shown = printed.iter().find(|print| print.contains(PLANTED));
        assert!(shown.is_none(), "a secret is printed by\n{text}\n{shown:?}");
    }
}

fn check_statements(statements: &[Statement], scope: &Scope, sources: &Sources, printed: &mut Vec<String>) {
    for statement in statements {
        match statement {
            Statement::Block(block) => check_statements(&block.statements, scope, sources, printed),
            Statement::Attribute(attribute) => match evaluate(&attribute.value, scope) {
                Ok(value) => {
                    printed.push(serde_json::to_string(&value).expect("values are JSON"));
                    printed.push(format!("{value:?}"));
                }
                Err(diagnostic) => printed.push(Diagnostics::from(diagnostic).render(sources)),
            },
        }
    }
    assert!(references(statements).iter().all(|reference| !reference.path.is_empty()));
}

/// One field of every type that a component's arguments have; blocks in blocks.
#[derive(Debug)]
#[allow(dead_code, reason = "it is decoded to see that this ends")]
struct Everything {
    text: String,
    secret: Secret,
    number: Option<i64>,
    ratio: f64,
    flag: bool,
    duration: Duration,
    size: ByteSize,
    list: Vec<String>,
    map: BTreeMap<String, Vec<Secret>>,
    any: Value,
    blocks: Vec<Everything>,
}

impl Decode for Everything {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["elsewhere"]);
        Everything {
            text: body.required("text"),
            secret: body.optional("secret", Secret::default()),
            number: body.optional("number", None),
            ratio: body.optional("ratio", 1.0),
            flag: body.optional("flag", false),
            duration: body.optional("duration", Duration::ZERO),
            size: body.optional("size", ByteSize(0)),
            list: body.optional("list", Vec::new()),
            map: body.optional("map", BTreeMap::new()),
            any: body.optional("any", Value::Null),
            blocks: body.blocks("block"),
        }
    }
}
