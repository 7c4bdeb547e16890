//! TLS for the agent's own server: from the `http` block to rustls, and again when a file has changed.

use std::sync::{Arc, Mutex, RwLock};

use anyhow::{Context, ensure};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::settings::{ClientAuth, Pem, TlsBlock, Version};

/// The cipher suites by their names in the IANA registry, which Go uses, too.
pub(super) fn cipher_suites() -> Vec<String> {
    aws_lc_rs::ALL_CIPHER_SUITES.iter().map(|suite| suite_name(*suite)).collect()
}

fn suite_name(suite: rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

/// What connections are met with now.
pub struct Tls {
    block: TlsBlock,
    protocols: Vec<Vec<u8>>,
    config: RwLock<Arc<ServerConfig>>,
    /// What was read last, whether it could be used or not: a broken file is reported once.
    read: Mutex<Material>,
}

/// The bytes of all PEM texts.
#[derive(PartialEq)]
struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files. `protocols` are offered to clients (ALPN), the best first.
    pub fn new(block: TlsBlock, protocols: &[&[u8]]) -> anyhow::Result<Tls> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let material = Material::read(&block)?;
        let config = RwLock::new(Arc::new(configure(&block, &protocols, &material)?));
        Ok(Tls { block, protocols, config, read: Mutex::new(material) })
    }

    /// What the next connection is met with.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.read().expect("no code panics while holding it").clone()
    }

    /// Reads the files again. If they have changed and are usable, new connections are met with them.
    pub fn refresh(&self) {
        let material = match Material::read(&self.block) {
            Ok(material) => material,
            Err(error) => {
                // It may be in the middle of being replaced; the next look will tell.
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot read the certificates again; the old ones go on"
                );
                return;
            }
        };
        let mut read = self.read.lock().expect("no code panics while holding it");
        if *read == material {
            return;
        }
        match configure(&self.block, &self.protocols, &material) {
            Ok(config) => {
                *self.config.write().expect("no code panics while holding it") = Arc::new(config);
                tracing::info!("the server's certificates have changed and are used from now on");
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the changed certificates are not usable; the old ones go on"
                );
            }
        }
        *read = material;
    }
}

impl Material {
    fn read(block: &TlsBlock) -> anyhow::Result<Material> {
        let bytes = |pem: &Pem| match pem {
            Pem::Text(text) => Ok(text.expose().as_bytes().to_vec()),
            Pem::File(path) => std::fs::read(path).with_context(|| format!("cannot read {path}")),
        };
        Ok(Material {
            certificate: bytes(&block.certificate)?,
            key: bytes(&block.key)?,
            client_ca: block.client_ca.as_ref().map(bytes).transpose()?,
        })
    }
}

fn configure(block: &TlsBlock, protocols: &[Vec<u8>], material: &Material) -> anyhow::Result<ServerConfig> {
    let chain =
        certificates(&material.certificate).with_context(|| of(&block.certificate, "the certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&material.key).with_context(|| of(&block.key, "the key"))?;
    let provider = Arc::new(provider(block));
    let versions: Vec<_> =
        [(Version::Tls12, &rustls::version::TLS12), (Version::Tls13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| (block.min_version..=block.max_version).contains(version))
            .map(|(_, version)| version)
            .collect();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .context("the TLS versions, cipher suites and curves do not go together")?;
    let builder = match (block.client_auth, &block.client_ca, &material.client_ca) {
        (ClientAuth::None, ..) | (_, None, _) | (_, _, None) => builder.with_no_client_auth(),
        (auth, Some(pem), Some(bytes)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(bytes).with_context(|| of(pem, "the client CA"))? {
                roots.add(certificate).with_context(|| of(pem, "the client CA"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier =
                if auth == ClientAuth::IfGiven { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().with_context(|| of(pem, "the client CA"))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .with_context(|| of(&block.certificate, "certificate and key"))?;
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    ensure!(!all.is_empty(), "there is no certificate in it");
    Ok(all)
}

/// The suites and curves that the block names, curves in its order; or all.
fn provider(block: &TlsBlock) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !block.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| block.cipher_suites.contains(&suite_name(*suite)));
    }
    if !block.curves.is_empty() {
        let all = aws_lc_rs::ALL_KX_GROUPS;
        let find = |curve: &super::settings::Curve| all.iter().copied().find(|group| group.name() == curve.0);
        provider.kx_groups = block.curves.iter().filter_map(find).collect();
    }
    provider
}

fn of(pem: &Pem, what: &str) -> String {
    match pem {
        Pem::Text(_) => format!("{what} cannot be used"),
        Pem::File(path) => format!("{what} cannot be used ({path})"),
    }
}
