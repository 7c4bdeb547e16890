//! Secrets and ConfigMaps that monitors name, read one by one: the right to `get` them is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::Secret;
use crate::http_client::escape;
use crate::kubernetes::{Api, Problem, null_is_empty};

/// One that is there is read again after so long, and one that is not after so long.
const AGAIN: Duration = Duration::from_secs(60);
const AGAIN_IF_MISSING: Duration = Duration::from_secs(10);

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was read, and what has to be.
#[derive(Default)]
pub(super) struct Secrets {
    known: BTreeMap<Place, Known>,
    wanted: Mutex<BTreeSet<Place>>,
}

/// `secrets` or `configmaps`, the namespace, the name.
type Place = (&'static str, String, String);

struct Known {
    content: Result<BTreeMap<String, Secret>, String>,
    until: Instant,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default, deserialize_with = "null_is_empty")]
    data: BTreeMap<String, String>,
}

/// A key of one.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Reference {
    pub(super) name: String,
    key: String,
}

/// A key of either kind.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EitherReference {
    secret: Option<Reference>,
    config_map: Option<Reference>,
}

impl Secrets {
    /// What stands in a Secret.
    pub(super) fn secret(&self, namespace: &str, reference: &Reference) -> Result<String, String> {
        self.value("secrets", namespace, reference)
    }

    /// What stands in one of both; nothing, if none is named.
    pub(super) fn either(
        &self,
        namespace: &str,
        reference: &EitherReference,
    ) -> Result<Option<String>, String> {
        let EitherReference { secret, config_map } = reference;
        let secret = secret.as_ref().map(|reference| self.value("secrets", namespace, reference));
        let config_map = config_map.as_ref().map(|reference| self.value("configmaps", namespace, reference));
        secret.or(config_map).transpose()
    }

    fn value(&self, kind: &'static str, namespace: &str, reference: &Reference) -> Result<String, String> {
        let Reference { name, key } = reference;
        let place = (kind, namespace.to_owned(), name.clone());
        let known = self.known.get(&place);
        self.wanted.lock().expect("no code panics while holding it").insert(place);
        let content = match known.map(|known| &known.content) {
            None => return Err(format!("{kind} {namespace}/{name}: is not read yet")),
            Some(Err(problem)) => return Err(format!("{kind} {namespace}/{name}: {problem}")),
            Some(Ok(content)) => content,
        };
        let value = content.get(key).map(|value| value.expose().to_owned());
        value.ok_or_else(|| format!("{kind} {namespace}/{name}: has no key {key:?}"))
    }

    /// Everything will be asked for again: what is not is forgotten by the next refresh.
    pub(super) fn begin_anew(&mut self) {
        self.wanted.get_mut().expect("no code panics while holding it").clear();
    }

    /// Reads what is asked for and is not known, or not any more. True: something is another than before.
    pub(super) async fn refresh(&mut self, api: &Api) -> bool {
        let wanted = self.wanted.get_mut().expect("no code panics while holding it").clone();
        self.known.retain(|place, _| wanted.contains(place));
        let (mut has_changed, mut is_away) = (false, false);
        for place in wanted {
            let before = self.known.get(&place);
            if before.is_some_and(|known| known.until > Instant::now()) {
                continue;
            }
            // Where one gets no answer, the others need not wait for theirs.
            let content = match is_away {
                true => Err(("the API server does not answer".to_owned(), true)),
                false => {
                    let late = |_| Err(("the API server does not answer".to_owned(), true));
                    tokio::time::timeout(PATIENCE, read(api, &place)).await.unwrap_or_else(late)
                }
            };
            is_away |= matches!(content, Err((_, true)));
            // What was good stays good while nobody can be asked.
            let content = match (content, before) {
                (Err((_, true)), Some(Known { content: Ok(content), .. })) => Ok(content.clone()),
                (content, _) => content.map_err(|(problem, _)| problem),
            };
            has_changed |= before.is_none_or(|known| known.content != content);
            let again = if content.is_ok() && !is_away { AGAIN } else { AGAIN_IF_MISSING };
            self.known.insert(place, Known { content, until: Instant::now() + again });
        }
        has_changed
    }

