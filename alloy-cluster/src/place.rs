//! [`Place`]: where members are found. One text of the configuration, and what it leads to today.
//!
//! | text | leads to |
//! | --- | --- |
//! | `10.0.0.7:7946`, `10.0.0.7`, `[fd00::7]:7946`, `fd00::7` | this address; without a port, this node's own |
//! | `alloy-cluster:7946`, `alloy-cluster` | all A and AAAA records, as the system resolves names; if there are none, as `dnssrv+` |
//! | `dns+alloy-cluster:7946` | A and AAAA only |
//! | `dnssrv+_gossip._udp.alloy`, `dnssrvnoa+...` | the targets of SRV records, each at its record's port |
//! | `file+/etc/alloy/members` | one of the above in each line; `#` begins a comment |

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

/// How long looking up one text may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest file: some 20,000 lines.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How many names of a file are looked up each time; addresses cost nothing.
const FILE_NAMES_MAX: usize = 64;

/// Where members are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Address(IpAddr, Option<u16>),
    /// A and AAAA; with `or_service` SRV if there are none.
    Host {
        host: String,
        port: Option<u16>,
        or_service: bool,
    },
    Service(String),
    File(PathBuf),
}

/// How texts are looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup {
    /// The port of those that have none.
    pub(crate) port: u16,
    /// Who is asked for SRV records; `None`: the system's servers.
    pub(crate) dns_server: Option<SocketAddr>,
}

impl Place {
    /// What a text means; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some((prefix, rest)) = text.split_once('+') {
            return match prefix {
                _ if rest.is_empty() => Err(format!("there is nothing behind `{prefix}+`")),
                "dns" => Place::host(rest, false),
                "dnssrv" | "dnssrvnoa" if cfg!(feature = "dns") => Ok(Place::Service(rest.to_owned())),
                "dnssrv" | "dnssrvnoa" => Err("this program has been built without SRV records".to_owned()),
                "file" => Ok(Place::File(rest.into())),
                _ => Err(format!("`{prefix}+` is none of dns+, dnssrv+, dnssrvnoa+ and file+")),
            };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Place::Address(address.ip(), Some(address.port())));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match bare.parse() {
            Ok(ip) => Ok(Place::Address(ip, None)),
            Err(_) => Place::host(text, cfg!(feature = "dns")),
        }
    }

    fn host(text: &str, or_service: bool) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let number = port.parse::<u16>().ok().filter(|port| *port != 0);
                (host, Some(number.ok_or_else(|| format!("`{port}` is not a port"))?))
            }
            None => (text, None),
        };
        // Anything else cannot be a name; what the resolver would say of it is less clear.
        let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(format!("`{host}` is neither an address nor the name of a host"));
        }
        Ok(Place::Host { host: host.to_owned(), port, or_service })
    }

    /// All addresses that it leads to now.
    pub(crate) async fn resolve(&self, lookup: Lookup) -> io::Result<Vec<SocketAddr>> {
        let Place::File(path) = self else { return self.resolve_one(lookup).await };
        let path = path.clone();
        let places = tokio::task::spawn_blocking(move || read(&path)).await.map_err(io::Error::other)??;
        let (mut addresses, mut names, mut failed) = (Vec::new(), 0, None);
        for place in places {
            let is_name = !matches!(place, Place::Address(..));
            names += usize::from(is_name);
            if is_name && names > FILE_NAMES_MAX {
                continue;
            }
            match place.resolve_one(lookup).await {
                Ok(found) => addresses.extend(found),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }

    async fn resolve_one(&self, lookup: Lookup) -> io::Result<Vec<SocketAddr>> {
        let Lookup { port: own_port, dns_server } = lookup;
        match self {
            Place::Address(ip, port) => Ok(vec![SocketAddr::new(*ip, port.unwrap_or(own_port))]),
            Place::Host { host, port, or_service } => {
                let target = (host.as_str(), port.unwrap_or(own_port));
                let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(target)).await?;
                let addresses: io::Result<Vec<SocketAddr>> = found.map(Iterator::collect);
                match addresses {
                    Err(error) if *or_service => service(host, dns_server).await.map_err(|_| error),
                    addresses => addresses,
                }
            }
            Place::Service(name) => service(name, dns_server).await,
            Place::File(_) => Err(io::Error::other("a file of addresses cannot name another")),
        }
    }
}

#[cfg(feature = "dns")]
async fn service(name: &str, server: Option<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    timeout(RESOLVE_TIMEOUT, crate::dns::service(name, server)).await?
}

#[cfg(not(feature = "dns"))]
async fn service(_name: &str, _server: Option<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The places in a file. One bad line refuses the file: it may have been read while somebody wrote it.
fn read(path: &Path) -> io::Result<Vec<Place>> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("the file is longer than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().enumerate().map(|(at, line)| (at, line.split('#').next().unwrap_or("").trim()));
    let places = lines.filter(|(_, line)| !line.is_empty()).map(|(at, line)| {
        let place = Place::parse(line).map_err(|reason| format!("line {}: {reason}", at + 1));
        match place {
            Ok(Place::File(_)) => Err(format!("line {}: a file of addresses cannot name another", at + 1)),
            place => place,
        }
    });
    places.collect::<Result<_, String>>().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_means_one_thing_or_says_what_is_wrong() {
        let ip = |text: &str, port| Ok(Place::Address(text.parse().expect("an address"), port));
        let host = |host: &str, port, or_service| Ok(Place::Host { host: host.to_owned(), port, or_service });
        let is_dns = cfg!(feature = "dns");
        let check =
            |text: &str, expected: Result<Place, String>| assert_eq!(Place::parse(text), expected, "{text}");
        check("10.0.0.7", ip("10.0.0.7", None));
        check("10.0.0.7:1", ip("10.0.0.7", Some(1)));
        check("fd00::7", ip("fd00::7", None));
        check("[fd00::7]", ip("fd00::7", None));
        check("[fd00::7]:1", ip("fd00::7", Some(1)));
        check("alloy", host("alloy", None, is_dns));
        check("alloy.example:7946", host("alloy.example", Some(7946), is_dns));
        check("dns+alloy:1", host("alloy", Some(1), false));
        check("file+/etc/alloy members", Ok(Place::File("/etc/alloy members".into())));
        check("alloy:", Err("`` is not a port".to_owned()));
        check("alloy:70000", Err("`70000` is not a port".to_owned()));
        check("", Err("`` is neither an address nor the name of a host".to_owned()));
        check("http://alloy", Err("`//alloy` is not a port".to_owned()));
        check("a host", Err("`a host` is neither an address nor the name of a host".to_owned()));
        check("dns+", Err("there is nothing behind `dns+`".to_owned()));
        check("srv+a", Err("`srv+` is none of dns+, dnssrv+, dnssrvnoa+ and file+".to_owned()));
        #[cfg(feature = "dns")]
        check("dnssrv+_gossip._udp.alloy", Ok(Place::Service("_gossip._udp.alloy".to_owned())));
    }
}
