//! Parquet: one wide table, in one file or parted by host and day for many dumps of many hosts.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use crate::event::{Body, proto};
use crate::harmless::json;
use crate::read::Entry;

use super::time::Clock;
use super::{Origin, Urgency, Visitor};

/// Rows at which a row group is written.
const GROUP_ROWS: usize = 32 << 10;
/// Bytes of texts at which a row group is written.
const GROUP_BYTES: usize = 16 << 20;

/// What a column is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Time,
    Number,
    Text,
    Json,
}

/// The columns; a process' come as they are in its message.
const COLUMNS: [(&str, Kind); 28] = [
    ("timestamp", Kind::Time),
    ("boot_ns", Kind::Number),
    ("order", Kind::Number),
    ("environment", Kind::Text),
    ("host", Kind::Text),
    ("boot_id", Kind::Text),
    ("incident", Kind::Text),
    ("rule", Kind::Text),
    ("type", Kind::Text),
    ("severity", Kind::Number),
    ("cause", Kind::Number),
    ("pid", Kind::Number),
    ("tid", Kind::Number),
    ("ppid", Kind::Number),
    ("start_boot_ns", Kind::Number),
    ("comm", Kind::Text),
    ("exe", Kind::Text),
    ("uid", Kind::Number),
    ("cgroup", Kind::Text),
    ("unit", Kind::Text),
    ("container_id", Kind::Text),
    ("pod_uid", Kind::Text),
    ("signal", Kind::Text),
    ("exit_code", Kind::Number),
    ("device", Kind::Text),
    ("errno", Kind::Text),
    ("message", Kind::Text),
    ("body", Kind::Json),
];

/// The values of a column in the row group that is being filled.
enum Values {
    Numbers(Vec<i64>),
    Texts(Vec<ByteArray>),
}

struct Column {
    values: Values,
    /// For each row 1 if it has a value, else 0.
    levels: Vec<i16>,
}

/// Where files go.
#[derive(Clone, Debug)]
pub enum Place {
    /// One file.
    File(PathBuf),
    /// `host=<host>/day=<day>/<name>.parquet` below a directory.
    Parted {
        /// The directory.
        root: PathBuf,
        /// The name.
        name: String,
    },
}

type Create = Box<dyn FnMut(&Path) -> io::Result<File>>;

/// Writes the table.
pub struct Columns {
    place: Place,
    create: Create,
    schema: TypePtr,
    columns: Vec<Column>,
    rows: usize,
    text_bytes: usize,
    clock: Clock,
    /// The file that is open, and its part.
    file: Option<(PathBuf, SerializedFileWriter<File>)>,
    written: HashSet<PathBuf>,
    body: Vec<u8>,
}

impl Columns {
    /// Writes to a place; `create` opens a new file.
    pub fn new(place: Place, create: impl FnMut(&Path) -> io::Result<File> + 'static) -> Self {
        let columns = COLUMNS.map(|(_, kind)| Column {
            values: match kind {
                Kind::Time | Kind::Number => Values::Numbers(Vec::new()),
                Kind::Text | Kind::Json => Values::Texts(Vec::new()),
            },
            levels: Vec::new(),
        });
        Self {
            place,
            create: Box::new(create),
            schema: Arc::new(schema()),
            columns: columns.into(),
            rows: 0,
            text_bytes: 0,
            clock: Clock::default(),
            file: None,
            written: HashSet::new(),
            body: Vec::new(),
        }
    }

