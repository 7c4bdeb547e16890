//! What a configuration says of an HTTP client.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::client::parse_url;
use super::tls;
use crate::config::{Body, ConversionError, Decode, FromValue, Secret, Value};

/// The client's arguments, with Alloy's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpClientOptions {
    pub(super) credentials: Credentials,
    pub(super) connection: ConnectionOptions,
    /// `http_headers`; their values are sensitive.
    pub(super) headers: HeaderMap,
    pub(super) follow_redirects: bool,
}

/// Who we say we are.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    /// Nobody.
    None,
    /// RFC 7617.
    Basic {
        /// Has no colon.
        username: String,
        /// What only that user knows.
        password: Text,
    },
    /// `Authorization: KIND TEXT`.
    Typed {
        /// `Bearer`.
        kind: String,
        /// The token.
        text: Text,
    },
    /// With tokens by client credentials.
    OAuth2(Box<OAuth2Options>),
}

/// An `oauth2` block.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2Options {
    pub(super) client_id: String,
    pub(super) client_secret: Text,
    pub(super) scopes: Vec<String>,
    pub(super) token_url: Uri,
    pub(super) endpoint_params: BTreeMap<String, Secret>,
    pub(super) connection: ConnectionOptions,
}

/// How connections are made.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ConnectionOptions {
    pub(super) tls: TlsOptions,
    pub(super) proxy: ProxyOptions,
    pub(super) http2: bool,
    /// HTTP/2 alone, and without asking where there is no TLS: gRPC.
    pub(super) only_http2: bool,
    /// Answers go on for minutes: a connection that was cut without a word has to be noticed by itself.
    pub(super) is_watching: bool,
}

/// By which proxy.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ProxyOptions {
    /// May hold a password.
    pub(super) url: Option<Secret>,
    pub(super) no_proxy: String,
    pub(super) from_environment: bool,
    /// For `CONNECT` alone.
    pub(super) connect_headers: HeaderMap,
}

/// A `tls_config` block.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsOptions {
    /// Whom servers are to be certified by; `None`: by one of those that the system trusts.
    pub ca: Option<Text>,
    /// The client's.
    pub certificate: Option<Text>,
    /// Belongs to the client's certificate.
    pub key: Option<Text>,
    /// The name that is to be in the server's certificate; `None`: the URL's.
    pub server_name: Option<String>,
    /// Take any certificate.
    pub insecure_skip_verify: bool,
    /// The least version of TLS.
    pub min_version: MinVersion,
}

/// The least version of TLS. rustls speaks 1.2 and 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum MinVersion {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

/// A text that is given or stands in a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Text {
    /// Itself.
    Given(Secret),
    /// Read again when it changes.
    File(PathBuf),
}

impl Default for HttpClientOptions {
    /// A client of which nothing is said, with HTTP/2 where a server offers it.
    fn default() -> Self {
        HttpClientOptions {
            credentials: Credentials::None,
            connection: ConnectionOptions { http2: true, ..ConnectionOptions::default() },
            headers: HeaderMap::new(),
            follow_redirects: true,
        }
    }
}

impl HttpClientOptions {
    /// Takes any server for what it says it is.
    pub fn with_any_certificate(mut self) -> Self {
        self.connection.tls.insecure_skip_verify = true;
        self
    }
}

/// A `client` block.
impl Decode for HttpClientOptions {
    fn decode(body: &mut Body<'_>) -> Self {
        HttpClientOptions::read(body, true)
    }
}

impl HttpClientOptions {
    /// Reads the arguments among a component's own. `http2` is the default of `enable_http2`.
    pub fn read(body: &mut Body<'_>, http2: bool) -> Self {
        HttpClientOptions {
            credentials: Credentials::read(body),
            connection: ConnectionOptions {
                http2: body.optional("enable_http2", http2),
                ..ConnectionOptions::read(body)
            },
            headers: headers(body, "http_headers", RESERVED_HEADERS),
            follow_redirects: body.optional("follow_redirects", true),
        }
    }
}

#[cfg(feature = "kubernetes")]
impl HttpClientOptions {
    /// A client of which others than a configuration say who it is.
    pub fn new(credentials: Credentials, tls: TlsOptions, proxy_url: Option<Secret>) -> Self {
        let proxy = ProxyOptions { url: proxy_url, ..ProxyOptions::default() };
        let connection = ConnectionOptions { tls, proxy, http2: true, ..ConnectionOptions::default() };
        HttpClientOptions { credentials, connection, ..HttpClientOptions::default() }
    }

