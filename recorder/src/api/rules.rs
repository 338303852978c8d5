//! Requests about rules. What they do takes a while: it is done beside the server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::failure;
use super::router::Agent;
use super::types::RehearseRequest;

pub(super) async fn reload(State(agent): State<Arc<Agent>>) -> Response {
    answer(spawn_blocking(move || (agent.reload)()).await)
}

pub(super) async fn rehearse(
    State(agent): State<Arc<Agent>>,
    Json(RehearseRequest { rules }): Json<RehearseRequest>,
) -> Response {
    answer(spawn_blocking(move || (agent.rehearse)(rules.as_deref())).await)
}

fn answer<T: Serialize, E>(done: Result<Result<T, String>, E>) -> Response {
    match done {
        Ok(Ok(reply)) => Json(reply).into_response(),
        Ok(Err(error)) => failure(StatusCode::BAD_REQUEST, error),
        Err(_) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "it could not be done".into(),
        ),
    }
}
