//! `recorder doctor`: whether this host can record, and what would blind the recorder.
//!
//! | part | asks |
//! |---|---|
//! | [`kernel`] | can the probes be loaded, and which of them; what does the kernel's configuration hide |
//! | [`settings`] | is the configuration sound, does it fit this host |
//! | [`files`] | can the directories be used, and by nobody else |
//! | [`clock`] | do times mean anything |
//! | [`agent`] | what the running agent lacks, and has lost |
//!
//! Nothing is changed, save that a privileged doctor attaches every probe for a moment. What cannot be looked at without
//! privileges is said, not passed over.

mod agent;
mod clock;
mod files;
mod kernel;
mod settings;

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::api::{Client, ClientError, Status};
use crate::config::{ConfigFile, Paths};

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All is well.
    Pass,
    /// Something is missing or could not be looked at, and recording goes on.
    Warn,
    /// Recording cannot be what it should.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(check: &str, state: State, found: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            state,
            found: found.into(),
            remedy: None,
        }
    }

    fn pass(check: &str, found: impl Into<String>) -> Self {
        Self::new(check, State::Pass, found)
    }

    /// What could not be looked at.
    fn unseen(check: &str, why: impl std::fmt::Display) -> Self {
        Self::warn(
            check,
            format!("could not be checked: {why}"),
            "run the doctor as root",
        )
    }

    fn warn(check: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::new(check, State::Warn, found)
        }
    }

    fn fail(check: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::new(check, State::Fail, found)
        }
    }

    /// A check by something whose error is one sentence with its remedy behind a colon.
    fn judge<E: std::error::Error + Send + Sync + 'static>(
        check: &str,
        result: Result<String, E>,
    ) -> Self {
        match result {
            Ok(found) => Self::pass(check, found),
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::from(error));
                match text.split_once(": ") {
                    Some((found, remedy)) => Self::fail(check, found, remedy),
                    None => Self::new(check, State::Fail, text),
                }
            }
        }
    }
}

/// Looks at everything.
pub fn examine(paths: &Paths, file: &ConfigFile) -> Vec<Check> {
    let socket = paths.control_socket();
    let answer = match fs::symlink_metadata(&socket) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => Some(Client::new(socket).status()),
    };
    let status = answer.as_ref().and_then(|answer| answer.as_ref().ok());
    let mut checks = kernel::checks();
    checks.extend(settings::checks(paths, file));
    checks.extend(files::checks(paths));
    checks.extend(clock::checks(status));
    checks.extend(agent::checks(paths, answer.as_ref()));
    checks
}

/// What the agent answered, if there is one.
type Answer = Result<Status, ClientError>;

/// Reads a small file of the kernel.
fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}
