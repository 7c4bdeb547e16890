//! SRV records (RFC 2782), which say at which port each member is, by the `hickory-resolver` crate.
//!
//! The resolver asks again by TCP what did not fit into a datagram. A service whose answer does not fit into the 64 KiB of a
//! DNS message over TCP either (some 1,000 members) is an error to it; here the part that came is used: it leads to a few
//! members, and those tell of all.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};
use rand::seq::SliceRandom;
use tokio::task::JoinSet;

/// How long one server may take, and how often they are asked: the service and then its targets take at most 8 s.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Of the targets whose address the answer does not bring, so many are looked up each time, by lot: one member that answers
/// is enough, and every time others have their turn.
const TARGETS_MAX: usize = 16;

/// The addresses of a service, each with the port of its record. Without `server` those of `/etc/resolv.conf` are asked, which is
/// read each time, for it may change.
pub(crate) async fn service(name: &str, server: Option<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let config = match server {
        Some(server) => of_server(server),
        None => system_conf::read_system_conf().map_err(io::Error::other)?.0,
    };
    let mut builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
    let options = builder.options_mut();
    // What was true at the last look is of no interest.
    options.cache_size = 0;
    (options.timeout, options.attempts) = (TIMEOUT, ATTEMPTS);
    let resolver = Arc::new(builder.build().map_err(io::Error::other)?);
    let answer = ask(name, &resolver, &config).await.map_err(io::Error::other)?;
    let (mut addresses, mut others) = targets(&answer);
    others.shuffle(&mut rand::rng());
    let mut lookups = JoinSet::new();
    for (target, port) in others.into_iter().take(TARGETS_MAX) {
        let resolver = resolver.clone();
        lookups.spawn(async move { (resolver.lookup_ip(target).await, port) });
    }
    while let Some(looked_up) = lookups.join_next().await {
        // A record of a member that is gone must not hide those that are there.
        let Ok((Ok(found), port)) = looked_up else { continue };
        addresses.extend(found.iter().map(|ip| SocketAddr::new(ip, port)));
    }
    Ok(addresses)
}

async fn ask(name: &str, resolver: &TokioResolver, config: &ResolverConfig) -> Result<Message, NetError> {
    match resolver.lookup(name, RecordType::SRV).await {
        Ok(lookup) => Ok(lookup.message().clone()),
        Err(NetError::Truncated) => part_by_tcp(name, config).await,
        Err(error) => Err(error),
    }
}

fn of_server(server: SocketAddr) -> ResolverConfig {
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = server.port());
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

/// Those whose addresses came with the answer, and the names and ports of those whose did not.
fn targets(message: &Message) -> (Vec<SocketAddr>, Vec<(Name, u16)>) {
    let mut known: HashMap<&Name, Vec<IpAddr>> = HashMap::new();
    for record in &message.additionals {
        let ip = match &record.data {
            RData::A(a) => IpAddr::from(a.0),
            RData::AAAA(aaaa) => IpAddr::from(aaaa.0),
            _ => continue,
        };
        known.entry(&record.name).or_default().push(ip);
    }
    let (mut addresses, mut others) = (Vec::new(), Vec::new());
    for record in &message.answers {
        let RData::SRV(service) = &record.data else { continue };
        match known.get(&service.target) {
            Some(ips) => addresses.extend(ips.iter().map(|ip| SocketAddr::new(*ip, service.port))),
            // The root as the target means that there is no such service (RFC 2782).
            None if service.target.is_root() => {}
            None => others.push((service.target.clone(), service.port)),
        }
    }
    (addresses, others)
}

