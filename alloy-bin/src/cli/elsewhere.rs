//! What an Alloy user types and this program has not: flags that change nothing here are noted and passed over, others
//! are refused with what to do instead.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;

/// What becomes of a flag.
enum Fate {
    /// It changes nothing here, because of this.
    Passed(&'static str),
    /// Only these values mean what is done here anyway; others are refused with this reason.
    Only(&'static [&'static str], &'static str),
}
use Fate::{Only, Passed};

const NO_TLS: &str = "members do not speak TLS; --cluster.keys-file seals what they send each other";
const NEVER: &[&str] = &[];
const FALSE: &[&str] = &["false"];

/// Alloy's flags that are not here: the name, whether it is a switch that needs no value, and its fate.
const FLAGS: &[(&str, bool, Fate)] = &[
    ("cluster.advertise-interfaces", false, Only(NEVER, "name the address: --cluster.advertise-address")),
    ("cluster.enable-tls", true, Only(FALSE, NO_TLS)),
    ("cluster.max-join-peers", false, Passed("members learn of each other from any that answers")),
    ("cluster.tls-ca-path", false, Only(&[""], NO_TLS)),
    ("cluster.tls-cert-path", false, Only(&[""], NO_TLS)),
    ("cluster.tls-key-path", false, Only(&[""], NO_TLS)),
    ("cluster.tls-server-name", false, Only(&[""], NO_TLS)),
    ("cluster.use-discovery-v1", true, Passed("there is one way of finding members")),
    ("config.bypass-conversion-errors", true, Only(FALSE, "nothing is converted here")),
    ("config.extra-args", false, Only(&[""], "nothing is converted here")),
    (
        "config.format",
        false,
        Only(&["alloy"], "only Alloy's own format is read; convert the file with Alloy first"),
    ),
    ("disable-reporting", true, Passed("this agent reports to nobody")),
    ("feature.community-components.enabled", true, Passed("there are no community components")),
    (
        "feature.component-shutdown-deadline",
        false,
        Only(NEVER, "how long components may take to stop cannot be set here"),
    ),
    ("feature.prometheus.direct-fanout.enabled", true, Passed("components always hand over directly")),
    ("server.http.enable-graphql", true, Only(FALSE, "there is no GraphQL; see /api/v0")),
    ("server.http.enable-graphql-playground", true, Only(FALSE, "there is no GraphQL; see /api/v0")),
    ("server.http.enable-pprof", true, Passed("there is no pprof; profile with perf")),
    ("server.http.memory-addr", false, Passed("nothing listens in memory")),
    (
        "server.http.ui-path-prefix",
        false,
        Only(&["/"], "the server's paths begin at /; let a proxy add the prefix"),
    ),
    ("stability.level", false, Passed("what is here may be used at every level")),
    ("windows.priority", false, Passed("this is not Windows")),
];

/// Alloy's commands that are not here.
const COMMANDS: &[(&str, &str)] = &[
    ("convert", "convert the file with Alloy; `alloy validate` says whether the result runs here"),
    ("gql", "there is no GraphQL; see /api/v0"),
    ("otel", "only Alloy's own configuration is read"),
];

/// The arguments without Alloy's flags that change nothing; each of those is noted on standard error.
pub(super) fn sift(arguments: Vec<OsString>, command: &clap::Command) -> Result<Vec<OsString>, clap::Error> {
    let refuse = |message: String| Err(command.clone().error(ErrorKind::UnknownArgument, message));
    let called = arguments.get(1).and_then(|name| name.to_str()).unwrap_or_default();
    if let Some((name, instead)) = COMMANDS.iter().find(|(name, _)| *name == called) {
        return refuse(format!("`alloy {name}` is not here: {instead}"));
    }
    let Some(own) = command.find_subcommand(called).filter(|_| matches!(called, "run" | "validate")) else {
        return Ok(arguments);
    };
    let mut kept = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            kept.push(argument.clone());
            kept.extend(rest.cloned());
            break;
        }
        let flag = argument.to_str().and_then(|text| text.strip_prefix("--")).unwrap_or_default();
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let is_own = own.get_arguments().any(|known| known.get_long() == Some(name));
        let Some((name, is_switch, fate)) = FLAGS.iter().find(|(known, ..)| *known == name && !is_own) else {
            kept.push(argument.clone());
            continue;
        };
        let value = match value {
            Some(value) => value,
            None if *is_switch => "true",
            None => rest.next().map(OsString::as_os_str).and_then(OsStr::to_str).unwrap_or_default(),
        };
        match fate {
            Passed(why) => eprintln!("note: --{name} changes nothing: {why}"),
            Only(values, _) if values.contains(&value) => {}
            Only(_, why) => return refuse(format!("--{name}={value} is not supported: {why}")),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<&str, &str>) {
        let arguments = line.split(' ').map(OsString::from).collect();
        let sifted = sift(arguments, &super::super::command());
        let sifted = sifted.map(|kept| kept.join(OsStr::new(" ")).into_string().expect("text"));
        let sifted = sifted.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned());
        assert_eq!(sifted, expected.map(str::to_owned).map_err(|error| format!("error: {error}")), "{line}");
    }

    #[test]
    fn flags_of_alloy_are_passed_over_or_refused_with_a_way_out() {
        check("alloy run x --disable-reporting --stability.level=experimental", Ok("alloy run x"));
        check("alloy run --stability.level experimental x", Ok("alloy run x"));
        check("alloy run x --server.http.ui-path-prefix=/ --cluster.enable-tls=false", Ok("alloy run x"));
        check(
            "alloy run x --storage.path=/y --cluster.enabled",
            Ok("alloy run x --storage.path=/y --cluster.enabled"),
        );
        check("alloy run -- --disable-reporting", Ok("alloy run -- --disable-reporting"));
        check("alloy fmt --disable-reporting", Ok("alloy fmt --disable-reporting"));
        check("alloy run x --unknown=1", Ok("alloy run x --unknown=1"));
        check(
            "alloy run x --config.format=promtail",
            Err(
                "--config.format=promtail is not supported: only Alloy's own format is read; convert the file with Alloy first",
            ),
        );
        check(
            "alloy run x --cluster.enable-tls",
            Err(
                "--cluster.enable-tls=true is not supported: members do not speak TLS; --cluster.keys-file seals what they send each other",
            ),
        );
        check(
            "alloy convert x",
            Err(
                "`alloy convert` is not here: convert the file with Alloy; `alloy validate` says whether the result runs here",
            ),
        );
    }

    /// A flag that has come to be supported must leave the table.
    #[test]
    fn no_flag_is_both_here_and_elsewhere() {
        let command = super::super::command();
        let run = command.find_subcommand("run").expect("it is there");
        for (name, ..) in FLAGS {
            assert!(!run.get_arguments().any(|known| known.get_long() == Some(name)), "--{name}");
        }
    }
}