    /// When something has to be read again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.known.values().map(|known| known.until).min()
    }
}

/// The content; or the problem, and whether it is one of the way to the server alone.
async fn read(api: &Api, place: &Place) -> Result<BTreeMap<String, Secret>, (String, bool)> {
    let (kind, namespace, name) = place;
    let path = format!("/api/v1/namespaces/{}/{kind}/{}", escape(namespace), escape(name));
    let content: Content = api.get(&path).await.map_err(|problem: Problem| {
        let is_of_the_way = problem.code().is_none_or(|code| code >= 500 || code == 429);
        (problem.to_string(), is_of_the_way)
    })?;
    Ok(decoded(kind, content))
}

/// Of what is no text, as keystores are not, nobody can make use; the other keys are good.
fn decoded(kind: &str, content: Content) -> BTreeMap<String, Secret> {
    let text = |value: String| match kind {
        "secrets" => String::from_utf8(STANDARD.decode(value).ok()?).ok(),
        _ => Some(value),
    };
    content.data.into_iter().filter_map(|(key, value)| Some((key, Secret::new(text(value)?)))).collect()
}

#[cfg(test)]
impl Secrets {
    /// With the Secrets and ConfigMaps of a table.
    pub(super) fn of(table: &serde_json::Value) -> Self {
        let mut secrets = Secrets::default();
        for kind in ["secrets", "configmaps"] {
            for object in table[kind].as_array().into_iter().flatten() {
                let content = serde_json::from_value(object.clone()).expect("it has data");
                let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
                let until = Instant::now() + AGAIN;
                let known = Known { content: Ok(decoded(kind, content)), until };
                secrets.known.insert((kind, text("namespace"), text("name")), known);
            }
        }
        secrets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::Access;
    use crate::testing::Scripted;

    #[tokio::test]
    async fn what_was_read_stays_good_while_nobody_can_be_asked_and_no_longer() {
        let content = |password: &str| format!(r#"{{"data": {{"p": "{}"}}}}"#, STANDARD.encode(password));
        let gone = r#"{"code": 404, "message": "not found"}"#.to_owned();
        // A name that would lead elsewhere stays one name.
        let path = "/api/v1/namespaces/shop/secrets/a%2F..%2Fb";
        let lines = [
            (path, 200, content("first")),
            (path, 503, "trouble".to_owned()),
            (path, 200, content("second")),
            (path, 404, gone),
        ];
        let server = Scripted::start(lines).await.unwrap();
        let api = Api::shared(&Access::at(&server.url())).unwrap();
        let mut secrets = Secrets::default();
        let reference = |key: &str| Reference { name: "a/../b".to_owned(), key: key.to_owned() };
        let is_due = |secrets: &mut Secrets| {
            secrets.known.values_mut().for_each(|known| known.until = Instant::now());
        };
        assert!(secrets.secret("shop", &reference("p")).unwrap_err().ends_with("is not read yet"));
        assert!(secrets.refresh(&api).await);
        assert_eq!(secrets.secret("shop", &reference("p")), Ok("first".to_owned()));
        assert!(secrets.secret("shop", &reference("q")).unwrap_err().ends_with("has no key \"q\""));
        assert!(!secrets.refresh(&api).await, "it is not asked for again so soon");
        for (has_changed, expected) in [(false, Some("first")), (true, Some("second")), (true, None)] {
            is_due(&mut secrets);
            assert_eq!(secrets.refresh(&api).await, has_changed);
            assert_eq!(secrets.secret("shop", &reference("p")).ok().as_deref(), expected);
        }
        assert!(secrets.secret("shop", &reference("p")).unwrap_err().contains("not found"));
        secrets.begin_anew();
        assert!(!secrets.refresh(&api).await);
        assert_eq!(secrets.until(), None, "what nobody asks for is forgotten");
        assert_eq!(server.mistakes(), [""; 0]);
    }
}
