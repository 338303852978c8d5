//! A folder to hand over: the dump, what it says in words, every format, and the evidence, sealed as a bag.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::format::{self, Format};
use super::{crash, filter, output, visit};
use crate::cli::show::{Facts, FilterArgs};
use crate::cli::text::{bytes, plural, time};
use crate::cli::{extract, reading, report};
use crate::export::{Visitor, bag};
use crate::harmless::escape;
use crate::read::{Dump, Report, Seal, State, verify};

/// What the folder has of the events: format, name in `data/`, what opens it.
const FORMATS: &[(Format, &str, &str)] = &[
    (
        Format::Jsonl,
        "timeline.jsonl",
        "every event, one JSON object a line: `jq`, any language",
    ),
    (
        Format::Csv,
        "timeline.csv",
        "every event, one row: a spreadsheet",
    ),
    (
        Format::Timesketch,
        "timesketch.jsonl",
        "Timesketch: upload as a timeline",
    ),
    (
        Format::Perfetto,
        "trace.pftrace",
        "Perfetto: open at ui.perfetto.dev (the file stays in the browser), or `trace_processor`",
    ),
    (
        Format::Journal,
        "journal.export",
        "`systemd-journal-remote --output=x.journal journal.export`, then `journalctl --file=x.journal`",
    ),
    (
        Format::Pcapng,
        "journal.pcapng",
        "Wireshark, `tshark -r journal.pcapng`",
    ),
    (Format::Ctf, "ctf", "`babeltrace2 ctf/`, Trace Compass"),
    #[cfg(feature = "parquet")]
    (
        Format::Parquet,
        "events.parquet",
        "DuckDB: `select * from 'events.parquet'`; pandas, Spark",
    ),
    (
        Format::Sqlite,
        "case.sqlite",
        "`sqlite3 case.sqlite 'select * from failure'`; has the evidence, too",
    ),
    (
        Format::Otlp,
        "otlp.jsonl",
        "OpenTelemetry Collector: receiver `otlpjsonfile`",
    ),
    (
        Format::Ecs,
        "ecs.ndjson",
        "Elasticsearch: `_bulk`, Filebeat",
    ),
    (
        Format::Stacks,
        "stacks.folded",
        "flame graphs of the crashes: speedscope, flamegraph.pl",
    ),
];

/// Makes the folder.
///
/// # Errors
///
/// A dump that cannot be read, or a place that is taken or cannot be written.
pub fn make(dump: &Dump, options: &FilterArgs, root: &Path, force: bool) -> Result<ExitCode> {
    let to = root.display().to_string();
    prepare(root, force).with_context(|| format!("create {to}"))?;
    let data = root.join("data");
    fs::create_dir(&data).with_context(|| format!("create {}", data.display()))?;
    let checked = verify(dump.path(), &mut |_| {})?;
    copy(dump, &data).with_context(|| format!("copy {} to {to}", dump.path().display()))?;

    let mut targets = Vec::new();
    for (format, name, _) in FORMATS {
        targets.push(format::open(*format, dump, Some(&data.join(name)), false)?);
    }
    let mut visitors: Vec<(&mut dyn Visitor, &str)> = Vec::new();
    for target in &mut targets {
        visitors.push((&mut *target.visitor, target.to.as_str()));
    }
    let read = visit(dump, &filter(dump, options)?, &mut visitors)?;
    let mut damages = Vec::new();
    for mut target in targets {
        if let Some(case) = target.case.take() {
            damages = case(dump).with_context(|| format!("write to {}", target.to))?;
        }
        target.keep();
    }
    let (crash, _) = crash::find(dump, options)?;
    let core = crash.and_then(|crash| crash.core().ok());
    if let Some(core) = &core {
        put(&data.join("core"), core)?;
    }
    // What is broken in the evidence is known by now.
    let evidence = extract::everything(dump, &data.join("evidence"))?;
    put(&data.join("report.md"), report::markdown(dump)?.as_bytes())?;
    let facts = Facts::of(dump);
    let readme = readme(dump, &facts, &checked, core.is_some(), evidence);
    put(&data.join("README.md"), readme.as_bytes())?;
    let sealed = bag::seal(root, &info(dump, &facts)).with_context(|| format!("seal {to}"))?;
    let line = format!(
        "{to}: {} in {}\n",
        bytes(sealed.bytes),
        plural(sealed.files, "file")
    );
    reading::written(io::stdout().write_all(line.as_bytes()), "standard output")?;
    let code = read.note(dump, damages);
    match checked.state {
        State::Tampered => {
            eprintln!(
                "recorder: {}: tampered: {}",
                dump.path().display(),
                checked.contradictions.join("; ")
            );
            Ok(ExitCode::from(reading::DAMAGED))
        }
        State::Complete | State::Damaged => Ok(code),
    }
}

