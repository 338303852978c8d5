//! `recorder rules`
//!
//! ```text
//! $ recorder rules check
//! valid: 8 rules, 7 in force
//! $ recorder rules test latest --rules new.toml
//! $ recorder rules fields process.exit
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args as _, FromArgMatches as _, Subcommand};
use recorder_ebpf::abi::{EventKind, Lane};
use serde_json::json;

use super::PROBLEMS;
use super::reading;
use super::text::{duration, plural};
use crate::api::{Client, RehearseRequest};
use crate::config::{Bytes, ConfigFile, Names, Paths, RecordConfig};
use crate::event::reflect::{self, Kind, MESSAGES, MessageType};
use crate::event::{ClockPair, Event};
use crate::harmless::escape;
use crate::incident::Limits;
use crate::read::Dump;
use crate::rules::{self, Fault, Rehearsal, Rehearsing, RuleSet, RuleSpec};

/// Arguments of `recorder rules`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Check the rules of the configuration, or of files
    Check {
        /// Files to check instead, each by itself beside the built-in rules
        files: Vec<PathBuf>,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say what rules would have done with dumps, or with what the running recorder holds
    Test {
        /// Dumps: paths, the first characters of ids, or "latest"
        #[arg(
            value_name = "DUMP",
            required_unless_present = "live",
            conflicts_with = "live"
        )]
        dumps: Vec<String>,
        /// Ask the running recorder, about what its ring holds now
        #[arg(long)]
        live: bool,
        /// File with the rules to try, beside the built-in ones; without it, those of the configuration
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
        /// Write one JSON object for each dump
        #[arg(long)]
        json: bool,
    },
    /// List what rules may ask of an event
    Fields {
        /// Type of event; without it, the types are listed
        #[arg(value_name = "TYPE")]
        event: Option<String>,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Checks, tries or explains rules.
pub fn run(args: &Args, paths: &Paths, file: &ConfigFile) -> Result<ExitCode> {
    match &args.command {
        Command::Check { files, json } => check(files, *json, file),
        Command::Test {
            dumps,
            live,
            rules,
            json,
        } => test(dumps, *live, rules.as_deref(), *json, paths, file),
        Command::Fields { event, json } => fields(event.as_deref(), *json),
    }
}

/// Returns the configuration, without flags.
fn configured(file: &ConfigFile) -> Result<RecordConfig> {
    let command = RecordConfig::augment_args(clap::Command::new("recorder"));
    let matches = command.get_matches_from(["recorder"]);
    Ok(file
        .load(&RecordConfig::from_arg_matches(&matches)?, &matches)?
        .config)
}

fn default_config() -> Result<RecordConfig> {
    let command = RecordConfig::augment_args(clap::Command::new("recorder"));
    let matches = command.get_matches_from(["recorder"]);
    Ok(RecordConfig::from_arg_matches(&matches)?)
}

/// Returns the rules of a file beside the built-in ones, ready, and how they are written.
///
/// What they refer to must be among `names` or in the file, if it is known what there is.
fn of_file(
    path: &Path,
    config: &RecordConfig,
    names: Option<Names>,
) -> Result<(RuleSet, Vec<RuleSpec>), Vec<Fault>> {
    let unread = |error: io::Error| {
        vec![Fault {
            path: Some(path.to_owned()),
            line: 1,
            text: format!("it cannot be read: {error}"),
        }]
    };
    let text = fs::read_to_string(path).map_err(unread)?;
    let mut specs = rules::builtin();
    for rule in rules::read_text(Some(path), &text).map_err(|fault| vec![fault])? {
        rules::add(&mut specs, rule);
    }
    let compiled = RuleSet::compile(&specs, &config.rule_settings());
    let unknown = names.map_or_else(Vec::new, |mut names| {
        names.add_file(&text);
        names.faults(&specs)
    });
    match compiled {
        Ok(set) if unknown.is_empty() => Ok((set, specs)),
        Ok(_) => Err(unknown),
        Err(faults) => Err([faults, unknown].concat()),
    }
}

fn check(files: &[PathBuf], json: bool, file: &ConfigFile) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    if files.is_empty() {
        let config = configured(file)?;
        let set = RuleSet::compile(&config.rules, &config.rule_settings());
        let set = set.map_err(|faults| crate::config::ConfigError::Rules { faults })?;
        let names: Vec<_> = config.rules.iter().map(|rule| rule.name.as_str()).collect();
        let in_force: Vec<_> = names.iter().filter(|name| set.has(name)).collect();
        match json {
            true => writeln!(
                out,
                "{}",
                json!({"valid": true, "rules": names, "in_force": in_force, "faults": []})
            )?,
            false => writeln!(
                out,
                "valid: {}",
                rules::counted(names.len() as u64, in_force.len() as u64)
            )?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let config = default_config()?;
    // The host's own configuration says what there is to refer to; while it is broken, nobody knows.
    let known = configured(file).ok().map(|config| Names::of(&config));
    let (mut faults, mut names, mut in_force) = (Vec::new(), Vec::new(), Vec::new());
    for path in files {
        match of_file(path, &config, known.clone()) {
            Ok((set, specs)) => {
                let own = specs.into_iter().filter(|rule| rule.place.path.is_some());
                let own: Vec<String> = own.map(|rule| rule.name).collect();
                in_force.extend(own.iter().filter(|name| set.has(name)).cloned());
                names.extend(own);
            }
            Err(wrong) => faults.extend(wrong),
        }
    }
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    if json {
        let faults: Vec<_> = faults
            .iter()
            .map(|fault| json!({"path": fault.path, "line": fault.line, "text": fault.text}))
            .collect();
        writeln!(
            out,
            "{}",
            json!({"valid": texts.is_empty(), "rules": names, "in_force": in_force, "faults": faults})
        )?;
    } else if texts.is_empty() {
        writeln!(
            out,
            "valid: {}",
            rules::counted(names.len() as u64, in_force.len() as u64)
        )?;
    }
    for text in &texts {
        eprintln!("recorder: {}", escape(text));
    }
    Ok(match texts.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(PROBLEMS),
    })
}

fn test(
    dumps: &[String],
    live: bool,
    rules: Option<&Path>,
    json: bool,
    paths: &Paths,
    file: &ConfigFile,
) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    if live {
        let rules = rules
            .map(fs::read_to_string)
            .transpose()
            .context("the rules cannot be read")?;
        let rehearsal = Client::new(paths.control_socket()).rehearse(&RehearseRequest { rules })?;
        show(&mut out, "what the ring holds", &rehearsal, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    let found = dumps.iter().map(|name| reading::find(name, paths));
    let found: Vec<PathBuf> = found.collect::<Result<_>>()?;
    reading::confine(&[])?;
    for path in found {
        let (config, set) = match rules {
            Some(path) => {
                let config = default_config()?;
                let set = of_file(path, &config, None)
                    .map_err(|faults| crate::config::ConfigError::Rules { faults })?;
                (config, set.0)
            }
            None => {
                let config = configured(file)?;
                let set = RuleSet::compile(&config.rules, &config.rule_settings());
                let set = set.map_err(|faults| crate::config::ConfigError::Rules { faults })?;
                (config, set)
            }
        };
        let limits = Limits {
            dumps_per_hour: config.limit_dumps_per_hour,
            bytes_per_day: config.limit_bytes_per_day.0,
        };
        let dump = Dump::open(&path)?;
        // A dump has the wall clock: it is the only one here.
        let clocks = ClockPair {
            boot_ns: 0,
            unix_ns: 0,
        };
        let mut rehearsing = Rehearsing::new(set, limits, clocks);
        let mut events = dump.events();
        for entry in &mut events {
            let entry = entry?;
            rehearsing.show(&Event {
                boot_ns: entry.unix_ns,
                sequence: entry.sequence.into(),
                lane: Lane::Sample,
                cpu: 0,
                body: entry.body,
            });
        }
        let damaged = reading::note(&dump, events.damages(), events.unknown());
        if damaged != ExitCode::SUCCESS {
            code = damaged;
        }
        let rehearsal = rehearsing.finish(path.metadata()?.len());
        show(&mut out, &path.display().to_string(), &rehearsal, json)?;
    }
    Ok(code)
}

fn show(out: &mut impl Write, what: &str, rehearsal: &Rehearsal, json: bool) -> Result<()> {
    if json {
        let object = json!({"source": what, "rehearsal": rehearsal});
        writeln!(out, "{object}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{}: {} in {}",
        escape(what),
        plural(rehearsal.events, "event"),
        duration(rehearsal.span_ns)
    )?;
    for rule in &rehearsal.rules {
        let stats = &rule.stats;
        let mut line = format!(
            "  {:24} {:>7} matched, {:>5} fired",
            stats.name, stats.matched, stats.fired
        );
        if rule.dumps + rule.joined + rule.counted > 0 {
            let bytes = Bytes(rule.bytes >> 10 << 10);
            line += &format!(
                ": {} of about {bytes}, {} joined, {} only counted",
                plural(rule.dumps, "dump"),
                rule.joined,
                rule.counted
            );
        }
        if let Some(error) = &stats.last_error {
            line += &format!("; {} errors: {error}", stats.errors);
        }
        writeln!(out, "{line}")?;
    }
    for incident in &rehearsal.incidents {
        let time = super::text::time(incident.unix_ns);
        writeln!(
            out,
            "  {time} {}: {}",
            incident.rule,
            escape(&incident.summary)
        )?;
    }
    Ok(())
}

fn fields(event: Option<&str>, json: bool) -> Result<ExitCode> {
    let kinds = || {
        EventKind::ALL
            .into_iter()
            .filter(|kind| *kind != EventKind::Note)
    };
    let mut out = io::stdout().lock();
    let Some(event) = event else {
        let types = kinds().filter_map(|kind| Some((kind.name(), reflect::of_topic(kind.name())?)));
        if json {
            let all: Vec<_> = types
                .map(
                    |(name, message)| json!({"type": name, "documentation": message.documentation}),
                )
                .collect();
            writeln!(out, "{}", json!(all))?;
            return Ok(ExitCode::SUCCESS);
        }
        for (name, message) in types {
            writeln!(out, "{name:20} {}", message.documentation)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let kind = kinds().find(|kind| kind.name() == event);
    let Some(message) = kind.and_then(|kind| reflect::of_topic(kind.name())) else {
        let meant = crate::config::nearest(event, kinds().map(EventKind::name));
        match meant {
            Some(meant) => bail!("no type of event {event:?}: did you mean {meant:?}?"),
            None => bail!("no type of event {event:?}: `recorder rules fields` lists them"),
        }
    };
    let mut rows = Vec::new();
    list(message, "", 0, &mut rows);
    if json {
        let all: Vec<_> = rows
            .iter()
            .map(|(path, kind, text)| json!({"field": path, "type": kind, "documentation": text}))
            .collect();
        writeln!(out, "{}", json!(all))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = rows.iter().map(|(path, ..)| path.len()).max().unwrap_or(0);
    for (path, kind, text) in rows {
        writeln!(out, "{path:width$}  {kind:8}  {text}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds the fields of a message and of the messages in it.
fn list(
    message: &'static MessageType,
    before: &str,
    depth: usize,
    rows: &mut Vec<(String, String, &'static str)>,
) {
    for field in message.fields {
        if rules::is_late(message.name, field.name) {
            continue;
        }
        let mut path = format!("{before}{}", field.name);
        if field.is_list {
            path += "[]";
        }
        let kind = match field.kind {
            Kind::Bool => "bool",
            Kind::Integer => "int",
            Kind::Fraction => "double",
            Kind::Text => "string",
            Kind::Bytes => "bytes",
            Kind::Message(_) => "message",
        };
        rows.push((path.clone(), kind.to_owned(), field.documentation));
        if let Kind::Message(position) = field.kind
            && depth < 3
        {
            list(&MESSAGES[position], &format!("{path}."), depth + 1, rows);
        }
    }
}