    /// For answers that go on for minutes: connections that were cut without a word are noticed soon.
    pub fn watching(mut self) -> Self {
        self.connection.is_watching = true;
        self
    }

    /// Each answer has a connection of its own while it is read.
    pub fn without_http2(mut self) -> Self {
        self.connection.http2 = false;
        self
    }
}

#[cfg(feature = "otelcol")]
impl HttpClientOptions {
    /// A client for OTLP: credentials come as headers.
    pub fn otel(tls: TlsOptions, proxy_url: Option<Secret>, is_grpc: bool) -> Self {
        let proxy = ProxyOptions { url: proxy_url, ..ProxyOptions::default() };
        let connection =
            ConnectionOptions { tls, proxy, http2: true, only_http2: is_grpc, is_watching: false };
        HttpClientOptions { connection, ..HttpClientOptions::default() }
    }
}

impl ConnectionOptions {
    fn read(body: &mut Body<'_>) -> Self {
        let tls = body.block("tls_config").unwrap_or_default();
        ConnectionOptions {
            tls,
            proxy: ProxyOptions::read(body),
            http2: true,
            ..ConnectionOptions::default()
        }
    }
}

impl Credentials {
    fn read(body: &mut Body<'_>) -> Self {
        let basic = body
            .block("basic_auth")
            .map(|BasicAuth { username, password }| Credentials::Basic { username, password });
        let typed =
            body.block("authorization").map(|Authorization { kind, text }| Credentials::Typed { kind, text });
        let oauth2 = body.block("oauth2").map(|options| Credentials::OAuth2(Box::new(options)));
        let bearer = text_or_file(body, "bearer_token", "bearer_token_file")
            .map(|text| Credentials::Typed { kind: "Bearer".to_owned(), text });
        let mut given = [basic, typed, oauth2, bearer].into_iter().flatten();
        let first = given.next();
        if given.next().is_some() {
            body.error("at most one of basic_auth, authorization, oauth2, bearer_token & bearer_token_file must be configured");
        }
        first.unwrap_or(Credentials::None)
    }
}

struct BasicAuth {
    username: String,
    password: Text,
}

impl Decode for BasicAuth {
    fn decode(body: &mut Body<'_>) -> Self {
        let username = body.optional("username", String::new());
        if username.contains(':') {
            // RFC 7617, section 2.
            body.error_at("username", "the username of basic authentication cannot have a colon");
        }
        BasicAuth { username, password: text_or_file(body, "password", "password_file").unwrap_or_default() }
    }
}

struct Authorization {
    kind: String,
    text: Text,
}

impl Decode for Authorization {
    fn decode(body: &mut Body<'_>) -> Self {
        let kind = body.optional("type", "Bearer".to_owned());
        let kind = if kind.is_empty() { "Bearer".to_owned() } else { kind };
        if kind.eq_ignore_ascii_case("basic") {
            body.error_at(
                "type",
                "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
            );
        }
        Authorization {
            kind,
            text: text_or_file(body, "credentials", "credentials_file").unwrap_or_default(),
        }
    }
}

impl Decode for OAuth2Options {
    fn decode(body: &mut Body<'_>) -> Self {
        let client_secret = text_or_file(body, "client_secret", "client_secret_file");
        if client_secret.is_none() {
            body.error("one of client_secret & client_secret_file must be configured");
        }
        let token_url: String = body.required("token_url");
        OAuth2Options {
            client_id: body.required("client_id"),
            client_secret: client_secret.unwrap_or_default(),
            scopes: body.optional("scopes", Vec::new()),
            token_url: checked_url(body, "token_url", &token_url),
            endpoint_params: body.optional("endpoint_params", BTreeMap::new()),
            connection: ConnectionOptions::read(body),
        }
    }
}

impl ProxyOptions {
    fn read(body: &mut Body<'_>) -> Self {
        let proxy = ProxyOptions {
            url: secret(body, "proxy_url"),
            no_proxy: body.optional("no_proxy", String::new()),
            from_environment: body.optional("proxy_from_environment", false),
            connect_headers: headers(body, "proxy_connect_header", &[]),
        };
        if proxy.url.as_ref().is_some_and(|url| !is_proxy(url.expose())) {
            // Without the text, which may hold a password.
            body.error_at(
                "proxy_url",
                "is not the URL of a proxy such as \"http://proxy:3128\" (http, https, socks5)",
            );
        }
        if proxy.from_environment && (proxy.url.is_some() || !proxy.no_proxy.is_empty()) {
            body.error(
                "if proxy_from_environment is configured, proxy_url and no_proxy must not be configured",
            );
        } else if proxy.url.is_none() && !proxy.no_proxy.is_empty() {
            body.error_at("no_proxy", "if no_proxy is configured, proxy_url must also be configured");
        }
        if !proxy.connect_headers.is_empty() && proxy.url.is_none() && !proxy.from_environment {
            let message = "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured";
            body.error_at("proxy_connect_header", message);
        }
        proxy
    }
}

