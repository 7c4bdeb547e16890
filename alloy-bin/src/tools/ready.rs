//! `alloy tools ready URL`: waits until an agent is ready. What `helm test` runs, in an image that has no shell.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::http_client::{HttpClient, HttpClientOptions, parse_url, read};

const PAUSE: Duration = Duration::from_millis(500);

/// Why an agent is not ready is one line.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Flags of `alloy tools ready`.
#[derive(Debug, Args)]
pub struct Flags {
    /// The agent's server, or the whole URL of what answers 200 when it is ready.
    #[arg(default_value = "http://127.0.0.1:12345/-/ready")]
    url: String,
    /// How long to wait until it is.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Take any certificate: an agent's is seldom made for the name by which it is reached here.
    #[arg(long)]
    insecure_skip_verify: bool,
}

/// Runs the tool.
///
/// # Errors
/// The last answer of an agent that was not ready in time.
pub fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let mut url = flags.url.clone();
    if parse_url(&url).map_err(anyhow::Error::msg)?.path() == "/" {
        url = format!("{}/-/ready", url.trim_end_matches('/'));
    }
    let options = HttpClientOptions::default();
    let client =
        HttpClient::new(&if flags.insecure_skip_verify { options.with_any_certificate() } else { options });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(flags.seconds);
        loop {
            let answer = timeout_at(deadline, ask(&client, &url)).await.context("no answer").flatten();
            match answer {
                Ok(text) => {
                    print!("{text}");
                    return Ok(ExitCode::SUCCESS);
                }
                Err(error) if Instant::now() + PAUSE >= deadline => return Err(error.context(url.clone())),
                Err(_) => sleep_until(Instant::now() + PAUSE).await,
            }
        }
    })
}

async fn ask(client: &HttpClient, url: &str) -> anyhow::Result<String> {
    let response = client.send(Request::get(url).body(Bytes::new())?).await?;
    let status = response.status();
    let body = read(response, ANSWER_BYTES_MAX).await?;
    let text = String::from_utf8_lossy(&body);
    anyhow::ensure!(status == StatusCode::OK, "status {status}: {}", text.trim_end());
    Ok(text.into_owned())
}
