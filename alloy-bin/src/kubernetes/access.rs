//! Where the API server is, and who we are there.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http::Uri;

use super::kubeconfig;
use crate::config::{Body, Decode};
use crate::http_client::{Credentials, HttpClientOptions, Text, TlsOptions, checked_url, parse_url};

/// Where a pod finds its account: `token`, `ca.crt` and `namespace`.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What a configuration says of it: nothing, in a pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Access {
    api_server: Option<Uri>,
    kubeconfig_file: Option<PathBuf>,
    http: HttpClientOptions,
}

/// What came of it.
pub(super) struct Found {
    pub(super) server: Uri,
    pub(super) http: HttpClientOptions,
    /// The namespace that the agent itself is in.
    pub(super) namespace: Option<String>,
}

/// A `client` block.
impl Decode for Access {
    fn decode(body: &mut Body<'_>) -> Self {
        let given: String = body.optional("api_server", String::new());
        let api_server = (!given.is_empty()).then(|| checked_url(body, "api_server", &given));
        let file: String = body.optional("kubeconfig_file", String::new());
        let http = HttpClientOptions::read(body, true);
        if api_server.is_some() && !file.is_empty() {
            body.error_at(
                "kubeconfig_file",
                "api_server is given too: only one of them can say where the server is",
            );
        }
        if api_server.is_none() && http != HttpClientOptions::default() {
            body.error("options of the HTTP client need api_server: in a pod, and with kubeconfig_file, they are found there");
        }
        Access { api_server, kubeconfig_file: (!file.is_empty()).then(|| file.into()), http }
    }
}

impl Access {
    /// Whether the agent's own pod says where the server is.
    pub fn is_in_cluster(&self) -> bool {
        self.api_server.is_none() && self.kubeconfig_file.is_none()
    }

    /// A server that asks for nothing.
    #[cfg(test)]
    pub(crate) fn at(url: &str) -> Self {
        Access { api_server: Some(parse_url(url).expect("a URL")), ..Access::default() }
    }

    pub(super) fn find(&self) -> anyhow::Result<Found> {
        match (&self.api_server, &self.kubeconfig_file) {
            (Some(server), _) => {
                Ok(Found { server: server.clone(), http: self.http.clone(), namespace: None })
            }
            (None, Some(file)) => {
                let (server, http) =
                    kubeconfig::read(file).with_context(|| format!("kubeconfig_file {}", file.display()))?;
                Ok(Found { server, http, namespace: None })
            }
            (None, None) => {
                let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
                let host = variable("KUBERNETES_SERVICE_HOST");
                let Some((host, port)) = host.zip(variable("KUBERNETES_SERVICE_PORT")) else {
                    bail!(
                        "this is no pod of a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set): \
                         give api_server or kubeconfig_file"
                    );
                };
                in_cluster(&host, &port, Path::new(ACCOUNT))
            }
        }
    }
}

/// The account of the pod: its token is read again when it changes, as it does every hour.
fn in_cluster(host: &str, port: &str, account: &Path) -> anyhow::Result<Found> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let server = parse_url(&format!("https://{host}:{port}")).map_err(anyhow::Error::msg)?;
    let (token, ca) = (account.join("token"), account.join("ca.crt"));
    if !token.exists() {
        bail!("the pod has no account ({} is not there): see automountServiceAccountToken", token.display());
    }
    let credentials = Credentials::Typed { kind: "Bearer".to_owned(), text: Text::File(token) };
    let tls = TlsOptions { ca: ca.exists().then_some(Text::File(ca)), ..TlsOptions::default() };
    let namespace = std::fs::read_to_string(account.join("namespace")).ok();
    let namespace = namespace.map(|text| text.trim().to_owned()).filter(|name| !name.is_empty());
    Ok(Found { server, http: HttpClientOptions::new(credentials, tls, None), namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_account_is_found_in_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let found = in_cluster("10.0.0.1", "443", folder.path());
        assert!(format!("{:#}", found.err().unwrap()).contains("automountServiceAccountToken"));
        for (name, text) in [("token", "t\n"), ("ca.crt", "c"), ("namespace", "monitoring\n")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let found = in_cluster("fd00::1", "6443", folder.path()).unwrap();
        assert_eq!(found.server.to_string(), "https://[fd00::1]:6443/");
        assert_eq!(found.namespace.as_deref(), Some("monitoring"));
        let text = Text::File(folder.path().join("token"));
        let tls = TlsOptions { ca: Some(Text::File(folder.path().join("ca.crt"))), ..TlsOptions::default() };
        let credentials = Credentials::Typed { kind: "Bearer".to_owned(), text };
        assert_eq!(found.http, HttpClientOptions::new(credentials, tls, None));
    }
}
