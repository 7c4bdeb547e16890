//! Custody: what is told to the sender, and that a message that is sent again counts once.

use super::*;
use crate::formats::otlp_from_json;

#[derive(Default)]
struct Script {
    taken: Mutex<Vec<(String, f64)>>,
    refuses: Mutex<bool>,
}

#[async_trait]
impl Consumer<SampleBatch> for Script {
    async fn consume(&self, batch: &SampleBatch) -> Result<(), ConsumeError> {
        if *self.refuses.lock().unwrap() && batch.iter().any(|sample| sample.labels.get("job") == Some("two"))
        {
            return Err(ConsumeError::Full { by: "script".to_owned(), reason: "full".to_owned() });
        }
        let all = batch
            .iter()
            .map(|sample| (sample.labels.get("job").unwrap_or_default().to_owned(), sample.value));
        self.taken.lock().unwrap().extend(all);
        Ok(())
    }
}

/// A delta of one from each of two resources, and a point without a time.
fn message(second: u64) -> OtlpBatch {
    let resource = |name: &str| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{name}"}}}}]}},"scopeMetrics":[{{"metrics":[
            {{"name":"s","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{{"timeUnixNano":"{second}000000000","asInt":1}}]}}}},
            {{"name":"g","gauge":{{"dataPoints":[{{"asInt":1}}]}}}}]}}]}}"#
        )
    };
    let text = format!(r#"{{"resourceMetrics":[{},{}]}}"#, resource("one"), resource("two"));
    otlp_from_json(Signal::Metrics, text.as_bytes(), 1 << 20).expect("valid")
}

#[tokio::test]
async fn a_refusal_reaches_the_sender_and_what_it_sends_again_counts_once() {
    let script = Arc::new(Script::default());
    let options = PrometheusOptions {
        target_info: true,
        scope_info: false,
        scope_labels: true,
        suffixes: true,
        resource_labels: false,
        keep_identifying: false,
    };
    let bridge = Bridge {
        now: Mutex::new(Now { options, next: Fanout::new(vec![script.clone() as MetricsReceiver]) }),
        gc_frequency: Mutex::new(Duration::from_secs(1)),
        turns: [const { tokio::sync::Mutex::const_new(()) }; TURNS],
        deltas: RwLock::default(),
        samples: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
    };
    *script.refuses.lock().unwrap() = true;
    let first = message(1);
    assert!(matches!(bridge.consume(&first).await, Err(ConsumeError::Full { .. })));
    assert_eq!(first.dropped.so_far(), (0, String::new()), "nothing is said of what was not taken");
    *script.refuses.lock().unwrap() = false;
    let again = message(1);
    assert!(bridge.consume(&again).await.is_ok());
    assert_eq!(again.dropped.so_far(), (2, "a point has no time".to_owned()));
    assert!(bridge.consume(&message(2)).await.is_ok());
    let taken: Vec<(String, f64)> = std::mem::take(&mut script.taken.lock().unwrap());
    let expected = [("one", 1.0), ("one", 1.0), ("two", 1.0), ("one", 2.0), ("two", 2.0)];
    assert_eq!(taken, expected.map(|(job, value)| (job.to_owned(), value)));

    let spans = OtlpBatch::new(Signal::Traces, bytes::Bytes::new(), 3);
    assert!(bridge.consume(&spans).await.is_ok());
    assert_eq!(spans.dropped.so_far().0, 3);
}
