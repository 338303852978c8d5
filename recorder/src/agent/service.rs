//! What the service manager is told, where one started the agent: systemd's notification protocol.
//!
//! | message | when |
//! |---|---|
//! | `READY=1` | the data plane has answered for the first time: from then on everything is recorded |
//! | `WATCHDOG=1` | the data plane has answered again |
//! | `STATUS=` | with each of its answers, and when it gives none |
//! | `RELOADING=1` | the configuration is read again; `READY=1` follows, whether or not it was taken |
//! | `STOPPING=1` | a signal ends the recording |
//!
//! The control plane asks the data plane, which answers in its own loop: if the thread that takes records hangs, the watchdog
//! hears nothing and the service manager starts the agent again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::api::{Agent, Status};
use crate::ingest::Command;
use crate::units::duration;

/// Longest time between two messages.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Messages that the watchdog is sent in the time after which it bites.
const BEATS: u32 = 3;

/// Tells the service manager how the agent is, until the runtime ends.
///
/// Does nothing if no service manager asks for it.
pub(super) async fn keep_telling(agent: Arc<Agent>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let interval = watchdog.map_or(INTERVAL_MAX, |bite| (bite / BEATS).min(INTERVAL_MAX));
    let mut answered = Instant::now();
    let mut is_ready = false;
    loop {
        let asked = Instant::now();
        match ask(&agent, interval).await {
            Some(status) => {
                answered = Instant::now();
                let mut message = vec![format!("STATUS={}", text(&status))];
                if !is_ready {
                    message.push(NotifyState::Ready.to_string());
                }
                if watchdog.is_some() {
                    message.push(NotifyState::Watchdog.to_string());
                }
                is_ready = true;
                tell(message).await;
            }
            None => {
                let since = u64::try_from(answered.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let text = format!(
                    "STATUS=not recording: the data plane has not answered for {}",
                    duration(since)
                );
                tell(vec![text]).await;
            }
        }
        sleep(interval.saturating_sub(asked.elapsed())).await;
    }
}

/// Says that the configuration is read again.
pub(super) fn reloading() {
    let mut message = vec![NotifyState::Reloading];
    // Who is told without it, waits by other means.
    message.extend(NotifyState::monotonic_usec_now());
    let _ = sd_notify::notify(&message);
}

/// Says that it has been read: by then the new rules are in force, or the old ones still are.
pub(super) fn reloaded() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Says that the recording ends.
pub(super) async fn stopping() {
    let finishing = "STATUS=finishing the dumps".to_owned();
    tell(vec![NotifyState::Stopping.to_string(), finishing]).await;
}

/// Asks the data plane how it is; `None` if it does not answer in time.
async fn ask(agent: &Agent, patience: Duration) -> Option<Status> {
    let (reply, answer) = oneshot::channel();
    if !agent.commands.send(Command::State(reply)) {
        // Nobody takes the requests that wait already.
        return None;
    }
    let state = timeout(patience, answer).await.ok()?.ok()?;
    Some((agent.status)(state))
}

/// Sends one message; who does not listen misses it.
async fn tell(lines: Vec<String>) {
    // Sending waits for room in the socket, and nothing else here may.
    let send = move || {
        let lines: Vec<NotifyState<'_>> =
            lines.iter().map(|line| NotifyState::Custom(line)).collect();
        sd_notify::notify(&lines)
    };
    let _ = tokio::task::spawn_blocking(send).await;
}

/// Puts the state of the agent into one line.
fn text(status: &Status) -> String {
    let lost: u64 = status
        .lanes
        .iter()
        .map(|lane| lane.dropped + lane.cpus.iter().map(|cpu| cpu.lost).sum::<u64>())
        .sum();
    let mut text = format!(
        "{}; {} incidents, {} dumps",
        status.health.state, status.incidents.opened, status.dumps.written
    );
    if status.dumps.failed > 0 {
        text.push_str(&format!(" ({} not written)", status.dumps.failed));
    }
    let skipped: u64 = status.skipped.values().sum();
    text.push_str(&match (lost, skipped) {
        (0, 0) => "; nothing lost".to_owned(),
        (lost, 0) => format!("; {lost} records lost"),
        (0, skipped) => format!("; {skipped} events not seen"),
        (lost, skipped) => format!("; {lost} records lost, {skipped} events not seen"),
    });
    text.chars().filter(|one| !one.is_control()).collect()
}
