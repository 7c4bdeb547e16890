//! The world around the agent, for tests and examples.

pub mod messages;