/// Makes the directory; an earlier bag gives way if that is asked for, anything else never.
fn prepare(root: &Path, force: bool) -> Result<()> {
    let is_taken = root.is_dir() && fs::read_dir(root)?.next().is_some();
    if is_taken && force {
        if !root.join("bagit.txt").is_file() {
            bail!("there is something in it that is no hand-off folder");
        }
        fs::remove_dir_all(root)?;
    }
    output::directory(root, false)?;
    Ok(())
}

/// Copies the dump and its sidecar as they are.
fn copy(dump: &Dump, data: &Path) -> io::Result<()> {
    let name = dump.path().file_name().unwrap_or_default();
    let sidecar = dump.path().with_extension("json");
    fs::copy(dump.path(), data.join(name))?;
    if let Some(name) = sidecar.file_name().filter(|_| sidecar.is_file()) {
        fs::copy(&sidecar, data.join(name))?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let to = path.display().to_string();
    let mut file = output::create(path, false).with_context(|| format!("create {to}"))?;
    reading::written(file.write_all(bytes), &to)
}

/// Returns the fields of `bag-info.txt`.
fn info(dump: &Dump, facts: &Facts) -> Vec<(&'static str, String)> {
    let mut info = vec![(
        "Bag-Software-Agent",
        concat!("recorder ", env!("CARGO_PKG_VERSION")).to_owned(),
    )];
    if let Some(host) = &facts.host {
        info.push(("Source-Organization", host.hostname.clone()));
    }
    if let Some(incident) = &facts.incident {
        info.push(("External-Identifier", incident.id.to_string()));
        let summary = escape(&incident.summary).into_owned();
        info.push(("External-Description", summary));
    }
    let name = dump.path().file_name().unwrap_or_default();
    info.push((
        "Internal-Sender-Identifier",
        name.to_string_lossy().into_owned(),
    ));
    info
}

fn readme(dump: &Dump, facts: &Facts, checked: &Report, core: bool, evidence: u64) -> String {
    let mut out = String::from("# An incident, as it was recorded\n\n");
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    if let Some(incident) = &facts.incident {
        line(format!("**{}**\n", markdown(&incident.summary)));
    }
    if let Some(host) = &facts.host {
        line(format!(
            "- host: {} (Linux {}, {})",
            markdown(&host.hostname),
            markdown(&host.kernel_release),
            markdown(&host.architecture)
        ));
    }
    if let Some(trigger) = facts.trigger_unix_ns {
        line(format!("- when: {}", time(trigger)));
    }
    if let Some(incident) = &facts.incident {
        line(format!(
            "- incident: {} by rule {}",
            incident.id,
            markdown(&incident.rule)
        ));
    }
    for covered in &facts.coverage {
        line(format!("- covered: {}", markdown(covered)));
    }
    if let Some(loss) = &facts.loss {
        line(format!("- missing: {}", markdown(&loss.words)));
    }
    let state = match (checked.state, checked.sidecar) {
        (State::Complete, Seal::Matches) => "whole, and the one its sidecar describes".to_owned(),
        (State::Complete, _) => "whole; nothing beside it vouches for it".to_owned(),
        (State::Damaged, _) => format!(
            "damaged in {}: what is whole is here",
            plural(checked.damage.len(), "place")
        ),
        (State::Tampered, _) => format!("tampered: {}", checked.contradictions.join("; ")),
    };
    line(format!("- the dump: {state}; SHA-256 `{}`", checked.sha256));
    line("\nEverything here is derived from the dump, which is the original. `report.md` tells the story.\n".to_owned());
    line("| in `data/` | to open it |\n|---|---|".to_owned());
    let name = dump
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    line(format!(
        "| `{}` | `recorder show`; `pip install mcap mcap-protobuf-support` and any language |",
        markdown(&name)
    ));
    line("| `report.md` | any editor |".to_owned());
    for (_, name, opens) in FORMATS {
        line(format!("| `{name}` | {opens} |"));
    }
    if core {
        line("| `core` | `gdb --core core` |".to_owned());
    }
    if evidence > 0 {
        line("| `evidence/` | what was collected beside the events |".to_owned());
    }
    line(
        "\nTo check that nothing was changed on the way: `bagit.py --validate .`, or `sha256sum -c manifest-sha256.txt`.\n\n\
         **Handle with care**: names, arguments of programs, addresses and the memory of a stack are in here. \
         `recorder redact` makes a copy of the dump without them."
            .to_owned(),
    );
    out
}

/// Makes a text harmless in Markdown.
fn markdown(text: &str) -> String {
    let mut safe = String::new();
    for character in escape(text).chars() {
        if matches!(
            character,
            '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '\\'
        ) {
            safe.push('\\');
        }
        safe.push(character);
    }
    safe
}
