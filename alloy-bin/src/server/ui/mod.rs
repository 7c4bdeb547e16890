//! The pages for people: rendered here, complete without JavaScript, kept up to date by a little of it.
//!
//! | file | page |
//! | --- | --- |
//! | `page.rs` | the frame around each, headers, small parts that all use |
//! | `cluster.rs` | `/`: members, balance, what happened lately |
//! | `ownership.rs` | `/ownership`: who owns what, how it fares, why it is there |
//! | `components.rs` | `/components`: what runs, and what it was given |
//! | `tail.rs` | `/debug/ID`: what comes into a component, live |
//! | `drawing.rs` | pictures: bars, the graph, lines over time |
//! | `logs.rs` | `/logs`: what is on disk for each endpoint |
//! | `lag.rs` | how the logs' lag was in the last hour |
//! | `style.css`, `script.js` | as they are sent |
//!
//! Invariant: nothing is changed by a page, and nothing comes from elsewhere: the content policy says so to browsers.

mod cluster;
mod components;
mod drawing;
mod lag;
mod logs;
mod ownership;
mod page;
mod tail;

pub use lag::LagHistory;
pub(super) use page::routes;
