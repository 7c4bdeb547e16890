//! `alloy cluster`: asks a running agent how it sees its cluster.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Request;
use serde_json::Value;

use super::table::table;
use crate::config::{decode_statements, stdlib};
use crate::http_client::{HttpClient, HttpClientOptions, escape, parse_url, read};
use crate::syntax::{Sources, Span, parse};

pub(super) const AFTER_HELP: &str = "\
Examples:
  alloy cluster status                                who is there, and what happened lately
  alloy cluster owners --search=node-7                who owns what
  alloy cluster explain http://node-7:9100/metrics    why, and who is next
  alloy cluster simulate --kill=alloy-1               what would move, before it does
  alloy cluster simulate --join=alloy-3:zone-c:2      a new member in a zone, with two shares
  alloy cluster status --url=https://alloy-0:12345 --http.config-file=client.alloy

The file of --http.config-file has arguments of an HTTP client, as components have them:
  basic_auth {
    username      = \"me\"
    password_file = \"/etc/alloy/password\"
  }
  tls_config {
    ca_file = \"/etc/alloy/ca.pem\"
  }

Exit codes:
  0  the agent has answered
  1  it has not, or there is no such thing; standard error says why
  2  the command line is wrong";

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// An ownership list of 100,000 targets has some 40 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Args)]
pub(super) struct Flags {
    #[command(subcommand)]
    command: Command,
    /// The agent to ask; any member will do.
    #[arg(long, global = true, default_value = "http://127.0.0.1:12345")]
    url: String,
    /// How to reach it: passwords, certificates.
    #[arg(long = "http.config-file", global = true, value_name = "FILE")]
    http_config_file: Option<PathBuf>,
    /// Print the agent's own answer, for programs.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Members with phase, zone, weight and configuration; what happened lately.
    Status,
    /// Who owns what.
    Owners {
        /// Only this component's.
        #[arg(long)]
        component: Option<String>,
        /// Only this member's.
        #[arg(long)]
        owner: Option<String>,
        /// Only names that have this in them.
        #[arg(long)]
        search: Option<String>,
    },
    /// Why a target or file is where it is, and who follows.
    Explain {
        /// Its name, or its key in hexadecimal, as `owners` prints them.
        key: String,
    },
    /// What would move if members came and went; nothing is changed.
    Simulate {
        /// Members that come: NAME[:ZONE[:SHARES]], separated by commas.
        #[arg(long, default_value = "")]
        join: String,
        /// Members that leave in an orderly way.
        #[arg(long, default_value = "")]
        leave: String,
        /// Members that die.
        #[arg(long, default_value = "")]
        kill: String,
    },
}

pub(super) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let (path, show): (String, fn(&Value) -> anyhow::Result<String>) = match &flags.command {
        Command::Status => ("members".to_owned(), status),
        Command::Owners { component, owner, search } => {
            let given = [("component", component), ("owner", owner), ("search", search)];
            let given = given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
            (format!("ownership?{}", query(given)), owners)
        }
        Command::Explain { key } => (format!("ownership?{}", query([("key", key.as_str())])), explain),
        Command::Simulate { join, leave, kill } => {
            if [join, leave, kill].iter().all(|names| names.is_empty()) {
                bail!("nothing changes: name members with --join, --leave or --kill");
            }
            let given = [("join", join.as_str()), ("leave", leave), ("kill", kill)];
            (format!("simulation?{}", query(given)), simulation)
        }
    };
    let answer = ask(flags, &format!("/api/v0/cluster/{path}"))?;
    let parsed: Value =
        serde_json::from_slice(&answer).context("the answer is no JSON; is this an agent?")?;
    let shown = show(&parsed)?;
    let mut out = anstream::stdout().lock();
    let written = match flags.json {
        true => out.write_all(&answer).and_then(|()| out.write_all(b"\n")),
        false => out.write_all(shown.as_bytes()),
    };
    // `| head` is no error.
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn query<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let given = given.into_iter().map(|(name, value)| format!("{name}={}", escape(value)));
    given.collect::<Vec<_>>().join("&")
}

fn ask(flags: &Flags, path: &str) -> anyhow::Result<Bytes> {
    let url = format!("{}{path}", flags.url.trim_end_matches('/'));
    let uri = parse_url(&url).map_err(|error| anyhow::anyhow!("--url={}: {error}", flags.url))?;
    let client = HttpClient::new(&options(flags)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async {
        let response = client.send(Request::get(uri).body(Bytes::new())?).await?;
        let status = response.status();
        let body = read(response, ANSWER_BYTES_MAX).await?;
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body).trim_end());
        Ok(body)
    };
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    answer
        .unwrap_or_else(|_| bail!("no answer in {PATIENCE:?}"))
        .with_context(|| format!("cannot ask the agent at {} (--url)", flags.url))
}

