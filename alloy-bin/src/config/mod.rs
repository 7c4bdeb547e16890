//! Tree -> typed values: what a configuration means.
//!
//! | file             | purpose                                                              |
//! | ---------------- | -------------------------------------------------------------------- |
//! | `value.rs`       | the values of expressions                                            |
//! | `object.rs`      | the fields of objects                                                |
//! | `capsule.rs`     | values the language can only pass on: receivers and the like         |
//! | `secret.rs`      | text that never appears in print                                     |
//! | `scope.rs`       | names -> values                                                      |
//! | `eval.rs`        | expression + scope -> value                                          |
//! | `operators.rs`   | what `+`, `==` and the others do                                     |
//! | `references.rs`  | which names expressions use, for the graph's edges                   |
//! | `stdlib.rs`      | the functions and constants everybody sees                           |
//! | `encoding.rs`    | of these: JSON, YAML, base64, percent-encoding, JSONPath             |
//! | `string_format.rs` | `string.format`, the largest of them                                 |
//! | `body.rs`        | block -> struct: a component's arguments, one line per field         |
//! | `asked.rs`       | what the decoding of a block asks for, to hold pages against it      |
//! | `foreign.rs`     | what stands elsewhere, decoded as if it stood in a configuration     |
//! | `shown.rs`       | arguments and exports for people, without secrets                    |
//! | `from_value.rs`  | value -> field: the implicit conversions of an assignment            |
//! | `quantity.rs`    | durations and sizes, which are strings in the language               |
//! | `suggest.rs`     | "did you mean"                                                       |
//! | `known_elsewhere.rs` | the components that Alloy has                                        |
//!
//! Invariant: this folder knows `syntax` and nothing else of the crate: no component, no file, no runtime.
//!
//! A component's arguments are one struct with one line per field. All errors of a block are reported at once:
//!
//! ```
//! use alloy_bin::config::{Body, Decode, Scope, decode_block};
//! use alloy_bin::syntax::{Sources, ast::Statement, parse};
//! use std::time::Duration;
//!
//! struct Endpoint { url: String, timeout: Duration }
//!
//! impl Decode for Endpoint {
//!     fn decode(body: &mut Body<'_>) -> Self {
//!         Endpoint { url: body.required("url"), timeout: body.optional("timeout", Duration::from_secs(10)) }
//!     }
//! }
//!
//! let mut sources = Sources::default();
//! let id = sources.add("main.alloy", "endpoint {\n\turll = \"http://localhost\"\n}\n");
//! let (file, _) = parse(&sources, id);
//! let Statement::Block(block) = &file.statements[0] else { panic!() };
//! let errors = decode_block::<Endpoint>(block, &Scope::default()).err().unwrap().render(&sources);
//! assert!(errors.contains("main.alloy:1:1: missing required attribute \"url\""));
//! assert!(errors.contains("main.alloy:2:2: unrecognized attribute name \"urll\""));
//! assert!(errors.contains("did you mean \"url\"?"));
//! ```

mod value;
pub use value::{Function, FunctionError, Number, Value};

mod object;
pub use object::Object;

mod capsule;
pub use capsule::{Capsule, CapsuleType};

mod secret;
pub use secret::Secret;

mod scope;
pub use scope::Scope;

mod eval;
pub use eval::evaluate;

mod operators;

mod references;
pub use references::{Reference, references};

mod encoding;
mod string_format;

mod stdlib;
pub use stdlib::stdlib;

mod foreign;
pub use foreign::decode_foreign;

mod shown;
pub use shown::{Argument, Content, shown_exports, without_password};

mod asked;
pub use asked::{Asked, AskedBody, Fallback, What};

mod body;
pub use body::{Body, Decode, asked, decode_block, decode_statements, shown_arguments};

mod from_value;
pub use from_value::{ConversionError, FromValue};

mod quantity;
pub use quantity::{ByteSize, format_duration, parse_duration};

mod suggest;
pub use suggest::did_you_mean;

mod known_elsewhere;
pub use known_elsewhere::{known_elsewhere, unknown_component};
