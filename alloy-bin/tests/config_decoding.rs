//! Blocks become structs, and all that is wrong with a block is said at once.

use alloy_bin::config::{
    Body, ByteSize, Capsule, CapsuleType, ConversionError, Decode, FromValue, Scope, Secret, Value,
    decode_block, decode_statements,
};
use alloy_bin::syntax::{Sources, Span, ast::Statement, parse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct Receiver(u32);

impl CapsuleType for Receiver {
    const NAME: &'static str = "MetricsReceiver";
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Action {
    #[default]
    Keep,
    Drop,
}

impl FromValue for Action {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        ConversionError::one_of(value, &[("keep", Action::Keep), ("drop", Action::Drop)])
    }
}

struct Arguments {
    targets: Vec<BTreeMap<String, String>>,
    forward_to: Vec<Arc<Receiver>>,
    interval: Duration,
    limit: Option<u32>,
    ratio: f64,
    size: ByteSize,
    password: Secret,
    action: Action,
    anything: Value,
    clustering: Option<Clustering>,
    endpoints: Vec<Endpoint>,
    stages: Vec<String>,
}

impl Decode for Arguments {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["honor_metadata", "oauth2"]);
        let arguments = Arguments {
            targets: body.required("targets"),
            forward_to: body.required("forward_to"),
            interval: body.optional("interval", Duration::from_secs(60)),
            limit: body.optional("limit", None),
            ratio: body.optional("ratio", 1.0),
            size: body.optional("size", ByteSize(1024)),
            password: body.optional("password", Secret::default()),
            action: body.optional("action", Action::Keep),
            anything: body.optional("anything", Value::Null),
            clustering: body.block("clustering"),
            endpoints: body.blocks("endpoint"),
            stages: body.blocks_of(&["stage.cri", "stage.drop"], |name, body| {
                format!("{name}:{}", body.optional("value", String::new()))
            }),
        };
        if arguments.interval < Duration::from_secs(1) {
            body.error_at("interval", "must be at least 1s");
        }
        arguments
    }
}

struct Clustering {
    enabled: bool,
}

impl Decode for Clustering {
    fn decode(body: &mut Body<'_>) -> Self {
        Clustering { enabled: body.required("enabled") }
    }
}

struct Endpoint {
    name: Option<String>,
    url: String,
}

impl Decode for Endpoint {
    fn decode(body: &mut Body<'_>) -> Self {
        Endpoint { name: body.label().map(str::to_owned), url: body.required("url") }
    }
}

fn decode<T: Decode>(text: &str) -> Result<T, String> {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", text);
    let (file, diagnostics) = parse(&sources, id);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render(&sources));
    let Some(Statement::Block(block)) = file.statements.first() else { panic!("no block: {text}") };
    let mut scope = Scope::default();
    scope.set("r", Capsule::new(Arc::new(Receiver(7))).into());
    scope.set("secret", Value::Secret(Secret::new("hunter2")));
    scope.set("mixed", Value::array([Value::object([("a", Value::array([]))])]));
    decode_block(block, &scope).map_err(|diagnostics| diagnostics.render(&sources))
}

/// The first lines of all messages.
fn check_errors(text: &str, expected: &[&str]) {
    let rendered = decode::<Arguments>(text).err().unwrap_or_default();
    let messages: Vec<&str> =
        rendered.lines().filter_map(|line| line.strip_prefix("Error: main.alloy:")).collect();
    assert_eq!(messages, expected, "{text}\n{rendered}");
}

#[test]
fn a_block_becomes_a_struct() {
    let arguments: Arguments = decode(
        r#"x "y" {
            targets = [{__address__ = "a:1", port = 9090}]
            forward_to = [r]
            interval = "1m30s"
            limit = "10"
            ratio = 2
            size = "10MB"
            password = "p"
            action = "drop"
            anything = {a = 1}
            clustering { enabled = true }
            endpoint "a" { url = "http://a" }
            stage.drop { value = "1" }
            endpoint { url = "http://b" }
            stage.cri { }
        }"#,
    )
    .expect("valid");
    assert_eq!(arguments.targets[0]["port"], "9090");
    assert_eq!(arguments.forward_to[0].0, 7);
    assert_eq!(arguments.interval, Duration::from_secs(90));
    assert_eq!((arguments.limit, arguments.ratio, arguments.size), (Some(10), 2.0, ByteSize(10 << 20)));
    assert_eq!(arguments.password.expose(), "p");
    assert_eq!(arguments.action, Action::Drop);
    assert_eq!(arguments.anything, Value::object([("a", Value::Number(alloy_bin::config::Number::Int(1)))]));
    assert!(arguments.clustering.is_some_and(|clustering| clustering.enabled));
    let endpoints: Vec<_> = arguments.endpoints.iter().map(|e| (e.name.as_deref(), e.url.as_str())).collect();
    assert_eq!(endpoints, [(Some("a"), "http://a"), (None, "http://b")]);
    assert_eq!(arguments.stages, ["stage.drop:1", "stage.cri:"]);
}

