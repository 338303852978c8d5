//! The command line: one module for each command.
//!
//! Results go to standard output, notes to standard error. Exit codes: 0 done, 1 failed, 2 usage, 3 readable but damaged or
//! problems found, 4 not permitted, 69 agent not reachable.

pub mod annotate;
pub mod completions;
pub mod config;
pub mod diff;
pub mod doctor;
pub mod evidence;
pub mod export;
pub mod extract;
pub mod info;
pub mod keygen;
pub mod list;
pub mod man;
pub mod merge;
pub mod notify;
pub mod plan;
mod reading;
pub mod recover;
pub mod redact;
pub mod reload;
pub mod report;
pub mod rules;
pub mod run;
pub mod selftest;
pub mod serve;
pub mod show;
pub mod status;
pub mod symbolize;
pub mod tail;
pub mod text;
pub mod trends;
pub mod trigger;
pub mod verify;
pub mod view;
mod when;

use std::io;
use std::process::ExitCode;

use anyhow::{Error, Result};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::api::ClientError;
use crate::config::{ConfigError, ConfigFile, Contradiction, Paths};
use crate::kernel::{Lacking, LoadError};

/// It did not work.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// What was read is damaged, or a check found a problem.
pub const PROBLEMS: u8 = 3;
/// The user may not do this.
pub const NOT_PERMITTED: u8 = 4;
/// No agent answers.
pub const UNREACHABLE: u8 = 69;

/// A black box for Linux hosts: records what fails and what led up to it, and keeps the window as a file.
#[derive(Parser)]
#[command(name = "recorder", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    file: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Record, in the foreground
    Run(run::Args),
    /// Say what the running recorder does, holds and has lost
    Status(status::Args),
    /// Show events as they happen
    Tail(tail::Args),
    /// Try who is told of incidents
    Notify(notify::Args),
    /// Make a dump of now
    Trigger(trigger::Args),
    /// List the incidents and their dumps
    List(list::Args),
    /// Say all that is known of one incident
    Info(info::Args),
    /// Count incidents by rule, subject, failure, tag or day: since when, how often, what is new
    Trends(trends::Args),
    /// Give tags to an incident
    Tag(annotate::TagArgs),
    /// Take tags from an incident
    Untag(annotate::TagArgs),
    /// Keep dumps whatever the budgets say
    Pin(annotate::PinArgs),
    /// Leave dumps to the budgets again
    Unpin(annotate::PinArgs),
    /// Write a note about an incident
    Note(annotate::NoteArgs),
    /// Remove dumps and what is known of their incidents
    Rm(annotate::RemoveArgs),
    /// Show what happened
    Show(show::Args),
    /// Show a dump in the terminal: timeline, events, one event closely, causes
    View(view::Args),
    /// Write a dump in another format
    Export(export::Args),
    /// Join dumps, of one host or of several, into one timeline
    Merge(merge::Args),
    /// Say in what two dumps differ
    Diff(diff::Args),
    /// Copy a dump without arguments, names and addresses
    Redact(redact::Args),
    /// Write a post-mortem of a dump: a text for people to complete, or a page to look at
    Report(report::Args),
    /// Show dumps, of this host or of many, in a browser
    Serve(serve::Args),
    /// List the evidence in a dump, or write it to files
    Extract(extract::Args),
    /// Name the functions and lines of the crashes in a dump
    Symbolize(symbolize::Args),
    /// Write what the ring of a recorder that died still holds as a dump
    Recover(recover::Args),
    /// Check that dumps are whole and unchanged
    Verify(verify::Args),
    /// Make a key that signs dumps
    Keygen(keygen::Args),
    /// Check whether this host can record
    Doctor(doctor::Args),
    /// Provoke harmless failures and check that they are recorded
    Selftest(selftest::Args),
    /// Collect evidence: the agent does
    #[command(hide = true)]
    Evidence(evidence::Args),
    /// Measure this host, and say what window the budgets give and what a wanted one would cost
    Plan(plan::Args),
    /// Show or check the configuration
    Config(config::Args),
    /// Write what a shell needs to complete this program's command lines
    Completions(completions::Args),
    /// Write the manual
    Man(man::Args),
    /// Check rules, try them, or list what they may ask
    Rules(rules::Args),
    /// Make the running recorder read its configuration again
    Reload(reload::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let Cli {
        paths,
        file,
        command,
    } = cli;
    // Which flags were given: they go before the configuration file.
    let given = matches.subcommand().map_or(&matches, |(_, given)| given);
    let done = match &command {
        Command::Run(args) => run::run(args, &paths, &file, given),
        Command::Status(args) => status::run(args, &paths),
        Command::Tail(args) => tail::run(args, &paths),
        Command::Notify(args) => notify::run(args, &file),
        Command::Trigger(args) => trigger::run(args, &paths),
        Command::List(args) => list::run(args, &paths),
        Command::Info(args) => info::run(args, &paths),
        Command::Trends(args) => trends::run(args, &paths),
        Command::Tag(args) => annotate::tag(args, &paths),
        Command::Untag(args) => annotate::untag(args, &paths),
        Command::Pin(args) => annotate::pin(args, true, &paths),
        Command::Unpin(args) => annotate::pin(args, false, &paths),
        Command::Note(args) => annotate::note(args, &paths),
        Command::Rm(args) => annotate::remove(args, &paths),
        Command::Show(args) => show::run(args, &paths),
        Command::View(args) => view::run(args, &paths),
        Command::Report(args) => report::run(args, &paths),
        Command::Serve(args) => serve::run(args, &paths),
        Command::Export(args) => export::run(args, &paths),
        Command::Merge(args) => merge::run(args, &paths),
        Command::Diff(args) => diff::run(args, &paths),
        Command::Redact(args) => redact::run(args, &paths),
        Command::Extract(args) => extract::run(args, &paths),
        Command::Symbolize(args) => symbolize::run(args, &paths),
        Command::Recover(args) => recover::run(args, &paths),
        Command::Verify(args) => verify::run(args, &paths),
        Command::Keygen(args) => keygen::run(args),
        Command::Doctor(args) => doctor::run(args, &paths, &file),
        Command::Selftest(args) => selftest::run(args, &paths),
        Command::Evidence(args) => evidence::run(args),
        Command::Plan(args) => plan::run(args, &paths, &file, given),
        Command::Config(args) => config::run(args, &file),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::Rules(args) => rules::run(args, &paths, &file),
        Command::Reload(args) => reload::run(args, &paths),
    };
    finish(done)
}

