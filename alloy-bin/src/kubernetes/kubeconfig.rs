//! A kubeconfig file: of its current context the server, how it is recognised, and who we are.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde::Deserialize;

use crate::config::Secret;
use crate::http_client::{Credentials, HttpClientOptions, Text, TlsOptions, parse_url};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Names,
}

#[derive(Deserialize)]
struct Names {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

pub(super) fn read(path: &Path) -> anyhow::Result<(Uri, HttpClientOptions)> {
    let text = std::fs::read_to_string(path)?;
    parse(&text, path.parent().unwrap_or(Path::new("")))
}

/// Relative paths are below the file's own folder, as kubectl reads them.
fn parse(text: &str, folder: &Path) -> anyhow::Result<(Uri, HttpClientOptions)> {
    let file: File = serde_saphyr::from_str(text).context("it is not a kubeconfig file")?;
    let name = &file.current_context;
    let context = file.contexts.into_iter().find(|context| context.name == *name);
    let Names { cluster, user } = context.with_context(|| format!("there is no context {name:?}"))?.context;
    let found = file.clusters.into_iter().find(|named| named.name == cluster);
    let cluster = found.with_context(|| format!("there is no cluster {cluster:?}"))?.cluster;
    let found = file.users.into_iter().find(|named| named.name == user);
    let user = match found {
        Some(named) => named.user,
        None if user.is_empty() => User::default(),
        None => bail!("there is no user {user:?}"),
    };
    if user.exec.is_some() || user.auth_provider.is_some() {
        bail!(
            "the user's credentials come from a program (exec, auth-provider), and programs are not run: \
             give a token, a tokenFile or a client certificate"
        );
    }
    let file_or_data = |file: Option<PathBuf>, data: Option<String>| match (data, file) {
        (Some(data), _) => {
            let decoded = STANDARD.decode(data.trim()).context("data that is not base64")?;
            Ok(Some(Text::Given(Secret::new(String::from_utf8(decoded).context("data that is not PEM")?))))
        }
        (None, file) => anyhow::Ok(file.map(|file| Text::File(folder.join(file)))),
    };
    let tls = TlsOptions {
        ca: file_or_data(cluster.certificate_authority, cluster.certificate_authority_data)?,
        certificate: file_or_data(user.client_certificate, user.client_certificate_data)?,
        key: file_or_data(user.client_key, user.client_key_data)?,
        server_name: cluster.tls_server_name,
        insecure_skip_verify: cluster.insecure_skip_tls_verify,
        ..TlsOptions::default()
    };
    let bearer = |text| Credentials::Typed { kind: "Bearer".to_owned(), text };
    let credentials = match (user.token_file, user.token, user.username) {
        (Some(file), ..) => bearer(Text::File(folder.join(file))),
        (None, Some(token), _) => bearer(Text::Given(Secret::new(token))),
        (None, None, Some(username)) => {
            let password = Text::Given(Secret::new(user.password.unwrap_or_default()));
            Credentials::Basic { username, password }
        }
        (None, None, None) => Credentials::None,
    };
    let server = parse_url(&cluster.server).map_err(anyhow::Error::msg)?;
    Ok((server, HttpClientOptions::new(credentials, tls, cluster.proxy_url.map(Secret::new))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "
apiVersion: v1
kind: Config
current-context: here
contexts:
- {name: there, context: {cluster: b, user: y}}
- {name: here, context: {cluster: a, user: x, namespace: n}}
clusters:
- {name: a, cluster: {server: 'https://10.0.0.1:6443', certificate-authority: pki/ca.crt, tls-server-name: api}}
users:
";

    #[test]
    fn the_current_context_says_where_and_who() {
        let check = |user: &str, credentials: Credentials, certificate: Option<Text>, key: Option<Text>| {
            let parsed = parse(&format!("{HEAD}- {{name: x, user: {user}}}"), Path::new("/etc/kube"));
            let (server, http) = parsed.unwrap();
            assert_eq!(server.to_string(), "https://10.0.0.1:6443/");
            let tls = TlsOptions {
                ca: Some(Text::File("/etc/kube/pki/ca.crt".into())),
                certificate,
                key,
                server_name: Some("api".to_owned()),
                ..TlsOptions::default()
            };
            assert_eq!(http, HttpClientOptions::new(credentials, tls, None), "{user}");
        };
        let secret = |text: &str| Text::Given(Secret::new(text.to_owned()));
        let bearer = |text| Credentials::Typed { kind: "Bearer".to_owned(), text };
        check("{token: abc}", bearer(secret("abc")), None, None);
        check("{tokenFile: /run/token, token: old}", bearer(Text::File("/run/token".into())), None, None);
        let basic = Credentials::Basic { username: "u".to_owned(), password: secret("p") };
        check("{username: u, password: p}", basic, None, None);
        check(
            "{client-certificate-data: Y2VydA==, client-key: key.pem}",
            Credentials::None,
            Some(secret("cert")),
            Some(Text::File("/etc/kube/key.pem".into())),
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let check = |text: &str, reason: &str| {
            let error = parse(text, Path::new("")).err().unwrap();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        };
        check(&format!("{HEAD}- {{name: x, user: {{exec: {{command: aws}}}}}}"), "programs are not run");
        check(&format!("{HEAD}- {{name: z, user: {{}}}}"), "there is no user \"x\"");
        check("contexts: []", "there is no context \"\"");
        check("- a", "it is not a kubeconfig file");
        check(&format!("{HEAD}- {{name: x, user: {{client-key-data: '%'}}}}"), "not base64");
    }
}
