//! Adapters: how each agent is configured and started for the same work.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use alloy_bin::testing::process::{Process, Start, free_addresses};
use anyhow::Context as _;

use super::logs;

/// An agent, as it is given on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Rival {
    pub(crate) kind: Kind,
    program: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// Ours, with remote write 2.0.
    Ours2,
    Prometheus,
    Vmagent,
    Promtail,
}

impl Kind {
    const ALL: [(&'static str, Kind); 5] = [
        ("ours", Kind::Ours),
        ("ours2", Kind::Ours2),
        ("prometheus", Kind::Prometheus),
        ("vmagent", Kind::Vmagent),
        ("promtail", Kind::Promtail),
    ];

    /// Whether it does that sort of work at all.
    pub(crate) fn can(self, scenario: &str) -> bool {
        match self {
            Kind::Ours => true,
            Kind::Ours2 => !scenario.starts_with("logs-") && scenario != "soak",
            Kind::Promtail => scenario.starts_with("logs-"),
            Kind::Prometheus | Kind::Vmagent => !scenario.starts_with("logs-") && scenario != "soak",
        }
    }
}

impl FromStr for Rival {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, program) = text.split_once('=').ok_or("expected KIND=PROGRAM")?;
        let kind = Kind::ALL.iter().find(|(known, _)| *known == name);
        let (_, kind) = kind.ok_or_else(|| format!("no agent is known as {name}"))?;
        Ok(Rival { kind: *kind, program: PathBuf::from(program) })
    }
}

/// What to scrape, and where it goes.
pub(crate) struct Scrapes<'a> {
    pub(crate) targets: SocketAddr,
    pub(crate) count: usize,
    pub(crate) interval_s: u64,
    pub(crate) write_url: &'a str,
}

/// What to follow, and where it goes.
pub(crate) struct Follows<'a> {
    pub(crate) logs: &'a Path,
    pub(crate) kind: logs::Kind,
    pub(crate) push_url: &'a str,
}

impl Rival {
    pub(crate) fn name(&self) -> &'static str {
        Kind::ALL.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name)
    }

    /// Scrapes, with its storage in that folder.
    pub(crate) fn scrape(&self, folder: &Path, work: &Scrapes<'_>) -> anyhow::Result<Process> {
        let address = free_addresses(1)?[0];
        let storage = folder.join("storage");
        let arguments = match self.kind {
            Kind::Ours => ours(folder, address, &alloy_scrapes(work, "prometheus.WriteRequest"))?,
            Kind::Ours2 => ours(folder, address, &alloy_scrapes(work, "io.prometheus.write.v2.Request"))?,
            Kind::Prometheus => {
                let write = format!("remote_write:\n- url: {}\n", work.write_url);
                let config = write_file(folder, "scrape.yml", &(yaml_scrapes(work) + &write))?;
                vec![
                    format!("--config.file={config}"),
                    "--enable-feature=agent".to_owned(),
                    format!("--storage.agent.path={}", storage.display()),
                    format!("--web.listen-address={address}"),
                    "--log.level=warn".to_owned(),
                ]
            }
            Kind::Vmagent => vec![
                format!("-promscrape.config={}", write_file(folder, "scrape.yml", &yaml_scrapes(work))?),
                format!("-remoteWrite.url={}", work.write_url),
                format!("-remoteWrite.tmpDataPath={}", storage.display()),
                "-remoteWrite.forcePromProto".to_owned(),
                format!("-httpListenAddr={address}"),
            ],
            Kind::Promtail => anyhow::bail!("promtail scrapes nothing"),
        };
        self.start(folder, address, arguments)
    }

    /// Follows log files.
    pub(crate) fn follow(&self, folder: &Path, work: &Follows<'_>) -> anyhow::Result<Process> {
        let address = free_addresses(1)?[0];
        let arguments = match self.kind {
            Kind::Ours => ours(folder, address, &alloy_follows(work))?,
            Kind::Promtail => {
                let config = write_file(folder, "promtail.yml", &promtail(folder, address, work))?;
                vec![format!("-config.file={config}")]
            }
            Kind::Ours2 | Kind::Prometheus | Kind::Vmagent => {
                anyhow::bail!("{} follows no files", self.name())
            }
        };
        self.start(folder, address, arguments)
    }

    /// Our agent with that configuration and these flags besides.
    pub(crate) fn ours_with(
        &self,
        folder: &Path,
        address: SocketAddr,
        (config, flags): (&str, Vec<String>),
    ) -> anyhow::Result<Process> {
        anyhow::ensure!(self.kind == Kind::Ours, "only our agent can do that");
        let mut arguments = ours(folder, address, config)?;
        arguments.extend(flags);
        self.start(folder, address, arguments)
    }

    fn start(&self, folder: &Path, address: SocketAddr, arguments: Vec<String>) -> anyhow::Result<Process> {
        Process::start(Start {
            program: self.program.clone(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            address,
            log: folder.join("agent.log"),
        })
    }
}

