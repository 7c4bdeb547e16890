//! A segmented write-ahead log with durable consumers.
mod error;
mod wal;

pub use error::{Error, Result};
pub use wal::{
    Consumer, ConsumerId, Cursor, Gap, GapReason, Item, Position, Read, Record, Start, Stats, Wal, Watermarks,
};
