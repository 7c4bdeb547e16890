//! What `import` blocks have read. Read once for each new configuration, and kept while others things change: a module is
//! not to be another one because a target has come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::{Scope, decode_block};
use crate::syntax::ast::Block;
use crate::syntax::{Diagnostic, Diagnostics};

use super::changes::Changes;
use super::check::Parsed;
use super::fetch::Request;
use super::load::{self, Texts};
use super::modules::{ImportFile, ImportString, Origin};
use super::node::content;

/// The modules that were read, by the ids of the blocks.
#[derive(Clone, Default)]
pub(super) struct Contents {
    read: BTreeMap<String, Content>,
    /// Every file and folder that was looked at, with the hash of what it held; empty: it could not be read.
    files: BTreeMap<PathBuf, String>,
}

/// Texts that were read, and what `module_path` says in them if it is not the same as where the block stands.
type Module = (Arc<Texts>, Option<String>);

#[derive(Clone)]
struct Content {
    origin: Origin,
    texts: Arc<Texts>,
    /// Whether the current configuration has asked for it.
    is_used: bool,
}

impl Contents {
    /// For a configuration that is read anew: files are, too.
    pub(super) fn without_files(&self) -> Contents {
        let others = self.read.iter().filter(|(_, content)| !matches!(content.origin, Origin::File(_)));
        let read = others.map(|(id, content)| (id.clone(), content.clone())).collect();
        Contents { read, files: BTreeMap::new() }
    }

    /// Reads what a block asks for. `None`: what it asks for is known only at run time,
    /// or nothing may be asked over the network.
    pub(super) fn read(
        &mut self,
        id: &str,
        block: &Block,
        scope: &Scope,
        may_ask: bool,
    ) -> Result<Option<Module>, Diagnostics> {
        let origin = match block.full_name().as_str() {
            "import.file" => Origin::File(decode_block::<ImportFile>(block, scope)?.0),
            "import.string" => Origin::Text(decode_block::<ImportString>(block, scope)?.0),
            _ => Origin::Http(Box::new(decode_block(block, scope)?)),
        };
        if content(&block.statements, scope)?.has_unknown() {
            return Ok(None);
        }
        let module_path = origin.module_path();
        if let Some(known) = self.read.get_mut(id).filter(|known| known.origin == origin) {
            known.is_used = true;
            return Ok(Some((known.texts.clone(), module_path)));
        }
        let texts = match &origin {
            Origin::File(path) => {
                let texts = load::read(path);
                self.files.insert(path.clone(), texts.as_ref().map(load::hash).unwrap_or_default());
                texts
            }
            Origin::Text(text) => Ok(vec![(format!("{id}: content"), text.clone())]),
            Origin::Http(_) if !may_ask => return Ok(None),
            Origin::Http(request) => {
                // The walk runs on a thread that may wait.
                let fetched = tokio::runtime::Handle::current().block_on(request.fetch(&request.client()));
                fetched.map(|text| vec![(request.url.clone(), text)])
            }
        };
        let texts = Arc::new(
            texts.map_err(|error| Diagnostic::error(block.header(), format!("{}: {error:#}", block.id())))?,
        );
        self.read.insert(id.to_owned(), Content { origin, texts: texts.clone(), is_used: true });
        Ok(Some((texts, module_path)))
    }

    /// Forgets what the configuration that was just read has not asked for.
    pub(super) fn settle(&mut self) {
        self.read.retain(|_, content| std::mem::take(&mut content.is_used));
    }

    /// All texts of a configuration, for its hash.
    pub(super) fn texts<'a>(&'a self, parsed: &'a Parsed) -> impl Iterator<Item = &'a (String, String)> {
        parsed.texts.iter().chain(self.read.values().flat_map(|content| content.texts.iter()))
    }

    /// The files and folders that were looked at, with the hashes of what they held.
    pub(super) fn files(&self, parsed: &Parsed) -> BTreeMap<PathBuf, String> {
        let mut files = self.files.clone();
        files.insert(parsed.path.clone(), load::hash(&parsed.texts));
        files
    }

    /// Asks for modules again now and then, as long as the answer is kept, and notes those that are others than before.
    pub(super) fn poll(&self, changes: &Arc<Changes>) -> JoinSet<()> {
        let mut pollers = JoinSet::new();
        for (id, content) in &self.read {
            if let Origin::Http(request) = &content.origin {
                let (request, known) = (request.clone(), content.texts[0].1.clone());
                pollers.spawn(poll(id.clone(), request, known, changes.clone()));
            }
        }
        pollers
    }

    /// A module has another text now.
    pub(super) fn replace(&mut self, id: &str, text: String) {
        if let Some(content) = self.read.get_mut(id) {
            content.texts = Arc::new(vec![(content.texts[0].0.clone(), text)]);
        }
    }
}

async fn poll(id: String, request: Box<Request>, mut known: String, changes: Arc<Changes>) {
    let client = request.client();
    loop {
        tokio::time::sleep(request.poll_frequency).await;
        match request.fetch(&client).await {
            Ok(text) if text == known => {}
            Ok(text) => {
                known.clone_from(&text);
                changes.note(|news| drop(news.imports.insert(id.clone(), text)));
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(import = id, error, "cannot fetch a module; the one before is kept");
            }
        }
    }
}
