//! TLS, proxies, and whom a scrape says it is, with what stands in Secrets and ConfigMaps of the monitor's own namespace.

use serde_json::{Map, Value as Json, json};

use super::fields::Fields;
use super::secrets::{EitherReference, Reference, Secrets};

/// What reads them.
pub(super) struct Reader<'a> {
    pub(super) secrets: &'a Secrets,
    pub(super) namespace: &'a str,
    /// Whether files of the agent may be named (`allow_arbitrary_file_access`).
    pub(super) allows_files: bool,
}

impl Reader<'_> {
    /// Everything of an endpoint.
    pub(super) fn read(&self, endpoint: &mut Fields, config: &mut Map<String, Json>) -> Result<(), String> {
        self.connection(endpoint, config)?;
        if let Some(file) = endpoint.take("bearerTokenFile").filter(|file| file != "") {
            self.check_file(endpoint, "bearerTokenFile")?;
            config.insert("bearer_token_file".to_owned(), file);
        }
        let token: Option<Reference> = endpoint.read("bearerTokenSecret")?;
        if let Some(token) = token.filter(|token| !token.name.is_empty()) {
            config.insert("bearer_token".to_owned(), self.secrets.secret(self.namespace, &token)?.into());
        }
        if let Some(mut fields) = endpoint.object("basicAuth")? {
            let mut basic = Map::new();
            for name in ["username", "password"] {
                if let Some(text) = self.secret(&mut fields, name)? {
                    basic.insert(name.to_owned(), text);
                }
            }
            config.insert("basic_auth".to_owned(), finished(fields, basic)?);
        }
        if let Some(mut fields) = endpoint.object("authorization")? {
            let mut authorization = Map::new();
            let kind = fields.read_or::<String>("type")?;
            let kind = if kind.trim().is_empty() { "Bearer".to_owned() } else { kind.trim().to_owned() };
            authorization.insert("type".to_owned(), kind.into());
            if let Some(text) = self.secret(&mut fields, "credentials")? {
                authorization.insert("credentials".to_owned(), text);
            }
            config.insert("authorization".to_owned(), finished(fields, authorization)?);
        }
        if let Some(mut fields) = endpoint.object("oauth2")? {
            let mut oauth2 = Map::new();
            let id = fields.read_or::<EitherReference>("clientId")?;
            let id = self.secrets.either(self.namespace, &id)?;
            oauth2.insert(
                "client_id".to_owned(),
                id.ok_or_else(|| fields.error("clientId", "is missing"))?.into(),
            );
            if let Some(text) = self.secret(&mut fields, "clientSecret")? {
                oauth2.insert("client_secret".to_owned(), text);
            }
            fields.pass(
                &mut oauth2,
                &[("tokenUrl", "token_url"), ("scopes", "scopes"), ("endpointParams", "endpoint_params")],
            );
            self.connection(&mut fields, &mut oauth2)?;
            config.insert("oauth2".to_owned(), finished(fields, oauth2)?);
        }
        Ok(())
    }

    fn connection(&self, fields: &mut Fields, config: &mut Map<String, Json>) -> Result<(), String> {
        if let Some(mut fields) = fields.object("tlsConfig")? {
            let mut tls = Map::new();
            for name in ["ca", "cert"] {
                let text = self.secrets.either(self.namespace, &fields.read_or(name)?)?;
                tls.extend(text.map(|text| (name.to_owned(), text.into())));
            }
            if let Some(text) = self.secret(&mut fields, "keySecret")? {
                tls.insert("key".to_owned(), text);
            }
            for (name, other) in [("caFile", "ca_file"), ("certFile", "cert_file"), ("keyFile", "key_file")] {
                if let Some(file) = fields.take(name).filter(|file| file != "") {
                    self.check_file(&fields, name)?;
                    tls.insert(other.to_owned(), file);
                }
            }
            let others = [
                ("insecureSkipVerify", "insecure_skip_verify"),
                ("serverName", "server_name"),
                ("minVersion", "min_version"),
                ("maxVersion", "max_version"),
            ];
            fields.pass(&mut tls, &others);
            config.insert("tls_config".to_owned(), finished(fields, tls)?);
        }
        if let Some(mut headers) = fields.object("proxyConnectHeader")? {
            let mut values = Map::new();
            for name in headers.unknown().collect::<Vec<_>>() {
                let name = name.rsplit('.').next().unwrap_or_default().to_owned();
                let references: Vec<Reference> = headers.read_or(&name)?;
                let texts = references.iter().map(|reference| self.secrets.secret(self.namespace, reference));
                values.insert(name, texts.collect::<Result<Vec<_>, _>>()?.into());
            }
            config.insert("proxy_connect_header".to_owned(), values.into());
        }
        let proxy = [
            ("proxyUrl", "proxy_url"),
            ("noProxy", "no_proxy"),
            ("proxyFromEnvironment", "proxy_from_environment"),
        ];
        fields.pass(config, &proxy);
        Ok(())
    }

    fn secret(&self, fields: &mut Fields, name: &str) -> Result<Option<Json>, String> {
        let reference: Option<Reference> = fields.read(name)?;
        let text = reference.map(|reference| self.secrets.secret(self.namespace, &reference));
        Ok(text.transpose()?.map(|text| json!(text)))
    }

    fn check_file(&self, fields: &Fields, name: &str) -> Result<(), String> {
        match self.allows_files {
            true => Ok(()),
            false => {
                Err(fields
                    .error(name, "files of the agent may be named with allow_arbitrary_file_access only"))
            }
        }
    }
}

/// What is not known of credentials may be what makes them safe.
fn finished(fields: Fields, config: Map<String, Json>) -> Result<Json, String> {
    match fields.unknown().next() {
        Some(place) => Err(format!("{place}: is not supported here")),
        None => Ok(config.into()),
    }
}
