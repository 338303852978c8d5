//! Dumps that were made to kill their reader: every reader ends soon, in little memory, and says what is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use recorder_tests::{Need, Output, Screen, output, ready, recorder, system};
use tempfile::TempDir;

/// Memory that a reader may take, in bytes.
const MEMORY: &str = "--data=201326592";
/// CPU time that a reader may take, in seconds.
const TIME: &str = "--cpu=30";

const HEADER: u8 = 0x01;
const FOOTER: u8 = 0x02;
const SCHEMA: u8 = 0x03;
const CHANNEL: u8 = 0x04;
const MESSAGE: u8 = 0x05;
const CHUNK: u8 = 0x06;
const ATTACHMENT: u8 = 0x09;
const ATTACHMENT_INDEX: u8 = 0x0a;
const STATISTICS: u8 = 0x0b;
const METADATA: u8 = 0x0c;
const METADATA_INDEX: u8 = 0x0d;
const DATA_END: u8 = 0x0f;
const MAGIC: &[u8] = b"\x89MCAP0\r\n";

/// Longest chunk that a reader takes, in bytes.
const CHUNK_BYTES: usize = 16 << 20;

/// Bytes of MCAP, one field after the other.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(self, number: u16) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.raw(&number.to_le_bytes())
    }

    /// Bytes behind their length.
    fn text(self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("short");
        self.u32(len).raw(bytes)
    }

    fn record(self, opcode: u8, body: &Self) -> Self {
        self.raw(&[opcode]).u64(body.0.len() as u64).raw(&body.0)
    }

    fn end(&self) -> u64 {
        self.0.len() as u64
    }
}

fn start() -> Bytes {
    let header = Bytes::default().text(b"recorder").text(b"a bomb");
    Bytes::default().raw(MAGIC).record(HEADER, &header)
}

/// Ends a file with a summary, whose checksum is right.
fn finish(file: Bytes, summary: &Bytes) -> Bytes {
    let file = file.record(DATA_END, &Bytes::default().u32(0));
    let at = file.end();
    let footer = Bytes::default().u64(at).u64(0);
    let checked = summary.clone().raw(&[FOOTER]).u64(20).raw(&footer.0);
    let crc = crc32fast::hash(&checked.0);
    file.raw(&checked.0).u32(crc).raw(MAGIC)
}

fn channel(id: u16, topic: &[u8]) -> Bytes {
    Bytes::default()
        .u16(id)
        .u16(0)
        .text(topic)
        .text(b"protobuf")
        .text(b"")
}

fn message(channel: u16, data: &[u8]) -> Bytes {
    let body = Bytes::default()
        .u16(channel)
        .u32(1)
        .u64(1 << 60)
        .u64(1 << 60)
        .raw(data);
    Bytes::default().record(MESSAGE, &body)
}

/// A chunk that says of itself what it is told to.
fn chunk_that_says(stated: u64, crc: u32, compressed: &[u8]) -> Bytes {
    Bytes::default()
        .u64(0)
        .u64(0)
        .u64(stated)
        .u32(crc)
        .text(b"zstd")
        .u64(compressed.len() as u64)
        .raw(compressed)
}

/// A chunk that is what it says.
fn chunk(records: &[u8]) -> Bytes {
    let compressed = zstd::bulk::compress(records, 1).expect("memory");
    chunk_that_says(records.len() as u64, crc32fast::hash(records), &compressed)
}

fn write(directory: &Path, name: &str, file: Bytes) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, file.0).expect("there is room");
    path
}

/// Repeats a piece until there are so many bytes.
fn filled(piece: &[u8], bytes: usize) -> Vec<u8> {
    piece
        .iter()
        .copied()
        .cycle()
        .take(bytes / piece.len() * piece.len())
        .collect()
}

/// A Protobuf message of fields of this number, all empty.
fn empty_fields(number: u8, count: usize) -> Vec<u8> {
    filled(&[number << 3 | 2, 0], count * 2)
}

/// Bombs of chunks: they claim, or inflate to, far more than they are.
fn chunk_bombs(directory: &Path) -> Vec<PathBuf> {
    let nothing = zstd::bulk::compress(&vec![0; CHUNK_BYTES], 1).expect("memory");
    let mut claims = start();
    for stated in [1 << 20, 1 << 30, 1 << 40, u64::MAX] {
        claims = claims.record(CHUNK, &chunk_that_says(stated, 0, &nothing));
    }
    // A frame of a billion zeros in a chunk that says that it holds few.
    let frames: Vec<u8> = std::iter::repeat_n(&nothing, 64)
        .flatten()
        .copied()
        .collect();
    let inflates = start().record(CHUNK, &chunk_that_says(1000, 0, &frames));
    // Honest, and nothing but records of no kind: terabytes of them.
    let honest = chunk(&vec![0; CHUNK_BYTES]);
    let mut many = start();
    for _ in 0..5000 {
        many = many.record(CHUNK, &honest);
    }
    // Events that are right, millions of them in a small file.
    let event = message(1, b"\x0a\x02\x08\x07");
    let events = chunk(&filled(&event.0, CHUNK_BYTES));
    let mut crowd = start().record(CHANNEL, &channel(1, b"process.exit"));
    for _ in 0..300 {
        crowd = crowd.record(CHUNK, &events);
    }
    vec![
        write(directory, "claims.mcap", finish(claims, &Bytes::default())),
        write(
            directory,
            "inflates.mcap",
            finish(inflates, &Bytes::default()),
        ),
        write(directory, "many.mcap", finish(many, &Bytes::default())),
        write(directory, "crowd.mcap", finish(crowd, &Bytes::default())),
    ]
}

