//! The flags of `alloy run`.

use std::path::PathBuf;

use clap::Args;

use crate::outbox::{self, MaxSize};
use crate::ownership::ClusterFlags;

pub(super) const AFTER_HELP: &str = "\
Examples:
  alloy run config.alloy
  alloy run /etc/alloy --storage.path=/var/lib/alloy --server.http.listen-addr=0.0.0.0:12345
  alloy run config.alloy --cluster.enabled --cluster.join-addresses=alloy-0,alloy-1,alloy-2

Signals:
  SIGTERM, SIGINT  stop: give the keys to other members, send what was accepted; a second one stops at once
  SIGHUP           load the configuration again

Environment:
  Every flag has a variable: --storage.path is ALLOY_STORAGE_PATH. Values in the configuration: sys.env(\"NAME\").

Exit codes:
  0  stopped as asked
  1  the first configuration does not run, or the storage or the port cannot be had
  2  the command line is wrong";

/// Flags of `alloy run`.
#[derive(Debug, Args)]
pub struct RunFlags {
    /// The configuration: a file, or a folder with *.alloy files.
    pub config: PathBuf,
    /// Where logs and positions are kept.
    #[arg(long = "storage.path", value_name = "DIR", default_value = "data-alloy/")]
    pub storage: PathBuf,
    /// What the logs of all endpoints may take together, as a size or a share of the file system such as 80%; those without a
    /// `max_bytes` of their own share it equally [default: 4GiB each].
    #[arg(long = "storage.max-size", value_name = "SIZE|PERCENT")]
    pub max_size: Option<MaxSize>,
    /// Where the HTTP server listens.
    #[arg(long = "server.http.listen-addr", value_name = "HOST:PORT", default_value = "127.0.0.1:12345")]
    pub listen: String,
    /// Do not answer on /-/support.
    #[arg(long = "server.http.disable-support-bundle", alias = "disable-support-bundle")]
    pub disable_support_bundle: bool,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Each flag with its value, for people.
    #[arg(skip)]
    pub shown: Vec<String>,
}

impl RunFlags {
    /// From now on logs share what `--storage.max-size` says, of the storage that is there by now.
    pub(crate) fn limit_logs(&self) -> anyhow::Result<()> {
        self.max_size.map_or(Ok(()), |size| outbox::limit_logs(size, &self.storage))
    }
}
