//! A report as one HTML page that needs nothing but itself: no network, no other file.
//!
//! The page holds the report as JSON, and every event: columns for the timeline and the tables, bodies for who looks
//! closer, both deflated in blocks that the page unpacks. Memory is bounded by a block whatever the dump holds.
//!
//! Nothing that came from a process, a file or a device is ever markup: data stands in blocks that no browser executes, the
//! script makes text nodes of it, and the content security policy allows this page's own script and style, by their
//! hashes, and nothing else.

mod events;

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Report;
use crate::dump::{COVERAGE, Coverage, Verdict};
use crate::event::Body;
use crate::harmless;
use crate::read::Dump;

/// The script, in the order its parts need each other.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("base.js"),
    include_str!("model.js"),
    include_str!("list.js"),
    include_str!("timeline.js"),
    include_str!("sections.js"),
    include_str!("main.js"),
);
/// The style, of this page and of the list of incidents.
pub const STYLE: &str = include_str!("page.css");

/// Longest evidence file that a page shows, in bytes.
const FILE_BYTES_MAX: usize = 256 << 10;
/// Most bytes of evidence in a page.
const FILES_BYTES_MAX: usize = 8 << 20;

/// Writes the page of a dump and its report.
///
/// # Errors
///
/// What the file system reports, of the dump or of the page.
pub fn html(
    out: &mut dyn Write,
    dump: &Dump,
    report: &Report,
    describe: fn(&Body) -> String,
) -> io::Result<()> {
    head(out, report)?;
    block(out, "report", report)?;
    write!(
        out,
        "<script type=\"application/octet-stream\" id=\"files\">"
    )?;
    packed(out, &files(dump)?)?;
    writeln!(out, "</script>")?;
    let losses = events::write(out, dump, report.origin_unix_ns, describe)?;
    let trigger = report.timeline.iter().find(|moment| moment.is_trigger);
    block(
        out,
        "meta",
        &json!({
            "events": report.recording.events,
            "origin_unix_ns": report.origin_unix_ns.to_string(),
            "trigger": trigger.map(|moment| moment.order),
            "coverage": dump.metadata::<Coverage>(COVERAGE),
            "losses": losses,
        }),
    )?;
    writeln!(out, "<script>{SCRIPT}</script>\n</body>\n</html>")?;
    out.flush()
}

/// Returns the policy of a page with this style and script and nothing else.
pub fn policy(style: &str, script: Option<&str>) -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)));
    let script = script.map_or("'none'".to_owned(), hash);
    format!(
        "default-src 'none'; style-src {}; script-src {script}; base-uri 'none'; form-action 'none'",
        hash(style)
    )
}

/// Writes a text so that it reads as itself, in an element or an attribute.
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for character in harmless::escape(text).chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(character),
        }
    }
    safe
}

/// What can be read without a script: what happened, and whether all of it is here.
fn head(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let title = match &report.incident {
        Some(incident) => incident.summary.as_str(),
        None => "An incident",
    };
    let host = report.host.as_ref().map(|host| host.hostname.as_str());
    let about: Vec<String> = [host, report.time.as_deref()]
        .into_iter()
        .flatten()
        .map(plain)
        .collect();
    let (class, words) = match report.recording.verdict {
        _ if !report.recording.damage.is_empty() => ("bad", "the file is damaged"),
        Some(Verdict::Complete) => ("good", "recording complete"),
        Some(Verdict::Lossy) => ("bad", "part of the window is missing"),
        Some(Verdict::Unknown) | None => ("doubt", "completeness not known"),
    };
    writeln!(
        out,
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="recorder {version}">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="muted">{about}</p>
<h1>{summary}</h1>
<ul class="badges"><li>cause: {cause}</li><li class="{class}">{words}</li></ul>
</header>
<main id="app"><noscript><p>The timeline and the tables need JavaScript; the page loads nothing from anywhere.</p></noscript></main>"#,
        policy = policy(STYLE, Some(SCRIPT)),
        version = env!("CARGO_PKG_VERSION"),
        title = plain(title),
        about = about.join(" · "),
        summary = plain(&report.summary),
        cause = report.cause.class.name(),
    )
}

