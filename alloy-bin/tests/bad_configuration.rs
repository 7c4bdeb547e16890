//! What `alloy run` says when it can't run, to the letter, and that it ends at once with an exit code that is not zero.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// An agent that can't run says so at once; a debug build on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// The folder in which agents are started.
struct World(TempDir);

impl World {
    fn new() -> World {
        World(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) -> &World {
        let path = self.0.path().join(file);
        std::fs::create_dir_all(path.parent().expect("the folder")).expect("a writable folder");
        std::fs::write(path, text).expect("a writable folder");
        self
    }

    /// An agent whose standard error goes to the file `log`.
    fn start<S: AsRef<OsStr>>(&self, arguments: &[S], log: &str) -> Child {
        let stderr = std::fs::File::create(self.0.path().join(log)).expect("a writable folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_alloy"));
        command.args(arguments).current_dir(self.0.path()).env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("it starts")
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.path().join(file)).expect("a file that was made")
    }

    /// Its exit code and what it wrote to standard error.
    fn end<S: AsRef<OsStr>>(&self, arguments: &[S]) -> (Option<i32>, String) {
        let mut agent = self.start(arguments, "stderr");
        let code = wait(&mut agent).code();
        (code, self.read("stderr"))
    }

    /// Runs a configuration on a free port.
    fn run(&self, config: &str, more: &[&str]) -> (Option<i32>, String) {
        let all = [&["run", config, "--server.http.listen-addr=127.0.0.1:0"], more].concat();
        self.end(&all)
    }
}

