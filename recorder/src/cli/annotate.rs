//! What people say about incidents: `recorder tag`, `untag`, `pin`, `unpin`, `note`; and `recorder rm`.

use std::io::{self, Read as _, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::reading;
use super::text::{escape, escape_short};
use crate::config::Paths;
use crate::store::{Access, AnnotationError, Annotations, Catalog, ChangeError, Note, Record};

/// Arguments of `recorder tag` and `recorder untag`.
#[derive(clap::Args, Debug)]
pub struct TagArgs {
    /// First characters of the incident's id, or "latest"
    #[arg(value_name = "ID")]
    id: String,
    /// Tags: letters, digits and . _ - : / =
    #[arg(value_name = "TAG", required = true)]
    tags: Vec<String>,
    /// Write the incident as one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `recorder pin` and `recorder unpin`.
#[derive(clap::Args, Debug)]
pub struct PinArgs {
    /// First characters of the incidents' ids, or "latest"
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Write each incident as one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `recorder note`.
#[derive(clap::Args, Debug)]
pub struct NoteArgs {
    /// First characters of the incident's id, or "latest"
    #[arg(value_name = "ID")]
    id: String,
    /// The note; "-" reads it from standard input
    #[arg(value_name = "TEXT", required = true, allow_hyphen_values = true)]
    text: Vec<String>,
    /// Write the incident as one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `recorder rm`.
#[derive(clap::Args, Debug)]
pub struct RemoveArgs {
    /// First characters of the incidents' ids, "latest", or names of dumps in the directory
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Also those that are pinned
    #[arg(long)]
    force: bool,
    /// Write each incident that was removed as one JSON object
    #[arg(long)]
    json: bool,
}

type Change<'a> = &'a dyn Fn(&mut Annotations, &[String]) -> Result<(), AnnotationError>;

/// Gives tags to an incident.
///
/// # Errors
///
/// [`ChangeError`].
pub fn tag(args: &TagArgs, paths: &Paths) -> Result<ExitCode> {
    let change =
        |said: &mut Annotations, _: &[String]| args.tags.iter().try_for_each(|tag| said.tag(tag));
    each(
        std::slice::from_ref(&args.id),
        args.json,
        paths,
        &change,
        tags,
    )
}

/// Takes tags from an incident, also those of its rule.
///
/// # Errors
///
/// [`ChangeError`].
pub fn untag(args: &TagArgs, paths: &Paths) -> Result<ExitCode> {
    let change = |said: &mut Annotations, of_incident: &[String]| {
        for tag in &args.tags {
            said.untag(tag, of_incident.contains(tag));
        }
        Ok(())
    };
    each(
        std::slice::from_ref(&args.id),
        args.json,
        paths,
        &change,
        tags,
    )
}

/// Sets whether dumps stay whatever the budgets say.
///
/// # Errors
///
/// [`ChangeError`].
pub fn pin(args: &PinArgs, pinned: bool, paths: &Paths) -> Result<ExitCode> {
    let change = |said: &mut Annotations, _: &[String]| {
        said.pinned = pinned;
        Ok(())
    };
    each(
        &args.ids,
        args.json,
        paths,
        &change,
        |record| match record.pinned {
            true => "pinned: it stays whatever the budgets say".to_owned(),
            false => "not pinned".to_owned(),
        },
    )
}

/// Adds a note to an incident.
///
/// # Errors
///
/// [`ChangeError`], or standard input that cannot be read.
pub fn note(args: &NoteArgs, paths: &Paths) -> Result<ExitCode> {
    let text = match args.text.as_slice() {
        [dash] if dash == "-" => {
            let mut text = String::new();
            io::stdin()
                .take(1 << 20)
                .read_to_string(&mut text)
                .context("read the note from standard input")?;
            text.trim_end().to_owned()
        }
        words => words.join(" "),
    };
    let note = Note {
        time: Timestamp::now().to_string(),
        uid: Some(user()),
        text,
    };
    let change = |said: &mut Annotations, _: &[String]| said.note(note.clone());
    each(
        std::slice::from_ref(&args.id),
        args.json,
        paths,
        &change,
        |record| match record.notes.len() {
            1 => "1 note".to_owned(),
            notes => format!("{notes} notes"),
        },
    )
}

/// Removes dumps and what is known of their incidents.
///
/// # Errors
///
/// [`ChangeError`]; what came before it is removed.
pub fn remove(args: &RemoveArgs, paths: &Paths) -> Result<ExitCode> {
    let mut catalog = Catalog::open(&paths.state_dir, Access::Write)?;
    reading::finish(args.ids.iter().try_fold(ExitCode::SUCCESS, |code, id| {
        let record = catalog.remove(id, args.force)?;
        print(&record, args.json, "removed")?;
        Ok(code)
    }))
    .inspect(|_| reading::say(&catalog))
}

/// Changes what is said about each of these incidents.
fn each(
    ids: &[String],
    json: bool,
    paths: &Paths,
    change: Change<'_>,
    told: impl Fn(&Record) -> String,
) -> Result<ExitCode> {
    reading::finish((|| {
        let mut catalog = Catalog::open(&paths.state_dir, Access::Write)?;
        for id in ids {
            let record = catalog.annotate(id, change)?;
            print(&record, json, &told(&record))?;
        }
        reading::say(&catalog);
        Ok(ExitCode::SUCCESS)
    })())
}

fn print(record: &Record, json: bool, told: &str) -> Result<()> {
    let mut line = Vec::new();
    if json {
        crate::harmless::json(&mut line, record);
    } else {
        let summary = record.summary.as_deref().unwrap_or("unreadable");
        let id = record.short_id().unwrap_or("?");
        write!(line, "{id} {}: {told}", escape_short(summary, 100))?;
    }
    line.push(b'\n');
    reading::written(io::stdout().lock().write_all(&line), "standard output")
}

fn tags(record: &Record) -> String {
    match record.tags.as_slice() {
        [] => "no tags".to_owned(),
        tags => escape(&tags.join(", ")).into_owned(),
    }
}

/// Returns who writes: behind sudo, who called it.
fn user() -> u32 {
    let own = rustix::process::getuid().as_raw();
    let behind = std::env::var("SUDO_UID").ok();
    match behind.and_then(|uid| uid.parse().ok()) {
        Some(uid) if own == 0 => uid,
        _ => own,
    }
}

/// Tells whether an error is the user's, who wrote what makes no sense.
pub(super) fn is_usage(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ChangeError::Nonsense(_)))
}
