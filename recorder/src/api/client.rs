//! The other side of the control socket: `recorder status`, `trigger`, `tail`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::types::{
    Failure, Measurement, RehearseRequest, ReloadReply, Status, TriggerReply, TriggerRequest,
};
use crate::rules::Rehearsal;

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest line of live events, in bytes.
const LINE_MAX: usize = 16 << 20;

/// Why the agent gave no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no recorder answers at {}: is it running? (`recorder run`, with the same --run-dir)", .0.display())]
    Unreachable(PathBuf, #[source] io::Error),
    /// The socket is not for this user.
    #[error("not permitted to use {}: run as the user that the recorder runs as, or in the group of --socket-group", .0.display())]
    NotPermitted(PathBuf),
    /// The agent refused.
    #[error("the recorder says: {0}")]
    Refused(String),
    /// What came back is no answer.
    #[error("the answer at {} is not a recorder's", .0.display())]
    Garbled(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A client of one agent.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Returns a client for the agent with this socket; nothing is connected yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks what the agent does.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.request(Method::GET, "/v1/status", &())
    }

    /// Asks for a dump.
    pub fn trigger(&self, request: &TriggerRequest) -> Result<TriggerReply, ClientError> {
        self.request(Method::POST, "/v1/trigger", request)
    }

    /// Asks to read the configuration again.
    pub fn reload(&self) -> Result<ReloadReply, ClientError> {
        self.request(Method::POST, "/v1/reload", &())
    }

    /// Asks what rules would have done with what the ring holds.
    pub fn rehearse(&self, request: &RehearseRequest) -> Result<Rehearsal, ClientError> {
        self.request(Method::POST, "/v1/rules/test", request)
    }

    /// Asks what the probes cost, measured for so many seconds.
    pub fn probes(&self, seconds: u64) -> Result<Measurement, ClientError> {
        self.request(Method::GET, &format!("/v1/probes?seconds={seconds}"), &())
    }

    /// Begins to read live events; `query` is what stands behind the question mark.
    pub fn events(&self, query: &str) -> Result<Stream, ClientError> {
        let request = Request::builder()
            .uri(format!("/v1/events?{query}"))
            .header("host", "recorder")
            .body(Full::new(Bytes::new()))
            .map_err(|error| self.garbled(error))?;
        let runtime = self.runtime()?;
        let response = runtime.block_on(async {
            let response = self.send(request).await?;
            match response.status() {
                StatusCode::OK => Ok(response.into_body()),
                status => {
                    let body = response.into_body().collect().await;
                    let body = body.map_err(|error| self.garbled(error))?.to_bytes();
                    Err(refused(status, &body))
                }
            }
        });
        Ok(Stream {
            body: response?,
            runtime,
            client: self.clone(),
            rest: Vec::new(),
            at: 0,
        })
    }

    fn runtime(&self) -> Result<Runtime, ClientError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Unreachable(self.socket.clone(), error))
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.garbled(error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "recorder")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.garbled(error))?;
        let (status, body) = self.runtime()?.block_on(async {
            tokio::time::timeout(PATIENCE, self.exchange(request))
                .await
                .unwrap_or_else(|_| {
                    let error = io::Error::from(io::ErrorKind::TimedOut);
                    Err(ClientError::Unreachable(self.socket.clone(), error))
                })
        })?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.garbled(error));
        }
        Err(refused(status, &body))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let response = self.send(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await;
        Ok((
            status,
            body.map_err(|error| self.garbled(error))?.to_bytes(),
        ))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.garbled(error))?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await;
        response.map_err(|error| self.garbled(error))
    }

    fn garbled(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Garbled(self.socket.clone(), error.into())
    }
}

fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => ClientError::Refused(failure.error),
        Err(_) => ClientError::Refused(status.to_string()),
    }
}

/// Live events as they come.
pub struct Stream {
    body: Incoming,
    runtime: Runtime,
    client: Client,
    rest: Vec<u8>,
    /// Where in it the next line begins.
    at: usize,
}

impl Stream {
    /// Tells whether the next line has come already.
    pub fn has_line(&self) -> bool {
        let rest = self.rest.get(self.at..).unwrap_or_default();
        rest.contains(&b'\n')
    }

    /// Waits for the next line of the stream, without its end; `None` once the recorder has ended.
    ///
    /// # Errors
    ///
    /// If what comes is no stream of a recorder.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let rest = self.rest.get(self.at..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest[..end].to_vec();
                self.at += end + 1;
                return Ok(Some(line));
            }
            self.rest.drain(..self.at);
            self.at = 0;
            if self.rest.len() > LINE_MAX {
                let error = "a line without end";
                return Err(self.client.garbled(error));
            }
            match self.runtime.block_on(self.body.frame()) {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    self.rest.extend_from_slice(&data);
                }
                // The recorder has ended, orderly or not.
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted(socket.to_owned()),
            _ => ClientError::Unreachable(socket.to_owned(), error),
        })
}
