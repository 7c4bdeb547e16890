//! The client against servers of its own: plain, TLS, mutual TLS, HTTP/2, proxies, tokens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::{Body, Decode, Scope, decode_statements};
use crate::syntax::{Sources, parse};

mod connections;
mod options;

/// What takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads the options as a component would.
fn options(text: &str) -> Result<HttpClientOptions, String> {
    struct Component(HttpClientOptions);
    impl Decode for Component {
        fn decode(body: &mut Body<'_>) -> Self {
            Component(HttpClientOptions::read(body, true))
        }
    }
    let mut sources = Sources::default();
    let id = sources.add("main.alloy", text);
    let (file, diagnostics) = parse(&sources, id);
    assert!(!diagnostics.has_errors(), "{}", diagnostics.render(&sources));
    let header = file.statements.first().map_or_else(
        || unreachable!("no test is empty"),
        |first| match first {
            crate::syntax::ast::Statement::Attribute(attribute) => attribute.name.span,
            crate::syntax::ast::Statement::Block(block) => block.header(),
        },
    );
    let decoded: Result<Component, _> = decode_statements(&file.statements, header, &Scope::default());
    decoded.map(|component| component.0).map_err(|diagnostics| diagnostics.render(&sources))
}

fn client(text: &str) -> HttpClient {
    HttpClient::new(&options(text).unwrap())
}

/// What a server saw of a request.
#[derive(Debug, Clone, Default)]
struct Seen {
    method: Method,
    uri: String,
    version: Version,
    headers: http::HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("-", |value| value.to_str().unwrap())
    }
}

/// A server on loopback that remembers its requests, and answers by a script: the last answer stays.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Response<Full<Bytes>>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(tls: Option<rustls::ServerConfig>) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, script): (Arc<Mutex<Vec<Seen>>>, Arc<Mutex<VecDeque<_>>>) = Default::default();
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let (requests, answers) = (seen.clone(), script.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, answers, acceptor) = (requests.clone(), answers.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(TokioIo::new(stream), requests, answers).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve(TokioIo::new(stream), requests, answers).await,
                            Err(_) => drop(requests),
                        },
                    }
                });
            }
        });
        Server { address, seen, script, task }
    }

    fn answer(&self, answer: Response<Full<Bytes>>) {
        self.script.lock().unwrap().push_back(answer);
    }

    fn json(&self, status: u16, body: &str) {
        self.answer(
            Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap(),
        );
    }

    fn redirect(&self, status: u16, location: &str) {
        let response = Response::builder().status(status).header("location", location);
        self.answer(response.body(Full::default()).unwrap());
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn last(&self) -> Seen {
        self.seen().pop().expect("it was asked")
    }

    fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/metrics", self.address.port())
    }

    fn http(&self) -> String {
        self.url("http", "127.0.0.1")
    }
}

async fn serve(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Response<Full<Bytes>>>>>,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (seen, script) = (seen.clone(), script.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            seen.lock().unwrap().push(Seen {
                method: parts.method,
                uri: parts.uri.to_string(),
                version: parts.version,
                headers: parts.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            });
            let mut script = script.lock().unwrap();
            let answer = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
            Ok::<_, Infallible>(answer.unwrap_or_else(|| Response::new(Full::new(Bytes::from_static(b"ok")))))
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the client's affair.
    drop(builder.serve_connection(io, service).await);
}

/// A certificate authority, and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for that name.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A server with that name; `clients` must show a certificate of that authority.
    fn server(&self, name: &str, clients: Option<&Authority>) -> rustls::ServerConfig {
        self.server_with(name, clients, rustls::ALL_VERSIONS)
    }

    fn server_with(
        &self,
        name: &str,
        clients: Option<&Authority>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (certificate, key) = self.sign(name);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

async fn get(client: &HttpClient, url: &str) -> Result<StatusCode, String> {
    send(client, Method::GET, url, "").await
}

async fn send(client: &HttpClient, method: Method, url: &str, body: &str) -> Result<StatusCode, String> {
    let mut request = Request::new(Bytes::from(body.to_owned()));
    (*request.method_mut(), *request.uri_mut()) = (method, url.parse().unwrap());
    let response = tokio::time::timeout(PATIENCE, client.send(request)).await.expect("it answers");
    match response {
        Ok(response) => {
            let status = response.status();
            read(response, 1 << 20).await.unwrap();
            Ok(status)
        }
        Err(error) => Err(format!("{error:#}")),
    }
}

/// A PEM text in the configuration language.
fn raw(text: &str) -> String {
    format!("`{text}`")
}