fn is_proxy(url: &str) -> bool {
    let url: Option<Uri> = url.parse().ok();
    let scheme = url.as_ref().filter(|url| url.authority().is_some()).and_then(Uri::scheme_str);
    scheme.is_some_and(|scheme| ["http", "https", "socks5", "socks5h"].contains(&scheme))
}

impl Decode for TlsOptions {
    fn decode(body: &mut Body<'_>) -> Self {
        let tls = TlsOptions {
            ca: text_or_file(body, "ca_pem", "ca_file"),
            certificate: text_or_file(body, "cert_pem", "cert_file"),
            key: text_or_file(body, "key_pem", "key_file"),
            server_name: body.optional("server_name", None).filter(|name: &String| !name.is_empty()),
            insecure_skip_verify: body.optional("insecure_skip_verify", false),
            min_version: body.optional("min_version", MinVersion::default()),
        };
        match (&tls.certificate, &tls.key) {
            (Some(_), None) => body.error("exactly one of key_pem or key_file must be configured when a client certificate is configured"),
            (None, Some(_)) => body.error("exactly one of cert_pem or cert_file must be configured when a client key is configured"),
            _ => {}
        }
        for (name, problem) in tls::problems(&tls) {
            body.error_at(name, problem);
        }
        tls
    }
}

impl FromValue for MinVersion {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices = [
            ("TLS12", MinVersion::Tls12),
            ("TLS13", MinVersion::Tls13),
            ("1.2", MinVersion::Tls12),
            ("1.3", MinVersion::Tls13),
            ("TLS 1.2", MinVersion::Tls12),
            ("TLS 1.3", MinVersion::Tls13),
        ];
        let old =
            matches!(value, Value::String(text) if matches!(&**text, "TLS10" | "TLS11" | "1.0" | "1.1"));
        if old {
            return Err(ConversionError::new(
                "TLS 1.0 and 1.1 are not spoken here; \"TLS12\" and \"TLS13\" are",
            ));
        }
        ConversionError::one_of(value, &choices)
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::Given(Secret::default())
    }
}

/// The text of one of two attributes; an empty one counts as not set, as in Alloy.
fn text_or_file(body: &mut Body<'_>, given: &str, file: &str) -> Option<Text> {
    let text = secret(body, given);
    let path: Option<String> = body.optional(file, None).filter(|path: &String| !path.is_empty());
    if text.is_some() && path.is_some() {
        body.error_at(file, format!("at most one of {given} & {file} must be configured"));
    }
    text.map(Text::Given).or_else(|| path.map(|path| Text::File(path.into())))
}

fn secret(body: &mut Body<'_>, name: &str) -> Option<Secret> {
    body.optional(name, None).filter(|secret: &Secret| !secret.is_empty())
}

/// A URL of something to ask; after an error, another one that nobody sees. An attribute that is missing, or not known yet, is
/// empty and has had its error.
pub fn checked_url(body: &mut Body<'_>, name: &str, url: &str) -> Uri {
    parse_url(url).unwrap_or_else(|reason| {
        if !url.is_empty() {
            body.error_at(name, reason);
        }
        Uri::default()
    })
}

/// What is set by the protocols themselves and cannot be overridden, as in Prometheus.
const RESERVED_HEADERS: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "user-agent",
    "www-authenticate",
    "x-prometheus-remote-write-version",
    "x-prometheus-scrape-timeout-seconds",
];

fn headers(body: &mut Body<'_>, attribute: &str, reserved: &[&str]) -> HeaderMap {
    let configured: BTreeMap<String, Vec<Secret>> = body.optional(attribute, BTreeMap::new());
    let mut headers = HeaderMap::new();
    for (name, values) in configured {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let Ok(parsed) = parsed else {
            body.error_at(attribute, format!("{name:?} is not a header's name"));
            continue;
        };
        if reserved.contains(&parsed.as_str()) {
            body.error_at(attribute, format!("setting header {name:?} is not allowed"));
        }
        for value in values {
            match HeaderValue::from_str(value.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    headers.append(parsed.clone(), value);
                }
                Err(_) => {
                    let message =
                        format!("the value of header {name:?} has characters that a header may not have");
                    body.error_at(attribute, message);
                }
            }
        }
    }
    headers
}
