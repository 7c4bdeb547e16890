//! The server as its clients see it: over TLS, with and without passwords and certificates.

mod limits;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Divert, Front, HttpBlock, Listener, Protection};
use crate::config::{Scope, decode_statements};
use crate::syntax::{Sources, Span, parse};

/// An authority that signs certificates for `localhost`.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"),
        )
    }

    /// Certificate and key as PEM.
    fn signed(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// A folder with `ca.pem`, `cert.pem` and `key.pem`.
fn certificates(authority: &Authority) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("ca.pem"), authority.0.pem()).expect("writable");
    renew(authority, folder.path());
    folder
}

fn renew(authority: &Authority, folder: &Path) {
    let (certificate, key) = authority.signed();
    std::fs::write(folder.join("cert.pem"), certificate).expect("writable");
    std::fs::write(folder.join("key.pem"), key).expect("writable");
}

/// Decodes a `http` block's body; `DIR` stands for the folder.
fn decode(body: &str, folder: &Path) -> Result<HttpBlock, String> {
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", body.replace("DIR", &folder.display().to_string()));
    let (file, diagnostics) = parse(&sources, id);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render(&sources));
    let header = Span { source: id, ..Span::default() };
    decode_statements(&file.statements, header, &Scope::default()).map_err(|found| found.render(&sources))
}

struct Server {
    address: SocketAddr,
    front: Arc<Front>,
    /// Connections that went to the cluster.
    diverted: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const TLS: &str = "tls {\n cert_file = \"DIR/cert.pem\"\n key_file = \"DIR/key.pem\"\n}\n";

async fn serve(body: &str, folder: &Path) -> Server {
    let block = decode(body, folder).expect("a valid block");
    let front = Arc::new(Front::new(Protection::new(block).expect("readable files")));
    let listener = Listener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.address().expect("an address");
    let router = Router::new()
        .route("/metrics", get(|| async { "metrics" }))
        .route("/-/ready", get(|| async { "ready" }));
    let diverted = Arc::new(AtomicUsize::new(0));
    let count = diverted.clone();
    let take = move |mut stream: TcpStream| {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut magic = [0; 4];
            stream.read_exact(&mut magic).await?;
            stream.write_all(b"member").await
        });
    };
    let divert = Divert { magic: [0, 1, 2, 3], take: Arc::new(take) };
    let stop = CancellationToken::new();
    tokio::spawn(listener.serve(router, front.clone(), Some(divert), stop.clone()));
    Server { address, front, diverted, stop }
}

