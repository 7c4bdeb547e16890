//! Which exposition format we ask for, and which one we were given.

use std::fmt::Write as _;

use super::TextFormat;

/// How a page is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text(TextFormat),
    /// As messages, each behind its length.
    Protobuf,
}

/// A protocol as the configuration names it (`scrape_protocols`, `scrape_fallback_protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `PrometheusProto`: the only one with native histograms.
    PrometheusProto,
    /// `OpenMetricsText1.0.0`
    OpenMetricsText1_0_0,
    /// `OpenMetricsText0.0.1`
    OpenMetricsText0_0_1,
    /// `PrometheusText1.0.0`: 0.0.4 with quoted names.
    PrometheusText1_0_0,
    /// `PrometheusText0.0.4`
    PrometheusText0_0_4,
}

/// How targets are to write names that are not of the classic kind (`metric_name_escaping_scheme`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Escaping {
    /// Each other character as `_`.
    #[default]
    Underscores,
    /// `.` as `_dot_`, `_` as `__`, and others as `_`.
    Dots,
    /// `U__` in front, and others by their number.
    Values,
    /// As they are.
    AllowUtf8,
}

impl Escaping {
    /// All schemes.
    pub const ALL: [Escaping; 4] =
        [Escaping::Underscores, Escaping::Dots, Escaping::Values, Escaping::AllowUtf8];

    /// Its name in the configuration and in a header.
    pub fn name(self) -> &'static str {
        match self {
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
            Escaping::AllowUtf8 => "allow-utf-8",
        }
    }
}

impl Protocol {
    /// All protocols. It is what is asked for when nothing but native histograms is configured, best first.
    pub const ALL: [Protocol; 5] = [
        Protocol::PrometheusProto,
        Protocol::OpenMetricsText1_0_0,
        Protocol::OpenMetricsText0_0_1,
        Protocol::PrometheusText1_0_0,
        Protocol::PrometheusText0_0_4,
    ];

    /// What is asked for when nothing is configured, best first.
    pub const DEFAULT: [Protocol; 4] = [
        Protocol::OpenMetricsText1_0_0,
        Protocol::OpenMetricsText0_0_1,
        Protocol::PrometheusText1_0_0,
        Protocol::PrometheusText0_0_4,
    ];

    /// The protocol of that name in the configuration.
    pub fn from_name(name: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::PrometheusProto => "PrometheusProto",
            Protocol::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Protocol::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Protocol::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Protocol::PrometheusText0_0_4 => "PrometheusText0.0.4",
        }
    }

    /// How its pages are read.
    pub fn format(self) -> Format {
        match self {
            Protocol::PrometheusProto => Format::Protobuf,
            Protocol::OpenMetricsText1_0_0 | Protocol::OpenMetricsText0_0_1 => OPEN_METRICS,
            Protocol::PrometheusText1_0_0 | Protocol::PrometheusText0_0_4 => TEXT,
        }
    }

    /// Its media type, and whether it has the parameter for names.
    fn media_type(self) -> (&'static str, bool) {
        match self {
            Protocol::PrometheusProto => (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                false,
            ),
            Protocol::OpenMetricsText1_0_0 => ("application/openmetrics-text;version=1.0.0", true),
            Protocol::OpenMetricsText0_0_1 => ("application/openmetrics-text;version=0.0.1", false),
            Protocol::PrometheusText1_0_0 => ("text/plain;version=1.0.0", true),
            Protocol::PrometheusText0_0_4 => ("text/plain;version=0.0.4", false),
        }
    }
}

/// The `Accept` header that asks for these protocols, best first, and for anything else last.
///
/// The quality begins at 0.6 and falls by 0.1, as Prometheus writes it.
pub fn accept_header(protocols: &[Protocol], escaping: Escaping) -> String {
    const BEST: usize = 6;
    let mut header = String::new();
    // There are five protocols; a list that repeats some keeps the lowest quality above zero.
    let quality = |index: usize| BEST.saturating_sub(index).max(1);
    for (index, protocol) in protocols.iter().enumerate() {
        let (media_type, has_escaping) = protocol.media_type();
        header.push_str(media_type);
        if has_escaping {
            write!(header, ";escaping={}", escaping.name()).expect("a String takes every write");
        }
        write!(header, ";q=0.{},", quality(index)).expect("a String takes every write");
    }
    write!(header, "*/*;q=0.{}", quality(protocols.len())).expect("a String takes every write");
    header
}

/// The page's content type says nothing that we read, and no fallback is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentTypeError {
    /// The target sent no content type. Configure a fallback protocol for it.
    #[error("the target sent no Content-Type and no fallback protocol is configured")]
    Missing,
    /// The target sent a content type that we do not read. Configure a fallback protocol if the page is text after all.
    #[error("the target sent the unsupported Content-Type {0:?}")]
    Unsupported(String),
}

