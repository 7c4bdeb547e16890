//! A server that answers one request after the other as it was told, and the rest never.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;

use super::server::{Body, Handler, HangUp, Server, answer};

/// What is asked next, as a part of the path and query, and how it is answered.
pub type Line = (&'static str, u16, String);

/// The server.
pub struct Scripted {
    server: Server<Script>,
    script: Arc<Script>,
}

struct Script {
    lines: Mutex<VecDeque<Line>>,
    mistakes: Mutex<Vec<String>>,
}

impl Scripted {
    /// Listens on loopback.
    pub async fn start(lines: impl IntoIterator<Item = Line>) -> io::Result<Self> {
        let lines = Mutex::new(lines.into_iter().collect());
        let script = Arc::new(Script { lines, mistakes: Mutex::default() });
        let server = Server::start(([127, 0, 0, 1], 0).into(), script.clone()).await?;
        Ok(Scripted { server, script })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Requests that were not in the script.
    pub fn mistakes(&self) -> Vec<String> {
        self.script.mistakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Handler for Script {
    async fn handle(&self, _: SocketAddr, request: Request<Incoming>) -> Result<Response<Body>, HangUp> {
        let asked = request.uri().to_string();
        let next = self.lines.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((expected, status, text)) = next else { return std::future::pending().await };
        if !asked.contains(expected) {
            let mistake = format!("{asked} instead of {expected}");
            self.mistakes.lock().unwrap_or_else(PoisonError::into_inner).push(mistake);
        }
        Ok(answer(status, text))
    }
}
