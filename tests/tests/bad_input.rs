//! Dumps that are not as they should be, and dumps of every version of the format: read as far as they go, and what is
//! missing is said once.

use std::fs;
use std::path::{Path, PathBuf};

use recorder_tests::fixture::golden;
use recorder_tests::{Json, Need, Output, Screen, output, ready, recorder};
use serde_json::Value;
use tempfile::TempDir;

/// What every command that reads a dump is asked in the matrix of fixtures and commands.
const READERS: &[&[&str]] = &[
    &["show"],
    &["show", "--all"],
    &["show", "--json"],
    &["report"],
    &["report", "--json"],
    &["report", "--html"],
    &["export"],
    &["export", "--format", "csv"],
    &["export", "--format", "timesketch"],
    &["export", "--format", "timesketch-csv"],
    &["export", "--format", "perfetto"],
    &["export", "--format", "journal"],
    &["export", "--format", "pcapng"],
    &["export", "--format", "otlp"],
    &["export", "--format", "ecs"],
    &["export", "--format", "stacks"],
    &["export", "--format", "core"],
    &["symbolize"],
    &["merge"],
];

/// The same of those that write a file, and of the one that takes two dumps: `OUT` stands for the file, `OTHER` for a whole
/// dump.
const WRITERS: &[&[&str]] = &[
    &["export", "--format", "ctf", "-o", "OUT"],
    &["export", "--format", "parquet", "-o", "OUT.parquet"],
    &["export", "--format", "sqlite", "-o", "OUT"],
    &["redact", "-o", "OUT"],
    &["diff", "OTHER"],
];

/// Runs every command on a dump.
fn read_all(path: &Path) -> Vec<(Vec<&'static str>, Output)> {
    let directory = TempDir::with_prefix("recorder-bad-").expect("there is room");
    let other = golden().into_iter().next().expect("there is a fixture");
    let mut said = Vec::new();
    for (number, command) in READERS.iter().chain(WRITERS).enumerate() {
        let out = directory
            .path()
            .join(number.to_string())
            .display()
            .to_string();
        let arguments = command.iter().map(|argument| match *argument {
            "OTHER" => other.display().to_string(),
            argument => argument.replace("OUT", &out),
        });
        let arguments: Vec<String> = arguments.collect();
        said.push((command.to_vec(), output(recorder(arguments).arg(path))));
    }
    said
}

/// Opens a dump in the viewer, leaves it once all of it is read, and returns the last that the terminal was shown.
#[track_caller]
fn view(path: &Path, code: i32) -> String {
    let mut screen = Screen::recorder(&["view", &path.display().to_string()], (120, 40), &[]);
    if code != 1 {
        screen.until("all of the dump", |screen| {
            screen.contains("q end") && !screen.contains("reading")
        });
        screen.press("q");
    }
    screen.ended(code)
}

#[test]
fn dumps_of_every_version_are_read_for_ever() {
    if !ready(&[Need::Agent, Need::Command("script")]) {
        return;
    }
    let golden = golden();
    assert!(!golden.is_empty());
    for path in golden {
        for (command, said) in read_all(&path) {
            let said = said.expect_code(0);
            let is_written = command.contains(&"-o");
            assert!(is_written || !said.stdout.is_empty(), "{said}");
        }
        for command in ["verify", "extract"] {
            output(recorder([command]).arg(&path)).expect_code(0);
        }
        view(&path, 0);
        // Every event as it was read when the version was new; fields are only ever added.
        let lines = output(recorder(["export"]).arg(&path)).json_lines();
        let expected = fs::read_to_string(path.with_extension("jsonl")).expect("it is beside it");
        let expected: Vec<Json> = expected.lines().map(Json::parse).collect();
        assert_eq!(lines.len(), expected.len());
        for (line, expected) in lines.iter().zip(&expected) {
            let (line, expected) = (line.value(), expected.value());
            assert!(
                has(line, expected),
                "{}\n{line}\n{expected}",
                path.display()
            );
        }
    }
}