/// Files whose lengths lie.
fn liars(directory: &Path) -> Vec<PathBuf> {
    let mut lengths = start();
    for opcode in [CHANNEL, METADATA, ATTACHMENT, CHUNK, SCHEMA] {
        lengths = lengths.raw(&[opcode]).u64(u64::MAX / 2);
    }
    let metadata = Bytes::default().text(b"recorder.incident").u32(u32::MAX);
    let lengths = lengths.record(METADATA, &metadata);
    // Chunks that contradict themselves, each as long as all the file, between chunks that are right: each is looked at.
    let right = Bytes::default().record(CHUNK, &chunk(b"")).0;
    let wrong = Bytes::default()
        .raw(&[CHUNK])
        .u64(12 << 20)
        .raw(&[0xff; 40])
        .0;
    let mut rereads = start();
    while rereads.0.len() < 24 << 20 {
        rereads = rereads.raw(&right).raw(&wrong);
    }
    vec![
        write(directory, "lengths.mcap", lengths),
        write(directory, "rereads.mcap", rereads),
    ]
}

/// Files with far too many of what there are few.
fn crowds(directory: &Path) -> Vec<PathBuf> {
    let mut channels = start();
    let mut summary = Bytes::default();
    for id in 0..=u16::MAX {
        let long = channel(id, &[b'x'; 300]);
        channels = channels.record(CHANNEL, &long);
        summary = summary.record(CHANNEL, &channel(id, b"process.exit"));
    }
    let mut entries = Bytes::default();
    for number in 0..50_000_u32 {
        entries = entries.text(&number.to_le_bytes()).text(b"");
    }
    let body = Bytes::default().text(b"recorder.incident").text(&entries.0);
    let mut metadata = start();
    while metadata.0.len() < 60 << 20 {
        metadata = metadata.record(METADATA, &body);
    }
    // One record, found by a million entries of the index.
    let indexed = |opcode: u8, index: u8, body: &Bytes| {
        let file = start();
        let at = file.end();
        let file = file.record(opcode, body);
        let entry = Bytes::default().u64(at).u64(file.end() - at);
        let one = Bytes::default().record(index, &entry);
        finish(file, &Bytes(filled(&one.0, 15 << 20)))
    };
    let json = Bytes::default().text(b"json").text(&filled(b" ", 3 << 20));
    let long = Bytes::default().text(b"recorder.incident").text(&json.0);
    let data = vec![0; 8 << 20];
    let attachment = Bytes::default()
        .u64(0)
        .u64(0)
        .text(b"a")
        .text(b"text/plain");
    let attachment = attachment.u64(data.len() as u64).raw(&data);
    let attachment = attachment.clone().u32(crc32fast::hash(&attachment.0));
    let small = Bytes::default()
        .u64(0)
        .u64(0)
        .text(b"a")
        .text(b"text/plain")
        .u64(0);
    let small = small.clone().u32(crc32fast::hash(&small.0));
    let small = Bytes::default().record(ATTACHMENT, &small);
    let attachments = start().raw(&filled(&small.0, 16 << 20));
    let counts = Bytes::default()
        .u64(u64::MAX)
        .u16(9)
        .u32(9)
        .u32(9)
        .u32(9)
        .u32(9)
        .u64(0)
        .u64(0);
    let counts = Bytes::default().record(STATISTICS, &counts.text(&[0xff; 650_000]));
    vec![
        write(directory, "channels.mcap", finish(channels, &summary)),
        write(directory, "metadata.mcap", metadata),
        write(
            directory,
            "one-metadata.mcap",
            indexed(METADATA, METADATA_INDEX, &long),
        ),
        write(
            directory,
            "one-attachment.mcap",
            indexed(ATTACHMENT, ATTACHMENT_INDEX, &attachment),
        ),
        write(
            directory,
            "attachments.mcap",
            finish(attachments, &Bytes::default()),
        ),
        write(directory, "counts.mcap", finish(start(), &counts)),
    ]
}

/// Messages that grow when they are understood: lists of what is empty.
fn growing(directory: &Path) -> PathBuf {
    let mut records = Bytes::default();
    for (id, topic, number) in [
        (1, "signal.fatal", 12),
        (2, "process.exec", 3),
        (3, "sample.system", 8),
    ] {
        records = records.record(CHANNEL, &channel(id, topic.as_bytes()));
        for count in [100_000, 200_000, 4_000_000] {
            records = records.raw(&message(id, &empty_fields(number, count)).0);
        }
    }
    let mut file = start();
    for _ in 0..3 {
        file = file.record(CHUNK, &chunk(&records.0));
    }
    write(directory, "growing.mcap", finish(file, &Bytes::default()))
}

