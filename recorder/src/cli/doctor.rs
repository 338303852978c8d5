//! `recorder doctor`

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use rustix::fs::{Access, access, statvfs};
use serde::Serialize;

use super::PROBLEMS;
use super::text::{Palette, Style, bytes, escape, plural};
use crate::api::Client;
use crate::config::Paths;
use crate::dump::{Probe, ProbeState};
use crate::kernel::{self, Kernel};
use crate::sample;

/// Arguments of `recorder doctor`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write one JSON object for each check
    #[arg(long)]
    json: bool,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Pass,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    state: State,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Checks whether this host can record. Needs no privileges, and says what it could not check without them.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let checks = checks(paths);
    let mut out = io::stdout().lock();
    if args.json {
        for check in &checks {
            serde_json::to_writer(&mut out, check).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    } else {
        write(&mut out, &checks, Palette::of_stdout())?;
    }
    let failed = checks.iter().any(|check| check.state == State::Fail);
    Ok(if failed {
        ExitCode::from(PROBLEMS)
    } else {
        ExitCode::SUCCESS
    })
}

fn write(out: &mut impl Write, checks: &[Check], palette: Palette) -> io::Result<()> {
    for check in checks {
        let (word, style) = match check.state {
            State::Pass => ("pass", Style::Green),
            State::Warn => ("warn", Style::Yellow),
            State::Fail => ("FAIL", Style::Red),
        };
        writeln!(
            out,
            "{}  {:<22} {}",
            palette.paint(style, word),
            check.check,
            escape(&check.found)
        )?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "      {:<22} → {}", "", escape(remedy))?;
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let verdict = match (count(State::Fail), count(State::Warn)) {
        (0, 0) => "this host can record everything".to_owned(),
        (0, warnings) => format!(
            "this host can record, with {}",
            plural(warnings as u64, "restriction")
        ),
        (failures, _) => format!(
            "this host cannot record as it should: {} failed",
            plural(failures as u64, "check")
        ),
    };
    writeln!(out, "{verdict}")
}

fn checks(paths: &Paths) -> Vec<Check> {
    let mut checks = vec![
        judge(
            "kernel",
            kernel::kernel().map(|release| format!("Linux {release}")),
        ),
        judge(
            "type information",
            kernel::type_information().map(|()| "the kernel shows its types".to_owned()),
        ),
        judge(
            "BPF object",
            kernel::embedded().map(|object| format!("built in, {}", bytes(object.len() as u64))),
        ),
    ];
    let privileges = kernel::privileges();
    let privileged = privileges.is_ok();
    checks.push(judge(
        "privileges",
        privileges.map(|()| "this user may load BPF programs".to_owned()),
    ));
    if checks
        .iter()
        .take(3)
        .all(|check| check.state == State::Pass)
    {
        checks.extend(probes(privileged));
    }
    checks.extend(sample::plan().iter().map(|probe| of_probe(probe, true)));
    checks.push(directory("directory of dumps", &paths.dumps()));
    checks.push(directory("run directory", &paths.run_dir));
    checks.push(agent(paths));
    checks
}

/// A check by something that is an error with its remedy in one sentence.
fn judge<E: std::error::Error + Send + Sync + 'static>(
    check: &str,
    result: Result<String, E>,
) -> Check {
    match result {
        Ok(found) => pass(check, found),
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::from(error));
            let (found, remedy) = match text.split_once(": ") {
                Some((found, remedy)) => (found.to_owned(), Some(remedy.to_owned())),
                None => (text, None),
            };
            Check {
                check: check.to_owned(),
                state: State::Fail,
                found,
                remedy,
            }
        }
    }
}

fn pass(check: &str, found: String) -> Check {
    Check {
        check: check.to_owned(),
        state: State::Pass,
        found,
        remedy: None,
    }
}

/// Attaches every probe for a moment, or, without privileges, says what the kernel's types promise.
fn probes(privileged: bool) -> Vec<Check> {
    let found = if privileged {
        Kernel::load()
            .map(|kernel| kernel.probes)
            .map_err(anyhow::Error::from)
    } else {
        kernel::plan().map_err(anyhow::Error::from)
    };
    match found {
        Ok(probes) => probes
            .iter()
            .map(|probe| of_probe(probe, privileged))
            .collect(),
        Err(error) => vec![Check {
            check: "probes".to_owned(),
            state: State::Fail,
            found: format!("{error:#}"),
            remedy: Some("report this with the kernel's release: the programs were refused".into()),
        }],
    }
}

fn of_probe(probe: &Probe, attached: bool) -> Check {
    let detail = probe.detail.clone().unwrap_or_default();
    let (state, found, remedy) = match probe.state {
        ProbeState::Attached if attached => (State::Pass, format!("{} attaches", probe.hook), None),
        ProbeState::Attached => (
            State::Pass,
            format!("{} exists; not tried without privileges", probe.hook),
            None,
        ),
        ProbeState::Fallback => (
            State::Warn,
            format!("{} instead: {detail}", probe.hook),
            Some("nothing to do: it is recorded; a newer kernel says more"),
        ),
        ProbeState::Unavailable => (
            State::Warn,
            format!("not recorded: {detail}"),
            Some("a newer kernel may have it; everything else is recorded"),
        ),
    };
    Check {
        check: probe.event.clone(),
        state,
        found,
        remedy: remedy.map(str::to_owned),
    }
}

/// Whether a directory can be written, or made.
fn directory(check: &str, path: &Path) -> Check {
    // The first that exists of the directory and those above it decides.
    let existing = path.ancestors().find(|path| path.exists());
    let Some(existing) = existing else {
        return pass(check, format!("{} will be made", path.display()));
    };
    if access(existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Check {
            check: check.to_owned(),
            state: State::Warn,
            found: format!("{} cannot be written by this user", existing.display()),
            remedy: Some("run the recorder as root, or choose --state-dir and --run-dir".into()),
        };
    }
    let free = statvfs(existing).map_or(0, |stats| stats.f_bavail * stats.f_frsize);
    pass(check, format!("{}, {} free", path.display(), bytes(free)))
}

fn agent(paths: &Paths) -> Check {
    let socket = paths.control_socket();
    if fs::metadata(&socket).is_err() {
        return pass("agent", format!("none runs at {}", socket.display()));
    }
    match Client::new(socket).status() {
        Ok(status) => pass("agent", format!("records, as process {}", status.pid)),
        Err(error) => Check {
            check: "agent".to_owned(),
            state: State::Warn,
            found: error.to_string(),
            remedy: Some("end what holds the socket, or start the recorder again".into()),
        },
    }
}
