//! recorder-dump(5), made of the schema.

use roff::roman;

use super::{Page, begin, listing, page_of, paragraph, see_also, term};
use crate::event::TOPICS;

/// The schema, with a comment for every field.
const SCHEMA: &str = include_str!("../../../proto/recorder/v1/events.proto");

pub(super) fn page() -> Page {
    let mut roff = begin("recorder-dump", "the window around an incident, as a file");
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "A dump is one MCAP file (https://mcap.dev/spec) with the profile recorder: chunks compressed by zstd, each with its \
         CRC-32, and a summary. It explains itself: the Protobuf schema of every message is in it, and every reader of MCAP \
         reads it. A file that was cut gives every chunk that is whole.",
    )]);
    paragraph(
        &mut roff,
        "Its name is <UTC time>-<rule>-<id>.mcap: the time of the trigger, the rule, the last eight hex digits of the \
         incident's id. Beside it stands a sidecar, <same>.json: the incident, and the SHA-256 of the file that recorder \
         verify compares. Names that begin with .tmp- are unfinished.",
    );
    roff.control("SH", ["TOPICS"]);
    roff.text([roman(
        "The topic of a message is the type of the event. log_time is the wall clock in nanoseconds since 1970; sequence is \
         the number of the record on its CPU and lane: a gap is a loss, and a recorder.loss message stands in its place.",
    )]);
    for topic in TOPICS {
        term(&mut roff, topic.name, topic.message);
    }
    roff.control("SH", ["METADATA"]);
    roff.text([roman(
        "Each record has the key json, which holds one JSON value.",
    )]);
    for (name, holds) in [
        ("recorder.incident", "What the dump is about."),
        (
            "recorder.host",
            "Host, kernel, boot, environment label, version.",
        ),
        (
            "recorder.clocks",
            "Pairs of boot time and wall clock, at the start and at the freeze.",
        ),
        (
            "recorder.probes",
            "How each type of event was recorded, or why not.",
        ),
        (
            "recorder.coverage",
            "For each lane and CPU, from when to when, and why not longer.",
        ),
        (
            "recorder.loss",
            "What was lost, dropped and overwritten, and a verdict in one word.",
        ),
        ("recorder.config", "The configuration that held."),
        (
            "recorder.evidence",
            "What each collector came to; its output is an attachment.",
        ),
    ] {
        term(&mut roff, name, holds);
    }
    roff.control("SH", ["SCHEMA"]);
    listing(&mut roff, SCHEMA);
    see_also(
        &mut roff,
        &[
            "recorder(1)",
            "recorder-show(1)",
            "recorder-export(1)",
            "recorder-verify(1)",
        ],
    );
    page_of("recorder-dump", &roff)
}
