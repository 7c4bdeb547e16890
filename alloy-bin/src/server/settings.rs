//! The `http` block: how the agent's own server is protected.

use crate::config::{Body, ConversionError, Decode, FromValue, Secret, Value};

/// What the block says; without the block the server is open and plain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HttpBlock {
    pub(super) tls: Option<TlsBlock>,
    pub(super) auth: Option<AuthBlock>,
}

/// A `tls` block.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsBlock {
    pub(super) certificate: Pem,
    pub(super) key: Pem,
    pub(super) client_ca: Option<Pem>,
    pub(super) client_auth: ClientAuth,
    pub(super) min_version: Version,
    pub(super) max_version: Version,
    /// By the names of the IANA registry; empty: all.
    pub(super) cipher_suites: Vec<String>,
    pub(super) curves: Vec<Curve>,
}

/// Text in the configuration, or a file that is read again when it changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pem {
    Text(Secret),
    File(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ClientAuth {
    None,
    IfGiven,
    Required,
}

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Curve(pub(super) rustls::NamedGroup);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct AuthBlock {
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) filter: Option<Filter>,
}

/// Which paths need the password.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    /// Prefixes.
    pub(super) paths: Vec<String>,
    /// Those below the prefixes, or all others.
    pub(super) matching: bool,
}

impl Decode for HttpBlock {
    fn decode(body: &mut Body<'_>) -> Self {
        HttpBlock { tls: body.block("tls"), auth: body.block("auth") }
    }
}

impl Decode for TlsBlock {
    fn decode(body: &mut Body<'_>) -> Self {
        body.unsupported(&["windows_certificate_filter"]);
        TlsBlock::read(body, ClientAuth::None)
    }
}

impl TlsBlock {
    fn read(body: &mut Body<'_>, client_auth: ClientAuth) -> Self {
        let certificate = required_pem(body, "cert");
        let key = required_pem(body, "key");
        let block = TlsBlock {
            certificate,
            key,
            client_ca: pem(body, "client_ca"),
            client_auth: body.optional("client_auth_type", client_auth),
            min_version: body.optional("min_version", Version::Tls12),
            max_version: body.optional("max_version", Version::Tls13),
            cipher_suites: body.optional("cipher_suites", Vec::new()),
            curves: body.optional("curve_preferences", Vec::new()),
        };
        if block.min_version > block.max_version {
            body.error_at("max_version", "is older than min_version");
        }
        match (block.client_auth, &block.client_ca) {
            (ClientAuth::None, Some(_)) => {
                let message = "a client CA needs a client_auth_type such as \"RequireAndVerifyClientCert\"";
                body.error(message);
            }
            (ClientAuth::IfGiven | ClientAuth::Required, None) => {
                body.error_at("client_auth_type", "needs client_ca_pem or client_ca_file to verify with");
            }
            _ => {}
        }
        let known = super::tls::cipher_suites();
        for name in &block.cipher_suites {
            if !known.contains(name) {
                let message =
                    format!("cipher suite {name:?} is not supported; there are {}", known.join(", "));
                body.error_at("cipher_suites", message);
            }
        }
        block
    }
}

#[cfg(feature = "otelcol")]
impl TlsBlock {
    /// The `tls` block of a port for OTLP: a client CA alone asks every client for a certificate.
    pub fn read_otel(body: &mut Body<'_>) -> Self {
        body.unsupported(&["include_insecure_cipher_suites", "include_system_ca_certs_pool", "tpm"]);
        // For a client's certificate a port has `client_ca_file`; these are for those who connect.
        body.unsupported(&["ca_file", "ca_pem"]);
        // Changed files are seen within seconds whatever it says.
        let _: std::time::Duration = body.optional("reload_interval", std::time::Duration::ZERO);
        let is_mutual = body.has("client_ca_file") || body.has("client_ca_pem");
        TlsBlock::read(body, if is_mutual { ClientAuth::Required } else { ClientAuth::None })
    }
}

/// `NAME_pem` or `NAME_file`, if one is set.
fn pem(body: &mut Body<'_>, name: &str) -> Option<Pem> {
    let (text_name, file_name) = (format!("{name}_pem"), format!("{name}_file"));
    let text: Secret = body.optional(&text_name, Secret::default());
    let file: String = body.optional(&file_name, String::new());
    if !text.is_empty() && !file.is_empty() {
        body.error_at(&file_name, format!("only one of {text_name} and {file_name} may be set"));
    }
    if !text.is_empty() { Some(Pem::Text(text)) } else { (!file.is_empty()).then_some(Pem::File(file)) }
}

fn required_pem(body: &mut Body<'_>, name: &str) -> Pem {
    let found = pem(body, name);
    if found.is_none() {
        body.error(format!("missing required attribute \"{name}_pem\" or \"{name}_file\""));
    }
    found.unwrap_or_else(|| Pem::Text(Secret::default()))
}

impl Decode for AuthBlock {
    fn decode(body: &mut Body<'_>) -> Self {
        let Basic { username, password } = body.required_block("basic");
        AuthBlock { username, password, filter: body.block("filter") }
    }
}

struct Basic {
    username: String,
    password: Secret,
}

impl Decode for Basic {
    fn decode(body: &mut Body<'_>) -> Self {
        let basic = Basic { username: body.required("username"), password: body.required("password") };
        // RFC 7617: the first colon ends the name.
        if basic.username.contains(':') {
            body.error_at("username", "can't contain a colon");
        }
        for (name, is_empty) in
            [("username", basic.username.is_empty()), ("password", basic.password.is_empty())]
        {
            if is_empty && body.has(name) {
                body.error_at(name, "must not be empty");
            }
        }
        basic
    }
}

impl Decode for Filter {
    fn decode(body: &mut Body<'_>) -> Self {
        Filter {
            paths: body.optional("paths", Vec::new()),
            matching: body.optional("authenticate_matching_paths", true),
        }
    }
}

impl FromValue for ClientAuth {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices = [
            ("NoClientCert", Some(ClientAuth::None)),
            ("VerifyClientCertIfGiven", Some(ClientAuth::IfGiven)),
            ("RequireAndVerifyClientCert", Some(ClientAuth::Required)),
            ("RequestClientCert", None),
            ("RequireAnyClientCert", None),
        ];
        ConversionError::one_of(value, &choices)?.ok_or_else(|| {
            ConversionError::new(
                "a certificate that nobody verifies protects nothing; use \"VerifyClientCertIfGiven\" or \
                 \"RequireAndVerifyClientCert\"",
            )
        })
    }
}

impl FromValue for Version {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        let choices = [
            ("TLS12", Some(Version::Tls12)),
            ("TLS13", Some(Version::Tls13)),
            ("1.2", Some(Version::Tls12)),
            ("1.3", Some(Version::Tls13)),
            ("TLS 1.2", Some(Version::Tls12)),
            ("TLS 1.3", Some(Version::Tls13)),
            ("TLS10", None),
            ("TLS11", None),
        ];
        ConversionError::one_of(value, &choices)?.ok_or_else(|| {
            ConversionError::new("is broken (RFC 8996) and not spoken here; use \"TLS12\" or \"TLS13\"")
        })
    }
}

impl FromValue for Curve {
    fn from_value(value: &Value) -> Result<Self, ConversionError> {
        use rustls::NamedGroup;
        let choices = [
            ("CurveP256", NamedGroup::secp256r1),
            ("CurveP384", NamedGroup::secp384r1),
            ("CurveP521", NamedGroup::secp521r1),
            ("X25519", NamedGroup::X25519),
            ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
        ];
        ConversionError::one_of(value, &choices).map(Curve)
    }
}