/// Two messages that hold each other: a schema that no reader may follow for ever. And none at all.
fn schemas(directory: &Path) -> Vec<PathBuf> {
    let message_type = |name: &[u8], field: &[u8]| {
        // DescriptorProto: name = 1; field = 2, of name = 1, number = 3, label = 4, type = 5, type_name = 6.
        let text = |tag: u8, text: &[u8]| [&[tag, text.len() as u8], text].concat();
        let of_field = [
            text(0x0a, b"next"),
            vec![0x18, 1, 0x20, 1, 0x28, 11],
            text(0x32, field),
        ]
        .concat();
        let all = [text(0x0a, name), text(0x12, &of_field)].concat();
        text(0x22, &all)
    };
    let file = [
        vec![0x0a, 1, b'c'],
        message_type(b"One", b".Other"),
        message_type(b"Other", b".One"),
    ]
    .concat();
    let set = [&[0x0a, file.len() as u8], &file[..]].concat();
    let schema = Bytes::default()
        .u16(1)
        .text(b"One")
        .text(b"protobuf")
        .text(&set);
    let of = |schema: u16| {
        Bytes::default()
            .u16(1)
            .u16(schema)
            .text(b"process.exit")
            .text(b"protobuf")
            .text(b"")
    };
    let events = chunk(&message(1, b"\x0a\x02\x08\x07").0);
    let cyclic = start()
        .record(SCHEMA, &schema)
        .record(CHANNEL, &of(1))
        .record(CHUNK, &events);
    let missing = start().record(CHANNEL, &of(77)).record(CHUNK, &events);
    vec![
        write(directory, "cyclic.mcap", finish(cyclic, &Bytes::default())),
        write(
            directory,
            "missing.mcap",
            finish(missing, &Bytes::default()),
        ),
    ]
}

/// Runs a reader on a dump with little memory and little time, its results thrown away but for their end.
fn read(command: &[&str], path: &Path) -> Output {
    let mut limited = system("prlimit");
    limited
        .args([MEMORY, TIME, "--"])
        .arg(recorder([""; 0]).get_program());
    output(limited.args(command).arg(path))
}

#[track_caller]
fn expect_end(path: &Path, codes: &[i32]) {
    let directory = TempDir::with_prefix("recorder-bombs-").expect("there is room");
    let out = directory.path().join("out").display().to_string();
    for command in [
        &["show"][..],
        &["show", "--json"],
        &["verify"],
        &["export", "--format", "jsonl", "-o", &out],
        &["report"],
        &["extract"],
    ] {
        let said = read(command, path);
        let code = said.code.unwrap_or(-1);
        // What asks for evidence alone may find all of that as it should be.
        let is_beside = command == ["extract"] && matches!(code, 0 | 3);
        assert!(
            codes.contains(&code) || is_beside,
            "{} {said}",
            path.display()
        );
        assert!(!said.stderr.contains("panicked"), "{said}");
        let lines = said.stderr.lines().count();
        assert!(lines <= 3, "{lines} sentences of {said}");
        assert!(
            code == 0 || lines > 0 || command == ["verify"],
            "not a word: {said}"
        );
        let _ = fs::remove_file(&out);
    }
}

#[test]
fn chunks_that_inflate_stop_no_reader() {
    if !ready(&[Need::Agent, Need::Command("prlimit")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-bombs-").expect("there is room");
    for path in chunk_bombs(directory.path()) {
        expect_end(&path, &[3]);
    }
}

#[test]
fn lengths_that_lie_stop_no_reader() {
    if !ready(&[Need::Agent, Need::Command("prlimit")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-bombs-").expect("there is room");
    for path in liars(directory.path()) {
        expect_end(&path, &[3]);
    }
}

#[test]
fn crowds_and_what_grows_stop_no_reader() {
    if !ready(&[Need::Agent, Need::Command("prlimit")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-bombs-").expect("there is room");
    for path in crowds(directory.path()) {
        expect_end(&path, &[0, 3]);
    }
    expect_end(&growing(directory.path()), &[3]);
    // Readers know the types of events: what a dump says of them is for strangers.
    for path in schemas(directory.path()) {
        expect_end(&path, &[0]);
    }
}

#[test]
fn the_viewer_opens_bombs_and_closes_them() {
    if !ready(&[Need::Agent, Need::Command("script")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-bombs-").expect("there is room");
    let mut paths = chunk_bombs(directory.path());
    paths.push(growing(directory.path()));
    for path in paths {
        let mut screen = Screen::recorder(&["view", &path.display().to_string()], (120, 40), &[]);
        screen.until("all of the dump", |screen| {
            screen.contains("q end") && !screen.contains("reading")
        });
        screen.press("q");
        let said = screen.ended(3);
        assert!(!said.contains("panicked"), "{said}");
    }
}