fn wait(agent: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = agent.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > deadline {
            agent.kill().expect("a child");
            panic!("it runs, or hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `expected` begins with an empty line, for the eye.
fn check(configuration: &str, expected: &str) {
    let world = World::new();
    let (code, said) =
        world.write("main.alloy", configuration.trim_start_matches('\n')).run("main.alloy", &[]);
    assert_eq!(said, expected.trim_start_matches('\n'), "{configuration}");
    assert_eq!(code, Some(1), "{configuration}");
}

#[test]
fn a_syntax_error_is_shown_where_it_is() {
    check(
        r#"
logging {
	level =
}
"#,
        r#"
Error: main.alloy:3:1: expected an expression, got "}"

2 |     level =
3 | }
  | ^
"#,
    );
}

#[test]
fn an_unknown_component_is_named_with_its_neighbour() {
    check(
        r#"
prometheus.scrap "a" {
}
"#,
        r#"
Error: main.alloy:1:1: cannot find the definition of component name "prometheus.scrap"

1 | prometheus.scrap "a" {
  | ^^^^^^^^^^^^^^^^^^^^
  = did you mean "prometheus.scrape"?
2 | }
"#,
    );
}

#[test]
fn a_component_needs_a_label() {
    check(
        r#"
prometheus.scrape {
}
"#,
        r#"
Error: main.alloy:1:1: component "prometheus.scrape" must have a label

1 | prometheus.scrape {
  | ^^^^^^^^^^^^^^^^^
  = prometheus.scrape "default" {
2 | }
"#,
    );
}

#[test]
fn a_component_is_declared_once() {
    check(
        r#"
local.file_match "a" {
	path_targets = []
}

local.file_match "a" {
	path_targets = []
}
"#,
        r#"
Error: main.alloy:5:1: block local.file_match.a already declared at main.alloy:1:1

4 | 
5 | local.file_match "a" {
  | ^^^^^^^^^^^^^^^^^^^^
6 |     path_targets = []
"#,
    );
}

#[test]
fn a_value_of_the_wrong_type_is_shown_with_what_was_expected() {
    check(
        r#"
prometheus.scrape "a" {
	targets         = []
	forward_to      = []
	scrape_interval = 15
}
"#,
        r#"
Error: main.alloy:4:20: expected a duration such as "1m30s", got number

3 |     forward_to      = []
4 |     scrape_interval = 15
  |                       ^^
5 | }
"#,
    );
}

#[test]
fn a_missing_and_an_unknown_attribute_are_said_at_once() {
    check(
        r#"
prometheus.scrape "a" {
	target     = []
	forward_to = []
}
"#,
        r#"
Error: main.alloy:1:1: missing required attribute "targets"

1 | prometheus.scrape "a" {
  | ^^^^^^^^^^^^^^^^^^^^^
2 |     target     = []

Error: main.alloy:2:2: unrecognized attribute name "target"

1 | prometheus.scrape "a" {
2 |     target     = []
  |     ^^^^^^
  = did you mean "targets"?
3 |     forward_to = []
"#,
    );
}

#[test]
fn what_only_the_original_can_do_is_said_to_be_known() {
    check(
        r#"
remotecfg {
}
"#,
        r#"
Error: main.alloy:1:1: block "remotecfg" is known to Alloy but not supported here

1 | remotecfg {
  | ^^^^^^^^^
2 | }
"#,
    );
    check(
        r#"
prometheus.scrape "a" {
	targets                     = []
	forward_to                  = []
	enable_type_and_unit_labels = true
}
"#,
        r#"
Error: main.alloy:4:32: "enable_type_and_unit_labels" is known to Alloy but not supported here; leave it out

3 |     forward_to                  = []
4 |     enable_type_and_unit_labels = true
  |                                   ^^^^
5 | }
"#,
    );
}

#[test]
fn a_reference_to_nothing_is_shown() {
    check(
        r#"
prometheus.scrape "a" {
	targets    = discovery.file.a.target
	forward_to = []
}

discovery.file "a" {
	files = []
}
"#,
        r#"
Error: main.alloy:2:32: field "target" does not exist

1 | prometheus.scrape "a" {
2 |     targets    = discovery.file.a.target
  |                                   ^^^^^^
  = did you mean "targets"?
3 |     forward_to = []
"#,
    );
    check(
        r#"
prometheus.scrape "a" {
	targets    = discovery.file.b.targets
	forward_to = []
}

discovery.file "a" {
	files = []
}
"#,
        r#"
Error: main.alloy:2:15: component "discovery.file.b.targets" does not exist or is out of scope

1 | prometheus.scrape "a" {
2 |     targets    = discovery.file.b.targets
  |                  ^^^^^^^^^^^^^^^^^^^^^^^^
  = did you mean "discovery.file.a.targets"?
3 |     forward_to = []
"#,
    );
}

#[test]
fn components_that_refer_to_each_other_are_shown() {
    check(
        r#"
prometheus.scrape "a" {
	targets    = prometheus.scrape.a.targets
	forward_to = []
}
"#,
        r#"
Error: main.alloy:2:15: cannot reference self

1 | prometheus.scrape "a" {
2 |     targets    = prometheus.scrape.a.targets
  |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^
3 |     forward_to = []
"#,
    );
    check(
        r#"
local.file_match "a" {
	path_targets = local.file_match.b.targets
}

local.file_match "b" {
	path_targets = local.file_match.a.targets
}
"#,
        r#"
Error: main.alloy:1:1: cycle detected: local.file_match.a, local.file_match.b

1 | local.file_match "a" {
  | ^^^^^^^^^^^^^^^^^^^^
2 |     path_targets = local.file_match.b.targets
"#,
    );
}

#[test]
fn a_url_that_is_none_is_shown() {
    check(
        r#"
prometheus.remote_write "a" {
	endpoint {
		url = "localhost"
	}
}
"#,
        r#"
Error: main.alloy:3:9: "localhost" is not a URL such as "https://host:9090/path"

2 |     endpoint {
3 |         url = "localhost"
  |               ^^^^^^^^^^^
4 |     }
"#,
    );
}

#[test]
fn errors_of_several_files_come_together() {
    let world = World::new();
    world.write("folder/1.alloy", "logging {\n\tlevel = ]\n}\n").write("folder/2.alloy", "a.b = 1\n");
    world.write("folder/notes.txt", "]");
    let expected = r#"Error: folder/1.alloy:2:10: expected an expression, got "]"

1 | logging {
2 |     level = ]
  |             ^
3 | }

Error: folder/2.alloy:1:1: attribute names can't contain dots

1 | a.b = 1
  | ^^^
"#;
    assert_eq!(world.run("folder", &[]), (Some(1), expected.to_owned()));
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_with_the_reason() {
    let check = |world: &World, path: &str, expected: &str| {
        assert_eq!(world.run(path, &[]), (Some(1), format!("{expected}\n")), "{path}");
    };
    let world = World::new();
    let missing = "cannot read the configuration main.alloy: No such file or directory (os error 2)";
    check(&world, "main.alloy", missing);
    world.write("main.alloy", b"// \xff\n");
    let garbled = "cannot read the configuration main.alloy: stream did not contain valid UTF-8";
    check(&world, "main.alloy", garbled);
    world.write("folder/notes.txt", "");
    check(&world, "folder", "the folder folder has no *.alloy file");
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let world = World::new();
    world.write("main.alloy", "");
    let (code, said) = world.end(&["run", "main.alloy", &format!("--server.http.listen-addr={address}")]);
    let reason = "Address already in use (os error 98)";
    assert_eq!(said, format!("cannot listen on {address} (--server.http.listen-addr): {reason}\n"));
    assert_eq!(code, Some(1));
    assert!(!world.0.path().join("data-alloy").exists(), "nothing is touched before the port is there");
}

#[test]
fn storage_that_cannot_be_written_is_named() {
    let world = World::new();
    world.write("main.alloy", "").write("file", "");
    for (path, reason) in [
        ("file", "File exists (os error 17)"),
        ("file/below", "Not a directory (os error 20)"),
        // Nobody can make a file there, whoever he is.
        ("/proc", "No such file or directory (os error 2)"),
    ] {
        let (code, said) = world.run("main.alloy", &[&format!("--storage.path={path}")]);
        assert_eq!(said, format!("cannot write to {path} (--storage.path): {reason}\n"));
        assert_eq!(code, Some(1), "{path}");
    }
}

/// Kills the agent at the end, also when the test fails.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself; the test says so then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until_running(world: &World, log: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !world.read(log).contains("the agent is running") {
        assert!(Instant::now() < deadline, "it does not run: {}", world.read(log));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn storage_that_another_agent_uses_is_named_until_that_one_is_gone() {
    let world = World::new();
    world.write("main.alloy", "");
    let run = ["run", "main.alloy", "--server.http.listen-addr=127.0.0.1:0", "--storage.path=shared"];
    let first = Agent(world.start(&run, "first.log"));
    until_running(&world, "first.log");
    let (code, said) = world.end(&run);
    assert_eq!(said, "another agent is using shared (--storage.path)\n");
    assert_eq!(code, Some(1));
    drop(first);
    let _second = Agent(world.start(&run, "second.log"));
    until_running(&world, "second.log");
}

#[test]
fn flags_that_are_wrong_are_explained() {
    let world = World::new();
    world.write("main.alloy", "");
    let check = |arguments: &[&str], expected: &str| {
        let (code, said) = world.end(arguments);
        assert_eq!(said.lines().next().unwrap_or_default(), expected, "{arguments:?}: {said}");
        assert_eq!(code, Some(2), "{arguments:?}");
    };
    check(&["run"], "error: the following required arguments were not provided:");
    check(&["walk"], "error: unrecognized subcommand 'walk'");
    check(&["run", "main.alloy", "--nope"], "error: unexpected argument '--nope' found");
    check(
        &["run", "main.alloy", "--cluster.rejoin-interval=soon"],
        "error: invalid value 'soon' for '--cluster.rejoin-interval <DURATION>': expected a duration such as 15s or 1m",
    );
    check(
        &["run", "main.alloy", "--cluster.enabled=perhaps"],
        "error: invalid value 'perhaps' for '--cluster.enabled[=<ENABLED>]'",
    );
    check(
        &["run", "main.alloy", "--cluster.listen-addr=here"],
        "error: invalid value 'here' for '--cluster.listen-addr <HOST:PORT>': invalid socket address syntax",
    );
    let check_run = |flags: &[&str], expected: &str| {
        let arguments = [&["run", "main.alloy"], flags].concat();
        assert_eq!(world.end(&arguments), (Some(1), format!("{expected}\n")));
    };
    check_run(
        &["--server.http.listen-addr=nowhere"],
        "cannot listen on nowhere (--server.http.listen-addr): invalid socket address",
    );
    check_run(
        &["--server.http.listen-addr=127.0.0.1:0", "--cluster.enabled", "--cluster.advertise-address=me"],
        "--cluster.advertise-address=me is not an IP address such as 10.0.0.7 or 10.0.0.7:12345",
    );
}

#[test]
fn a_path_need_not_be_unicode() {
    let world = World::new();
    let name = OsStr::from_bytes(b"\xff.alloy");
    std::fs::write(world.0.path().join(Path::new(name)), "a = ]\n").unwrap();
    let (code, said) = world.end(&[OsStr::new("run"), name]);
    assert!(said.starts_with("Error: \u{fffd}.alloy:1:5: expected an expression"), "{said}");
    assert_eq!(code, Some(1));
}
