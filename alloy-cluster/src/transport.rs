//! The trait [`Transport`]: datagrams, as the driver sees them.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;

/// Sends and receives datagrams, as UDP does: they may be lost, doubled or reordered, never cut or joined.
///
/// # Contract
/// 1. `receive` gives each datagram whole, with the address that a reply goes to. Cancelling it loses nothing.
/// 2. `send` hands the datagram over and does not wait for the receiver; a receiver that does not exist is no error
///    that stops later sends.
/// 3. `local_address` is where this end is reached by those on the same network.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Where this end listens.
    fn local_address(&self) -> SocketAddr;

    /// Sends one datagram.
    async fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()>;

    /// Waits for a datagram: puts it into the buffer, which is longer than any we send.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
}
