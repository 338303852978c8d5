//! A black box for Linux hosts: the agent, and the readers of its dumps.
//!
//! Dependencies point one way: `cli` → `agent`, `api` → `kernel`, `ingest`, `identity`, `ring`, `incident`, `rules`, `dump`, `store` → `event` →
//! the wire ABI. Only `kernel` and `ingest` know aya. `ring`, `incident`, `rules`, `dump` and `read` know no tokio and no wall
//! clock: time is an argument.

pub mod agent;
pub mod api;
pub mod budget;
pub mod cli;
pub mod compare;
pub mod config;
pub mod death;
pub mod doctor;
pub mod dump;
pub mod event;
pub mod evidence;
pub mod export;
pub mod harmless;
pub mod health;
pub mod identity;
pub mod incident;
pub mod ingest;
pub mod kernel;
pub mod live;
pub mod notify;
pub mod plan;
pub mod read;
pub mod redact;
pub mod report;
pub mod reserve;
pub mod ring;
pub mod rules;
pub mod sample;
pub mod sandbox;
pub mod selftest;
pub mod sign;
#[cfg(test)]
mod sim;
pub mod store;
pub mod symbol;
pub mod units;
pub mod view;

/// Every how many bytes tests cut what they read; an interpreter takes its time.
#[cfg(test)]
const CUT_STEP: usize = if cfg!(miri) { 61 } else { 1 };
