//! Custom components by their names: what `declare` blocks define, and the namespaces of `import` blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crate::config::{Scope, Value};
use crate::syntax::ast::{Block, Ident, Statement};

/// What one body defines, and what the bodies around it do.
pub(super) struct Definitions {
    own: BTreeMap<String, Definition>,
    outer: Option<Arc<Definitions>>,
    /// What every expression of the body sees: the standard library and `module_path`.
    pub(super) base: Arc<Scope>,
}

enum Definition {
    Declared(Arc<Block>),
    /// Set when the import has been read; `None`: what it holds is not known yet.
    Import(OnceLock<Option<Arc<Definitions>>>),
}

/// What a block's name leads to.
pub(super) enum Lookup {
    /// A `declare` block, and what its body sees.
    Declared(Arc<Block>, Arc<Definitions>),
    /// It is in a module that is not known yet.
    Unknown,
    /// It is not in the module; that has these.
    Missing(Vec<String>),
}

impl Definitions {
    /// What `statements` define. Of two with one name the first counts; the plan of the body reports it.
    pub(super) fn new(
        statements: &[Statement],
        outer: Option<Arc<Definitions>>,
        base: Arc<Scope>,
    ) -> Arc<Self> {
        let mut own = BTreeMap::new();
        for block in statements.iter().filter_map(Statement::as_block) {
            let Some(label) = &block.label else { continue };
            let definition = match block.full_name().as_str() {
                "declare" => Definition::Declared(Arc::new(block.clone())),
                name if name.starts_with("import.") => Definition::Import(OnceLock::new()),
                _ => continue,
            };
            own.entry(label.text.clone()).or_insert(definition);
        }
        Arc::new(Definitions { own, outer, base })
    }

    /// What statements define inside a body.
    pub(super) fn inside(outer: &Arc<Self>, statements: &[Statement]) -> Arc<Self> {
        Definitions::new(statements, Some(outer.clone()), outer.base.clone())
    }

    /// A scope that says where the files of a module are.
    pub(super) fn base(stdlib: &Arc<Scope>, module_path: &str) -> Arc<Scope> {
        let mut scope = Scope::inside(stdlib.clone());
        scope.set("module_path", Value::from(module_path));
        Arc::new(scope)
    }

    /// Whether the name is that of a custom component, known or not.
    pub(super) fn is_custom(&self, name: &[Ident]) -> bool {
        match self.definition(&name[0].text) {
            Some(Definition::Declared(_)) => name.len() == 1,
            Some(Definition::Import(_)) => name.len() == 2,
            None => false,
        }
    }

    /// Finds a custom component.
    pub(super) fn find(self: &Arc<Self>, name: &[Ident]) -> Lookup {
        let first = &name[0].text;
        match (self.own.get(first), &self.outer) {
            (Some(Definition::Declared(block)), _) => Lookup::Declared(block.clone(), self.clone()),
            (Some(Definition::Import(module)), _) => match module.get() {
                Some(Some(module)) => match module.own.get(&name[1].text) {
                    Some(Definition::Declared(block)) => Lookup::Declared(block.clone(), module.clone()),
                    _ => Lookup::Missing(module.declared().map(|name| format!("{first}.{name}")).collect()),
                },
                _ => Lookup::Unknown,
            },
            (None, Some(outer)) => outer.find(name),
            (None, None) => Lookup::Missing(Vec::new()),
        }
    }

    /// An import of this body has been read; `None`: it can't be yet.
    pub(super) fn imported(&self, label: &str, module: Option<Arc<Definitions>>) {
        if let Some(Definition::Import(place)) = self.own.get(label) {
            // A second one under the same label is an error that is reported already.
            let _ = place.set(module);
        }
    }

    /// Names of custom components, for suggestions.
    pub(super) fn declared(&self) -> impl Iterator<Item = &str> {
        let declared =
            self.own.iter().filter(|(_, definition)| matches!(definition, Definition::Declared(_)));
        declared.map(|(name, _)| name.as_str())
    }

    /// Labels of this body's imports that the block needs, also by way of its other declarations.
    pub(super) fn imports_used(&self, block: &Block) -> BTreeSet<&str> {
        let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
        self.visit(block, &mut found, &mut seen);
        found
    }

    fn visit<'a>(&'a self, block: &Block, found: &mut BTreeSet<&'a str>, seen: &mut BTreeSet<&'a str>) {
        match self.own.get_key_value(&block.name[0].text) {
            Some((label, Definition::Import(_))) => drop(found.insert(label)),
            Some((name, Definition::Declared(declared))) if seen.insert(name) => {
                declared.blocks().for_each(|inner| self.visit(inner, found, seen));
            }
            _ => {}
        }
        block.blocks().for_each(|inner| self.visit(inner, found, seen));
    }

    fn definition(&self, name: &str) -> Option<&Definition> {
        self.own.get(name).or_else(|| self.outer.as_ref()?.definition(name))
    }
}
