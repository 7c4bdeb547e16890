//! The nodes of a graph: everything that has a value which others refer to. All modules lie in one list, each node behind
//! those that it needs.

use std::sync::Arc;

use crate::config::{Scope, Value, evaluate};
use crate::syntax::ast::Statement;
use crate::syntax::{Diagnostic, Diagnostics};

use super::live::Live;

/// Scope -> value.
pub(super) type Formula = Arc<dyn Fn(&Scope) -> Result<Value, Diagnostics> + Send + Sync>;

/// One node.
pub(super) struct Node {
    /// Path and id: unique in the graph, the same over reloads.
    pub(super) id: Arc<str>,
    /// What its expressions see beside other nodes.
    pub(super) base: Arc<Scope>,
    /// The nodes that it refers to, by the names that its expressions use.
    pub(super) needs: Vec<(String, usize)>,
    /// What it comes to.
    pub(super) formula: Formula,
    /// What it last came to.
    pub(super) value: Value,
    /// What a change of that means.
    pub(super) role: Role,
    /// Why it could not be evaluated the last time.
    pub(super) trouble: Option<String>,
}

/// What it means that a node comes to something else.
pub(super) enum Role {
    /// Those who refer to it see it.
    Value,
    /// It decides which other nodes there are.
    Shape,
    /// It decides by its keys which other nodes there are; its values are seen.
    Keys,
    /// A component gets new arguments; those who refer to it see its exports.
    Component(Arc<Live>),
}

impl Node {
    /// What others see.
    pub(super) fn seen(&self) -> Value {
        match &self.role {
            Role::Component(live) => live.context.exports.value(),
            _ => self.value.clone(),
        }
    }

    /// What its expressions see.
    pub(super) fn scope(&self, nodes: &[Node]) -> Scope {
        let mut scope = Scope::inside(self.base.clone());
        for (name, need) in &self.needs {
            scope.set(name.clone(), nodes[*need].seen());
        }
        scope
    }
}

/// What all expressions of a body come to, with the names in front of them: equal if and only if the arguments are.
pub(super) fn content(statements: &[Statement], scope: &Scope) -> Result<Value, Diagnostic> {
    let parts = statements.iter().map(|statement| match statement {
        Statement::Attribute(attribute) => {
            Ok(Value::array([attribute.name.text.as_str().into(), evaluate(&attribute.value, scope)?]))
        }
        Statement::Block(block) => Ok(Value::array([block.id().into(), content(&block.statements, scope)?])),
    });
    Ok(Value::array(parts.collect::<Result<Vec<_>, _>>()?))
}