fn options(flags: &Flags) -> anyhow::Result<HttpClientOptions> {
    let Some(path) = &flags.http_config_file else { return Ok(HttpClientOptions::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut sources = Sources::default();
    let id = sources.add(path.display().to_string(), text);
    let (file, diagnostics) = parse(&sources, id);
    let decoded = match diagnostics.has_errors() {
        true => Err(diagnostics),
        false => decode_statements(
            &file.statements,
            Span { source: id, ..Span::default() },
            &stdlib(&crate::run::hostname()),
        ),
    };
    decoded.map_err(|diagnostics| anyhow::Error::msg(diagnostics.render(&sources)))
}

/// A field as text: empty if it is not there.
fn text(object: &Value, name: &str) -> String {
    match &object[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn items<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object[name].as_array().map_or(&[], Vec::as_slice)
}

fn cells(object: &Value, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| text(object, name)).collect()
}

fn status(answer: &Value) -> anyhow::Result<String> {
    let members = items(answer, "members").iter().map(|member| {
        let mut row = cells(member, &["name", "address", "phase", "zone", "weight", "version"]);
        let configuration = text(member, "configuration");
        let differs = if member["configuration_differs"] == true { " differs" } else { "" };
        row.push(format!("{}{differs}", configuration.get(..12).unwrap_or(&configuration)));
        row
    });
    let rows: Vec<_> = members.collect();
    let head = ["member", "address", "phase", "zone", ">weight", "version", "configuration"];
    let (node, epoch, digest) = (text(answer, "node"), text(answer, "epoch"), text(answer, "digest"));
    let mut shown = format!("{}\nas {node} sees it: view {epoch}, {digest}\n", table(&head, &rows));
    let changes = items(answer, "changes");
    if !changes.is_empty() {
        let newest = changes.iter().rev().take(10);
        let rows: Vec<_> =
            newest.map(|change| cells(change, &["time", "level", "what", "member", "detail"])).collect();
        shown += &format!("\n{}", table(&["time", "level", "what", "member", "detail"], &rows));
    }
    Ok(shown)
}

fn owners(answer: &Value) -> anyhow::Result<String> {
    let fields = ["component", "name", "key", "owner", "successor", "here"];
    let rows: Vec<_> = items(answer, "keys").iter().map(|key| cells(key, &fields)).collect();
    Ok(table(&fields, &rows))
}

fn explain(answer: &Value) -> anyhow::Result<String> {
    let explained = items(answer, "explained");
    if explained.is_empty() {
        bail!(
            "no component of the agent knows that name or key; `alloy cluster owners` prints those it knows"
        );
    }
    let one = |key: &Value| {
        let name = text(key, "name");
        let owner = key["owner"].as_str().unwrap_or("nobody");
        let mut shown = format!("{} of {} ({})\n", name, text(key, "component"), text(key, "key"));
        shown += &format!(
            "  owner: {owner}; this node: {} for {} s\n",
            text(key, "here"),
            text(key, "here_seconds")
        );
        for reason in items(key, "because") {
            shown += &format!("  - {}\n", reason.as_str().unwrap_or_default());
        }
        let ranked = items(key, "ranking").iter().enumerate();
        let rows: Vec<_> = ranked
            .map(|(place, member)| {
                let mut row = vec![(place + 1).to_string()];
                row.extend(cells(member, &["name", "zone", "weight"]));
                row
            })
            .collect();
        if !rows.is_empty() {
            shown += &format!("\n{}", table(&[">rank", "member", "zone", ">weight"], &rows));
        }
        shown
    };
    Ok(explained.iter().map(one).collect::<Vec<_>>().join("\n"))
}

fn simulation(answer: &Value) -> anyhow::Result<String> {
    let members: Vec<_> =
        items(answer, "members").iter().map(|member| cells(member, &["name", "before", "after"])).collect();
    let mut shown = table(&["member", ">keys", ">afterwards"], &members);
    let (keys, moved) = (answer["keys"].as_u64().unwrap_or(0), answer["moved"].as_u64().unwrap_or(0));
    let percent = if keys == 0 { 0.0 } else { moved as f64 * 100.0 / keys as f64 };
    shown += &format!("\n{moved} of {keys} keys would move ({percent:.1} %)\n");
    let flows = items(answer, "flows").iter().map(|flow| {
        let who = |name: &str| flow[name].as_str().unwrap_or("nobody").to_owned();
        vec![text(flow, "component"), who("from"), who("to"), text(flow, "keys"), text(flow, "how")]
    });
    let flows: Vec<_> = flows.collect();
    if !flows.is_empty() {
        shown += &format!("\n{}", table(&["component", "from", "to", ">keys", "how"], &flows));
    }
    Ok(shown)
}
