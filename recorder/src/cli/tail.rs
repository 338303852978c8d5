//! `recorder tail`
//!
//! ```text
//! $ recorder tail --type process.exit --since 10s
//! 2026-11-24 15:40:33.123 UTC  process.exit        sh[9225] ended by SIGSEGV after 1 ms, CPU 1 ms, 1.6 MiB
//! ```

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::show::{AboutArgs, describe};
use super::text::{Palette, Style, plural, time};
use crate::api::Client;
use crate::config::Paths;
use crate::event::Body;
use crate::live::{LOST, MISSED};

/// Arguments of `recorder tail`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    about: AboutArgs,
    /// Only events of this lane: failure, lifecycle, sample
    #[arg(long, value_name = "LANE")]
    lane: Vec<String>,
    /// Begin with what the ring still has from then on: "30s" ago, or a time ("2026-11-23T09:00:00Z")
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Write one JSON object for each event; {"lost": N} where events are missing
    #[arg(long)]
    json: bool,
}

/// Shows events as they happen, until the recorder ends.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let client = Client::new(paths.control_socket());
    let mut stream = client.events(&query(args))?;
    let mut out = io::stdout().lock();
    // A terminal shows what has come; a pipe gets it together.
    let is_terminal = out.is_terminal();
    let palette = Palette::of_stdout();
    let mut name = String::new();
    let mut pending: Vec<u8> = Vec::new();
    while let Some(line) = stream.line()? {
        if let Some(data) = line.strip_prefix(b"data: ") {
            match args.json {
                true => pending.extend_from_slice(data),
                false => pending.extend_from_slice(shown(&name, data, palette)?.as_bytes()),
            }
            pending.push(b'\n');
        } else if let Some(named) = line.strip_prefix(b"event: ") {
            name = String::from_utf8_lossy(named).into_owned();
        } else if line.is_empty() {
            name.clear();
        }
        if !pending.is_empty() && (is_terminal || !stream.has_line() || pending.len() > 1 << 16) {
            out.write_all(&pending)?;
            out.flush()?;
            pending.clear();
        }
    }
    eprintln!("recorder: the recorder has ended");
    Ok(ExitCode::SUCCESS)
}

fn query(args: &Args) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let lists = [
        ("type", &args.about.types),
        ("comm", &args.about.comm),
        ("unit", &args.about.unit),
        ("lane", &args.lane),
    ];
    for (name, values) in lists {
        query.extend_pairs(values.iter().map(|value| (name, value)));
    }
    query.extend_pairs(args.about.pid.iter().map(|pid| ("pid", pid.to_string())));
    if let Some(since) = &args.since {
        query.append_pair("since", since);
    }
    if !args.json {
        query.append_pair("format", "protobuf");
    }
    query.finish()
}

/// An event as the stream has it.
#[derive(Deserialize)]
struct Live {
    unix_ns: u64,
    #[serde(rename = "type")]
    topic: String,
    message: String,
}

/// Returns the line of an event, or of what is missing.
fn shown(name: &str, data: &[u8], palette: Palette) -> Result<String> {
    if name == LOST || name == MISSED {
        let missing: Value = serde_json::from_slice(data)?;
        let events = plural(missing[name].as_u64().unwrap_or(0), "event");
        let text = match name {
            LOST => format!("-- {events} left out: more than this reader could take --"),
            _ => format!("-- {events} not seen: the host was too busy --"),
        };
        return Ok(palette.paint(Style::Yellow, &text));
    }
    let live: Live = serde_json::from_slice(data).context("the stream is not a recorder's")?;
    let message = bytes(&live.message).context("the stream is not a recorder's")?;
    let body = Body::decode(&live.topic, &message)?;
    let topic = format!("{:<18}", body.topic());
    Ok(format!(
        "{}  {}  {}",
        palette.paint(Style::Dim, &time(live.unix_ns)),
        palette.paint(Style::Cyan, &topic),
        describe(&body)
    ))
}

/// Reads hex digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let pairs = pairs.iter().map(|[high, low]| {
        // Two digits of sixteen.
        Some((digit(*high)? * 16 + digit(*low)?) as u8)
    });
    rest.is_empty().then(|| pairs.collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::proto;

    #[test]
    fn an_event_comes_back_from_its_digits_and_acts_on_no_terminal() {
        let body = Body::ProcessExit(proto::ProcessExit {
            process: Some(proto::Process {
                pid: Some(7),
                comm: Some("a\x1b[2J".to_owned()),
                ..proto::Process::default()
            }),
            exit_code: Some(3),
            ..proto::ProcessExit::default()
        });
        let mut message = Vec::new();
        body.encode(&mut message);
        let digits: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
        let data = format!(
            "{{\"unix_ns\":1795424400123456789,\"type\":\"process.exit\",\"message\":\"{digits}\"}}"
        );
        let line = shown("", data.as_bytes(), Palette::PLAIN).expect("as the recorder writes it");
        assert!(
            line.starts_with(
                "2026-11-23 09:00:00.123 UTC  process.exit        a\\u{1b}[2J[7] exit code 3"
            ),
            "{line}"
        );
        assert_eq!(bytes("0g"), None);
        assert_eq!(bytes("0"), None);
        assert_eq!(bytes(""), Some(Vec::new()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let line = shown(LOST, b"{\"lost\":3,\"total\":5}", Palette::PLAIN).expect("valid");
        assert_eq!(
            line,
            "-- 3 events left out: more than this reader could take --"
        );
    }
}