#[test]
fn what_is_null_or_left_out_has_its_default() {
    let arguments: Arguments =
        decode("x {\n targets = []\n forward_to = []\n interval = null\n limit = null\n}").expect("valid");
    assert_eq!(arguments.interval, Duration::from_secs(60));
    assert_eq!(arguments.limit, None);
    assert!(arguments.clustering.is_none() && arguments.endpoints.is_empty());
    assert!(decode_statements::<Clustering>(&[], Span::default(), &Scope::default()).is_err());
}

#[test]
fn all_errors_of_a_block_are_reported_at_once() {
    let text = "\
prometheus.scrape \"a\" {
\tforward_to = [r, \"x\", 1 / 0]
\tinterval   = \"soon\"
\tlimit      = 4294967296
\tlimit      = 5
\tratio      = true
\tpassword   = [secret]
\taction     = \"kep\"
\tintervall  = \"1s\"
\tclustering = true
\thonor_metadata = true
\tclustering { }
\tclustering { enabled = true }
\tendpoint { urll = secret }
\tstage.crii { }
\toauth2 { }
\ttargets { }
}
";
    check_errors(
        text,
        &[
            "1:1: missing required attribute \"targets\"",
            "2:24: division by zero",
            "3:15: \"soon\" is not a duration such as \"1m30s\" or \"250ms\"",
            "4:15: 4294967296 is out of range: 0 to 4294967295",
            "5:2: attribute \"limit\" may only be set once",
            "6:15: expected number, got bool",
            "7:15: expected secret, got array",
            "8:15: expected one of \"keep\", \"drop\", got \"kep\"",
            "9:2: unrecognized attribute name \"intervall\"",
            "10:2: unrecognized attribute name \"clustering\"",
            "11:2: attribute \"honor_metadata\" is known to Alloy but not supported here",
            "12:2: missing required attribute \"enabled\"",
            "13:2: block \"clustering\" may only appear once",
            "14:2: missing required attribute \"url\"",
            "14:13: unrecognized attribute name \"urll\"",
            "15:2: unrecognized block name \"stage.crii\"",
            "16:2: block \"oauth2\" is known to Alloy but not supported here",
            "17:2: unrecognized block name \"targets\"",
        ],
    );
    let rendered = decode::<Arguments>(text).err().unwrap_or_default();
    let hints: Vec<&str> = rendered.lines().filter_map(|line| line.trim_start().strip_prefix("= ")).collect();
    assert_eq!(
        hints,
        [
            "did you mean \"keep\"?",
            "did you mean \"interval\"?",
            "clustering is a block: clustering { ... }",
            "did you mean \"url\"?",
            "did you mean \"stage.cri\"?",
            "targets is an attribute: targets = ...",
        ]
    );
}

#[test]
fn errors_point_at_the_element_that_does_not_fit() {
    let with = |line: &str| format!("x {{\ntargets = []\nforward_to = []\n{line}\n}}");
    let check = |line: &str, expected: &str| check_errors(&with(line), &[expected]);
    check("interval = \"10ms\"", "4:12: must be at least 1s");
    check("limit = 1.5", "4:9: expected a whole number, got 1.5");
    check("interval = 10", "4:12: expected a duration such as \"1m30s\", got number");
    check("size = \"many\"", "4:8: \"many\" is not a size such as \"1MiB\" or \"512KB\"");
    check("clustering \"x\" { enabled = true }", "4:12: block \"clustering\" has no label");
    check("endpoint { url = secret }", "4:18: expected string, got secret");
    check_errors(
        "x {\ntargets = [{a = \"1\"}, {b = []}]\nforward_to = [r, \"x\"]\n}",
        &["2:28: expected string, got array", "3:18: expected capsule(\"MetricsReceiver\"), got string"],
    );
    check_errors(
        "x {\ntargets = mixed\nforward_to = secret\n}",
        &["2:11: [0][a]: expected string, got array", "3:14: expected array, got secret"],
    );
}

#[test]
fn a_message_shows_the_line_the_caret_and_the_hint() {
    let rendered = decode::<Endpoint>("endpoint {\n\turll = \"x\"\n}\n").err().unwrap_or_default();
    assert_eq!(
        rendered,
        "\
Error: main.alloy:1:1: missing required attribute \"url\"

1 | endpoint {
  | ^^^^^^^^
2 |     urll = \"x\"

Error: main.alloy:2:2: unrecognized attribute name \"urll\"

1 | endpoint {
2 |     urll = \"x\"
  |     ^^^^
  = did you mean \"url\"?
3 | }
"
    );
}

#[test]
fn a_missing_required_block_is_one_error() {
    struct Outer;
    impl Decode for Outer {
        fn decode(body: &mut Body<'_>) -> Self {
            let _: Clustering = body.required_block("client");
            Outer
        }
    }
    let rendered = decode::<Outer>("x { }").err().unwrap_or_default();
    assert!(rendered.starts_with("Error: main.alloy:1:1: missing required block \"client\"\n"));
    assert_eq!(rendered.matches("Error").count(), 1);
}
