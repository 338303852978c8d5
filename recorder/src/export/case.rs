//! A case file: one SQLite database with the events, what the dump says of itself, and the evidence.
//!
//! | table or view | holds |
//! |---|---|
//! | `event` | every event: its columns, and `body` as JSON for `json_extract` |
//! | `failure` | the failures, and the deaths behind which there is one |
//! | `cause` | each event that has a cause beside it |
//! | `about` | host, incident, clocks, coverage and losses, as JSON |
//! | `evidence` | what was collected, with its bytes |

use std::io::{self, Write};
use std::path::Path;

use rusqlite::{Connection, params};

use crate::harmless::json;
use crate::read::{Damage, Dump, Entry};

use super::time::Clock;
use super::{Origin, Urgency, Visitor};

const SCHEMA: &str = "
    PRAGMA application_id = 1380270675;
    PRAGMA user_version = 1;
    CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE event (
        \"order\" INTEGER PRIMARY KEY,
        timestamp TEXT NOT NULL,
        unix_ns INTEGER NOT NULL,
        boot_ns INTEGER,
        type TEXT NOT NULL,
        severity INTEGER NOT NULL,
        cause INTEGER,
        pid INTEGER, tid INTEGER, ppid INTEGER, start_boot_ns INTEGER,
        comm TEXT, exe TEXT, uid INTEGER, cgroup TEXT, unit TEXT, container_id TEXT,
        message TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE TABLE evidence (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, media_type TEXT NOT NULL,
        created_unix_ns INTEGER NOT NULL, finished_unix_ns INTEGER NOT NULL,
        intact INTEGER, data BLOB NOT NULL
    );
    CREATE VIEW failure AS SELECT * FROM event
        WHERE type IN ('signal.fatal', 'oom.kill', 'io.error', 'fs.writeback_error', 'fs.error', 'task.hung',
            'hw.memory_failure', 'hw.machine_check')
        OR cause IS NOT NULL;
    CREATE VIEW cause AS SELECT e.*, c.type AS cause_type, c.unix_ns AS cause_unix_ns, c.message AS cause_message
        FROM event e JOIN event c ON c.\"order\" = e.cause;
";

const INDEXES: &str = "
    CREATE INDEX event_type ON event (type, unix_ns);
    CREATE INDEX event_pid ON event (pid, unix_ns);
    CREATE INDEX event_unit ON event (unit) WHERE unit IS NOT NULL;
    COMMIT;
    PRAGMA optimize;
";

const INSERT: &str =
    "INSERT INTO event VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)";

/// Fills a database.
pub struct Case {
    connection: Connection,
    clock: Clock,
    text: Vec<u8>,
    has_begun: bool,
}

impl Case {
    /// Makes a database of a file that is there and empty.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn new(path: &Path) -> io::Result<Self> {
        let connection = Connection::open(path).map_err(io::Error::other)?;
        // Beside the file, which is where this process may write: sorting for the indexes takes what memory is not to.
        let directory = path.parent().and_then(Path::to_str).unwrap_or_default();
        let directory = if directory.is_empty() { "." } else { directory };
        connection
            .pragma_update(None, "temp_store_directory", directory)
            .map_err(io::Error::other)?;
        // A file that is not complete is removed: nothing has to survive a crash.
        let settings =
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA page_size = 8192;";
        let begun = connection
            .execute_batch(settings)
            .and_then(|()| connection.execute_batch(SCHEMA))
            .and_then(|()| connection.execute_batch("BEGIN"));
        begun.map_err(io::Error::other)?;
        Ok(Self {
            connection,
            clock: Clock::default(),
            text: Vec::new(),
            has_begun: false,
        })
    }

    /// Adds the evidence of the dump; returns what of it is broken.
    ///
    /// # Errors
    ///
    /// What SQLite or the file system says.
    pub fn evidence(&mut self, dump: &Dump) -> io::Result<Vec<Damage>> {
        let attachments = dump.attachments()?;
        let mut broken = attachments.broken;
        for one in &attachments.found {
            let bytes = i32::try_from(one.bytes)
                .map_err(|_| io::Error::other("evidence of more than 2 GiB"))?;
            let row = self.connection.execute(
                "INSERT INTO evidence (name, media_type, created_unix_ns, finished_unix_ns, data) VALUES (?1,?2,?3,?4,zeroblob(?5))",
                params![one.name, one.media_type, time(one.created_unix_ns), time(one.finished_unix_ns), bytes],
            );
            row.map_err(io::Error::other)?;
            let id = self.connection.last_insert_rowid();
            let blob = self
                .connection
                .blob_open("main", "evidence", "data", id, false);
            let mut blob = blob.map_err(io::Error::other)?;
            let damage = one.copy_to(dump.source(), &mut blob)?;
            blob.flush()?;
            drop(blob);
            let mark = "UPDATE evidence SET intact = ?1 WHERE id = ?2";
            let marked = self.connection.execute(mark, params![damage.is_none(), id]);
            marked.map_err(io::Error::other)?;
            broken.extend(damage);
        }
        Ok(broken)
    }

    fn begin(&mut self, origin: &Origin) -> io::Result<()> {
        let mut about = Vec::new();
        let mut put = |name: &str, value: serde_json::Value| {
            if !value.is_null() {
                about.push((name.to_owned(), value.to_string()));
            }
        };
        let value = |value: Result<_, serde_json::Error>| value.unwrap_or_default();
        put("file", origin.file.as_str().into());
        put("host", value(serde_json::to_value(&origin.host)));
        put("incident", value(serde_json::to_value(&origin.incident)));
        put("clocks", value(serde_json::to_value(origin.clocks)));
        put("coverage", value(serde_json::to_value(&origin.coverage)));
        put("loss", value(serde_json::to_value(&origin.loss)));
        for (name, value) in about {
            let insert = "INSERT INTO about VALUES (?1, ?2)";
            let inserted = self.connection.execute(insert, params![name, value]);
            inserted.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Visitor for Case {
    fn event(&mut self, origin: &Origin, entry: &Entry) -> io::Result<()> {
        if !self.has_begun {
            self.has_begun = true;
            self.begin(origin)?;
        }
        self.text.clear();
        self.clock.write(&mut self.text, entry.unix_ns);
        let stamp = self.text.len();
        json(&mut self.text, &entry.body);
        let (timestamp, body) = self.text.split_at(stamp);
        let none = Default::default();
        let process = entry.body.process().unwrap_or(&none);
        let insert = self.connection.prepare_cached(INSERT);
        let inserted = insert.and_then(|mut insert| {
            insert.execute(params![
                time(entry.order),
                std::str::from_utf8(timestamp).unwrap_or_default(),
                time(entry.unix_ns),
                origin.boot_ns(entry.unix_ns).map(time),
                entry.body.topic(),
                Urgency::of(&entry.body) as u8,
                entry.cause.map(time),
                process.pid,
                process.tid,
                process.ppid,
                process.start_boot_ns.map(time),
                process.comm,
                process.exe,
                process.uid,
                process.cgroup,
                process.unit,
                process.container_id,
                (origin.describe)(&entry.body),
                std::str::from_utf8(body).unwrap_or_default(),
            ])
        });
        inserted.map(drop).map_err(io::Error::other)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.connection.flush_prepared_statement_cache();
        self.connection
            .execute_batch(INDEXES)
            .map_err(io::Error::other)
    }
}

/// Returns a number as SQLite has them, signed: times reach the year 2262.
fn time(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