const TEXT: Format = Format::Text(TextFormat::Prometheus);
const OPEN_METRICS: Format = Format::Text(TextFormat::OpenMetrics);

impl Format {
    /// The format that a `Content-Type` header names, else the fallback's.
    pub fn from_content_type(
        content_type: Option<&str>,
        fallback: Option<Protocol>,
    ) -> Result<Format, ContentTypeError> {
        /// A header in an error message is cut here: the target decides what it holds.
        const SHOWN_CHARACTERS: usize = 80;
        let content_type = content_type.unwrap_or_default().trim();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let unsupported =
            || ContentTypeError::Unsupported(content_type.chars().take(SHOWN_CHARACTERS).collect());

        if media_type.eq_ignore_ascii_case("text/plain") {
            return Ok(TEXT);
        }
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") {
            return Ok(OPEN_METRICS);
        }
        if media_type.eq_ignore_ascii_case("application/vnd.google.protobuf") {
            // Other messages, or one as text.
            let is_other = |(name, value): (&str, &str)| match name.trim() {
                "proto" => value.trim() != "io.prometheus.client.MetricFamily",
                "encoding" => value.trim() != "delimited",
                _ => false,
            };
            let mut parameters = content_type.split(';').filter_map(|parameter| parameter.split_once('='));
            return if parameters.any(is_other) { Err(unsupported()) } else { Ok(Format::Protobuf) };
        }
        match fallback {
            Some(protocol) => Ok(protocol.format()),
            None if content_type.is_empty() => Err(ContentTypeError::Missing),
            None => Err(unsupported()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_is_the_one_that_prometheus_sends() {
        use Protocol::{OpenMetricsText0_0_1, OpenMetricsText1_0_0, PrometheusText0_0_4};
        assert_eq!(
            accept_header(
                &[OpenMetricsText1_0_0, OpenMetricsText0_0_1, PrometheusText0_0_4],
                Escaping::default()
            ),
            "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
        );
        assert_eq!(accept_header(&[], Escaping::Dots), "*/*;q=0.6");
        assert!(accept_header(&[PrometheusText0_0_4; 9], Escaping::Dots).ends_with("q=0.1"));
        let all = accept_header(&Protocol::ALL, Escaping::AllowUtf8);
        assert!(all.starts_with(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
        ));
        assert!(all.ends_with("text/plain;version=0.0.4;q=0.2,*/*;q=0.1"));
        let utf8 = accept_header(&[OpenMetricsText1_0_0], Escaping::AllowUtf8);
        assert!(utf8.starts_with("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"));
    }

    /// Targets of before would not know the parameter, and protobuf needs none.
    #[test]
    fn how_names_are_written_is_said_to_the_formats_that_know_it() {
        for (escaping, name) in
            Escaping::ALL.into_iter().zip(["underscores", "dots", "values", "allow-utf-8"])
        {
            let header = accept_header(&Protocol::ALL, escaping);
            for part in header.split(',') {
                let knows = ["application/openmetrics-text;version=1.0.0;", "text/plain;version=1.0.0;"];
                let knows = knows.iter().any(|media_type| part.starts_with(media_type));
                assert_eq!(part.contains(&format!(";escaping={name};q=")), knows, "{part}");
                assert_eq!(part.contains("escaping"), knows, "{part}");
            }
        }
    }

    #[test]
    fn the_content_type_decides_and_the_fallback_fills_in() {
        let check = |header: &str, fallback: Option<Protocol>, expected: Option<Format>| {
            let header = (!header.is_empty()).then_some(header);
            assert_eq!(Format::from_content_type(header, fallback).ok(), expected, "{header:?}");
        };
        let text = Some(Protocol::PrometheusText0_0_4);
        let open_metrics = Some(Protocol::OpenMetricsText1_0_0);
        check("text/plain", None, Some(TEXT));
        check("text/plain; version=0.0.4; charset=utf-8", open_metrics, Some(TEXT));
        check("Application/OpenMetrics-Text; version=1.0.0", text, Some(OPEN_METRICS));
        check("", None, None);
        check("", text, Some(TEXT));
        check("", open_metrics, Some(OPEN_METRICS));
        check("text/html", None, None);
        check("text/html", text, Some(TEXT));
        check(";", None, None);
        let protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=";
        check(&format!("{protobuf}delimited"), text, Some(Format::Protobuf));
        check(&format!("{protobuf}text"), text, None);
        check("application/vnd.google.protobuf; proto=other.Message", text, None);
        check("", Some(Protocol::PrometheusProto), Some(Format::Protobuf));
    }

    #[test]
    fn protocols_are_found_by_their_names() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::from_name(protocol.name()), Some(protocol));
        }
        assert_eq!(Protocol::from_name("PrometheusProto2"), None);
    }
}