    /// Goes to the file that an event belongs to.
    fn turn_to(&mut self, origin: &Origin, entry: &Entry) -> io::Result<()> {
        let path = match &self.place {
            Place::File(path) => path.clone(),
            Place::Parted { root, name } => {
                let host = segment(origin.hostname().unwrap_or("unknown"));
                let day = self.clock.day(entry.unix_ns);
                root.join(format!("host={host}"))
                    .join(format!("day={day}"))
                    .join(format!("{name}.parquet"))
            }
        };
        if self.file.as_ref().is_some_and(|(open, _)| *open == path) {
            return Ok(());
        }
        self.close()?;
        let parent = path
            .parent()
            .filter(|_| matches!(self.place, Place::Parted { .. }));
        if let Some(parent) = parent {
            std::fs::create_dir_all(parent)?;
        }
        // Events are in the order of time: a day that was left comes back only if its clock was set.
        let mut unique = path.clone();
        let mut number = 2_u32;
        while self.written.contains(&unique) {
            unique = path.with_extension(format!("{number}.parquet"));
            number += 1;
        }
        let file = (self.create)(&unique)?;
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("recorder ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = SerializedFileWriter::new(file, self.schema.clone(), Arc::new(properties));
        self.written.insert(unique);
        self.file = Some((path, writer.map_err(io::Error::other)?));
        Ok(())
    }

    fn number(&mut self, column: usize, number: Option<u64>) {
        let column = &mut self.columns[column];
        column.levels.push(i16::from(number.is_some()));
        if let (Values::Numbers(numbers), Some(number)) = (&mut column.values, number) {
            numbers.push(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    fn text(&mut self, column: usize, text: Option<&[u8]>) {
        let column = &mut self.columns[column];
        column.levels.push(i16::from(text.is_some()));
        if let (Values::Texts(texts), Some(text)) = (&mut column.values, text) {
            self.text_bytes += text.len();
            texts.push(ByteArray::from(text.to_vec()));
        }
    }

    fn row(&mut self, origin: &Origin, entry: &Entry) {
        let none = proto::Process::default();
        let process = entry.body.process().unwrap_or(&none);
        let own = Own::of(&entry.body);
        let message = (origin.describe)(&entry.body);
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        json(&mut body, &entry.body);
        let boot_id = origin.host.as_ref().map(|host| host.boot_id.as_str());
        let rule = origin.incident.as_ref().map(|one| one.rule.as_str());
        for (column, (name, _)) in COLUMNS.iter().enumerate() {
            let number = |number: Option<u32>| number.map(u64::from);
            match *name {
                "timestamp" => self.number(column, Some(entry.unix_ns)),
                "boot_ns" => self.number(column, origin.boot_ns(entry.unix_ns)),
                "order" => self.number(column, Some(entry.order)),
                "severity" => self.number(column, Some(Urgency::of(&entry.body) as u64)),
                "cause" => self.number(column, entry.cause),
                "pid" => self.number(column, number(process.pid)),
                "tid" => self.number(column, number(process.tid)),
                "ppid" => self.number(column, number(process.ppid)),
                "start_boot_ns" => self.number(column, process.start_boot_ns),
                "uid" => self.number(column, number(process.uid)),
                "exit_code" => self.number(column, number(own.exit_code)),
                "body" => self.text(column, Some(&body)),
                name => {
                    let text = match name {
                        "environment" => origin.environment(),
                        "host" => origin.hostname(),
                        "boot_id" => boot_id,
                        "incident" => origin.incident_id.as_deref(),
                        "rule" => rule,
                        "type" => Some(entry.body.topic()),
                        "comm" => process.comm.as_deref(),
                        "exe" => process.exe.as_deref(),
                        "cgroup" => process.cgroup.as_deref(),
                        "unit" => process.unit.as_deref(),
                        "container_id" => process.container_id.as_deref(),
                        "pod_uid" => process.pod_uid.as_deref(),
                        "signal" => own.signal,
                        "device" => own.device,
                        "errno" => own.errno,
                        "message" => Some(message.as_str()),
                        _ => None,
                    };
                    self.text(column, text.map(str::as_bytes));
                }
            }
        }
        self.body = body;
        self.rows += 1;
    }

    fn group(&mut self) -> io::Result<()> {
        let Some((_, file)) = self.file.as_mut().filter(|_| self.rows > 0) else {
            return Ok(());
        };
        let mut group = file.next_row_group().map_err(io::Error::other)?;
        for column in &mut self.columns {
            let next = group.next_column().map_err(io::Error::other)?;
            let mut writer = next.ok_or_else(|| io::Error::other("too few columns"))?;
            let levels = Some(&column.levels[..]);
            let written = match &mut column.values {
                Values::Numbers(numbers) => writer
                    .typed::<Int64Type>()
                    .write_batch(numbers, levels, None),
                Values::Texts(texts) => writer
                    .typed::<ByteArrayType>()
                    .write_batch(texts, levels, None),
            };
            written.map_err(io::Error::other)?;
            writer.close().map_err(io::Error::other)?;
            column.levels.clear();
            match &mut column.values {
                Values::Numbers(numbers) => numbers.clear(),
                Values::Texts(texts) => texts.clear(),
            }
        }
        group.close().map_err(io::Error::other)?;
        self.rows = 0;
        self.text_bytes = 0;
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.group()?;
        match self.file.take() {
            Some((_, file)) => file.close().map(drop).map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

impl Visitor for Columns {
    fn event(&mut self, origin: &Origin, entry: &Entry) -> io::Result<()> {
        self.turn_to(origin, entry)?;
        self.row(origin, entry);
        if self.rows >= GROUP_ROWS || self.text_bytes >= GROUP_BYTES {
            self.group()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.close()
    }
}

/// The fields of a body that have columns of their own.
#[derive(Default)]
struct Own<'a> {
    signal: Option<&'a str>,
    exit_code: Option<u32>,
    device: Option<&'a str>,
    errno: Option<&'a str>,
}

impl<'a> Own<'a> {
    fn of(body: &'a Body) -> Self {
        let name = |signal: &'a Option<proto::Signal>| signal.as_ref()?.name.as_deref();
        match body {
            Body::ProcessExit(exit) => Self {
                signal: name(&exit.signal),
                exit_code: exit.exit_code,
                ..Self::default()
            },
            Body::SignalFatal(fatal) => Self {
                signal: name(&fatal.signal),
                ..Self::default()
            },
            Body::SignalSent(sent) => Self {
                signal: name(&sent.signal),
                ..Self::default()
            },
            Body::IoError(error) => Self {
                device: error.device.as_deref(),
                errno: error.errno.as_deref(),
                ..Self::default()
            },
            Body::WritebackError(error) => Self {
                device: error.device.as_deref(),
                errno: error.errno.as_deref(),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }
}

fn schema() -> Type {
    let fields = COLUMNS.map(|(name, kind)| {
        let (physical, logical) = match kind {
            Kind::Time => (
                Physical::INT64,
                Some(LogicalType::timestamp(true, TimeUnit::NANOS)),
            ),
            Kind::Number => (Physical::INT64, None),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build();
        Arc::new(field.expect("types that go together"))
    });
    Type::group_type_builder("event")
        .with_fields(fields.into())
        .build()
        .expect("a group of fields")
}

/// Makes a name one directory's.
fn segment(name: &str) -> String {
    let harmless = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    let name: String = name.chars().take(128).map(harmless).collect();
    match name.trim_start_matches('.') {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}
