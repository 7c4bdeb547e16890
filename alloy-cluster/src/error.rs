//! What can go wrong when a node joins a cluster.

/// Why a node could not be set up. After any of these nothing runs and nothing is bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text of the configuration is empty or longer than it may be in a packet: shorten it.
    #[error("{field} has {bytes} bytes; allowed are {min} to {max}")]
    Length {
        /// Which field.
        field: &'static str,
        /// How long it is.
        bytes: usize,
        /// How short it may be.
        min: usize,
        /// How long it may be.
        max: usize,
    },
    /// A text of `join` says nothing that members could be found by; `ClusterConfig::join` has what it may be.
    #[error("cannot find members by `{text}`: {reason}")]
    Join {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The weight is 0: a member that shall own nothing stays in phase joining instead.
    #[error("the weight is 0; the least is 1, one hundredth of a share")]
    Weight,
    /// The address could not be bound: it is taken, or not of this machine.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}
