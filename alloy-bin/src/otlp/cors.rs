//! What browsers ask before they send: the headers of CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::{Body, Decode};

/// A `cors` block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cors {
    origins: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    max_age: Duration,
}

impl Decode for Cors {
    fn decode(body: &mut Body<'_>) -> Self {
        let cors = Cors {
            origins: body.optional("allowed_origins", Vec::new()),
            headers: body.optional("allowed_headers", vec!["X-Requested-With".to_owned()]),
            exposed: body.optional("exposed_headers", Vec::new()),
            max_age: body.optional("max_age", Duration::ZERO),
        };
        for (name, values) in [("allowed_headers", &cors.headers), ("exposed_headers", &cors.exposed)] {
            if let Some(value) =
                values.iter().find(|value| value.parse::<HeaderName>().is_err() && *value != "*")
            {
                body.error_at(name, format!("{value:?} is not a header's name"));
            }
        }
        cors
    }
}

impl Cors {
    /// The headers of an answer to that request; none if its origin is not allowed, which makes the browser keep the answer
    /// from the page.
    pub(super) fn headers(&self, request: &HeaderMap, is_preflight: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.get(header::ORIGIN) else { return headers };
        let Ok(text) = origin.to_str() else { return headers };
        if !self.origins.iter().any(|allowed| is_like(allowed, text)) {
            return headers;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let mut list = |name: HeaderName, values: &[String]| {
            if let Ok(value) = HeaderValue::from_str(&values.join(", "))
                && !values.is_empty()
            {
                headers.insert(name, value);
            }
        };
        if !is_preflight {
            list(header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.exposed);
            return headers;
        }
        // What every OTLP client sends is allowed without being asked for.
        let own = ["Content-Type", "Content-Encoding"].map(str::to_owned);
        list(header::ACCESS_CONTROL_ALLOW_HEADERS, &[&own[..], &self.headers].concat());
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        if !self.max_age.is_zero() {
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.as_secs()));
        }
        headers
    }
}

/// Whether an origin is one that `allowed` means: `*` in it stands for anything.
fn is_like(allowed: &str, origin: &str) -> bool {
    let (allowed, origin) = (allowed.to_ascii_lowercase(), origin.to_ascii_lowercase());
    match allowed.split_once('*') {
        None => allowed == origin,
        Some((before, behind)) => {
            origin.len() >= before.len() + behind.len()
                && origin.starts_with(before)
                && origin.ends_with(behind)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one_of_the_list_and_a_star_is_anything() {
        for (allowed, origin, expected) in [
            ("*", "https://a", true),
            ("https://shop.example", "https://SHOP.example", true),
            ("https://shop.example", "https://shop.example.evil", false),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://example", false),
            ("http://a*a", "http://a", false),
        ] {
            assert_eq!(is_like(allowed, origin), expected, "{allowed} {origin}");
        }
    }
}
