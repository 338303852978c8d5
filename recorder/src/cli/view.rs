//! `recorder view`: a dump in a terminal, by keyboard.
//!
//! ```text
//! $ ssh web-3 -t sudo recorder view
//! $ recorder view incident.mcap --type signal --around 5s
//! ```
//!
//! Over the events stands a timeline: failures, what came and went, the host's CPU, memory, pressure, disks and network; `▲`
//! is what fired the incident, `◆` the chosen event, `░` what was not recorded, `×` where records are missing. `h` tells
//! the keys.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;

use super::reading::{self, DumpArg};
use super::show::{Facts, FilterArgs, Overview, describe, fault};
use super::text::{escape, time};
use crate::config::Paths;
use crate::dump::{CLOCKS, COVERAGE, Clocks, Coverage};
use crate::event::proto;
use crate::read::Dump;
use crate::view::{self, Choice, Ended, Index, Known, View, Words, lacks_until};

/// Show a dump in the terminal: timeline, events, one event closely, causes
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs `recorder view`.
///
/// # Errors
///
/// A dump that cannot be read, or no terminal.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(show(args, paths))
}

fn show(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let dump = args.dump.open(paths, &[])?;
    let facts = Facts::of(&dump);
    let trigger_unix_ns = facts.trigger_unix_ns;
    let sought = facts
        .incident
        .as_ref()
        .map(|incident| incident.trigger.clone())
        .zip(trigger_unix_ns);
    let mut resolver = super::symbolize::resolver(&facts, &[]);
    let words = Words {
        describe,
        crash,
        resolve: Box::new(move |fatal| resolver.resolve(fatal)),
        choose: Box::new(move |text| choose(text, trigger_unix_ns)),
    };
    let known = known(&dump, &facts);
    let index = Index::new(&dump, sought, Box::new(Overview::of(facts)));
    let mut view = View::new(known, index, words);
    if !args.filter.is_empty() {
        let filter = args.filter.filter(trigger_unix_ns)?;
        let choice = Box::new(move |entry: &_| filter.wants(entry));
        view.choose(args.filter.to_string(), choice);
    }
    match view::run(&mut view).with_context(|| format!("show {}", dump.path().display()))? {
        Ended::Done => {}
        Ended::NoTerminal => {
            return Err(anyhow!(
                "view needs a terminal; recorder show writes the same as text"
            ));
        }
    }
    let index = view.index();
    Ok(reading::note(&dump, &index.damages, index.unknown))
}

/// What the head and the timeline say of a dump.
fn known(dump: &Dump, facts: &Facts) -> Known {
    let clocks: Option<Clocks> = dump.metadata(CLOCKS);
    let coverage: Option<Coverage> = dump.metadata(COVERAGE);
    let mut about: Vec<String> = Vec::new();
    if let Some(host) = &facts.host {
        about.push(escape(&host.hostname).into_owned());
    }
    about.extend(facts.trigger_unix_ns.map(time));
    let loss = facts.loss.as_ref();
    about.push(match loss {
        Some(loss) => format!("missing: {}", loss.words),
        None => "completeness not known".to_owned(),
    });
    if facts.redaction.is_some() {
        about.push("redacted copy".to_owned());
    }
    let title = match &facts.incident {
        Some(incident) => escape(&incident.summary).into_owned(),
        None => "a dump that no longer says what it is about".to_owned(),
    };
    let known = coverage.zip(clocks);
    Known {
        title,
        about: about.join(" · "),
        is_lossy: loss.is_none_or(|loss| !loss.is_none),
        trigger_unix_ns: facts.trigger_unix_ns,
        window: known.as_ref().map(|(coverage, clocks)| {
            let at = |boot_ns| clocks.freeze.unix_ns_at(boot_ns);
            (
                at(coverage.window_start_boot_ns),
                at(coverage.window_end_boot_ns),
            )
        }),
        lacks_until: known
            .iter()
            .flat_map(|(coverage, clocks)| {
                let until = |lane| lacks_until(lane, clocks);
                let lanes = coverage.lanes.iter();
                lanes.filter_map(move |lane| Some((lane.lane.clone(), until(lane)?)))
            })
            .collect(),
    }
}

/// Tells of a crash what its fields do not say by themselves.
fn crash(fatal: &proto::SignalFatal) -> Vec<String> {
    let mut lines = vec![fault::signal_and_code(fatal)];
    lines.extend(fault::access(fatal));
    lines.extend(fault::sender_and_when(fatal, None));
    lines.extend(fault::code(fatal).map(|code| format!("code {code}")));
    let registers = fatal.registers.iter();
    let registers: Vec<String> = registers
        .map(|one| format!("{:>6} {:#018x}", escape(one.name()), one.value()))
        .collect();
    lines.extend(registers.chunks(2).map(|pair| pair.join("  ")));
    lines.extend(fault::stack(fatal, usize::MAX));
    lines
}

/// What a person types as a filter.
#[derive(Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
struct Typed {
    #[command(flatten)]
    filter: FilterArgs,
}

/// Makes a filter of options, or says in one line what is wrong with them.
fn choose(text: &str, trigger_unix_ns: Option<u64>) -> Result<Choice, String> {
    let typed = Typed::try_parse_from(words(text)).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.trim_start_matches("error: ").to_owned()
    })?;
    let filter = typed.filter.filter(trigger_unix_ns);
    let filter = filter.map_err(|error| error.to_string())?;
    Ok(Box::new(move |entry| filter.wants(entry)))
}

/// Takes a line apart at its blanks, but not between quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_typed_as_the_options_of_show() {
        assert_eq!(
            words("--comm 'my app'  --pid 7"),
            ["--comm", "my app", "--pid", "7"]
        );
        assert!(choose("--type signal --around 5s", Some(1)).is_ok());
        for (nonsense, says) in [
            ("--pid x", "invalid value 'x'"),
            ("signal", "unexpected argument 'signal'"),
            ("--help", "unexpected argument '--help'"),
        ] {
            let error = choose(nonsense, Some(1)).err().expect("refused");
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
        assert!(choose("--around 5s", None).is_err());
    }
}