/// A client that trusts the authority, and shows a certificate if it has one.
fn connector(authority: &Authority, identity: Option<(String, String)>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).expect("a certificate");
    roots.add(ca).expect("an authority");
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("they belong together")
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// The whole answer.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    password: Option<&str>,
) -> std::io::Result<String> {
    use base64::Engine;
    let encoded = password.map(|text| base64::engine::general_purpose::STANDARD.encode(text));
    let header = encoded.map_or(String::new(), |encoded| format!("Authorization: basic {encoded}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn ask_plain(server: &Server, path: &str, password: Option<&str>) -> String {
    let stream = TcpStream::connect(server.address).await.expect("it listens");
    ask(stream, path, password).await.expect("an answer")
}

async fn ask_tls(server: &Server, connector: &TlsConnector, path: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    ask(connector.connect(name, stream).await?, path, None).await
}

#[tokio::test]
async fn requests_come_over_tls_and_members_past_it() {
    let authority = Authority::new();
    let folder = certificates(&authority);
    let server = serve(TLS, folder.path()).await;
    let answer = ask_tls(&server, &connector(&authority, None), "/metrics").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("metrics"), "{answer}");
    let stranger = connector(&Authority::new(), None);
    assert!(ask_tls(&server, &stranger, "/metrics").await.is_err(), "another authority is not trusted");
    let answer = ask_plain(&server, "/metrics", None).await;
    assert!(answer.starts_with("HTTP/1.0 400") && answer.contains("to an HTTPS server"), "{answer}");
    assert_eq!(server.diverted.load(Ordering::Relaxed), 0);
    let mut member = TcpStream::connect(server.address).await.expect("it listens");
    member.write_all(&[0, 1, 2, 3]).await.expect("open");
    let mut answer = String::new();
    member.read_to_string(&mut answer).await.expect("text");
    assert_eq!((answer.as_str(), server.diverted.load(Ordering::Relaxed)), ("member", 1));
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_come_in() {
    let authority = Authority::new();
    let folder = certificates(&authority);
    let with = |kind: &str| {
        TLS.replace('}', &format!("client_ca_file = \"DIR/ca.pem\"\nclient_auth_type = \"{kind}\"\n}}"))
    };
    let known = connector(&authority, Some(authority.signed()));
    let unknown = connector(&authority, Some(Authority::new().signed()));
    let nobody = connector(&authority, None);
    let required = serve(&with("RequireAndVerifyClientCert"), folder.path()).await;
    let if_given = serve(&with("VerifyClientCertIfGiven"), folder.path()).await;
    let is_served = async |server: &Server, connector: &TlsConnector| {
        ask_tls(server, connector, "/metrics").await.is_ok_and(|answer| answer.contains("200 OK"))
    };
    assert!(is_served(&required, &known).await);
    assert!(!is_served(&required, &nobody).await);
    assert!(!is_served(&required, &unknown).await);
    assert!(is_served(&if_given, &known).await);
    assert!(is_served(&if_given, &nobody).await);
    assert!(!is_served(&if_given, &unknown).await);
}

#[tokio::test]
async fn a_password_is_asked_where_the_filter_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    const BASIC: &str = "basic {\n username = \"u\"\n password = \"p:x\"\n}\n";
    let check = async |filter: &str, path: &str, password: Option<&str>, status: &str| {
        let server = serve(&format!("auth {{\n{BASIC}{filter}\n}}"), folder.path()).await;
        let answer = ask_plain(&server, path, password).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{filter} {path} {password:?}: {answer}");
        let challenged = answer.contains("www-authenticate: Basic realm=\"alloy\"");
        assert_eq!(challenged, status == "401", "{answer}");
    };
    check("", "/metrics", None, "401").await;
    check("", "/metrics", Some("u:p:x"), "200").await;
    check("", "/metrics", Some("u:p"), "401").await;
    check("", "/metrics", Some("u:"), "401").await;
    check("", "/metrics", Some(""), "401").await;
    check("", "/metrics", Some("v:p:x"), "401").await;
    const ONLY: &str = "filter {\n paths = [\"/met\"]\n}";
    check(ONLY, "/metrics", None, "401").await;
    check(ONLY, "/-/ready", None, "200").await;
    const BUT: &str = "filter {\n paths = [\"/-/\"]\n authenticate_matching_paths = false\n}";
    check(BUT, "/metrics", None, "401").await;
    check(BUT, "/-/ready", None, "200").await;
    check("filter { }", "/metrics", None, "200").await;
}

#[tokio::test]
async fn renewed_certificates_are_used_and_broken_ones_are_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = certificates(&old);
    let server = serve(TLS, folder.path()).await;
    let (trusts_old, trusts_new) = (connector(&old, None), connector(&new, None));
    assert!(ask_tls(&server, &trusts_old, "/metrics").await.is_ok());
    assert!(ask_tls(&server, &trusts_new, "/metrics").await.is_err());
    std::fs::write(folder.path().join("key.pem"), "half a ke").expect("writable");
    server.front.refresh();
    assert!(ask_tls(&server, &trusts_old, "/metrics").await.is_ok(), "the old ones go on");
    std::fs::remove_file(folder.path().join("cert.pem")).expect("it was there");
    server.front.refresh();
    assert!(ask_tls(&server, &trusts_old, "/metrics").await.is_ok(), "the old ones go on");
    renew(&new, folder.path());
    server.front.refresh();
    assert!(ask_tls(&server, &trusts_new, "/metrics").await.is_ok());
    assert!(ask_tls(&server, &trusts_old, "/metrics").await.is_err());
    // A reload may take TLS away, and bring a password.
    let block =
        decode("auth {\n basic {\n username = \"u\"\n password = \"p\"\n}\n}", folder.path()).expect("valid");
    server.front.set(Protection::new(block).expect("no files"));
    assert!(ask_plain(&server, "/metrics", None).await.starts_with("HTTP/1.1 401"));
    assert!(ask_plain(&server, "/metrics", Some("u:p")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn versions_suites_and_curves_are_those_of_the_block() {
    let authority = Authority::new();
    let folder = certificates(&authority);
    let body = TLS.replace(
        '}',
        "max_version = \"TLS12\"\ncipher_suites = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]\n\
         curve_preferences = [\"CurveP384\"]\n}",
    );
    let server = serve(&body, folder.path()).await;
    let stream = TcpStream::connect(server.address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = connector(&authority, None).connect(name, stream).await.expect("a handshake");
    let session = stream.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(suite, Some(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384));
    let group = session.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(rustls::NamedGroup::secp384r1));
}

#[test]
fn what_is_wrong_with_the_block_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |body: &str, expected: &[&str]| {
        let text = decode(body, folder.path()).expect_err(body);
        let messages: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("Error: main.alloy:")).collect();
        assert_eq!(messages, expected, "{body}");
    };
    check(
        "tls { }",
        &[
            "1:1: missing required attribute \"cert_pem\" or \"cert_file\"",
            "1:1: missing required attribute \"key_pem\" or \"key_file\"",
        ],
    );
    check(
        "tls {\ncert_file = \"a\"\ncert_pem = \"b\"\nkey_file = \"\"\nmin_version = \"TLS11\"\nclient_auth_type = \"RequestClientCert\"\n}",
        &[
            "1:1: missing required attribute \"key_pem\" or \"key_file\"",
            "2:13: only one of cert_pem and cert_file may be set",
            "5:15: is broken (RFC 8996) and not spoken here; use \"TLS12\" or \"TLS13\"",
            "6:20: a certificate that nobody verifies protects nothing; use \"VerifyClientCertIfGiven\" or \"RequireAndVerifyClientCert\"",
        ],
    );
    check(
        "tls {\ncert_file = \"a\"\nkey_file = \"b\"\nclient_ca_file = \"c\"\nmin_version = \"TLS13\"\nmax_version = \"TLS12\"\n\
         curve_preferences = [\"x\"]\nwindows_certificate_filter { }\n}",
        &[
            "1:1: a client CA needs a client_auth_type such as \"RequireAndVerifyClientCert\"",
            "6:15: is older than min_version",
            "7:22: expected one of \"CurveP256\", \"CurveP384\", \"CurveP521\", \"X25519\", \"X25519MLKEM768\", got \"x\"",
            "8:1: block \"windows_certificate_filter\" is known to Alloy but not supported here",
        ],
    );
    check(
        "tls {\ncert_file = \"a\"\nkey_file = \"b\"\nclient_auth_type = \"VerifyClientCertIfGiven\"\ncipher_suites = [\"TLS_RSA_WITH_AES_128_CBC_SHA\"]\n}",
        &[
            "4:20: needs client_ca_pem or client_ca_file to verify with",
            "5:17: cipher suite \"TLS_RSA_WITH_AES_128_CBC_SHA\" is not supported; there are TLS_AES_256_GCM_SHA384, \
             TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, \
             TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, \
             TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, \
             TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ],
    );
    check(
        "auth {\nbasic {\nusername = \"a:b\"\npassword = \"\"\n}\n}",
        &["3:12: can't contain a colon", "4:12: must not be empty"],
    );
    check("auth { }", &["1:1: missing required block \"basic\""]);
    let block = decode(TLS, folder.path()).expect("valid");
    let error = Protection::new(block).err().expect("there is no file");
    let expected = format!(
        "http block: cannot read {}/cert.pem: No such file or directory (os error 2)",
        folder.path().display()
    );
    assert_eq!(format!("{error:#}"), expected);
}
