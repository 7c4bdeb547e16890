//! Lookups against a server of names on loopback.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, SRV};
use hickory_resolver::proto::rr::{Name, Record};
use tokio::net::UdpSocket;

use super::*;

/// Answers like a zone of seven names, and refuses to speak of any other.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let mut message = Message::from_vec(&buffer[..length]).unwrap().into_response();
            let query = message.queries[0].clone();
            let name = |text: &str| Name::from_ascii(text).unwrap();
            let answers = match (query.name().to_string().as_str(), query.query_type()) {
                ("_m._tcp.test.", RecordType::SRV) => vec![
                    RData::SRV(SRV::new(0, 0, 9100, name("b.test."))),
                    RData::SRV(SRV::new(0, 0, 9101, name("a.test."))),
                ],
                ("two.test.", RecordType::A) => {
                    vec![RData::A(A::new(10, 0, 0, 2)), RData::A(A::new(10, 0, 0, 1))]
                }
                ("two.test.", RecordType::AAAA) => vec![RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))],
                ("alias.test.", RecordType::A) => {
                    vec![RData::CNAME(CNAME(name("two.test."))), RData::A(A::new(10, 0, 0, 1))]
                }
                ("mail.test.", RecordType::MX) => vec![RData::MX(MX::new(1, name("mx.test.")))],
                ("none.test.", _) => {
                    message.metadata.response_code = ResponseCode::NXDomain;
                    Vec::new()
                }
                ("empty.test.", _) => Vec::new(),
                _ => {
                    message.metadata.response_code = ResponseCode::ServFail;
                    Vec::new()
                }
            };
            for answer in answers {
                let owner = match &answer {
                    RData::A(_) if query.name().to_string() == "alias.test." => name("two.test."),
                    _ => query.name().clone(),
                };
                message.add_answer(Record::from_rdata(owner, 60, answer));
            }
            socket.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    address
}

fn resolver(server: SocketAddr) -> TokioResolver {
    let mut connection = ConnectionConfig::new(ProtocolConfig::Udp);
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.options_mut().attempts = 1;
    builder.build().unwrap()
}

async fn find(server: SocketAddr, kind: RecordType, names: &[&str]) -> Vec<String> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let arguments =
        Arguments { names, kind: Kind(kind), port: 80, refresh_interval: Duration::from_secs(30) };
    let looked = look(Ok(resolver(server)), &Arc::new(arguments)).await;
    let show = |(name, outcome): (String, Outcome)| match outcome {
        Outcome::Targets(targets) => {
            let mut shown: Vec<String> = targets
                .iter()
                .map(|target| {
                    let labels = target.0.iter().filter(|(label, _)| *label != "__meta_dns_name");
                    assert_eq!(target.get("__meta_dns_name"), Some(name.as_str()));
                    labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
                })
                .collect();
            shown.sort();
            format!("{name}: {}", shown.join(" "))
        }
        other => format!("{name}: {other:?}"),
    };
    looked.into_iter().map(show).collect()
}

#[tokio::test]
async fn each_kind_of_record_gives_its_targets() {
    let server = name_server().await;
    assert_eq!(
        find(server, RecordType::SRV, &["_m._tcp.test."]).await,
        [
            "_m._tcp.test.: __address__=a.test:9101,__meta_dns_srv_record_port=9101,__meta_dns_srv_record_target=a.test. \
          __address__=b.test:9100,__meta_dns_srv_record_port=9100,__meta_dns_srv_record_target=b.test."
        ]
    );
    assert_eq!(
        find(server, RecordType::A, &["two.test.", "alias.test."]).await,
        [
            "alias.test.: __address__=10.0.0.1:80",
            "two.test.: __address__=10.0.0.1:80 __address__=10.0.0.2:80"
        ]
    );
    assert_eq!(find(server, RecordType::AAAA, &["two.test."]).await, ["two.test.: __address__=[fd00::1]:80"]);
    assert_eq!(
        find(server, RecordType::MX, &["mail.test."]).await,
        ["mail.test.: __address__=mx.test:80,__meta_dns_mx_record_target=mx.test."]
    );
}

#[tokio::test]
async fn a_name_without_records_is_no_failure_and_a_failure_is_one() {
    let server = name_server().await;
    let found = find(server, RecordType::A, &["none.test.", "empty.test.", "broken.test."]).await;
    assert_eq!(found[1..], ["empty.test.: ", "none.test.: "], "{found:?}");
    assert!(found[0].starts_with("broken.test.: Failed(\"cannot look up A records: "), "{found:?}");
}