/// The records that a server puts into its longest answer.
async fn part_by_tcp(name: &str, config: &ResolverConfig) -> Result<Message, NetError> {
    let name = Name::from_str_relaxed(name)?;
    let mut names = vec![name.clone()];
    if !name.is_fqdn() {
        names.extend(config.search().iter().filter_map(|domain| name.clone().append_domain(domain).ok()));
    }
    let mut last = NetError::Truncated;
    // The connection's task ends with it.
    let provider = TokioRuntimeProvider::default();
    for server in config.name_servers() {
        let port = server.connections.first().map_or(53, |connection| connection.port);
        let address = SocketAddr::new(server.ip, port);
        let exchange = match TcpClientStream::exchange(address, None, TIMEOUT, None, provider.clone()).await {
            Ok(exchange) => exchange,
            Err(error) => {
                last = error;
                continue;
            }
        };
        for name in &names {
            let mut name = name.clone();
            name.set_fqdn(true);
            let query = Query::query(name, RecordType::SRV);
            match exchange.lookup(query, DnsRequestOptions::default()).first_answer().await {
                Ok(answer) if !answer.answers.is_empty() => return Ok(answer.into_message()),
                Ok(_none) => {}
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hickory_resolver::proto::rr::rdata::{A, SOA, SRV};
    use hickory_resolver::proto::rr::{LowerName, Record};
    use hickory_server::Server;
    use hickory_server::store::in_memory::InMemoryZoneHandler;
    use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::{ClusterConfig, LinkListen, Membership, Node, bind};

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    /// Addresses of so many members, at ports from 10,000 on.
    fn members(count: u16) -> Vec<SocketAddr> {
        let address = |index: u16| {
            let [high, low] = index.to_be_bytes();
            SocketAddr::from(([10, 0, high, low], 10_000 + index))
        };
        (0..count).map(address).collect()
    }

    /// A real server on loopback with these services.
    async fn server(services: &[(&str, Vec<SocketAddr>)]) -> (Server<Catalog>, SocketAddr) {
        let zone = name("test.");
        let mut records: InMemoryZoneHandler =
            InMemoryZoneHandler::empty(zone.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 60, 60, 60, 60);
        records.upsert_mut(Record::from_rdata(zone.clone(), 60, RData::SOA(soa)), 1);
        for (service, members) in services {
            for (index, member) in members.iter().enumerate() {
                let IpAddr::V4(ip) = member.ip() else { panic!("{member}") };
                let target = name(&format!("member-{index}.{service}"));
                let record = RData::SRV(SRV::new(0, 0, member.port(), target.clone()));
                records.upsert_mut(Record::from_rdata(name(service), 60, record), 1);
                records.upsert_mut(Record::from_rdata(target, 60, RData::A(A(ip))), 1);
            }
        }
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::from(zone), vec![Arc::new(records)]);
        let mut server = Server::new(catalog);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("loopback binds");
            let address = udp.local_addr().expect("bound");
            // The port may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(address).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("bound");
        server.register_socket(udp);
        server.register_listener(tcp, TIMEOUT, 64);
        (server, address)
    }

    async fn answer(name: &str, server: SocketAddr) -> Message {
        let config = of_server(server);
        let resolver = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
        ask(name, &resolver.build().expect("it is well"), &config).await.expect("there is an answer")
    }

    fn ports(message: &Message) -> BTreeSet<u16> {
        let (addresses, others) = targets(message);
        addresses.iter().map(SocketAddr::port).chain(others.iter().map(|(_, port)| *port)).collect()
    }

    #[tokio::test]
    async fn every_record_is_found_at_its_own_port_also_beyond_a_datagram() {
        let (_server, address) =
            server(&[("_few._udp.test.", members(3)), ("_many._udp.test.", members(400))]).await;
        let found = service("_few._udp.test.", Some(address)).await.expect("it is there");
        assert_eq!(BTreeSet::from_iter(found), BTreeSet::from_iter(members(3)));

        // 400 records have 20 KiB: a datagram has room for 1,232 bytes.
        assert_eq!(ports(&answer("_many._udp.test.", address).await), BTreeSet::from_iter(10_000..10_400));
        let found = service("_many._udp.test.", Some(address)).await.expect("it is there");
        assert!(found.len() >= TARGETS_MAX, "{found:?}");
        assert!(
            found.iter().all(|address| members(400).contains(address)),
            "each at its own port: {found:?}"
        );
    }

    #[tokio::test]
    async fn an_answer_beyond_64_kib_leads_to_some_members() {
        let (_server, address) = server(&[("_huge._udp.test.", members(5000))]).await;
        let ports = ports(&answer("_huge._udp.test.", address).await);
        assert!((1000..5000).contains(&ports.len()), "{}", ports.len());
        let found = service("_huge._udp.test.", Some(address)).await.expect("a part of it comes");
        assert!(found.len() >= TARGETS_MAX, "{found:?}");
    }

    #[tokio::test]
    async fn a_node_joins_the_members_of_a_service() {
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let start = async |name: &str, join: Vec<String>, dns_server| {
            let node = Node { name: name.into(), address: loopback, incarnation: 1 };
            let config = ClusterConfig { join, dns_server, ..ClusterConfig::new("dns", node) };
            let (cluster, driver) = bind(config, loopback, LinkListen::Own).await.expect("loopback binds");
            (cluster, tokio::spawn(driver.run()))
        };
        let (one, run_one) = start("one", Vec::new(), None).await;
        let (_server, address) = server(&[("_gossip._udp.test.", vec![one.node().address])]).await;
        let by_service = vec!["dnssrv+_gossip._udp.test.".to_owned()];
        let (other, run_other) = start("other", by_service, Some(address)).await;
        let joined = async {
            let mut view = other.view();
            while view.members().len() < 2 {
                view = other.changed(view.epoch()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), joined).await.expect("it has the member's port");
        run_one.abort();
        run_other.abort();
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_says_so() {
        let (_server, address) = server(&[("_few._udp.test.", members(3))]).await;
        let error = service("_none._udp.test.", Some(address)).await.expect_err("there is none");
        assert!(error.to_string().contains("_none._udp.test"), "{error}");
    }
}
