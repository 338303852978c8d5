//! The other side of the control socket: `recorder status`, `recorder trigger`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::types::{Failure, RehearseRequest, ReloadReply, Status, TriggerReply, TriggerRequest};
use crate::rules::Rehearsal;

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the agent gave no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no recorder answers at {}: is it running? (`recorder run`, with the same --run-dir)", .0.display())]
    Unreachable(PathBuf, #[source] io::Error),
    /// The socket is not for this user.
    #[error("not permitted to use {}: run as the user that the recorder runs as", .0.display())]
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Unreachable(self.socket.clone(), error))?;
        let (status, body) = runtime.block_on(async {
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
        match serde_json::from_slice::<Failure>(&body) {
            Ok(failure) => Err(ClientError::Refused(failure.error)),
            Err(_) => Err(ClientError::Refused(status.to_string())),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.garbled(error))?;
        tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.garbled(error))?;
        let status = response.status();
        let body = response.into_body().collect().await;
        Ok((
            status,
            body.map_err(|error| self.garbled(error))?.to_bytes(),
        ))
    }

    fn garbled(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Garbled(self.socket.clone(), error.into())
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
