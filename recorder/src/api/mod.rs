//! The control socket: HTTP/1.1 over a Unix socket, so that `curl --unix-socket` speaks it too.
//!
//! `docs/api.md` describes every request. Errors are `{"error": "one sentence"}`.
//!
//! | module | does |
//! |---|---|
//! | [`server`] | connections, and what each may cost |
//! | [`router`] | which request is answered how |
//! | [`incidents`], [`range`] | the dumps that are kept |
//! | [`events`] | live events |
//! | [`metrics`] | the status as OpenMetrics |
//! | [`client`] | the other side |

mod client;
mod events;
mod incidents;
mod metrics;
mod peer;
mod query;
mod range;
mod router;
mod rules;
mod server;
mod types;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

pub use client::{Client, ClientError, Stream};
pub use router::{Agent, metrics_router, router};
pub use server::{serve, serve_tcp};
pub use types::{
    CpuStatus, DumpStatus, Durations, Failure, Health, IncidentStatus, LaneStatus, LiveStatus,
    Measurement, NotifyStatus, ProgramUse, RehearseRequest, ReloadReply, SampleStatus, SpaceStatus,
    Status, TriggerReply, TriggerRequest, TwinStatus, Usage,
};

/// Says why a request is not met.
fn failure(status: StatusCode, error: String) -> Response {
    (status, Json(Failure { error })).into_response()
}
