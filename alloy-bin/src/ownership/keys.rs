//! The keys that seal what members send each other, as a file that may change while the agent runs.
//!
//! ```text
//! # The first seals, all open.
//! 2 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! 1 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
//! ```
//!
//! A new key without a break: add it as the last on all nodes, then make it the first on all, then drop the old one. The word
//! `plain` stands for what is not sealed: in the last line it is taken too, in the first nothing is sealed yet.

use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_cluster::{Cluster, KeyRing};
use anyhow::{Context, bail};

/// How often the file is looked at: it is short, and a new key has no haste.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The content instead of the file.
const VARIABLE: &str = "ALLOY_CLUSTER_KEYS";

/// Where keys come from, and what was there at the last look.
pub(super) struct Keys {
    path: Option<PathBuf>,
    text: String,
    pub(super) look_interval: Duration,
}

impl Keys {
    /// Reads the file or the environment; no keys if there is neither.
    pub(super) fn read(path: Option<&Path>) -> anyhow::Result<(Self, Option<KeyRing>)> {
        let text = match path {
            Some(path) => read(path)?,
            None => std::env::var(VARIABLE).unwrap_or_default(),
        };
        let from = path.map_or(VARIABLE.to_owned(), |path| path.display().to_string());
        let ring = parse(&text).with_context(|| format!("{from} (--cluster.keys-file)"))?;
        if path.is_some() && ring.is_none() {
            bail!("{from} (--cluster.keys-file) has no key");
        }
        Ok((Keys { path: path.map(Path::to_owned), text, look_interval: LOOK_INTERVAL }, ring))
    }

    /// Gives the cluster new keys whenever the file has changed. A file that cannot be used leaves the keys as they are.
    pub(super) async fn follow(self, cluster: &Cluster) {
        let Keys { path: Some(path), mut text, look_interval } = self else {
            return std::future::pending().await;
        };
        let mut is_told = false;
        loop {
            tokio::time::sleep(look_interval).await;
            let found = tokio::task::spawn_blocking({
                let path = path.clone();
                move || read(&path)
            });
            let now = match found.await {
                Ok(Ok(now)) if now == text => continue,
                Ok(found) => found,
                Err(_ended) => return,
            };
            match now.and_then(|now| Ok((parse(&now)?.context("it has no key")?, now))) {
                Ok((ring, now)) => {
                    cluster.set_keys(Some(ring)).await;
                    (text, is_told) = (now, false);
                    tracing::info!(file = %path.display(), "the cluster's keys have changed");
                }
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(file = %path.display(), error = format!("{error:#}"), "the cluster's keys stay as they were");
                }
                Err(_told) => {}
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {} (--cluster.keys-file)", path.display()))
}

/// The error never has the key in it.
fn parse(text: &str) -> anyhow::Result<Option<KeyRing>> {
    let mut ring: Option<KeyRing> = None;
    let (mut plain_first, mut plain_last) = (false, false);
    let lines =
        text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or("").trim()));
    for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if line == "plain" {
            plain_first |= ring.is_none();
            plain_last |= ring.is_some();
            continue;
        }
        let (id, key) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let id = id.parse::<NonZeroU8>().ok().with_context(|| format!("line {at}: no id from 1 to 255"))?;
        let key = key_of(key.trim())
            .with_context(|| format!("line {at}: the key has not 64 hexadecimal digits"))?;
        ring = Some(match ring {
            None => KeyRing::new(id, key),
            Some(ring) => ring.opens(id, key),
        });
    }
    Ok(ring.map(|ring| match (plain_first, plain_last) {
        (true, _) => ring.still_plain(),
        (false, true) => ring.opens_plain(),
        (false, false) => ring,
    }))
}

fn key_of(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_file_has_keys_or_says_which_line_is_wrong() {
        let check = |text: &str, expected: &str| match parse(text) {
            Ok(ring) => assert_eq!(if ring.is_some() { "keys" } else { "none" }, expected, "{text}"),
            Err(error) => {
                assert_eq!(error.to_string(), expected, "{text}");
                assert!(!format!("{error:#}").contains("9f86d0"), "a key is a secret: {error:#}");
            }
        };
        check("", "none");
        check("# nothing\n\n", "none");
        check("plain", "none");
        check(&format!("1 {KEY}"), "keys");
        check(&format!("# two\n  2\t{KEY} # new\n1 {KEY}\nplain"), "keys");
        check(&format!("\n0 {KEY}"), "line 2: no id from 1 to 255");
        check(&format!("256 {KEY}"), "line 1: no id from 1 to 255");
        check(KEY, "line 1: no id from 1 to 255");
        check("1", "line 1: the key has not 64 hexadecimal digits");
        check(&format!("1 {}", &KEY[1..]), "line 1: the key has not 64 hexadecimal digits");
        check(&format!("1 +{}", &KEY[1..]), "line 1: the key has not 64 hexadecimal digits");
    }
}
