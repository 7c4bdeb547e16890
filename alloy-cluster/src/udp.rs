//! [`Transport`] over UDP.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::UdpSocket;

use crate::Transport;

/// Datagrams of one UDP socket.
pub struct Udp {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Udp {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Udp::from_socket(UdpSocket::bind(address).await?)
    }

    /// Uses a socket that is bound.
    pub fn from_socket(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Udp { socket, address })
    }
}

#[async_trait]
impl Transport for Udp {
    fn local_address(&self) -> SocketAddr {
        self.address
    }

    async fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, to).await.map(drop)
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }
}
