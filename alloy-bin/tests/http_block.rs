//! The `http` block of running agents: a cluster behind TLS and a password, and a reload that takes both away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_bin::testing::process::{Flags, Process, Start, free_addresses};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Members of a debug build on a busy machine take their time.
const PATIENCE: Duration = Duration::from_secs(30);

const PROTECTED: &str = "
http {
	tls {
		cert_file = \"cert.pem\"
		key_file  = \"key.pem\"
	}

	auth {
		basic {
			username = \"u\"
			password = \"hunter2\"
		}

		filter {
			paths                       = [\"/-/ready\"]
			authenticate_matching_paths = false
		}
	}
}
";

/// A request over TLS; the whole answer.
fn ask(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    request: &str,
    password: &str,
) -> std::io::Result<String> {
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(tls.clone(), name).map_err(std::io::Error::other)?;
    let connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut stream = StreamOwned::new(client, connection);
    let credentials = STANDARD.encode(format!("u:{password}"));
    let head = format!("{request} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn until(what: &str, agents: &[Process], mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        let words = || agents.iter().map(|agent| agent.last_words(20)).collect::<Vec<_>>().join("\n\n");
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", words());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_behind_tls_and_a_password_that_a_reload_takes_away() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    write("cert.pem", &certificate.pem());
    write("key.pem", &key.serialize_pem());
    let protected = PROTECTED.replace("_file = \"", &format!("_file = \"{}/", folder.path().display()));
    let protected = protected.replace("_file  = \"", &format!("_file  = \"{}/", folder.path().display()));
    let addresses = free_addresses(2).expect("free ports");
    let agents: Vec<Process> = ["a", "b"]
        .iter()
        .zip(&addresses)
        .map(|(name, address)| {
            let file = format!("{name}.alloy");
            write(&file, &protected);
            let config = folder.path().join(file);
            let flags =
                Flags { config, folder: folder.path().to_owned(), name, address: *address, join: &addresses };
            Process::start(Start::new(Path::new(env!("CARGO_BIN_EXE_alloy")).to_owned(), &flags))
                .expect("it starts")
        })
        .collect();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.der().to_vec())).expect("a certificate");
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = Arc::new(tls);

    // The streams between members come to the same port and pass beside TLS.
    until("two members", &agents, || {
        let answer = ask(addresses[0], &tls, "GET /api/v0/web/peers", "hunter2").unwrap_or_default();
        answer.matches("\"participant\"").count() == 2
    });
    let answer = ask(addresses[0], &tls, "GET /metrics", "wrong").expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 401 "), "{answer}");
    let answer = ask(addresses[0], &tls, "GET /-/ready", "wrong").expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(agents[0].get("/-/ready").is_err(), "plain HTTP is refused");

    // A certificate that is not there: the old configuration goes on, and the answer shows no password.
    write("a.alloy", &protected.replace("cert.pem", "none.pem"));
    let answer = ask(addresses[0], &tls, "POST /-/reload", "hunter2").expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 400 ") && answer.contains("none.pem"), "{answer}");
    write("a.alloy", &protected.replace("basic {", "basik {"));
    let answer = ask(addresses[0], &tls, "POST /-/reload", "hunter2").expect("an answer");
    assert!(answer.contains("unrecognized block name \"basik\"") && !answer.contains("hunter2"), "{answer}");
    write("a.alloy", "logging { }\n");
    let answer = ask(addresses[0], &tls, "POST /-/reload", "hunter2").expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(agents[0].get("/metrics").is_ok_and(|page| page.contains("alloy_build_info")), "plain and open");
    assert!(agents.iter().all(|agent| !agent.last_words(usize::MAX).contains("hunter2")));
}
