//! Why an endpoint refuses data for good, as far as its answer tells.

use http::StatusCode;

/// A reason, for counters and for what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Older than what the endpoint has of the series, and than its out-of-order window.
    OutOfOrder,
    /// The endpoint has another value for that time.
    Duplicate,
    /// Status 413, and what says the same in other words: a line that is too long, a request that Loki cannot pass on inside.
    TooLarge,
    /// The endpoint has as many streams as it takes, and this is one more.
    StreamLimit,
    /// Status 429, where the configuration wants no second try.
    TooManyRequests,
    /// Status 401 or 403.
    Unauthorized,
    /// Status 400 or 422 for any other reason; or records that can't be joined.
    Invalid,
    /// The protocol that the endpoint takes has no room for it.
    Unsupported,
    /// Any other status: 404, mostly.
    Other,
    /// The endpoint took the rest of the request.
    Partial,
}

impl Rejection {
    /// All, in the order of their numbers.
    pub const ALL: [Rejection; 10] = [
        Rejection::OutOfOrder,
        Rejection::Duplicate,
        Rejection::TooLarge,
        Rejection::StreamLimit,
        Rejection::TooManyRequests,
        Rejection::Unauthorized,
        Rejection::Invalid,
        Rejection::Unsupported,
        Rejection::Other,
        Rejection::Partial,
    ];

    /// As a label's value.
    pub fn name(self) -> &'static str {
        match self {
            Rejection::OutOfOrder => "out_of_order",
            Rejection::Duplicate => "duplicate",
            Rejection::TooLarge => "too_large",
            Rejection::StreamLimit => "stream_limit",
            Rejection::TooManyRequests => "too_many_requests",
            Rejection::Unauthorized => "unauthorized",
            Rejection::Invalid => "invalid",
            Rejection::Unsupported => "unsupported",
            Rejection::Other => "other",
            Rejection::Partial => "partial_success",
        }
    }

    /// A Prometheus with an out-of-order window answers 500 to what is older than the window (2.42 does, and sends for ever
    /// what it is answered so itself). Loki answers 500 to what is too large for its own messages, 4 MiB unless it is told otherwise,
    /// and 429 to a stream beyond its limit, with the request's other streams taken. It will never take that: what is behind it in the
    /// log must not wait for it.
    pub(super) fn is_final(status: StatusCode, text: &str) -> bool {
        match status.as_u16() {
            429 => is_stream_limit(text),
            500 => text.trim() == "too old sample" || text.contains(TOO_LARGE_INSIDE),
            _ => false,
        }
    }

    /// From the status and the beginning of the body. The words are those of Prometheus' storage (`out of order sample`,
    /// `out of bounds`, `too old sample`, `duplicate sample for timestamp`), Mimir (`err-mimir-sample-out-of-order`,
    /// `err-mimir-sample-timestamp-too-old`, `err-mimir-sample-duplicate-timestamp`) and Loki (`entry too far behind`).
    pub(super) fn of(status: StatusCode, text: &str) -> Self {
        const LATE: [&str; 6] =
            ["out of order", "out-of-order", "out of bounds", "too old", "too-old", "too far behind"];
        let text = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match status.as_u16() {
            500 if says(&["too old sample"]) => Rejection::OutOfOrder,
            500 if says(&[TOO_LARGE_INSIDE]) => Rejection::TooLarge,
            400 if says(&["max entry size"]) => Rejection::TooLarge,
            429 if is_stream_limit(&text) => Rejection::StreamLimit,
            400 | 409 | 422 if says(&LATE) => Rejection::OutOfOrder,
            400 | 409 | 422 if says(&["duplicate sample", "duplicate-timestamp"]) => Rejection::Duplicate,
            400 | 422 => Rejection::Invalid,
            401 | 403 => Rejection::Unauthorized,
            413 => Rejection::TooLarge,
            429 => Rejection::TooManyRequests,
            _ => Rejection::Other,
        }
    }

    /// Whether the same records one by one may fare better than together.
    pub(super) fn is_about_content(self) -> bool {
        match self {
            Rejection::OutOfOrder
            | Rejection::Duplicate
            | Rejection::TooLarge
            | Rejection::StreamLimit
            | Rejection::Invalid => true,
            Rejection::TooManyRequests
            | Rejection::Unauthorized
            | Rejection::Unsupported
            | Rejection::Other
            | Rejection::Partial => false,
        }
    }
}

/// What gRPC says of it, between Loki's distributor and its ingester.
const TOO_LARGE_INSIDE: &str = "received message larger than max";

fn is_stream_limit(text: &str) -> bool {
    text.to_ascii_lowercase().contains("active stream limit exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both as Loki 3.5 says it.
    const STREAM_LIMIT: &str =
        "Maximum active stream limit exceeded when trying to create stream {a=\"5\"}, reduce the number of";
    const TOO_LARGE: &str = "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (5270056 vs. 4194304)\n";

    #[test]
    fn what_receivers_say_has_a_name() {
        let check = |status: u16, text: &str, expected: Rejection| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Rejection::of(status, text), expected, "{status} {text}");
        };
        check(400, "out of order sample", Rejection::OutOfOrder);
        check(400, "out of bounds", Rejection::OutOfOrder);
        check(400, "too old sample", Rejection::OutOfOrder);
        check(500, "too old sample\n", Rejection::OutOfOrder);
        check(400, "duplicate sample for timestamp", Rejection::Duplicate);
        check(
            400,
            "failed pushing to ingester: the sample has been rejected because another sample with a more recent \
             timestamp has already been ingested and out-of-order samples are not allowed (err-mimir-sample-out-of-order)",
            Rejection::OutOfOrder,
        );
        check(422, "(err-mimir-sample-duplicate-timestamp)", Rejection::Duplicate);
        check(400, "entry too far behind, entry timestamp is: 2026", Rejection::OutOfOrder);
        check(400, "invalid label", Rejection::Invalid);
        check(413, "", Rejection::TooLarge);
        check(429, "out of order", Rejection::TooManyRequests);
        check(429, STREAM_LIMIT, Rejection::StreamLimit);
        check(500, TOO_LARGE, Rejection::TooLarge);
        check(
            400,
            "2 errors like: Max entry size '262144' bytes exceeded for stream '{a=\"b\"}'",
            Rejection::TooLarge,
        );
        check(401, "", Rejection::Unauthorized);
        check(404, "out of order", Rejection::Other);
    }

    #[test]
    fn an_error_of_the_server_passes_unless_it_says_that_it_will_not() {
        let check = |status: u16, text: &str, expected: bool| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Rejection::is_final(status, text), expected, "{status} {text}");
        };
        check(500, "too old sample\n", true);
        check(500, "", false);
        check(500, "out of order sample", false);
        check(503, "too old sample", false);
        check(500, TOO_LARGE, true);
        check(503, TOO_LARGE, false);
        check(429, STREAM_LIMIT, true);
        check(429, "Ingestion rate limit exceeded for user a (limit: 4194304 bytes/sec)", false);
    }

    #[test]
    fn every_reason_has_its_own_name_and_number() {
        for (number, reason) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert!(Rejection::ALL[..number].iter().all(|other| other.name() != reason.name()));
        }
    }
}
