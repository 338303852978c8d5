//! What the agent answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{sleep, timeout};

use super::peer::Peer;
use super::query::Query;
use super::types::{
    Health, Measurement, ProgramUse, ReloadReply, Status, TriggerReply, TriggerRequest,
};
use super::{events, failure, incidents, metrics, rules};
use crate::evidence::builtin::process_start_boot_ns;
use crate::health::{Reason, Word};
use crate::incident::Subject;
use crate::ingest::{self, Command, Commands};
use crate::kernel::{Measuring, Runs};
use crate::live::Live;
use crate::rules::Rehearsal;

/// How long the data plane may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest reason for a trigger, in bytes.
const REASON_MAX: usize = 256;
/// Longest measurement, in seconds.
const MEASURE_SECONDS_MAX: u64 = 20;

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
    /// The way to live events.
    pub live: Live,
    /// Where the dumps and their catalog are.
    pub state_dir: PathBuf,
    /// Says how often each program of the probes ran, and how long, whenever that was measured.
    pub runs: Box<dyn Fn() -> Vec<(String, Runs)> + Send + Sync>,
    /// Held while the probes are measured.
    pub measuring: Mutex<()>,
    /// Where it is said who changed what.
    pub log: fn(&str),
}

/// Returns what is answered on the control socket.
pub fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/health", get(health))
        .route("/v1/metrics", get(metrics_with_programs))
        .route("/v1/probes", get(probes))
        .route("/v1/events", get(events::stream))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::one))
        .route("/v1/incidents/{id}/dump", get(incidents::download))
        .route("/v1/trigger", post(trigger))
        .route("/v1/reload", post(rules::reload))
        .route("/v1/rules/test", post(rules::rehearse))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&agent), name_changes))
        .with_state(agent)
}

/// Returns what is answered over TCP: figures, and nothing that asks for work.
pub fn metrics_router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .with_state(agent)
}

/// Says who asked for a change, and what came of it.
async fn name_changes(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let what = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    let line = format!(
        "{} by {}: {}",
        crate::harmless::escape_short(&what, 100),
        peer.unwrap_or_default(),
        response.status().as_u16()
    );
    (agent.log)(&line);
    response
}

async fn status(State(agent): State<Arc<Agent>>) -> Response {
    match current(&agent).await {
        Ok(status) => Json(status).into_response(),
        Err(response) => response,
    }
}

/// Returns what the agent does, holds and counts.
async fn current(agent: &Agent) -> Result<Status, Response> {
    let (reply, answer) = oneshot::channel();
    let state = ask(agent, Command::State(reply), answer).await?;
    Ok((agent.status)(state))
}

async fn health(State(agent): State<Arc<Agent>>) -> Response {
    let health = match current(&agent).await {
        Ok(status) => status.health,
        Err(_) => Health {
            state: Word::NotRecording,
            reasons: vec![Reason {
                code: "no-answer".to_owned(),
                text: "the data plane does not answer".to_owned(),
            }],
        },
    };
    let code = match health.state {
        Word::Recording | Word::Degraded => StatusCode::OK,
        Word::NotRecording => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(health)).into_response()
}

async fn metrics(State(agent): State<Arc<Agent>>, headers: HeaderMap) -> Response {
    match current(&agent).await {
        Ok(status) => exposition(&headers, &metrics::text(&status, None)),
        Err(response) => response,
    }
}

async fn metrics_with_programs(
    State(agent): State<Arc<Agent>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let query = match Query::parse(&uri, &["programs"]) {
        Ok(query) => query,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    let measured = match query.one("programs") {
        None | Some("0") => None,
        Some("1") => match measure(&agent, Duration::from_secs(1)).await {
            Ok(measured) => Some(measured),
            Err(response) => return response,
        },
        Some(_) => {
            let error = "programs: write 1 to measure the probes for a second";
            return failure(StatusCode::BAD_REQUEST, error.to_owned());
        }
    };
    match current(&agent).await {
        Ok(status) => exposition(&headers, &metrics::text(&status, measured.as_ref())),
        Err(response) => response,
    }
}

/// Answers with metrics in the format that is asked for.
fn exposition(headers: &HeaderMap, openmetrics: &str) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let (kind, text) = match accept.is_some_and(|accept| accept.contains("openmetrics")) {
        true => (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            openmetrics.to_owned(),
        ),
        false => (
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::prometheus(openmetrics),
        ),
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn probes(State(agent): State<Arc<Agent>>, uri: Uri) -> Response {
    let query = match Query::parse(&uri, &["seconds"]) {
        Ok(query) => query,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    let seconds = query.one("seconds").map_or(Ok(1), str::parse);
    let Some(seconds @ 1..=MEASURE_SECONDS_MAX) = seconds.ok() else {
        let error = format!("seconds: write a number from 1 to {MEASURE_SECONDS_MAX}");
        return failure(StatusCode::BAD_REQUEST, error);
    };
    match measure(&agent, Duration::from_secs(seconds)).await {
        Ok(measured) => Json(measured).into_response(),
        Err(response) => response,
    }
}

/// Measures what the probes cost: only while somebody asks, for measuring costs as well.
async fn measure(agent: &Agent, span: Duration) -> Result<Measurement, Response> {
    let Ok(_alone) = agent.measuring.try_lock() else {
        let error = "the probes are being measured for somebody else: try again";
        return Err(failure(StatusCode::SERVICE_UNAVAILABLE, error.to_owned()));
    };
    let measuring = Measuring::start().map_err(|error| {
        let error = format!("the kernel does not measure its programs: {error}");
        failure(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    let before = (agent.runs)();
    sleep(span).await;
    let after = (agent.runs)();
    drop(measuring);
    let programs = after.into_iter().map(|(program, now)| {
        let before = before.iter().find(|(name, _)| *name == program);
        let before = before.map(|(_, runs)| *runs).unwrap_or_default();
        ProgramUse {
            runs: now.count.saturating_sub(before.count),
            run_ns: now.ns.saturating_sub(before.ns),
            runs_total: now.count,
            run_ns_total: now.ns,
            program,
        }
    });
    Ok(Measurement {
        measured_ns: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX),
        programs: programs.collect(),
    })
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
    let error = "no such request: docs/api.md lists them, GET /v1/status is one";
    failure(StatusCode::NOT_FOUND, error.to_owned())
}

async fn wrong_method() -> Response {
    let error = "not with this method: GET reads, POST changes";
    failure(StatusCode::METHOD_NOT_ALLOWED, error.to_owned())
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
        "not recording: the data plane is stopping, or does not answer".into(),
    ))
}
