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
use crate::frame::{FRAME_BYTES_MAX, FRAME_TAG_BYTES, Frame, HELLO_HEAD_BYTES, Hello};
use crate::link_seal::{LinkKeys, LinkSeal, random_salt};
use crate::seal::SALT_BYTES;

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
        hello: Hello,
        keys: LinkKeys,
        counters: Arc<Counters>,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let task = send_all(address, hello, keys, frames, queued_bytes.clone(), counters);
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
    hello: Hello,
    keys: LinkKeys,
    mut frames: mpsc::Receiver<Frame>,
    queued_bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
) {
    let mut stream: Option<Opened> = None;
    while let Some(frame) = frames.recv().await {
        let mut backoff = BACKOFF_FIRST;
        loop {
            // A link whose key has been replaced makes room for one with the new key.
            if stream.as_ref().is_none_or(|open| is_closed(&open.stream) || !open.seal.is_current()) {
                stream = connect(address, &hello, &keys).await.ok();
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

/// A connection that has said hello.
struct Opened {
    stream: TcpStream,
    seal: LinkSeal,
}

async fn connect(address: SocketAddr, hello: &Hello, keys: &LinkKeys) -> io::Result<Opened> {
    let mut stream = timeout(HELLO_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let hello = Hello { key_id: keys.key_id(), ..hello.clone() };
    let key_id = hello.key_id;
    let mut salt = [0; SALT_BYTES];
    let mut hello = hello.encode().to_vec();
    if key_id != 0 {
        salt = random_salt()?;
        hello.extend_from_slice(&salt);
    }
    stream.write_all(&hello).await?;
    Ok(Opened { stream, seal: LinkSeal::new(keys.clone(), key_id, salt, hello.into()) })
}

async fn write_frame(open: &mut Opened, frame: &Frame) -> io::Result<()> {
    let (head, payload) = frame.encode();
    if open.seal.is_open() {
        open.stream.write_all(&head).await?;
        return open.stream.write_all(&payload).await;
    }
    let plain = [&head[4..], &payload].concat();
    let sealed = open.seal.seal(&plain).ok_or_else(|| io::Error::other("the key is gone"))?;
    open.stream.write_all(&(sealed.len() as u32).to_le_bytes()).await?;
    open.stream.write_all(&sealed).await
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
    pub(crate) keys: LinkKeys,
    pub(crate) driver: mpsc::Sender<LinkEvent>,
    pub(crate) caller: mpsc::Sender<Incoming>,
    pub(crate) counters: Arc<Counters>,
}

/// Reads a link until it ends: states go to the driver, messages to the caller.
pub(crate) async fn receive_all(stream: TcpStream, link: u64, receiver: Receiver) {
    let Receiver { me, cluster, keys, driver, caller, counters } = receiver;
    let mut stream = BufReader::new(stream);
    let (hello, mut seal) = match timeout(HELLO_TIMEOUT, read_hello(&mut stream, &keys)).await {
        Ok(Ok((hello, seal))) if hello.cluster == cluster && hello.name != me => (hello, seal),
        _ => {
            counters.links_refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let from = hello.name.clone();
    // Whoever sealed the first frame has a key, and is who it says; before that its name is only a claim.
    let mut hello = Some(hello);
    while let Ok(frame) = read_frame(&mut stream, &keys, &mut seal).await {
        if let Some(hello) = hello.take()
            && driver.send(LinkEvent::Opened { link, hello }).await.is_err()
        {
            return;
        }
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

/// Reads a hello, and refuses keys that are not ours and links that were there before.
async fn read_hello(stream: &mut BufReader<TcpStream>, keys: &LinkKeys) -> io::Result<(Hello, LinkSeal)> {
    let mut bytes = vec![0; HELLO_HEAD_BYTES];
    stream.read_exact(&mut bytes).await?;
    let name_bytes = usize::from(bytes[HELLO_HEAD_BYTES - 1]);
    bytes.resize(HELLO_HEAD_BYTES + name_bytes, 0);
    stream.read_exact(&mut bytes[HELLO_HEAD_BYTES..]).await?;
    let hello = Hello::decode(&bytes).map_err(io::Error::other)?;
    if !keys.takes(hello.key_id) {
        return Err(io::Error::other("a link without a key of the ring"));
    }
    let mut salt = [0; SALT_BYTES];
    if hello.key_id != 0 {
        stream.read_exact(&mut salt).await?;
        bytes.extend_from_slice(&salt);
    }
    let seal = LinkSeal::new(keys.clone(), hello.key_id, salt, bytes.into());
    Ok((hello, seal))
}

async fn read_frame(
    stream: &mut BufReader<TcpStream>,
    keys: &LinkKeys,
    seal: &mut LinkSeal,
) -> io::Result<Frame> {
    let len = stream.read_u32_le().await? as usize;
    if len > FRAME_BYTES_MAX + FRAME_TAG_BYTES {
        return Err(io::Error::other("a frame is longer than allowed"));
    }
    // Grows with what really arrives: a length alone does not cost memory.
    let mut bytes = Vec::with_capacity(len.min(64 * 1024));
    let read = stream.take(len as u64).read_to_end(&mut bytes).await?;
    if read < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if seal.is_open() {
        // The ring may have been given since the link was opened.
        return match keys.takes(0) {
            true => Frame::decode(bytes.into()).map_err(io::Error::other),
            false => Err(io::Error::other("a link in the clear, which is refused by now")),
        };
    }
    let plain =
        seal.open(&bytes).ok_or_else(|| io::Error::other("a frame that is not the next of this link"))?;
    if seal.is_first_frame() && !keys.is_first(seal.salt()) {
        return Err(io::Error::other("a link that was there before"));
    }
    Frame::decode(plain.into()).map_err(io::Error::other)
}
