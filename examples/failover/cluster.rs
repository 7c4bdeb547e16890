//! Three agents as processes on loopback, each with its own storage, and what they say of themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use anyhow::Context;
use serde_json::Value;

/// What all agents are configured with.
pub(crate) struct Configuration<'a> {
    /// The targets, as a file for `discovery.file`.
    pub targets: &'a Path,
    /// The folder of the log files.
    pub logs: &'a Path,
    pub write_url: String,
    pub push_url: String,
    pub interval: Duration,
}

impl Configuration<'_> {
    fn text(&self) -> String {
        format!(
            r#"logging {{
  level = "info"
}}

discovery.file "demo" {{
  files = [{targets:?}]
}}

prometheus.scrape "demo" {{
  targets         = discovery.file.demo.targets
  forward_to      = [prometheus.remote_write.demo.receiver]
  scrape_interval = "{interval}s"
  scrape_timeout  = "2s"

  clustering {{
    enabled = true
  }}
}}

prometheus.remote_write "demo" {{
  endpoint {{
    url = {write_url:?}

    queue_config {{
      batch_send_deadline = "1s"
    }}
  }}
}}

local.file_match "demo" {{
  path_targets = [{{ "__path__" = {logs:?}, "job" = "demo" }}]
}}

loki.source.file "demo" {{
  targets    = local.file_match.demo.targets
  forward_to = [loki.write.demo.receiver]

  clustering {{
    enabled = true
  }}
}}

loki.write "demo" {{
  endpoint {{
    url = {push_url:?}
  }}
}}
"#,
            targets = self.targets,
            logs = self.logs.join("*.log"),
            interval = self.interval.as_secs(),
            write_url = self.write_url,
            push_url = self.push_url,
        )
    }
}

/// The agents by name. Dropping it kills them.
pub(crate) struct Cluster {
    agents: BTreeMap<&'static str, Process>,
}

/// Who owns what by one agent's view: the key of a target, or the path of a file, to the owner.
#[derive(Debug, Default, Clone)]
pub(crate) struct Owners {
    pub targets: BTreeMap<u64, String>,
    pub files: BTreeMap<String, String>,
}

impl Cluster {
    /// Starts an agent of each name; `program` takes the arguments of `alloy`.
    pub(crate) fn start(
        program: PathBuf,
        names: &[&'static str],
        folder: &Path,
        configuration: &Configuration<'_>,
    ) -> anyhow::Result<Self> {
        let config = folder.join("config.alloy");
        std::fs::write(&config, configuration.text()).context("cannot write the configuration")?;
        let addresses: Vec<SocketAddr> = free_addresses(names.len())?;
        let mut agents = BTreeMap::new();
        for (name, address) in names.iter().copied().zip(addresses.iter().copied()) {
            let flags =
                Flags { config: config.clone(), folder: folder.to_owned(), name, address, join: &addresses };
            agents.insert(name, Process::start(Start::new(program.clone(), &flags))?);
        }
        Ok(Cluster { agents })
    }

    pub(crate) fn agent(&mut self, name: &str) -> &mut Process {
        self.agents.get_mut(name).expect("the story names only its own agents")
    }

    /// Whether each of these is ready and sees exactly these at work.
    pub(crate) fn is_settled(&self, names: &[&str]) -> bool {
        names.iter().all(|name| {
            let agent = &self.agents[name];
            let states = agent.is_ready().then(|| states(agent)).and_then(Result::ok).unwrap_or_default();
            let at_work = states.iter().filter(|(_, state)| *state == "participant").map(|(name, _)| name);
            at_work.eq(names.iter())
        })
    }

    /// Each agent's state by the view of the first that answers; `dead` for those whose process is gone.
    pub(crate) fn states(&mut self) -> BTreeMap<String, String> {
        let seen = self.agents.values().find_map(|agent| states(agent).ok()).unwrap_or_default();
        let states = self.agents.iter_mut().map(|(name, agent)| {
            let state = match seen.get(*name) {
                _ if !agent.is_running().unwrap_or(false) => "dead",
                Some(state) => state,
                None => "starting",
            };
            ((*name).to_owned(), state.to_owned())
        });
        states.collect()
    }

    /// Who owns what by the view of the first agent that answers.
    pub(crate) fn owners(&self) -> Owners {
        self.agents.values().find_map(|agent| owners(agent).ok()).unwrap_or_default()
    }

    /// Asks all to end and waits for them.
    pub(crate) fn end(&mut self) {
        for agent in self.agents.values_mut() {
            // Who has ended already needs no asking.
            let _ = agent.ask_to_end();
        }
        for agent in self.agents.values_mut() {
            let _ = agent.terminate(Duration::from_secs(10));
        }
    }

    /// The end of each agent's output, for a run that failed.
    pub(crate) fn last_words(&self) -> String {
        let mut text = String::new();
        for (name, agent) in &self.agents {
            let _ = writeln!(text, "--- the last words of {name}\n{}", agent.last_words(12));
        }
        text
    }
}

fn states(agent: &Process) -> anyhow::Result<BTreeMap<String, String>> {
    let peers: Value = serde_json::from_str(&agent.get("/api/v0/web/peers")?)?;
    let peers = peers.as_array().context("no list of peers")?;
    peers.iter().map(|peer| Ok((text(peer, "name")?, text(peer, "state")?))).collect()
}

fn owners(agent: &Process) -> anyhow::Result<Owners> {
    let list: Value = serde_json::from_str(&agent.get("/api/v0/cluster/ownership")?)?;
    let mut owners = Owners::default();
    for key in list["keys"].as_array().context("no list of keys")? {
        let Ok(owner) = text(key, "owner") else { continue };
        if text(key, "component")?.starts_with("prometheus.scrape.") {
            owners.targets.insert(u64::from_str_radix(&text(key, "key")?, 16)?, owner);
        } else {
            owners.files.insert(text(key, "name")?, owner);
        }
    }
    Ok(owners)
}

fn text(object: &Value, field: &str) -> anyhow::Result<String> {
    Ok(object[field].as_str().with_context(|| format!("no text `{field}` in {object}"))?.to_owned())
}
