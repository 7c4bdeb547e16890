//! Text <-> tree: what a configuration says, before anyone asks what it means.
//!
//! | file             | purpose                                                        |
//! | ---------------- | -------------------------------------------------------------- |
//! | `source.rs`      | the texts that were read, and positions in them                |
//! | `diagnostics.rs` | messages that point at a position, and how they are printed    |
//! | `hiding.rs`      | what messages do not show: literals that are secrets           |
//! | `ast.rs`         | the tree                                                       |
//! | `lexer.rs`       | text -> tokens and comments                                    |
//! | `literals.rs`    | the values of string and number tokens                         |
//! | `parser.rs`      | tokens -> tree; goes on after an error, so that all are shown  |
//! | `formatter.rs`   | tokens -> text in the one style                                |
//!
//! Invariant: this folder knows no component, no value, no file and no runtime. Whoever reads files adds their
//! text to [`Sources`] and parses each; the statements of a folder's files are simply joined.
//!
//! ```
//! use alloy_bin::syntax::{Sources, parse};
//!
//! let mut sources = Sources::default();
//! let id = sources.add("main.alloy", "logging {\n\tlevel = \"debug\"\n}\n");
//! let (file, diagnostics) = parse(&sources, id);
//! assert_eq!(file.statements.len(), 1);
//! assert!(diagnostics.is_empty(), "{}", diagnostics.render(&sources));
//! ```

mod source;
pub use source::{Location, SourceId, Sources, Span};

mod diagnostics;
pub use diagnostics::{Diagnostic, Diagnostics, Severity};

pub mod ast;

mod hiding;
mod lexer;
mod literals;

mod parser;
pub use parser::{parse, parse_expression};

mod formatter;
pub use formatter::format;