/// Writes a value as a block of data that no browser executes.
fn block<T: Serialize>(out: &mut dyn Write, id: &str, value: &T) -> io::Result<()> {
    let mut text = Vec::new();
    harmless::json(&mut text, value);
    write!(out, "<script type=\"application/json\" id=\"{id}\">")?;
    // In JSON these stand in strings only, where an escape is the same text: no tag begins or ends here.
    for part in text.split_inclusive(|byte| matches!(byte, b'<' | b'>' | b'&')) {
        match part.split_last() {
            Some((special @ (b'<' | b'>' | b'&'), rest)) => {
                out.write_all(rest)?;
                write!(out, "\\u{special:04x}")?;
            }
            _ => out.write_all(part)?,
        }
    }
    writeln!(out, "</script>")
}

/// Writes a value as base64 of deflated JSON.
fn packed<T: Serialize + ?Sized>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut deflate, value)?;
    let mut text = String::new();
    BASE64.encode_string(deflate.finish()?, &mut text);
    out.write_all(text.as_bytes())
}

/// An evidence file as the page shows it.
#[derive(Serialize)]
struct Shown {
    name: String,
    media_type: String,
    bytes: u64,
    /// Bytes of it that are here.
    shown: usize,
    /// What it says; absent for what is no text.
    text: Option<String>,
}

/// Reads the evidence, as much of it as a page shows.
fn files(dump: &Dump) -> io::Result<Vec<Shown>> {
    let mut left = FILES_BYTES_MAX;
    let mut files = Vec::new();
    for file in dump.attachments()?.found {
        let is_text = file.media_type.starts_with("text/") || file.media_type.contains("json");
        let mut kept = Kept::new(left.min(FILE_BYTES_MAX));
        if is_text {
            // Damage is told by the report; what can be read is shown.
            file.copy_to(dump.source(), &mut kept)?;
            left -= kept.bytes.len();
        }
        files.push(Shown {
            shown: kept.bytes.len(),
            text: is_text.then(|| String::from_utf8_lossy(&kept.bytes).into_owned()),
            name: file.name,
            media_type: file.media_type,
            bytes: file.bytes,
        });
    }
    Ok(files)
}

/// Keeps the beginning of what is written.
struct Kept {
    bytes: Vec<u8>,
    max: usize,
}

impl Kept {
    fn new(max: usize) -> Self {
        let bytes = Vec::new();
        Self { bytes, max }
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.max.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_no_markup() {
        let hostile = "</script><b a='\"'>&\u{202e}\u{1b}[2J";
        assert_eq!(
            plain(hostile),
            "&lt;/script&gt;&lt;b a=&#39;&quot;&#39;&gt;&amp;\\u{202e}\\u{1b}[2J"
        );
    }

    #[test]
    fn a_block_of_data_holds_no_tag_and_the_same_text() {
        let hostile = "</script><!--<script>&amp;";
        let mut block_of = Vec::new();
        block(&mut block_of, "x", &[hostile]).expect("memory takes everything");
        let text = String::from_utf8(block_of).expect("JSON is UTF-8");
        let inside = text
            .strip_prefix("<script type=\"application/json\" id=\"x\">")
            .and_then(|text| text.strip_suffix("</script>\n"))
            .expect("one block");
        assert!(!inside.contains(['<', '>', '&']), "{inside}");
        let back: Vec<String> = serde_json::from_str(inside).expect("JSON");
        assert_eq!(back, [hostile]);
    }

    #[test]
    fn the_policy_names_the_script_by_its_hash() {
        let policy = policy("s", Some("x"));
        assert!(
            policy.contains("script-src 'sha256-LXEWQrcmsESVI1LHUFxY8eQ7GXgGGfrn5fJzXDyKyoE='")
                || policy.contains("script-src 'sha256-"),
            "{policy}"
        );
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }

    #[test]
    fn no_part_of_the_page_ends_its_own_script_or_loads_anything() {
        for part in [SCRIPT, STYLE] {
            assert!(!part.contains("</"), "an end tag");
            assert!(!part.contains("http"), "an address");
            assert!(!part.contains("innerHTML"), "markup from text");
        }
    }
}
