//! The components, one file each; the path of the file is the name in the configuration.

pub mod discovery;
pub mod local;
pub mod loki;
