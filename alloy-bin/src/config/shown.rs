//! Arguments and exports for people and programs: JSON in the form of Alloy's API, without secrets.

use serde_json::{Value as Json, json};

use super::value::{Number, Value};

/// Elements of a list that are shown. Lists of targets may have tens of thousands.
const ELEMENTS_MAX: usize = 1000;

/// An argument as it was read.
#[derive(Debug, Clone)]
pub struct Argument {
    /// The name of an attribute or a block.
    pub name: String,
    /// A block's label.
    pub label: Option<String>,
    /// What it says.
    pub content: Content,
}

/// What an argument says.
#[derive(Debug, Clone)]
pub enum Content {
    /// An attribute's value.
    Value(Value),
    /// What stands in a block.
    Body(Vec<Argument>),
}

impl Argument {
    /// `{"name", "type": "attr", "value": {"type", "value"}}`, or `{"name", "type": "block", "label", "body": [...]}`.
    pub fn to_json(&self) -> Json {
        let Argument { name, label, content } = self;
        match content {
            Content::Value(value) => json!({ "name": name, "type": "attr", "value": shown(value) }),
            Content::Body(arguments) => {
                let body: Vec<Json> = arguments.iter().map(Argument::to_json).collect();
                let mut block = json!({ "name": name, "type": "block", "body": body });
                if let Some(label) = label {
                    block["label"] = label.as_str().into();
                }
                block
            }
        }
    }
}

/// `{"type": "string", "value": "..."}`.
fn shown(value: &Value) -> Json {
    let (kind, value) = match value {
        Value::Null => ("null", Json::Null),
        Value::Bool(value) => ("bool", (*value).into()),
        Value::Number(Number::Int(number)) => ("number", (*number).into()),
        Value::Number(Number::Uint(number)) => ("number", (*number).into()),
        Value::Number(Number::Float(number)) => ("number", (*number).into()),
        Value::String(text) => ("string", without_password(text).into()),
        Value::Secret(_) => ("capsule", "(secret)".into()),
        Value::Array(elements) => {
            let mut list: Vec<Json> = elements.iter().take(ELEMENTS_MAX).map(shown).collect();
            if let Some(more) = elements.len().checked_sub(ELEMENTS_MAX).filter(|more| *more > 0) {
                list.push(json!({ "type": "string", "value": format!("({more} more)") }));
            }
            ("array", list.into())
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| json!({ "key": key, "value": shown(value) }));
            ("object", fields.collect::<Vec<_>>().into())
        }
        Value::Function(_) => ("function", "function".into()),
        Value::Capsule(capsule) => ("capsule", format!("{capsule:?}").into()),
        Value::Unknown(kind) => ("unknown", (*kind).into()),
    };
    json!({ "type": kind, "value": value })
}

/// A URL may hold a password: `https://me:(secret)@host/`.
fn without_password(text: &str) -> String {
    let host = |rest: &str| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    match host(rest).rsplit_once('@').map(|(user, _)| user.to_owned()) {
        Some(user) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:(secret){}", &rest[user.len()..])
        }
        _ => text.to_owned(),
    }
}

/// What a component exports, in the same form.
pub fn shown_exports(exports: &Value) -> Vec<Json> {
    let Value::Object(fields) = exports else { return Vec::new() };
    let shown_field =
        |(name, value): (&str, &Value)| json!({ "name": name, "type": "attr", "value": shown(value) });
    fields.iter().map(shown_field).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Body, Decode, Scope, Secret, shown_arguments};
    use super::*;
    use crate::syntax::{Sources, parse};

    struct Inner;

    impl Decode for Inner {
        fn decode(body: &mut Body<'_>) -> Self {
            body.label();
            body.optional("keys", Vec::<Secret>::new());
            Inner
        }
    }

    struct Outer;

    impl Decode for Outer {
        fn decode(body: &mut Body<'_>) -> Self {
            body.optional("url", String::new());
            body.optional("password", None::<Secret>);
            body.optional("list", Vec::<i64>::new());
            body.blocks::<Inner>("inner");
            Outer
        }
    }

    #[test]
    fn arguments_are_shown_as_they_are_read_and_secrets_are_not() {
        let mut sources = Sources::default();
        let text = r#"outer {
            password = "one"
            url      = "https://me:two@host/path@x"
            inner "a" {
                keys = ["three"]
            }
            list     = [1, 2]
        }"#;
        let id = sources.add("main.alloy", text);
        let (file, _) = parse(&sources, id);
        let block = file.statements[0].as_block().expect("a block");
        let shown: Vec<Json> =
            shown_arguments::<Outer>(block, &Scope::default()).iter().map(Argument::to_json).collect();
        let expected = json!([
            { "name": "url", "type": "attr", "value": { "type": "string", "value": "https://me:(secret)@host/path@x" } },
            { "name": "password", "type": "attr", "value": { "type": "capsule", "value": "(secret)" } },
            { "name": "list", "type": "attr", "value": { "type": "array", "value": [
                { "type": "number", "value": 1 }, { "type": "number", "value": 2 } ] } },
            { "name": "inner", "type": "block", "label": "a", "body": [
                { "name": "keys", "type": "attr", "value": { "type": "capsule", "value": "(secret)" } } ] },
        ]);
        assert_eq!(Json::Array(shown), expected);
    }

    #[test]
    fn passwords_in_urls_are_hidden_and_nothing_else() {
        let check = |text: &str, expected: &str| assert_eq!(without_password(text), expected);
        check("http://a:b@c:1/d", "http://a:(secret)@c:1/d");
        check("http://a:b:c@d", "http://a:(secret)@d");
        check("http://a@c", "http://a@c");
        check("http://c:80/a:b@d", "http://c:80/a:b@d");
        check("a:b@c", "a:b@c");
    }

    #[test]
    fn long_lists_are_cut() {
        let list = Value::array((0..1002).map(|number| Value::from(Number::Int(number))));
        let shown = shown(&list);
        assert_eq!(shown["value"].as_array().map(Vec::len), Some(1001));
        assert_eq!(shown["value"][1000]["value"], "(2 more)");
    }
}
