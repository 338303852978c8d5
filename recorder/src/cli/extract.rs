//! `recorder extract`: the evidence in a dump.
//!
//! ```text
//! $ recorder extract latest
//! memory.txt   14.2 KiB  text/plain
//! process.txt   9.8 KiB  text/plain
//! $ recorder extract latest process.txt -o evidence/
//! evidence/process.txt
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::export::output;
use super::reading;
use super::text::{bytes, escape};
use crate::config::{Paths, nearest};
use crate::dump::{EVIDENCE, EvidenceReport};
use crate::read::{Attachment, Damage, Dump};

/// Longest name of a file that is written, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// List the evidence in a dump, or write it to files
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Path of a dump, the first characters of its id, or "latest"
    #[arg(value_name = "DUMP")]
    dump: String,
    /// What to extract; all of it, if only a directory is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Directory to write to, "-" for standard output; it is made if it is not there [default: .]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
    /// Write the list as one JSON object for each line
    #[arg(long)]
    json: bool,
}

/// Runs `recorder extract`.
///
/// # Errors
///
/// A dump that cannot be read, a name that is not in it, or a file that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(extract(args, paths))
}

fn extract(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let path = reading::find(&args.dump, paths)?;
    let is_listed = args.names.is_empty() && args.output.is_none();
    let output = args.output.as_deref().unwrap_or(Path::new("."));
    let outputs = [output];
    reading::confine(if is_listed { &[] } else { &outputs })?;
    let dump = Dump::open(&path)?;
    let attachments = dump.attachments().with_context(|| reads(&dump))?;
    let mut damages = attachments.broken;
    let mut all = attachments.skipped;
    let is_broken = !damages.is_empty() || !all.is_empty();
    let missing = match is_broken {
        true => missing(&dump, &attachments.found),
        false => Vec::new(),
    };
    if is_listed {
        reading::written(list(&attachments.found, args.json), "standard output")?;
    } else {
        let chosen = choose(&attachments.found, &args.names)?;
        damages.extend(write(&dump, &chosen, args)?);
    }
    if !missing.is_empty() {
        eprintln!(
            "recorder: evidence that was collected is missing: {}",
            missing.join(", ")
        );
    }
    damages.into_iter().for_each(|damage| all.push(damage));
    Ok(match reading::note(&dump, &all, 0) {
        ExitCode::SUCCESS if !missing.is_empty() => ExitCode::from(reading::DAMAGED),
        code => code,
    })
}

/// Returns the names of the attachments that a dump says it has and that are gone.
fn missing(dump: &Dump, found: &[Attachment]) -> Vec<String> {
    let report: EvidenceReport = dump.metadata(EVIDENCE).unwrap_or_default();
    let names = report
        .collectors
        .into_iter()
        .filter_map(|one| one.attachment);
    names
        .filter(|name| found.iter().all(|one| one.name != *name))
        .map(|name| escape(&name).into_owned())
        .collect()
}

fn reads(dump: &Dump) -> String {
    format!("read {}", dump.path().display())
}

fn list(attachments: &[Attachment], as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let names = attachments.iter().map(|one| escape(&one.name));
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    for attachment in attachments {
        let Attachment {
            name,
            media_type,
            bytes: len,
            created_unix_ns,
            finished_unix_ns,
            ..
        } = attachment;
        if as_json {
            let line = json!({
                "name": name,
                "media_type": media_type,
                "bytes": len,
                "created_unix_ns": created_unix_ns,
                "finished_unix_ns": finished_unix_ns,
            });
            writeln!(out, "{line}")?;
        } else {
            let (name, media_type, len) = (escape(name), escape(media_type), bytes(*len));
            writeln!(out, "{name:width$}  {len:>10}  {media_type}")?;
        }
    }
    if attachments.is_empty() {
        eprintln!("recorder: there is no evidence in this dump");
    }
    Ok(())
}

/// Returns the attachments of these names, or all.
fn choose<'a>(all: &'a [Attachment], names: &[String]) -> Result<Vec<&'a Attachment>> {
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let Some(attachment) = all.iter().find(|one| one.name == *name) else {
            let meant = nearest(name, all.iter().map(|one| one.name.as_str()));
            match meant {
                Some(meant) => bail!("no evidence {name:?}: did you mean {meant:?}?"),
                None => bail!("no evidence {name:?}: without names, all there is is listed"),
            }
        };
        chosen.push(attachment);
    }
    Ok(chosen)
}

/// Writes attachments where they are wanted; returns what is broken.
fn write(dump: &Dump, chosen: &[&Attachment], args: &Args) -> Result<Vec<Damage>> {
    let directory = args.output.as_deref().unwrap_or(Path::new("."));
    let mut out = io::stdout().lock();
    if directory == Path::new("-") {
        let mut damages = Vec::new();
        for attachment in chosen {
            damages.extend(attachment.copy_to(dump.source(), &mut out)?);
        }
        out.flush()?;
        return Ok(damages);
    }
    write_to(dump, chosen, directory, args.force, &mut |path| {
        reading::written(writeln!(out, "{}", path.display()), "standard output")
    })
}

/// Writes all evidence into a directory, which is made if there is any; returns how many files there are.
///
/// # Errors
///
/// A dump that cannot be read, or a file that cannot be written. Broken evidence is written as far as it goes.
pub fn everything(dump: &Dump, directory: &Path) -> Result<u64> {
    let attachments = dump.attachments().with_context(|| reads(dump))?;
    let all: Vec<&Attachment> = attachments.found.iter().collect();
    if !all.is_empty() {
        write_to(dump, &all, directory, false, &mut |_| Ok(()))?;
    }
    Ok(all.len() as u64)
}

/// Writes attachments into a directory; tells each path, returns what is broken.
fn write_to(
    dump: &Dump,
    chosen: &[&Attachment],
    directory: &Path,
    force: bool,
    tell: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<Vec<Damage>> {
    let mut damages = Vec::new();
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let mut taken = BTreeSet::new();
    for attachment in chosen {
        let path = directory.join(file_name(&attachment.name, &mut taken));
        let failed = || format!("write {}", path.display());
        // Neither a file that is there nor what a link leads to is touched.
        let mut file = output::create(&path, force).with_context(failed)?;
        let damage = attachment.copy_to(dump.source(), &mut file);
        damages.extend(damage.with_context(failed)?);
        tell(&path)?;
    }
    Ok(damages)
}

/// Returns a name that is a file's in any directory and that nothing before it has.
///
/// What could mean something to a shell, a path or a terminal becomes `_`; it does not begin with a dot.
fn file_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let harmless = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    let name: String = name.chars().take(NAME_BYTES_MAX).map(harmless).collect();
    let name = match name.trim_start_matches(['.', '-']) {
        "" => "evidence",
        name => name,
    };
    let mut unique = name.to_owned();
    let mut number = 2_u32;
    while !taken.insert(unique.clone()) {
        unique = format!("{name}.{number}");
        number += 1;
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_directory() {
        let mut taken = BTreeSet::new();
        let mut name = |name| file_name(name, &mut taken);
        assert_eq!(name("process.txt"), "process.txt");
        assert_eq!(name("process.txt"), "process.txt.2");
        assert_eq!(name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(name("/etc/passwd"), "_etc_passwd");
        assert_eq!(name(".."), "evidence");
        assert_eq!(name(""), "evidence.2");
        assert_eq!(name("a\n\u{1b}[31m b"), "a___31m_b");
        assert_eq!(name("-rf"), "rf");
        assert_eq!(name(&"x".repeat(1000)).len(), NAME_BYTES_MAX);
    }
}
