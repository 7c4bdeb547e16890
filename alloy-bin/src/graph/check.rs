//! Checking a configuration without making anything of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Decode, Scope, Value, decode_block, references, stdlib};
use crate::logging::Logging;
use crate::server::{HttpBlock, LiveDebugging, Protection};
use crate::syntax::ast::Statement;
use crate::syntax::{Diagnostic, Diagnostics, Sources, Span};

use super::component::Registration;
use super::definitions::Definitions;
use super::expand::Expansion;
use super::imports::Contents;
use super::load::{self, Texts};
use super::modules::folder_of;

/// What a check has found.
pub struct Checkup {
    /// The texts that were read, imported ones included.
    pub sources: Sources,
    /// What is wrong with them, everything at once.
    pub diagnostics: Diagnostics,
    /// How many components the configuration has, each counted as often as it would be made.
    pub blocks: usize,
}

impl Checkup {
    /// The text for people, if something is wrong.
    pub fn result(&self) -> Result<(), String> {
        if self.diagnostics.has_errors() { Err(self.diagnostics.render(&self.sources)) } else { Ok(()) }
    }
}

/// Checks a file, or the `*.alloy` files of a folder as one configuration. Nothing is made, nothing is asked over the network:
/// what depends on that, or on what components find at run time, is taken to be right.
pub fn check(path: &Path, registrations: &[Registration], hostname: &str) -> Checkup {
    let stdlib = Arc::new(stdlib(hostname));
    match Parsed::read(path) {
        Ok(parsed) => parsed.check(registrations, &stdlib, &Contents::default()).0,
        Err(error) => {
            let mut sources = Sources::default();
            let source = sources.add(path.display().to_string(), "");
            let span = Span { source, start: 0, end: 0 };
            let diagnostics = Diagnostic::error(span, format!("{error:#}")).into();
            Checkup { sources, diagnostics, blocks: 0 }
        }
    }
}

/// The parsed configuration, without what it imports.
pub(super) struct Parsed {
    pub(super) path: PathBuf,
    pub(super) texts: Texts,
    pub(super) sources: Sources,
    pub(super) statements: Vec<Statement>,
    syntax: Diagnostics,
}

impl Parsed {
    /// Reads and parses; an error is one of reading.
    pub(super) fn read(path: &Path) -> anyhow::Result<Parsed> {
        Ok(Parsed::new(path, load::read(path)?))
    }

    pub(super) fn new(path: &Path, texts: Texts) -> Parsed {
        let (mut sources, mut syntax) = (Sources::default(), Diagnostics::default());
        let statements = load::parse_all(&texts, &mut sources, &mut syntax);
        Parsed { path: path.to_owned(), texts, sources, statements, syntax }
    }

    /// What `module_path` says.
    pub(super) fn module_path(&self) -> String {
        if self.path.is_dir() { self.path.display().to_string() } else { folder_of(&self.path) }
    }

    /// Checks everything. What was imported is handed back, so that exactly that is made later.
    pub(super) fn check(
        &self,
        registrations: &[Registration],
        stdlib: &Arc<Scope>,
        contents: &Contents,
    ) -> (Checkup, Contents) {
        let sources = self.sources.clone();
        if !self.syntax.is_empty() {
            // What the parser has skipped would be missed everywhere.
            return (
                Checkup { sources, diagnostics: self.syntax.clone(), blocks: 0 },
                contents.without_files(),
            );
        }
        let mut walk = Expansion::new(registrations, stdlib, contents.without_files(), sources, None);
        walk.root(&self.statements, &self.module_path());
        let mut all = walk.diagnostics;
        all.extend(self.settings::<Logging>("logging", stdlib).err().unwrap_or_default());
        all.extend(self.settings::<HttpBlock>("http", stdlib).err().unwrap_or_default());
        all.extend(self.settings::<LiveDebugging>("livedebugging", stdlib).err().unwrap_or_default());
        // A module that is used twice has its errors twice.
        let mut diagnostics = Diagnostics::default();
        let mut seen = std::collections::HashSet::new();
        for diagnostic in all {
            if seen.insert((diagnostic.span, diagnostic.message.clone())) {
                diagnostics.push(diagnostic);
            }
        }
        (Checkup { sources: walk.sources, diagnostics, blocks: walk.blocks }, walk.contents)
    }

    /// Decodes a block of settings, or its defaults where there is none.
    pub(super) fn settings<T: Decode + Default>(
        &self,
        name: &str,
        stdlib: &Arc<Scope>,
    ) -> Result<T, Diagnostics> {
        let mut blocks = self.statements.iter().filter_map(Statement::as_block);
        let Some(block) = blocks.find(|block| block.full_name() == name) else { return Ok(T::default()) };
        let base = Definitions::base(stdlib, &self.module_path());
        let mut scope = Scope::inside(base.clone());
        let mut diagnostics = Diagnostics::default();
        for reference in references(&block.statements) {
            if base.resolve(&[&reference.path[0]]).is_none() {
                let path = reference.path.join(".");
                let message = format!("block {name:?} cannot refer to {path:?}");
                let hint = "it is read before components are made; what sys.env says is there by then";
                diagnostics.push(Diagnostic::error(reference.span, message).with_hint(Some(hint.to_owned())));
                scope.set(path, Value::ANYTHING);
            }
        }
        match decode_block(block, &scope) {
            Ok(settings) if diagnostics.is_empty() => Ok(settings),
            decoded => {
                diagnostics.extend(decoded.err().unwrap_or_default());
                Err(diagnostics)
            }
        }
    }

    /// Decodes all that the agent itself is to take, and reads the files that it names.
    pub(super) fn agent_settings(&self, stdlib: &Arc<Scope>) -> Result<Settings, String> {
        let text = |diagnostics: Diagnostics| diagnostics.render(&self.sources);
        let logging = self.settings("logging", stdlib).map_err(text)?;
        let http = self.settings("http", stdlib).map_err(text)?;
        let http = Protection::new(http).map_err(|error| format!("{error:#}"))?;
        let live_debugging = self.settings("livedebugging", stdlib).map_err(text)?;
        Ok(Settings { logging, http, live_debugging })
    }
}

/// What a configuration says to the agent itself.
pub struct Settings {
    /// The `logging` block.
    pub logging: Logging,
    /// The `http` block.
    pub http: Protection,
    /// The `livedebugging` block.
    pub live_debugging: LiveDebugging,
}
