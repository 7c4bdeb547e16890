//! The commands beside `alloy run`, as a shell sees them: what they print, where, and how they end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with files, and commands that run in it.
struct World(TempDir);

impl World {
    fn new(files: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            std::fs::write(path, text).expect("writable");
        }
        World(folder)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).expect("a file")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alloy"));
        command.args(line.split(' ')).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code, standard output, standard error.
    fn run(&self, line: &str) -> (i32, String, String) {
        told(self.command(line).output().expect("it starts"))
    }

    fn check(&self, line: &str, code: i32, stdout: &str, stderr: &str) {
        let (found, out, err) = self.run(line);
        assert_eq!((out.as_str(), err.as_str(), found), (stdout, stderr, code), "alloy {line}");
    }
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

const VALID: &str = "local.file_match \"a\" {\n\tpath_targets = []\n}\n";

#[test]
fn fmt_prints_writes_and_tests() {
    let world = World::new(&[("a.alloy", "a=1"), ("b.alloy", "b = 2\n"), ("bad.alloy", "c = ")]);
    world.check("fmt a.alloy b.alloy", 0, "a = 1\nb = 2\n", "");
    world.check("fmt -t a.alloy b.alloy", 1, "", "a.alloy is not formatted\n");
    world.check("fmt --test b.alloy", 0, "", "");
    let (code, out, err) = world.run("fmt -w bad.alloy a.alloy none.alloy");
    assert!(code == 1 && out.is_empty(), "{out}");
    assert!(err.starts_with("Error: bad.alloy:1:4: expected an expression"), "{err}");
    assert!(err.ends_with("cannot read none.alloy: No such file or directory (os error 2)\n"), "{err}");
    assert_eq!((world.read("a.alloy").as_str(), world.read("bad.alloy").as_str()), ("a = 1\n", "c = "));
    world.check("fmt -t a.alloy b.alloy", 0, "", "");
    world.check("fmt -w -", 1, "", "--write needs files; standard input cannot be written to\n");
    assert_eq!(world.run("fmt -w -t a.alloy").0, 2);
    assert_eq!(world.run("fmt").0, 2);
    let mut child = world.command("fmt -").stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(b"x  =  1 // y").expect("open");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(told(output), (0, "x = 1 // y\n".to_owned(), String::new()));
}

#[test]
fn validate_says_of_each_configuration_whether_it_would_run() {
    let wrong = "prometheus.scrape \"a\" {\n\ttargets    = []\n\tforward_to = [loki.write.b.receiver]\n\turll       = 1\n}\n\nlogging {\n\tlevel = \"loud\"\n}\n";
    let world = World::new(&[
        ("a.alloy", VALID),
        ("folder/b.alloy", VALID),
        ("folder/c.alloy", "logging { }\n"),
        ("wrong.alloy", wrong),
    ]);
    world.check(
        "validate a.alloy folder",
        0,
        "a.alloy: valid, 1 component\nfolder: valid, 1 component\n",
        "",
    );
    let (code, out, err) = world.run("validate wrong.alloy a.alloy none.alloy");
    assert_eq!((code, out.as_str()), (1, "a.alloy: valid, 1 component\n"));
    let messages: Vec<&str> = err.lines().filter_map(|line| line.strip_prefix("Error: ")).collect();
    assert_eq!(
        messages,
        [
            "wrong.alloy:3:16: component \"loki.write.b.receiver\" does not exist or is out of scope",
            "wrong.alloy:4:2: unrecognized attribute name \"urll\"",
            "wrong.alloy:8:10: expected one of \"error\", \"warn\", \"info\", \"debug\", got \"loud\"",
            "none.alloy:1:1: cannot read the configuration none.alloy: No such file or directory (os error 2)",
        ],
        "{err}"
    );
    let (code, out, err) = world.run("validate --format=json wrong.alloy a.alloy");
    assert_eq!(world.run("validate --json wrong.alloy a.alloy"), (code, out.clone(), err.clone()));
    assert_eq!((code, err.as_str()), (1, ""));
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let (bad, good) = (&report["configurations"][0], &report["configurations"][1]);
    assert_eq!(
        good,
        &serde_json::json!({"path": "a.alloy", "valid": true, "components": 1, "diagnostics": []})
    );
    assert_eq!(bad["valid"], false);
    let level = bad["diagnostics"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|found| found["line"] == 8)
        .expect("the level");
    let expected = serde_json::json!({
        "severity": "error", "file": "wrong.alloy", "line": 8, "column": 10, "end_line": 8, "end_column": 16,
        "message": "expected one of \"error\", \"warn\", \"info\", \"debug\", got \"loud\"",
    });
    assert_eq!(level, &expected);
    assert_eq!(world.run("validate").0, 2);
}

/// What stands in Alloy's documentation of these components, in its style, runs here unchanged.
#[test]
fn configurations_like_those_of_alloys_documentation_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/alloy");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the fixtures")
        .map(|file| file.expect("readable").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let output =
        World::new(&[]).command("validate").current_dir(&folder).args(&names).output().expect("it starts");
    let (code, out, err) = told(output);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.lines().count(), names.len());
}

/// What a command shows on a terminal, standard output and error together.
fn on_a_terminal(world: &World, line: &str, no_color: Option<&str>) -> String {
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{} {line}", env!("CARGO_BIN_EXE_alloy")), "/dev/null"]);
    command.current_dir(world.0.path()).stdin(Stdio::null()).env("TERM", "xterm").env_remove("NO_COLOR");
    told(command.envs(no_color.map(|value| ("NO_COLOR", value))).output().expect("util-linux is there")).1
}

