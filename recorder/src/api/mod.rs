//! The control socket: HTTP/1.1 over a Unix socket, so that `curl --unix-socket` speaks it too.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `POST /v1/reload` | [`ReloadReply`]; 400 if the configuration is wrong: the old one stays in force |
//! | `POST /v1/rules/test` with a [`RehearseRequest`] | [`Rehearsal`](crate::rules::Rehearsal) |
//! | `POST /v1/trigger` with a [`TriggerRequest`] | [`TriggerReply`]; 503 if as many incidents are open as may be |
//!
//! Errors are `{"error": "one sentence"}`.

mod client;
mod rules;
mod server;
mod types;

pub use client::{Client, ClientError};
pub use server::{Agent, serve};
pub use types::{
    CpuStatus, DumpStatus, Failure, IncidentStatus, LaneStatus, RehearseRequest, ReloadReply,
    SampleStatus, Status, TriggerReply, TriggerRequest,
};
