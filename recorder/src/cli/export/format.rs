//! The formats by name, and where each may be written.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::output::{self, Unfinished};
use crate::export::case::Case;
#[cfg(feature = "parquet")]
use crate::export::columns::{Columns, Place};
use crate::export::csv::Csv;
use crate::export::ctf::Ctf;
use crate::export::ecs::Ecs;
use crate::export::journal::{Journal, Pcapng};
use crate::export::jsonl::Lines;
use crate::export::otlp::Otlp;
use crate::export::perfetto::Perfetto;
use crate::export::stacks::Stacks;
use crate::export::timesketch::{TimesketchCsv, TimesketchLines};
use crate::export::{Origin, Stream, Visitor, Writing};
use crate::read::{Damage, Dump, Entry};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON Lines: one event, one line
    Jsonl,
    /// CSV: one event, one row
    Csv,
    /// Timeline for Timesketch, as JSON Lines
    Timesketch,
    /// Timeline for Timesketch, as CSV
    TimesketchCsv,
    /// Trace for ui.perfetto.dev and trace_processor
    Perfetto,
    /// systemd's journal export format, for systemd-journal-remote
    Journal,
    /// The same in pcapng, for Wireshark
    Pcapng,
    /// Directory with a trace in the Common Trace Format 1.8, for babeltrace2 and Trace Compass
    Ctf,
    /// Parquet: one file, or host=…/day=…/ below a directory
    #[cfg(feature = "parquet")]
    Parquet,
    /// SQLite database with events, facts and evidence
    Sqlite,
    /// OpenTelemetry logs as JSON, for collectors
    Otlp,
    /// Elastic Common Schema, as JSON Lines
    Ecs,
    /// Stacks of the crashes, collapsed, for flame graphs
    Stacks,
    /// A core dump of the crash, as far as it was recorded: registers, signal, the top of the stack
    Core,
}

impl Format {
    /// Returns the stream that it is, if it is one.
    pub fn stream(self) -> Option<Box<dyn Stream>> {
        Some(match self {
            Self::Jsonl => Box::new(Lines::default()),
            Self::Csv => Box::new(Csv::default()),
            Self::Timesketch => Box::new(TimesketchLines::default()),
            Self::TimesketchCsv => Box::new(TimesketchCsv::default()),
            Self::Perfetto => Box::new(Perfetto::default()),
            Self::Journal => Box::new(Journal::default()),
            Self::Pcapng => Box::new(Pcapng::default()),
            Self::Otlp => Box::new(Otlp::default()),
            Self::Ecs => Box::new(Ecs::default()),
            Self::Stacks => Box::new(Stacks),
            #[cfg(feature = "parquet")]
            Self::Parquet => return None,
            Self::Ctf | Self::Sqlite | Self::Core => return None,
        })
    }

    fn is_text(self) -> bool {
        !matches!(self, Self::Perfetto | Self::Pcapng)
    }
}

impl Stream for Box<dyn Stream> {
    fn head(&mut self, out: &mut Vec<u8>) {
        (**self).head(out);
    }

    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        (**self).event(out, origin, entry);
    }

    fn tail(&mut self, out: &mut Vec<u8>) {
        (**self).tail(out);
    }
}

/// What adds the evidence of a dump once its events are written.
type AddEvidence = Box<dyn FnOnce(&Dump) -> io::Result<Vec<Damage>>>;

/// Where a format is written.
pub struct Target {
    /// Writes it.
    pub visitor: Box<dyn Visitor>,
    /// Its name, for errors.
    pub to: String,
    /// Adds the evidence, if the format has room for it.
    pub case: Option<AddEvidence>,
    unfinished: Option<Unfinished>,
}

impl Target {
    /// Keeps what was written.
    pub fn keep(self) {
        if let Some(unfinished) = self.unfinished {
            unfinished.keep();
        }
    }
}

/// Opens where a format is to be written; `path` as the user gave it.
///
/// # Errors
///
/// A place that the format cannot be written to, or one that is taken.
pub fn open(format: Format, dump: &Dump, path: Option<&Path>, force: bool) -> Result<Target> {
    if let Some(stream) = format.stream() {
        return streamed(format, stream, path, force);
    }
    let Some(path) = path else {
        bail!("this format does not go to standard output: name a place with --output");
    };
    let to = path.display().to_string();
    let target = |visitor: Box<dyn Visitor>, unfinished| Target {
        visitor,
        to: to.clone(),
        case: None,
        unfinished,
    };
    match format {
        Format::Ctf => {
            output::directory(path, force).with_context(|| format!("create {to}"))?;
            let ctf = Ctf::new(move |path| output::create(path, force), path);
            Ok(target(Box::new(ctf), None))
        }
        #[cfg(feature = "parquet")]
        Format::Parquet => {
            let is_file = path.extension().is_some_and(|name| name == "parquet") && !path.is_dir();
            let place = match is_file {
                true => Place::File(path.to_owned()),
                false => Place::Parted {
                    root: path.to_owned(),
                    name: stem(dump),
                },
            };
            if is_file {
                // An empty window is an empty file, not none; and a taken one is found before any work.
                output::create(path, force).with_context(|| format!("create {to}"))?;
            }
            let force = force || is_file;
            let columns = Columns::new(place, move |path| output::create(path, force));
            let unfinished = is_file.then(|| Unfinished::new(path));
            Ok(target(Box::new(columns), unfinished))
        }
        Format::Sqlite => {
            output::create(path, force).with_context(|| format!("create {to}"))?;
            let unfinished = Unfinished::new(path);
            let case = Rc::new(RefCell::new(Case::new(path)?));
            let adds = Rc::clone(&case);
            Ok(Target {
                case: Some(Box::new(move |dump| adds.borrow_mut().evidence(dump))),
                ..target(Box::new(Shared(case)), Some(unfinished))
            })
        }
        _ => bail!("this format is not written event by event"),
    }
}

fn streamed(
    format: Format,
    stream: Box<dyn Stream>,
    path: Option<&Path>,
    force: bool,
) -> Result<Target> {
    let Some(path) = path else {
        if super::is_terminal() && !format.is_text() {
            bail!("this format is not for a terminal: name a file with --output");
        }
        return Ok(Target {
            visitor: Box::new(Writing::new(stream, io::stdout().lock())),
            to: "standard output".to_owned(),
            case: None,
            unfinished: None,
        });
    };
    let to = path.display().to_string();
    // What is no file, a pipe or a device, is written to and never replaced.
    let is_special = path
        .metadata()
        .is_ok_and(|found| !found.is_file() && !found.is_dir());
    let (file, unfinished): (Box<dyn Write>, _) = match is_special {
        true => {
            let file = File::options().write(true).open(path);
            (Box::new(file.with_context(|| format!("open {to}"))?), None)
        }
        false => {
            let file = output::create(path, force).with_context(|| format!("create {to}"))?;
            (Box::new(file), Some(Unfinished::new(path)))
        }
    };
    Ok(Target {
        visitor: Box::new(Writing::new(stream, file)),
        to,
        case: None,
        unfinished,
    })
}

/// A visitor that somebody else goes on to use.
struct Shared<V>(Rc<RefCell<V>>);

impl<V: Visitor> Visitor for Shared<V> {
    fn event(&mut self, origin: &Origin, entry: &Entry) -> io::Result<()> {
        self.0.borrow_mut().event(origin, entry)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().finish()
    }
}

/// Returns the name of a dump's file without its extension.
#[cfg(feature = "parquet")]
fn stem(dump: &Dump) -> String {
    let stem = dump.path().file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}
