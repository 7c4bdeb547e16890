//! `loki.*`

pub mod write;
