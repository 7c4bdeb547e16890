//! Why an endpoint refuses data for good, as far as its answer tells.

use http::StatusCode;

/// A reason, for counters and for what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Older than what the endpoint has of the series, and than its out-of-order window.
    OutOfOrder,
    /// The endpoint has another value for that time.
    Duplicate,
    /// Status 413.
    TooLarge,
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
}

impl Rejection {
    /// All, in the order of their numbers.
    pub const ALL: [Rejection; 8] = [
        Rejection::OutOfOrder,
        Rejection::Duplicate,
        Rejection::TooLarge,
        Rejection::TooManyRequests,
        Rejection::Unauthorized,
        Rejection::Invalid,
        Rejection::Unsupported,
        Rejection::Other,
    ];

    /// As a label's value.
    pub fn name(self) -> &'static str {
        match self {
            Rejection::OutOfOrder => "out_of_order",
            Rejection::Duplicate => "duplicate",
            Rejection::TooLarge => "too_large",
            Rejection::TooManyRequests => "too_many_requests",
            Rejection::Unauthorized => "unauthorized",
            Rejection::Invalid => "invalid",
            Rejection::Unsupported => "unsupported",
            Rejection::Other => "other",
        }
    }

    /// A Prometheus with an out-of-order window answers 500 to what is older than the window (2.42 does, and sends for ever
    /// what it is answered so itself). It will never take it: what is behind it in the log must not wait for that.
    pub(super) fn is_final(status: StatusCode, text: &str) -> bool {
        status == StatusCode::INTERNAL_SERVER_ERROR && text.trim() == "too old sample"
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
            Rejection::OutOfOrder | Rejection::Duplicate | Rejection::TooLarge | Rejection::Invalid => true,
            Rejection::TooManyRequests
            | Rejection::Unauthorized
            | Rejection::Unsupported
            | Rejection::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check(401, "", Rejection::Unauthorized);
        check(404, "out of order", Rejection::Other);
    }

    #[test]
    fn an_error_of_the_server_passes_unless_it_is_about_a_samples_age() {
        let check = |status: u16, text: &str, expected: bool| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Rejection::is_final(status, text), expected, "{status} {text}");
        };
        check(500, "too old sample\n", true);
        check(500, "", false);
        check(500, "out of order sample", false);
        check(503, "too old sample", false);
    }

    #[test]
    fn every_reason_has_its_own_name_and_number() {
        for (number, reason) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert!(Rejection::ALL[..number].iter().all(|other| other.name() != reason.name()));
        }
    }
}
