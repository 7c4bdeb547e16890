//! Framed TCP streams between peers: one connection per peer and direction, one bounded queue each, so that a
//! peer that stalls delays nobody else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::NodeName;
use crate::counters::Counters;
use crate::frame::{FRAME_BYTES_MAX, Frame, HELLO_HEAD_BYTES, Hello};

/// Frames that wait for one peer.
const QUEUE_FRAMES_MAX: usize = 1024;
/// Bytes that wait for one peer: at 10 MB/s the queue of a healthy one empties in a few seconds.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a peer may take to accept a connection, and to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to read one frame before the connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two attempts to connect: the first, and the longest.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A message from a peer's caller to this one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who sent it.
    pub from: NodeName,
    /// The channel that the sender named.
    pub channel: String,
    /// What it sent.
    pub payload: Bytes,
}

/// The queue of the frames to one peer. Dropping it ends its task and closes the connection.
pub(crate) struct Outgoing {
    pub(crate) address: SocketAddr,
    queue: mpsc::Sender<Frame>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Outgoing {
    /// The queue, and the future that empties it.
    pub(crate) fn new(
        address: SocketAddr,
        hello: Bytes,
        counters: Arc<Counters>,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let task = send_all(address, hello, frames, queued_bytes.clone(), counters);
        (Outgoing { address, queue, queued_bytes }, task)
    }

    /// Queues a frame; `false` if there is no room.
    pub(crate) fn push(&self, frame: Frame) -> bool {
        let bytes = frame.bytes();
        if bytes > FRAME_BYTES_MAX || self.queued_bytes.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_queued = self.queue.try_send(frame).is_ok();
        if !is_queued {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_queued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued_bytes.load(Ordering::Relaxed) == 0
    }
}

/// Sends frame after frame, connecting as needed. A frame that was cut off by a lost connection is sent again
/// whole on the next one; one that was written may have been lost with it.
async fn send_all(
    address: SocketAddr,
    hello: Bytes,
    mut frames: mpsc::Receiver<Frame>,
    queued_bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
) {
    let mut stream = None;
    while let Some(frame) = frames.recv().await {
        let mut backoff = BACKOFF_FIRST;
        loop {
            if stream.as_ref().is_none_or(is_closed) {
                stream = connect(address, &hello).await.ok();
            }
            if let Some(open) = &mut stream
                && let Ok(Ok(())) = timeout(WRITE_TIMEOUT, write_frame(open, &frame)).await
            {
                break;
            }
            stream = None;
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        counters.frames_sent.fetch_add(1, Ordering::Relaxed);
        queued_bytes.fetch_sub(frame.bytes(), Ordering::Relaxed);
    }
}

/// The peer never writes on a connection that we opened: if there is anything to read, it is the end.
/// Without this look the first frame after a peer's restart would vanish into the old connection.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn connect(address: SocketAddr, hello: &Bytes) -> io::Result<TcpStream> {
    let mut stream = timeout(HELLO_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    stream.write_all(hello).await?;
    Ok(stream)
}

async fn write_frame(stream: &mut TcpStream, frame: &Frame) -> io::Result<()> {
    let (head, payload) = frame.encode();
    stream.write_all(&head).await?;
    stream.write_all(&payload).await
}

/// What a link tells the driver.
pub(crate) enum LinkEvent {
    /// A peer has said hello on this link.
    Opened { link: u64, hello: Hello },
    /// The full state of a peer.
    State { from: NodeName, payload: Bytes },
}

/// What every receiving end needs.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) me: NodeName,
    pub(crate) cluster: u64,
    pub(crate) driver: mpsc::Sender<LinkEvent>,
    pub(crate) caller: mpsc::Sender<Incoming>,
    pub(crate) counters: Arc<Counters>,
}

/// Reads a link until it ends: states go to the driver, messages to the caller.
pub(crate) async fn receive_all(stream: TcpStream, link: u64, receiver: Receiver) {
    let Receiver { me, cluster, driver, caller, counters } = receiver;
    let mut stream = BufReader::new(stream);
    let hello = match timeout(HELLO_TIMEOUT, read_hello(&mut stream)).await {
        Ok(Ok(hello)) if hello.cluster == cluster && hello.name != me => hello,
        _ => {
            counters.links_refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let from = hello.name.clone();
    if driver.send(LinkEvent::Opened { link, hello }).await.is_err() {
        return;
    }
    while let Ok(frame) = read_frame(&mut stream).await {
        counters.frames_received.fetch_add(1, Ordering::Relaxed);
        let is_taken = match frame {
            Frame::State(payload) => {
                driver.send(LinkEvent::State { from: from.clone(), payload }).await.is_ok()
            }
            Frame::Message { channel, payload } => {
                // A caller that listens no more still takes part in the membership.
                let _closed = caller.send(Incoming { from: from.clone(), channel, payload }).await;
                true
            }
        };
        if !is_taken {
            return;
        }
    }
}

async fn read_hello(stream: &mut BufReader<TcpStream>) -> io::Result<Hello> {
    let mut bytes = vec![0; HELLO_HEAD_BYTES];
    stream.read_exact(&mut bytes).await?;
    let name_bytes = usize::from(bytes[HELLO_HEAD_BYTES - 1]);
    bytes.resize(HELLO_HEAD_BYTES + name_bytes, 0);
    stream.read_exact(&mut bytes[HELLO_HEAD_BYTES..]).await?;
    Hello::decode(&bytes).map_err(io::Error::other)
}

async fn read_frame(stream: &mut BufReader<TcpStream>) -> io::Result<Frame> {
    let len = stream.read_u32_le().await? as usize;
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame is longer than allowed"));
    }
    // Grows with what really arrives: a length alone does not cost memory.
    let mut bytes = Vec::with_capacity(len.min(64 * 1024));
    let read = stream.take(len as u64).read_to_end(&mut bytes).await?;
    if read < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Frame::decode(bytes.into()).map_err(io::Error::other)
}