#[test]
fn people_at_a_terminal_see_colours_and_progress_and_programs_neither() {
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../alloy-wal/tests/fixtures/v1");
    let verify = format!("tools wal verify {}", log.display());
    let world = World::new(&[("bad.alloy", "a = 1")]);
    let (_, table, progress) = world.run(&verify);
    assert!(!table.contains('\u{1b}') && progress.is_empty(), "{table}{progress}");
    let seen = on_a_terminal(&world, &verify, None);
    let (progress, shown) = seen.split_once("\r\u{1b}[K").expect("progress, and its end");
    assert!(progress.contains("  0 % of ") && shown.contains("\u{1b}[1m"), "{seen:?}");
    let seen = on_a_terminal(&world, &verify, Some("1"));
    assert!(seen.contains(" % of ") && !seen.contains("\u{1b}[1m"), "{seen:?}");
    let (_, _, error) = world.run("validate bad.alloy");
    assert!(error.starts_with("Error: bad.alloy:1:1: "), "{error}");
    assert!(on_a_terminal(&world, "validate bad.alloy", None).contains("Error:\u{1b}[0m bad.alloy:1:1: "));
    assert!(on_a_terminal(&world, "validate bad.alloy", Some("1")).starts_with(&error[..24]));
}

#[test]
fn a_component_that_only_alloy_has_is_named_with_its_neighbours() {
    let world = World::new(&[("a.alloy", "loki.source.syslog \"x\" {\n\tforward_to = []\n}\n")]);
    let (code, _, err) = world.run("validate a.alloy");
    assert_eq!(code, 1);
    let mut lines = err.lines();
    let message =
        "Error: a.alloy:1:1: component \"loki.source.syslog\" is known to Alloy but not supported here";
    assert_eq!(lines.next(), Some(message));
    assert!(lines.any(|line| line.starts_with("  = near it are loki.source.api")), "{err}");
}

#[test]
fn completions_and_pages_are_made_from_the_commands() {
    let world = World::new(&[]);
    for (shell, part) in [
        ("bash", "--storage.path"),
        ("zsh", "#compdef alloy"),
        ("fish", "complete -c alloy"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let (code, out, err) = world.run(&format!("completion {shell}"));
        assert!(code == 0 && out.contains(part) && err.is_empty(), "{shell}: {err}");
    }
    let (code, page, _) = world.run("man run");
    assert!(code == 0 && page.contains(".TH alloy-run 1") && page.contains("ALLOY_STORAGE_PATH"), "{page}");
    let (code, page, _) = world.run("man");
    assert!(code == 0 && page.contains("alloy\\-validate") && page.contains("Exit codes"), "{page}");
    world.check("man nothing", 1, "", "there is no command \"nothing\"\n");
}

#[test]
fn help_teaches_and_flags_have_variables() {
    let world = World::new(&[("a.alloy", "a=1")]);
    for command in ["", "run ", "validate ", "fmt "] {
        let (code, help, _) = world.run(&format!("{command}--help"));
        assert!(code == 0 && help.contains("Examples:") && help.contains("Exit codes:"), "{command}: {help}");
    }
    let output = world.command("fmt a.alloy").env("ALLOY_FMT_TEST", "true").output().expect("it starts");
    assert_eq!(told(output).2, "a.alloy is not formatted\n");
    let output = world
        .command("run a.alloy")
        .env("ALLOY_CLUSTER_REJOIN_INTERVAL", "soon")
        .output()
        .expect("it starts");
    let (code, _, err) = told(output);
    assert!(code == 2 && err.contains("expected a duration such as 15s or 1m"), "{err}");
}

#[test]
fn flags_of_alloy_are_noted_or_refused() {
    let world = World::new(&[("a.alloy", VALID)]);
    world.check(
        "validate a.alloy --stability.level=experimental",
        0,
        "a.alloy: valid, 1 component\n",
        "note: --stability.level changes nothing: what is here may be used at every level\n",
    );
    let (code, _, err) = world.run("validate a.alloy --config.format=otelcol");
    assert_eq!(code, 2);
    assert!(
        err.starts_with("error: --config.format=otelcol is not supported: only Alloy's own format is read"),
        "{err}"
    );
    let (code, _, err) = world.run("run a.alloy --storage.pth=x");
    assert!(code == 2 && err.contains("--storage.path"), "{err}");
}

/// Answers each connection with the next of these, one after the other.
fn serve(answers: Vec<&'static str>) -> std::net::SocketAddr {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let _ = stream.read(&mut [0; 1024]);
            let head = "content-length: 4\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\n{head}now\n").as_bytes());
        }
    });
    address
}

#[test]
fn ready_waits_and_says_why_it_waited_in_vain() {
    let world = World::new(&[]);
    let late = serve(vec!["503 Service Unavailable", "200 OK"]);
    world.check(&format!("tools ready http://{late}"), 0, "now\n", "");
    let never = serve(vec!["503 Service Unavailable"; 20]);
    let url = format!("http://{never}/-/ready");
    world.check(
        &format!("tools ready {url} --seconds 1"),
        1,
        "",
        &format!("{url}: status 503 Service Unavailable: now\n"),
    );
    let (code, _, error) = world.run("tools ready nowhere");
    assert!(code == 1 && error.contains("is not a URL"), "{error}");
}
