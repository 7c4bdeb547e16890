//! What stands elsewhere, decoded as if it stood in a configuration.

use serde_json::{Map, Value as Json};

use super::{Decode, Scope, Value, decode_statements};
use crate::syntax::ast::{Attribute, Block, Expr, ExprKind, Ident, Statement};
use crate::syntax::{SourceId, Sources, Span};

/// Decodes fields as attributes, objects as blocks, and a list of objects as blocks of one name; `maps` are attributes too. The
/// errors are for people; each says where it is.
pub fn decode_foreign<T: Decode>(fields: &Map<String, Json>, maps: &[&str]) -> Result<T, Vec<String>> {
    let source = Sources::default().add("", "");
    let mut writer = Writer { maps, source, scope: Scope::default(), places: vec![String::new()] };
    let header = Span { source, start: 0, end: 0 };
    let statements = writer.statements("", fields);
    decode_statements(&statements, header, &writer.scope).map_err(|diagnostics| {
        let text = |place: &str, message: &str| match place {
            "" => message.to_owned(),
            place => format!("{place}: {message}"),
        };
        // A span is no place in a text here, but the number of a place.
        let place = |at: usize| writer.places.get(at).map_or("", String::as_str);
        diagnostics.iter().map(|found| text(place(found.span.start), &found.message)).collect()
    })
}

/// Writes statements whose values are names in a scope.
struct Writer<'a> {
    maps: &'a [&'a str],
    source: SourceId,
    scope: Scope,
    places: Vec<String>,
}

impl Writer<'_> {
    fn statements(&mut self, inside: &str, fields: &Map<String, Json>) -> Vec<Statement> {
        let mut statements = Vec::new();
        for (name, json) in fields {
            let place = if inside.is_empty() { name.clone() } else { format!("{inside}.{name}") };
            match json {
                Json::Object(fields) if !self.maps.contains(&name.as_str()) => {
                    statements.push(self.block(place, name, fields));
                }
                Json::Array(items) if !items.is_empty() && items.iter().all(Json::is_object) => {
                    let blocks = items.iter().filter_map(Json::as_object).enumerate();
                    let blocks =
                        blocks.map(|(at, fields)| self.block(format!("{place}[{at}]"), name, fields));
                    statements.extend(blocks);
                }
                value => {
                    let span = self.span(place);
                    let variable = format!("v{}", span.start);
                    self.scope.set(variable.clone(), Value::from_json(value.clone()));
                    let value = Expr { kind: ExprKind::Ident(variable), span };
                    statements.push(Statement::Attribute(Attribute { name: ident(name, span), value }));
                }
            }
        }
        statements
    }

    fn block(&mut self, place: String, name: &str, fields: &Map<String, Json>) -> Statement {
        let span = self.span(place.clone());
        let statements = self.statements(&place, fields);
        Statement::Block(Block { name: vec![ident(name, span)], label: None, statements, span })
    }

    fn span(&mut self, place: String) -> Span {
        self.places.push(place);
        let start = self.places.len() - 1;
        Span { source: self.source, start, end: start }
    }
}

fn ident(text: &str, span: Span) -> Ident {
    Ident { text: text.to_owned(), span }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Body;

    #[derive(Debug, PartialEq)]
    struct Thing(String, Vec<u64>, std::collections::BTreeMap<String, u64>);

    impl Decode for Thing {
        fn decode(body: &mut Body<'_>) -> Self {
            let sizes = body.blocks_of(&["part"], |_, body| body.required("size"));
            Thing(body.required("name"), sizes, body.optional("map", Default::default()))
        }
    }

    #[test]
    fn fields_are_attributes_and_objects_are_blocks() {
        let decode = |json: Json| decode_foreign::<Thing>(json.as_object().expect("an object"), &["map"]);
        let thing = decode(json!({"name": "a", "part": [{"size": 1}, {"size": 2}], "map": {"x": 3}}));
        assert_eq!(thing, Ok(Thing("a".into(), vec![1, 2], [("x".to_owned(), 3)].into())));
        let errors = decode(json!({"part": [{"size": 1}, {"size": "x"}], "more": 1})).unwrap_err();
        let expected = [
            "part[1].size: ",
            "missing required attribute \"name\"",
            "more: unrecognized attribute name \"more\"",
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, start) in errors.iter().zip(expected) {
            assert!(error.starts_with(start), "{error}");
        }
    }
}
