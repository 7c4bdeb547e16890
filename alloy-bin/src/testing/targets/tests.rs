//! Targets serve pages that our own parser reads, and fail by their script.

use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::*;
use crate::formats::{Format, Item, parse_text};

async fn get(targets: &Targets, index: usize) -> Option<Response<Incoming>> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let url = format!("http://{}{}", targets.address(), path(index));
    client.get(url.parse().unwrap()).await.ok()
}

/// The value of the counter on the page, read as its content type says.
async fn scrape(targets: &Targets, index: usize) -> Option<f64> {
    let response = get(targets, index).await?;
    let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    let format = Format::from_content_type(Some(&content_type), None).unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let mut counter = None;
    let Format::Text(format) = format else { panic!("targets write text") };
    let mut take = |item: Item<'_, '_>| match item {
        Item::Series(series) if series.name == "test_scrapes_total" => counter = Some(series.value),
        _ => {}
    };
    parse_text(&body, format, &mut take).ok()?;
    counter
}

#[tokio::test]
async fn each_target_counts_its_own_scrapes() {
    let targets = Targets::start(3, 2).await.unwrap();
    assert_eq!(scrape(&targets, 1).await, Some(1.0));
    assert_eq!(scrape(&targets, 1).await, Some(2.0));
    targets.behave(2, Behaviour::OpenMetrics);
    assert_eq!(scrape(&targets, 2).await, Some(1.0));
    assert_eq!(targets.scrape_counts(), [0, 2, 1]);
    let scrapes = targets.scrapes(1);
    assert!(scrapes[0].arrived_unix_ms <= scrapes[1].arrived_unix_ms);
    assert_eq!(get(&targets, 3).await.unwrap().status(), 404);
}

#[tokio::test]
async fn faults_follow_the_script() {
    let targets = Targets::start(1, 0).await.unwrap();
    let next = async |behaviour| {
        targets.behave(0, behaviour);
        get(&targets, 0).await
    };
    assert_eq!(next(Behaviour::Status(500)).await.unwrap().status(), 500);
    assert!(next(Behaviour::HangUp).await.is_none());
    let mut endless = next(Behaviour::Endless).await.unwrap().into_body();
    for _ in 0..100 {
        assert!(endless.frame().await.unwrap().unwrap().data_ref().is_some_and(|data| !data.is_empty()));
    }
    let zipped = next(Behaviour::Gzip).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let mut page = String::new();
    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&zipped[..]), &mut page).unwrap();
    assert!(page.contains("test_scrapes_total{target=\"0\"} 4\n"), "{page}");

    targets.behave(0, Behaviour::Garbage);
    assert_eq!(scrape(&targets, 0).await, None);
    targets.behave(0, Behaviour::Slow(Duration::from_millis(1)));
    assert_eq!(scrape(&targets, 0).await, Some(6.0));
    targets.down().await;
    assert!(get(&targets, 0).await.is_none());
    targets.up().await.unwrap();
    assert_eq!(scrape(&targets, 0).await, Some(7.0));
}

#[tokio::test]
async fn targets_are_told_apart_by_their_labels() {
    let targets = Targets::start(2, 0).await.unwrap();
    assert_ne!(targets.target(0).key(), targets.target(1).key());
    let configuration = targets.to_configuration();
    assert!(configuration.contains(r#""__metrics_path__" = "/t/1/metrics", "instance" = "target-1", },"#));
}
