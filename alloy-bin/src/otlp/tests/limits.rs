//! Clients that are slow, many or strangers, and a receiver that goes down.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::exporting::until;
use super::*;

async fn open(receiver: &Receiver) -> TcpStream {
    let address = receiver.http.trim_start_matches("http://").to_owned();
    TcpStream::connect(address).await.expect("it listens")
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n"
    )
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_is_told_so() {
    let receiver = receiver("", "read_timeout = \"50ms\"").await;
    let mut stream = open(&receiver).await;
    stream.write_all(head(10).as_bytes()).await.expect("open");
    stream.write_all(b"half").await.expect("open");
    let told = answer(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
}

#[tokio::test]
async fn requests_that_would_take_too_much_memory_together_are_told_to_come_again() {
    let receiver = receiver("", "").await;
    let part = vec![0; 3 << 20];
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = open(&receiver).await;
        stream.write_all(head(part.len() + 1).as_bytes()).await.expect("open");
        stream.write_all(&part).await.expect("open");
        waiting.push(stream);
    }
    let held = || {
        let mut page = crate::telemetry::Page::default();
        receiver.ingest.collect(&mut page);
        let text = page.render();
        let line = text.lines().find(|line| line.starts_with("alloy_otelcol_receiver_request_bytes "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).expect("a figure")
    };
    until("both are read", || held() >= 2 * part.len()).await;
    let third = post(&receiver, &[PROTOBUF], part.clone()).await;
    assert_eq!(third.head.status(), 429);
    assert_eq!(third.head.headers()["retry-after"], "1");
    drop(waiting);
    until("the memory is given back", || held() == 0).await;
    assert_eq!(post(&receiver, &[PROTOBUF], LOGS_PROTOBUF).await.head.status(), 200);
}

#[tokio::test]
async fn what_is_under_way_when_it_stops_is_answered_and_nobody_comes_in_then() {
    let receiver = Arc::new(receiver("", "").await);
    let release = CancellationToken::new();
    *receiver.script.holds.lock().unwrap() = Some(release.clone());
    let grpc = tokio::spawn({
        let receiver = receiver.clone();
        async move { call(&receiver, &[], 0, LOGS_PROTOBUF).await.code().to_owned() }
    });
    let http = tokio::spawn({
        let receiver = receiver.clone();
        async move { post(&receiver, &[PROTOBUF], LOGS_PROTOBUF).await.head.status() }
    });
    until("both are under way", || {
        Arc::strong_count(&receiver.script) > 2 && {
            let mut page = crate::telemetry::Page::default();
            receiver.ingest.collect(&mut page);
            page.render().contains("alloy_otelcol_receiver_request_bytes 2048")
        }
    })
    .await;
    receiver.ingest.drain();
    receiver.stop.cancel();
    // The port of gRPC is closed at once; the other one says goodbye first.
    let refused = async {
        let address = receiver.grpc.trim_start_matches("http://").to_owned();
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("it stops listening");
    release.cancel();
    assert_eq!(grpc.await.expect("an answer"), "0");
    assert_eq!(http.await.expect("an answer"), 200);
    assert_eq!(receiver.script.taken.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_client_without_credentials_is_a_stranger() {
    let receiver = receiver_with(|grpc, http| {
        let handler = Some(Arc::new(Handler::basic("u", "p").expect("valid")));
        (grpc.auth, http.auth) = (handler.clone(), handler);
    })
    .await;
    let credentials = ("authorization", "Basic dTpw");
    assert_eq!(post(&receiver, &[PROTOBUF], LOGS_PROTOBUF).await.head.status(), 401);
    assert_eq!(post(&receiver, &[PROTOBUF, credentials], LOGS_PROTOBUF).await.head.status(), 200);
    assert_eq!(call(&receiver, &[], 0, LOGS_PROTOBUF).await.code(), "16");
    assert_eq!(call(&receiver, &[credentials], 0, LOGS_PROTOBUF).await.code(), "0");
}
