//! Pipelines as a whole.