/// Tells whether a value has all that an older one has.
fn has(value: &Value, older: &Value) -> bool {
    match (value, older) {
        (Value::Object(value), Value::Object(older)) => {
            let mut fields = older.iter();
            fields.all(|(name, older)| value.get(name).is_some_and(|value| has(value, older)))
        }
        (Value::Array(value), Value::Array(older)) => {
            value.len() == older.len() && value.iter().zip(older).all(|(one, old)| has(one, old))
        }
        _ => value == older,
    }
}

/// Cuts, breaks and empties a fixture; each name says what it is.
fn bad(directory: &Path) -> Vec<(&'static str, PathBuf)> {
    let golden = golden().into_iter().next().expect("there is a fixture");
    let whole = fs::read(golden).expect("it is readable");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x20;
    // The summary still counts what is behind the cut: none of it is there.
    let cut = whole[..whole.len() * 3 / 4].to_vec();
    let no_end = whole[..whole.len() - 20].to_vec();
    let cases = [
        ("cut", cut),
        ("without an end", no_end),
        ("a flipped bit", flipped),
    ];
    cases
        .into_iter()
        .map(|(name, bytes)| {
            let path = directory.join(format!("{}.mcap", name.replace(' ', "-")));
            fs::write(&path, bytes).expect("there is room");
            (name, path)
        })
        .collect()
}