/// Says what went wrong, and with which code the program ends.
fn finish(done: Result<ExitCode>) -> ExitCode {
    match done {
        Ok(code) => code,
        // Who reads has enough.
        Err(error) if has_io_kind(&error, io::ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder: {error:#}");
            ExitCode::from(code(&error))
        }
    }
}

fn code(error: &Error) -> u8 {
    if error.is::<Contradiction>() || annotate::is_usage(error) {
        return USAGE;
    }
    if error.is::<ConfigError>() && !has_io_kind(error, io::ErrorKind::PermissionDenied) {
        return USAGE;
    }
    let is_privileges = |cause: &(dyn std::error::Error + 'static)| {
        matches!(
            cause.downcast_ref(),
            Some(LoadError::Lacking(Lacking::Privileges))
        ) || matches!(cause.downcast_ref(), Some(ClientError::NotPermitted(_)))
    };
    if error.chain().any(is_privileges) || has_io_kind(error, io::ErrorKind::PermissionDenied) {
        return NOT_PERMITTED;
    }
    match error.downcast_ref() {
        Some(ClientError::Unreachable(..)) => UNREACHABLE,
        Some(_) | None => FAILED,
    }
}

fn has_io_kind(error: &Error, kind: io::ErrorKind) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_end_with_the_code_that_scripts_rely_on() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let gone = io::Error::from(io::ErrorKind::NotFound);
        let unreachable = ClientError::Unreachable("control.sock".into(), gone);
        let lacking = |lacking: Lacking| Error::from(LoadError::from(lacking));
        assert_eq!(code(&lacking(Lacking::Privileges)), NOT_PERMITTED);
        assert_eq!(code(&Error::from(denied).context("open")), NOT_PERMITTED);
        assert_eq!(code(&unreachable.into()), UNREACHABLE);
        assert_eq!(code(&lacking(Lacking::TypeInformation)), FAILED);
        assert_eq!(code(&anyhow::anyhow!("other")), FAILED);
    }
}
