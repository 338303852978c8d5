//! The catalog's tables, and how they came to be.

use rusqlite::{Connection, TransactionBehavior};

/// One script for each version; what has been released is never changed, only followed.
const MIGRATIONS: [&str; 1] = [r"
-- An incident: with its dump, or with what is known of it without one.
CREATE TABLE incident (
    key INTEGER PRIMARY KEY,
    -- UUID with hyphens; NULL if the dump does not say.
    id TEXT,
    -- Name of the dump's file; NULL if it has none (any more).
    file TEXT UNIQUE,
    -- As which the file and those beside it were read.
    stamp TEXT NOT NULL DEFAULT '',
    -- 'kept', 'evicted', 'deleted', 'unwritten'.
    state TEXT NOT NULL,
    -- Why it has no dump, and since when.
    why TEXT,
    gone_ns INTEGER,
    time_ns INTEGER NOT NULL,
    rule TEXT,
    severity TEXT,
    rank INTEGER NOT NULL,
    fingerprint TEXT,
    summary TEXT,
    subject TEXT,
    comm TEXT,
    unit TEXT,
    device TEXT,
    host TEXT,
    environment TEXT,
    events INTEGER,
    verdict TEXT,
    bytes INTEGER NOT NULL DEFAULT 0,
    -- Triggers that joined it, and those before it that its cooldown suppressed.
    followers INTEGER NOT NULL DEFAULT 0,
    suppressed INTEGER NOT NULL DEFAULT 0,
    pinned INTEGER NOT NULL DEFAULT 0,
    -- JSON: ['disk'], [{time, uid, text}], the incident's object.
    tags TEXT NOT NULL DEFAULT '[]',
    notes TEXT NOT NULL DEFAULT '[]',
    incident TEXT
);
CREATE INDEX incident_id ON incident (id);
CREATE INDEX incident_time ON incident (time_ns);
CREATE INDEX incident_state ON incident (state, gone_ns);

-- Triggers that made no incident, counted.
CREATE TABLE counted (
    -- 'storm'; 'forgotten' for incidents that the catalog has no more room for.
    kind TEXT NOT NULL,
    rule TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    -- Id of the incident that stands for them; empty if none does.
    incident TEXT NOT NULL,
    -- Days since 1970, UTC.
    day INTEGER NOT NULL,
    subject TEXT NOT NULL,
    summary TEXT NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (kind, rule, fingerprint, incident, day)
) WITHOUT ROWID;
"];

/// The version that this program makes and reads.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Returns the version of a database; 0 for an empty one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA main.user_version", [], |row| row.get(0))
}

/// Brings a database to this program's version.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    let from = usize::try_from(version(&transaction)?).unwrap_or(0);
    for script in MIGRATIONS.iter().skip(from) {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
