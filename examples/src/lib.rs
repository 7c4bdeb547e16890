//! Programs that link one crate each; see the folder.
