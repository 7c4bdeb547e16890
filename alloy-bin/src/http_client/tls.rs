//! Certificates and keys -> a rustls configuration. One provider of cryptography in the whole program: aws-lc-rs.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version};

use super::options::{MinVersion, Text, TlsOptions};

impl TlsOptions {
    fn texts(&self) -> [(&'static str, Option<&Text>); 3] {
        [
            ("ca_pem", self.ca.as_ref()),
            ("cert_pem", self.certificate.as_ref()),
            ("key_pem", self.key.as_ref()),
        ]
    }

    /// The files that the configuration is made of, in the order in which [`config`] takes their content.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = self.texts().into_iter().filter_map(|(_, text)| match text {
            Some(Text::File(path)) => Some(path.clone()),
            _ => None,
        });
        files.collect()
    }
}

/// What is wrong with PEM texts that stand in the configuration itself, with the attribute's name.
pub(super) fn problems(options: &TlsOptions) -> Vec<(&'static str, String)> {
    let problem = |(name, text): (&'static str, Option<&Text>)| {
        let Some(Text::Given(secret)) = text else { return None };
        let pem = secret.expose().as_bytes();
        let result = if name == "key_pem" { key(pem).map(drop) } else { certificates(pem).map(drop) };
        Some((name, format!("{:#}", result.err()?)))
    };
    options.texts().into_iter().filter_map(problem).collect()
}

/// The configuration; `files` is the content of [`TlsOptions::files`].
pub(super) fn config(options: &TlsOptions, files: &[Vec<u8>]) -> anyhow::Result<ClientConfig> {
    let mut files = files.iter();
    let mut pem = |text: &Option<Text>| -> anyhow::Result<Option<(Vec<u8>, String)>> {
        Ok(match text {
            None => None,
            Some(Text::Given(secret)) => {
                Some((secret.expose().as_bytes().to_vec(), "the configuration".to_owned()))
            }
            Some(Text::File(path)) => {
                Some((files.next().context("a file is missing")?.clone(), path.display().to_string()))
            }
        })
    };
    let (ca, certificate, key_text) = (pem(&options.ca)?, pem(&options.certificate)?, pem(&options.key)?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = match options.min_version {
        MinVersion::Tls12 => &[&version::TLS12, &version::TLS13],
        MinVersion::Tls13 => &[&version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match ca {
        _ if options.insecure_skip_verify => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
        None => builder.with_root_certificates(native_roots()?),
        Some((pem, place)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&pem).with_context(|| place.clone())? {
                roots.add(certificate).with_context(|| format!("{place}: not a CA certificate"))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let (Some((certificate, place)), Some((key_pem, key_place))) = (certificate, key_text) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(&certificate).with_context(|| place.clone())?;
    let key = key(&key_pem).with_context(|| key_place.clone())?;
    builder
        .with_client_auth_cert(chain, key)
        .with_context(|| format!("{place} and {key_place} do not fit together"))
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    // The reader's own words may quote the text.
    let certificates = certificates.map_err(|_| anyhow!("not valid PEM"))?;
    ensure!(!certificates.is_empty(), "has no certificate in PEM");
    Ok(certificates)
}

fn key(pem: &[u8]) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| anyhow!("has no private key in PEM that can be read (PKCS#1, PKCS#8, SEC1)"))
}

/// The certificate authorities that the system trusts; read once, when first needed.
fn native_roots() -> anyhow::Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    });
    ensure!(
        !roots.is_empty(),
        "this system has no CA certificates; install them, or set ca_file in tls_config"
    );
    Ok(roots.clone())
}

/// `insecure_skip_verify`: any certificate will do, as long as the server has its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
