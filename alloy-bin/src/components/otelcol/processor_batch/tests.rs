//! Senders that wait, and what they are told.

use bytes::Bytes;

use super::*;
use crate::formats::{check_otlp, otlp_from_json};
use crate::telemetry::{Dropped, Signal};

#[derive(Default)]
struct Script {
    taken: Mutex<Vec<OtlpBatch>>,
    refuses: Mutex<bool>,
}

#[async_trait]
impl Consumer<OtlpBatch> for Script {
    async fn consume(&self, batch: &OtlpBatch) -> Result<(), ConsumeError> {
        if *self.refuses.lock().unwrap() {
            return Err(ConsumeError::Full { by: "script".to_owned(), reason: "full".to_owned() });
        }
        batch.dropped.note(1, "odd");
        self.taken.lock().unwrap().push(batch.clone());
        Ok(())
    }
}

fn logs(lines: usize) -> OtlpBatch {
    let record = r#"{"body":{"stringValue":"a"}}"#;
    let records = vec![record; lines].join(",");
    let text = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#);
    otlp_from_json(Signal::Logs, text.as_bytes(), 1 << 20).expect("valid")
}

fn shared(script: &Arc<Script>) -> (Arc<Shared>, mpsc::Receiver<Waiting>) {
    let (door, inbox) = mpsc::channel(WAITING_MAX);
    let output = Mutex::new(Output::all(script.clone() as OtelConsumer));
    let doors = [door.clone(), door.clone(), door];
    (Arc::new(Shared { id: "batch".into(), doors, output, sent: Default::default() }), inbox)
}

const SIZES: Sizes = Sizes { timeout: Duration::from_secs(3600), send: 10, max: 6 };

#[tokio::test(start_paused = true)]
async fn small_messages_are_sent_as_large_ones_and_their_senders_are_told_then() {
    let script = Arc::new(Script::default());
    let (shared, inbox) = shared(&script);
    let stop = CancellationToken::new();
    let filling = tokio::spawn({
        let (shared, stop) = (shared.clone(), stop.clone());
        async move { fill(SIZES, &shared, inbox, stop).await }
    });
    let sender = |lines| {
        let (shared, batch) = (shared.clone(), logs(lines));
        tokio::spawn(async move { shared.consume(&batch).await.map(|()| batch.dropped.so_far()) })
    };
    let (one, two) = (sender(4), sender(4));
    tokio::task::yield_now().await;
    assert!(!one.is_finished() && !two.is_finished(), "eight are not enough");
    let three = sender(5);
    let told: Vec<_> =
        [one.await, two.await, three.await].into_iter().map(|told| told.unwrap().unwrap()).collect();
    let taken: Vec<u32> = script.taken.lock().unwrap().iter().map(|batch| batch.items).collect();
    assert_eq!(taken, [6, 6, 1]);
    for batch in &*script.taken.lock().unwrap() {
        assert_eq!(check_otlp(Signal::Logs, batch.body.clone()).map(|batch| batch.items), Ok(batch.items));
    }
    assert_eq!(told.iter().map(|(items, _)| items).sum::<u64>(), 3, "what was dropped is told, once");
    assert_eq!((told[0].0, told[0].1.as_str()), (3, "odd"));

    // What is waiting when it stops is sent; what comes later is refused.
    let last = sender(1);
    tokio::task::yield_now().await;
    stop.cancel();
    assert!(last.await.unwrap().is_ok());
    filling.await.unwrap();
    assert!(matches!(shared.consume(&logs(1)).await, Err(ConsumeError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn senders_hear_that_nobody_took_it_and_time_is_enough() {
    let script = Arc::new(Script::default());
    let (shared, inbox) = shared(&script);
    let sizes = Sizes { timeout: Duration::from_millis(200), ..SIZES };
    let filling = {
        let shared = shared.clone();
        tokio::spawn(async move { fill(sizes, &shared, inbox, CancellationToken::new()).await })
    };
    *script.refuses.lock().unwrap() = true;
    assert!(matches!(shared.consume(&logs(1)).await, Err(ConsumeError::Full { .. })));
    *script.refuses.lock().unwrap() = false;
    let start = Instant::now();
    assert!(shared.consume(&logs(1)).await.is_ok());
    assert_eq!(start.elapsed().as_millis() / 10, 20);
    // An empty message is as good as any other.
    let empty =
        OtlpBatch { dropped: Arc::new(Dropped::default()), ..OtlpBatch::new(Signal::Logs, Bytes::new(), 0) };
    assert!(shared.consume(&empty).await.is_ok());
    filling.abort();
}
