//! `recorder export`: the events of a dump for other programs.
//!
//! ```text
//! $ recorder export latest --type io | jq -r '.body.disk'
//! sda
//! $ recorder export latest --format core -o core && gdb --core core
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::reading::{self, DumpArg};
use super::show::{Facts, FilterArgs};
use super::text::Progress;
use crate::config::Paths;
use crate::event::{Body, proto};
use crate::export::JsonLines;
use crate::read::Dump;

/// Bytes of lines that are written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Write the events of a dump in a format for other programs
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// Format to write
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON Lines: one event, one line
    Jsonl,
    /// A core dump of the crash, as far as it was recorded: registers, signal, the top of the stack
    Core,
}

/// Runs `recorder export`.
///
/// # Errors
///
/// A dump that cannot be read or a file that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(export(args, paths))
}

fn export(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let dump = args.dump.open(paths)?;
    if args.format == Format::Core {
        return core(&dump, args);
    }
    match &args.output {
        Some(path) => {
            let mut file =
                File::create(path).with_context(|| format!("create {}", path.display()))?;
            lines(&dump, &args.filter, &mut file, &path.display().to_string())
        }
        None => lines(
            &dump,
            &args.filter,
            &mut io::stdout().lock(),
            "standard output",
        ),
    }
}

/// Writes the core dump of a crash: of the incident's, if it is among those that the options choose, else of the first.
fn core(dump: &Dump, args: &Args) -> Result<ExitCode> {
    let facts = Facts::of(dump);
    let filter = args.filter.filter(facts.trigger_unix_ns)?;
    let subject = facts
        .incident
        .as_ref()
        .and_then(|incident| incident.subject.pid);
    let mut executed: HashMap<u32, Vec<String>> = HashMap::new();
    let mut chosen: Option<(proto::SignalFatal, Vec<String>)> = None;
    let mut events = dump.events();
    for entry in events.by_ref() {
        let entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        let is_wanted = filter.wants(&entry);
        match entry.body {
            Body::ProcessExec(exec) => {
                let pid = exec.process.as_ref().and_then(|process| process.pid);
                executed.insert(pid.unwrap_or_default(), exec.argv);
            }
            Body::SignalFatal(fatal) if is_wanted => {
                let pid = fatal.process.as_ref().and_then(|process| process.pid);
                let is_subject = pid.is_some() && pid == subject;
                if chosen.is_none() || is_subject {
                    let arguments = pid.and_then(|pid| executed.get(&pid));
                    chosen = Some((fatal, arguments.cloned().unwrap_or_default()));
                }
                if is_subject {
                    break;
                }
            }
            _ => {}
        }
    }
    let Some((fatal, arguments)) = chosen else {
        bail!("{}: no crash to make a core dump of", dump.path().display());
    };
    let bytes = crate::export::core(&fatal, &arguments)?;
    let Some(path) = &args.output else {
        if io::stdout().is_terminal() {
            bail!("a core dump is not for a terminal: name a file with --output");
        }
        reading::written(io::stdout().write_all(&bytes), "standard output")?;
        return Ok(ExitCode::SUCCESS);
    };
    // It holds what was on somebody's stack.
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.with_context(|| format!("create {}", path.display()))?;
    reading::written(file.write_all(&bytes), &path.display().to_string())?;
    Ok(reading::note(dump, events.damages(), events.unknown()))
}

/// Writes the events of a dump that a filter wants as JSON Lines; `to` names where for errors.
///
/// # Errors
///
/// A dump that cannot be read further, or a failed write. Damage is noted and is the exit code.
pub fn lines(dump: &Dump, filter: &FilterArgs, out: &mut dyn Write, to: &str) -> Result<ExitCode> {
    let facts = Facts::of(dump);
    let id = facts
        .incident
        .as_ref()
        .map(|incident| incident.id.to_string());
    let id = id.unwrap_or_default();
    let filter = filter.filter(facts.trigger_unix_ns)?;
    let mut format = JsonLines::new(&reading::envelope(&facts, &id));
    let mut progress = Progress::new("export", dump.bytes());
    let mut buffer = Vec::with_capacity(BUFFER_BYTES * 2);
    let mut events = dump.events();
    while let Some(entry) = events.next() {
        let entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        if filter.wants(&entry) {
            format.write(&mut buffer, &entry);
            if buffer.len() >= BUFFER_BYTES {
                reading::written(out.write_all(&buffer), to)?;
                buffer.clear();
                progress.at(events.position());
            }
        }
    }
    reading::written(out.write_all(&buffer).and_then(|()| out.flush()), to)?;
    drop(progress);
    Ok(reading::note(dump, events.damages(), events.unknown()))
}