#[test]
fn a_broken_dump_is_read_as_far_as_it_goes_and_said_once_to_be_broken() {
    if !ready(&[Need::Agent, Need::Command("script")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-export-").expect("there is room");
    for (name, path) in bad(directory.path()) {
        for (command, said) in read_all(&path) {
            // The crash may be whole, then nothing is missing; or gone, then there is no core.
            let is_core = command.contains(&"core");
            assert!(said.code == Some(3) || is_core, "{name}: {said}");
            let notes = said.stderr.lines().filter(|line| line.contains("damaged"));
            assert!(is_core || notes.count() == 1, "{name}: {said}");
            assert!(!said.stderr.contains("panicked"), "{name}: {said}");
        }
        let said = view(&path, 3);
        assert_eq!(said.matches("is damaged").count(), 1, "{name}: {said}");
        output(recorder(["verify"]).arg(&path)).expect_code(3);
        let missing = output(recorder(["extract"]).arg(&path));
        let is_gone = name != "a flipped bit";
        assert_eq!(missing.code, Some(if is_gone { 3 } else { 0 }), "{missing}");
        let notes = missing
            .stderr
            .lines()
            .filter(|line| line.contains("damaged"));
        assert_eq!(notes.count(), usize::from(is_gone), "{missing}");
        let bag = directory
            .path()
            .join(format!("{}.bag", name.replace(' ', "-")));
        let mut export = recorder(["export", "--all"]);
        let said = output(export.arg(&bag).arg(&path)).expect_code(3);
        assert_eq!(said.stderr.matches("damaged").count(), 1, "{name}: {said}");
        assert!(bag.join("manifest-sha256.txt").exists(), "{name}");
    }
}

#[test]
fn a_newer_dump_is_read_but_for_what_is_new_in_it() {
    if !ready(&[Need::Agent, Need::Command("script")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-export-").expect("there is room");
    let golden = golden().into_iter().next().expect("there is a fixture");
    let path = directory.path().join("newer.mcap");
    newer(&golden, &path);
    let known = output(recorder(["export"]).arg(&golden)).json_lines().len();
    // A core needs the crash alone, which is nothing new.
    for (command, said) in read_all(&path) {
        if command.contains(&"core") {
            continue;
        }
        let said = said.expect_code(3);
        let notes = said
            .stderr
            .lines()
            .filter(|line| line.contains("2 events left out"));
        assert_eq!(notes.count(), 1, "{said}");
        assert!(
            said.stderr.contains("recorder.loss not understood"),
            "{said}"
        );
    }
    let said = view(&path, 3);
    assert_eq!(said.matches("2 events left out").count(), 1, "{said}");
    for command in ["verify", "extract"] {
        let said = output(recorder([command]).arg(&path));
        assert!(matches!(said.code, Some(0 | 3)), "{said}");
        assert!(!said.stderr.contains("panicked"), "{said}");
    }
    let read = output(recorder(["export"]).arg(&path)).json_lines();
    assert_eq!(read.len(), known);
}

/// Copies a dump as a writer of the future would have written it: with a type of event, a field and a word that nobody
/// knows yet.
fn newer(from: &Path, to: &Path) {
    let bytes = fs::read(from).expect("it is readable");
    let file = fs::File::create(to).expect("there is room");
    let mut writer = mcap::WriteOptions::new()
        .profile("recorder")
        .create(std::io::BufWriter::new(file))
        .expect("there is room");
    for record in mcap::read::LinearReader::new(&bytes).expect("it is whole") {
        if let mcap::records::Record::Metadata(mut metadata) = record.expect("it is whole") {
            if metadata.name == "recorder.loss" {
                let json = metadata.metadata.get_mut("json").expect("it has one");
                *json = json.replace("\"verdict\":\"", "\"verdict\":\"not_quite_");
            }
            writer.write_metadata(&metadata).expect("there is room");
        }
    }
    let mut last = 0;
    for message in mcap::MessageStream::new(&bytes).expect("it is whole") {
        let mut message = message.expect("it is whole");
        last = message.log_time;
        if message.channel.topic == "process.exit" {
            // Field 1000 as a number.
            message.data.to_mut().extend_from_slice(&[0xc0, 0x3e, 0x07]);
        }
        writer.write(&message).expect("there is room");
    }
    let channel = writer
        .add_channel(0, "process.teleported", "protobuf", &Default::default())
        .expect("it is new");
    for sequence in 0..2 {
        let header = mcap::records::MessageHeader {
            channel_id: channel,
            sequence,
            log_time: last,
            publish_time: last,
        };
        writer
            .write_to_known_channel(&header, b"\x08\x01")
            .expect("there is room");
    }
    writer.finish().expect("there is room");
}

#[test]
fn nothing_at_all_is_no_dump_and_no_panic() {
    if !ready(&[Need::Agent, Need::Command("script")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-export-").expect("there is room");
    for (name, bytes) in [
        ("empty.mcap", &b""[..]),
        ("text.mcap", b"not a dump\n"),
        ("magic.mcap", b"\x89MCAP0\r\n"),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("there is room");
        let mut all = read_all(&path);
        for command in ["verify", "extract"] {
            all.push((vec![command], output(recorder([command]).arg(&path))));
        }
        // What may be the beginning of a dump is shown, though it is nothing.
        let said = view(&path, if name == "text.mcap" { 1 } else { 3 });
        assert!(!said.contains("panicked"), "{name}: {said}");
        for (_, said) in all {
            assert!(matches!(said.code, Some(1 | 3)), "{name}: {said}");
            assert!(
                (!said.stderr.is_empty() || !said.stdout.is_empty())
                    && !said.stderr.contains("panicked"),
                "{name}: {said}"
            );
        }
    }
}

#[test]
fn a_tampered_dump_is_handed_over_as_what_it_is() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-export-").expect("there is room");
    let golden = golden().into_iter().next().expect("there is a fixture");
    let path = directory.path().join("forged.mcap");
    newer(&golden, &path);
    fs::copy(golden.with_extension("json"), path.with_extension("json")).expect("there is room");
    let bag = directory.path().join("bag");
    let said = output(recorder(["export", "--all"]).arg(&bag).arg(&path)).expect_code(3);
    assert!(said.stderr.contains("tampered"), "{said}");
    let readme = fs::read_to_string(bag.join("data/README.md")).expect("it is text");
    assert!(readme.contains("tampered"), "{readme}");
}
