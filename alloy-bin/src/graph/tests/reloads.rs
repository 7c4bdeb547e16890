//! T.

use super::*;
