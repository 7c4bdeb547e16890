//! Clients that are slow, many or long-winded hold nothing that others need.

use std::time::Duration;

use super::super::Limits;
use super::*;

const SHORT: Duration = Duration::from_millis(50);
/// More than the buffers of both ends of a connection hold.
const BIG: usize = 64 << 20;

/// One connection at a time, so that an answer to a second client says that the first one is gone.
async fn serve_one_at_a_time(limits: Limits) -> (SocketAddr, CancellationToken) {
    let front = Arc::new(Front::new(Protection::default()));
    let listener = Listener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.address().expect("an address");
    let router =
        Router::new().route("/", get(|| async { "here" })).route("/big", get(|| async { vec![b'a'; BIG] }));
    let stop = CancellationToken::new();
    let listener = listener.limited(Limits { connections: 1, ..limits });
    tokio::spawn(listener.serve(router, front, None, stop.clone()));
    (address, stop)
}

async fn open(address: SocketAddr, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(sent).await.expect("open");
    stream
}

async fn whole(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // Whoever is thrown out may be told so by a reset.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn who_does_not_finish_a_question_or_read_an_answer_makes_room_for_the_next() {
    let slow: [(&[u8], Limits); 3] = [
        (b"GET / HT", Limits { idle: SHORT, ..Limits::default() }),
        // Answered, and then nothing more comes.
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", Limits { idle: SHORT, ..Limits::default() }),
        (b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n", Limits { unread: SHORT, ..Limits::default() }),
    ];
    for (sent, limits) in slow {
        let (address, stop) = serve_one_at_a_time(limits).await;
        let held = open(address, sent).await;
        let next = whole(open(address, QUESTION).await);
        let next = tokio::time::timeout(Duration::from_secs(20), next).await;
        assert!(next.expect("in time").ends_with("here"), "{}", String::from_utf8_lossy(sent));
        assert!(whole(held).await.len() < BIG);
        stop.cancel();
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (address, _stop) = serve_one_at_a_time(Limits::default()).await;
    let head = |length| {
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n", "a".repeat(length))
    };
    let answer = whole(open(address, head(32 << 10).as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = whole(open(address, &head(128 << 10).as_bytes()[..100 << 10]).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: a\r\n".repeat(200));
    let answer = whole(open(address, many.as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
