//! The agent's side of the control socket.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::rules;
use super::types::{Failure, ReloadReply, Status, TriggerReply, TriggerRequest};
use crate::evidence::builtin::process_start_boot_ns;
use crate::incident::Subject;
use crate::ingest::{self, Command, Commands};
use crate::rules::Rehearsal;

/// How long the data plane may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest reason for a trigger, in bytes.
const REASON_MAX: usize = 256;

/// Shows what the ring holds to rules: to those of a text, if there is one.
pub type Rehearse = Box<dyn Fn(Option<&str>) -> Result<Rehearsal, String> + Send + Sync>;

/// The agent as its server sees it.
pub struct Agent {
    /// The way to the data plane.
    pub commands: Commands,
    /// Makes a status of what the data plane says.
    pub status: Box<dyn Fn(ingest::State) -> Status + Send + Sync>,
    /// Reads the configuration again; may take a while.
    pub reload: Box<dyn Fn() -> Result<ReloadReply, String> + Send + Sync>,
    /// Shows what the ring holds to rules; may take a while.
    pub rehearse: Rehearse,
}

/// Answers on `listener` until `stopped`.
///
/// # Errors
///
/// If the socket breaks.
pub async fn serve(
    listener: UnixListener,
    agent: Arc<Agent>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/trigger", post(trigger))
        .route("/v1/reload", post(rules::reload))
        .route("/v1/rules/test", post(rules::rehearse))
        .fallback(unknown)
        .with_state(agent);
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
}

async fn status(State(agent): State<Arc<Agent>>) -> Response {
    let (reply, answer) = oneshot::channel();
    match ask(&agent, Command::State(reply), answer).await {
        Ok(state) => Json((agent.status)(state)).into_response(),
        Err(response) => response,
    }
}

async fn trigger(
    State(agent): State<Arc<Agent>>,
    Json(TriggerRequest { reason, pid }): Json<TriggerRequest>,
) -> Response {
    if reason
        .as_ref()
        .is_some_and(|reason| reason.len() > REASON_MAX)
    {
        let error = format!("the reason is longer than {REASON_MAX} bytes");
        return failure(StatusCode::BAD_REQUEST, error);
    }
    let subject = match pid {
        Some(pid) => match living(pid) {
            Some(subject) => subject,
            None => {
                return failure(
                    StatusCode::BAD_REQUEST,
                    format!("there is no process {pid}"),
                );
            }
        },
        None => Subject::default(),
    };
    let (reply, answer) = oneshot::channel();
    let command = Command::Trigger {
        reason,
        subject,
        reply,
    };
    match ask(&agent, command, answer).await {
        Ok(Some(triggered)) => Json(TriggerReply {
            incident: triggered.incident,
            joined: triggered.joined,
        })
        .into_response(),
        Ok(None) => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many incidents are open as may be: try again when their windows have ended".into(),
        ),
        Err(response) => response,
    }
}

/// Returns a process that lives, as the subject of an incident.
fn living(pid: u32) -> Option<Subject> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (before, _) = stat.rsplit_once(") ")?;
    let (_, comm) = before.split_once('(')?;
    Some(Subject {
        pid: Some(pid),
        start_boot_ns: process_start_boot_ns(&stat),
        comm: Some(comm.to_owned()),
        ..Subject::default()
    })
}

async fn unknown() -> Response {
    failure(
        StatusCode::NOT_FOUND,
        "no such request: there are GET /v1/status, POST /v1/trigger, POST /v1/reload and POST /v1/rules/test".into(),
    )
}

async fn ask<T>(
    agent: &Agent,
    command: Command,
    answer: oneshot::Receiver<T>,
) -> Result<T, Response> {
    if agent.commands.send(command)
        && let Ok(Ok(answer)) = timeout(PATIENCE, answer).await
    {
        return Ok(answer);
    }
    Err(failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent is stopping, or does not keep up".into(),
    ))
}

pub(super) fn failure(status: StatusCode, error: String) -> Response {
    (status, Json(Failure { error })).into_response()
}