fn ours(folder: &Path, address: SocketAddr, config: &str) -> anyhow::Result<Vec<String>> {
    Ok(vec![
        "run".to_owned(),
        write_file(folder, "config.alloy", config)?,
        format!("--storage.path={}", folder.join("storage").display()),
        format!("--server.http.listen-addr={address}"),
    ])
}

fn write_file(folder: &Path, name: &str, text: &str) -> anyhow::Result<String> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.display().to_string())
}

fn alloy_scrapes(work: &Scrapes<'_>, message: &str) -> String {
    let mut targets = String::new();
    for index in 0..work.count {
        writeln!(
            targets,
            "{{\"__address__\" = \"{}\", \"__metrics_path__\" = \"/t/{index}/metrics\", \"instance\" = \"host-{index:05}\", \"job\" = \"bench\"}},",
            work.targets
        )
        .expect("a String takes every write");
    }
    format!(
        r#"prometheus.scrape "bench" {{
	targets         = [
{targets}]
	forward_to      = [prometheus.remote_write.bench.receiver]
	scrape_interval = "{0}s"
	scrape_timeout  = "{1}s"
}}
prometheus.remote_write "bench" {{
	endpoint {{
		url              = "{2}"
		protobuf_message = "{message}"
	}}
}}
"#,
        work.interval_s,
        work.interval_s.min(10),
        work.write_url
    )
}

fn yaml_scrapes(work: &Scrapes<'_>) -> String {
    let timeout = work.interval_s.min(10);
    let mut text = format!(
        "global: {{scrape_interval: {}s, scrape_timeout: {timeout}s}}\nscrape_configs:\n- job_name: bench\n  static_configs:\n",
        work.interval_s
    );
    for index in 0..work.count {
        writeln!(
            text,
            "  - targets: ['{}']\n    labels: {{__metrics_path__: /t/{index}/metrics, instance: host-{index:05}}}",
            work.targets
        )
        .expect("a String takes every write");
    }
    text
}

fn alloy_follows(work: &Follows<'_>) -> String {
    let (receiver, process) = match work.kind {
        logs::Kind::Plain => ("loki.write", ""),
        logs::Kind::Cri => (
            "loki.process",
            "loki.process \"bench\" {\n\tforward_to = [loki.write.bench.receiver]\n\tstage.cri { }\n}\n",
        ),
    };
    format!(
        r#"local.file_match "bench" {{
	path_targets = [{{"__path__" = "{}/*.log", "job" = "bench"}}]
}}
loki.source.file "bench" {{
	targets    = local.file_match.bench.targets
	forward_to = [{receiver}.bench.receiver]
}}
{process}loki.write "bench" {{
	endpoint {{
		url = "{}"
	}}
}}
"#,
        work.logs.display(),
        work.push_url
    )
}

fn promtail(folder: &Path, address: SocketAddr, work: &Follows<'_>) -> String {
    let stages = if work.kind == logs::Kind::Cri { "  pipeline_stages: [{cri: {}}]\n" } else { "" };
    format!(
        "server: {{http_listen_address: {}, http_listen_port: {}, grpc_listen_port: 0, log_level: warn}}\n\
         positions: {{filename: {}/positions.yaml}}\nclients: [{{url: \"{}\"}}]\nscrape_configs:\n- job_name: bench\n{stages}  \
         static_configs: [{{targets: [localhost], labels: {{job: bench, __path__: \"{}/*.log\"}}}}]\n",
        address.ip(),
        address.port(),
        folder.display(),
        work.push_url,
        work.logs.display()
    )
}
