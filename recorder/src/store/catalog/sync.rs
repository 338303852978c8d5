//! Keeps the catalog's rows in step with the dumps that are there.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::details::{Details, rank};
use super::record::{Counted, State};
use crate::store::directory::Entry;

/// Most incidents without a dump that are kept; of those forgotten first, the count stays.
const WITHOUT_DUMP_MAX: i64 = 20_000;
/// Most counts that are kept; the oldest go first.
const COUNTED_MAX: i64 = 50_000;

const NS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Brings the rows in step with what is in the directory: writes only if something is different.
pub(super) fn sync(
    connection: &mut Connection,
    directory: &Path,
    entries: &[Entry],
) -> rusqlite::Result<()> {
    let Differences { changed, gone } = Differences::find(connection, entries)?;
    if changed.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let now_ns = now_ns();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for entry in changed {
        if entry.path.exists() {
            keep(&transaction, entry)?;
        }
    }
    for (key, file) in gone {
        // It may have come after the directory was read.
        if !directory.join(file).exists() {
            // A copy, or the same under another name, stands for it.
            let twin = "SELECT 1 FROM incident one JOIN incident other USING (id) WHERE one.key = ?1 AND other.key != ?1";
            let is_double = transaction.prepare_cached(twin)?.exists([key])?;
            match is_double {
                true => forget(&transaction, key)?,
                false => lose(&transaction, key, State::Deleted, None, now_ns)?,
            }
        }
    }
    trim(&transaction)?;
    transaction.commit()
}

/// What is different between the rows and the directory.
struct Differences<'a> {
    changed: Vec<&'a Entry>,
    gone: Vec<(i64, String)>,
}

impl<'a> Differences<'a> {
    fn find(connection: &Connection, entries: &'a [Entry]) -> rusqlite::Result<Self> {
        let mut known: HashMap<String, (i64, String)> = HashMap::new();
        let mut rows = connection
            .prepare_cached("SELECT file, key, stamp FROM incident WHERE file IS NOT NULL")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            known.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
        }
        let mut changed = Vec::new();
        for entry in entries {
            match known.remove(&entry.file()) {
                Some((_, stamp)) if stamp == entry.stamp => {}
                Some(_) | None => changed.push(entry),
            }
        }
        let gone = known
            .into_iter()
            .map(|(file, (key, _))| (key, file))
            .collect();
        Ok(Self { changed, gone })
    }
}

/// Takes in a dump that is new, or that is not as it was.
fn keep(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let details = Details::of_dump(entry);
    let file = entry.file();
    let by_file = transaction
        .prepare_cached("SELECT key FROM incident WHERE file = ?1")?
        .query_row([&file], |row| row.get(0))
        .optional()?;
    let key = match (by_file, details.id()) {
        (Some(key), _) => Some(key),
        // One that came back.
        (None, Some(id)) => transaction
            .prepare_cached("SELECT key FROM incident WHERE id = ?1 AND file IS NULL")?
            .query_row([id], |row| row.get(0))
            .optional()?,
        (None, None) => None,
    };
    let place = Place {
        key,
        file: Some(&file),
        stamp: &entry.stamp,
        state: State::Kept,
        why: None,
        bytes: entry.total_bytes(),
    };
    put(transaction, &place, &details)
}

/// What a row says beside the details.
pub(super) struct Place<'a> {
    pub(super) key: Option<i64>,
    pub(super) file: Option<&'a str>,
    pub(super) stamp: &'a str,
    pub(super) state: State,
    pub(super) why: Option<&'a str>,
    pub(super) bytes: u64,
}

/// Writes a row in place of the one with this key, if there is one.
pub(super) fn put(
    connection: &Connection,
    place: &Place<'_>,
    details: &Details,
) -> rusqlite::Result<()> {
    let said = &details.annotations;
    let json = |value: serde_json::Result<String>| value.unwrap_or_else(|_| "[]".to_owned());
    let number = |pointer| saturating(details.number(pointer).unwrap_or(0));
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO incident (key, id, file, stamp, state, why, gone_ns, time_ns, rule, severity, rank, \
             fingerprint, summary, subject, comm, unit, device, host, environment, events, verdict, bytes, followers, \
             suppressed, pinned, tags, notes, incident) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
             ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)",
        )?
        .execute(params![
            place.key,
            details.id(),
            place.file,
            place.stamp,
            place.state.name(),
            place.why,
            (place.state != State::Kept).then(now_ns),
            details.time_ns,
            details.text("/rule"),
            details.severity(),
            rank(details.severity()),
            details.text("/fingerprint"),
            details.text("/summary"),
            details.subject(),
            details.text("/subject/comm"),
            details.unit,
            details.text("/subject/device"),
            details.host,
            details.environment,
            details.events.map(saturating),
            details.verdict,
            saturating(place.bytes),
            number("/followers"),
            number("/suppressed_before"),
            said.pinned,
            json(serde_json::to_string(&said.effective_tags(&details.tags()))),
            json(serde_json::to_string(&said.notes)),
            details.incident.as_ref().map(ToString::to_string),
        ])?;
    Ok(())
}

/// Notes that a dump is gone.
pub(super) fn lose(
    connection: &Connection,
    key: i64,
    state: State,
    why: Option<&str>,
    now_ns: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE incident SET file = NULL, stamp = '', state = ?2, why = ?3, gone_ns = ?4, pinned = 0 WHERE key = ?1",
        )?
        .execute(params![key, state.name(), why, now_ns])?;
    Ok(())
}

/// Removes a row.
pub(super) fn forget(connection: &Connection, key: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM incident WHERE key = ?1")?
        .execute([key])?;
    Ok(())
}

/// Adds to a count.
pub(super) fn count(connection: &Connection, count: &Counted<'_>) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO counted (kind, rule, fingerprint, incident, day, subject, summary, first_ns, last_ns, count) \
             VALUES ('storm', ?1, ?2, ?3, ?4, ifnull((SELECT subject FROM incident WHERE id = ?3), ''), ?5, ?6, ?7, ?8) \
             ON CONFLICT DO UPDATE SET \
             first_ns = min(first_ns, excluded.first_ns), last_ns = max(last_ns, excluded.last_ns), \
             summary = excluded.summary, count = count + excluded.count",
        )?
        .execute(params![
            count.rule,
            count.fingerprint,
            count.incident,
            count.first_unix_ns.div_euclid(NS_PER_DAY),
            count.summary,
            count.first_unix_ns,
            count.last_unix_ns,
            saturating(count.count),
        ])?;
    Ok(())
}

/// Forgets what there is no more room for, the oldest first. Of incidents the count stays.
pub(super) fn trim(connection: &Connection) -> rusqlite::Result<()> {
    let without: i64 = connection
        .prepare_cached("SELECT count(*) FROM incident WHERE state != 'kept'")?
        .query_row([], |row| row.get(0))?;
    // In steps, so that not every new one costs a look for the oldest.
    if without > WITHOUT_DUMP_MAX + WITHOUT_DUMP_MAX / 100 {
        let over = without - WITHOUT_DUMP_MAX;
        connection.execute(
            "INSERT INTO counted (kind, rule, fingerprint, incident, day, subject, summary, first_ns, last_ns, count) \
             SELECT 'forgotten', ifnull(rule, ''), ifnull(fingerprint, ''), '', time_ns / ?2, ifnull(subject, ''), \
             ifnull(summary, ''), time_ns, time_ns, 1 + followers FROM incident WHERE key IN (SELECT key FROM incident \
             WHERE state != 'kept' ORDER BY gone_ns LIMIT ?1) ON CONFLICT DO UPDATE SET \
             first_ns = min(first_ns, excluded.first_ns), last_ns = max(last_ns, excluded.last_ns), \
             count = count + excluded.count",
            [over, NS_PER_DAY],
        )?;
        connection.execute(
            "DELETE FROM incident WHERE key IN (SELECT key FROM incident WHERE state != 'kept' ORDER BY gone_ns LIMIT ?1)",
            [over],
        )?;
    }
    let counted: i64 = connection
        .prepare_cached("SELECT count(*) FROM counted")?
        .query_row([], |row| row.get(0))?;
    if counted > COUNTED_MAX + COUNTED_MAX / 100 {
        connection.execute(
            "DELETE FROM counted WHERE (kind, rule, fingerprint, incident, day) IN \
             (SELECT kind, rule, fingerprint, incident, day FROM counted ORDER BY last_ns LIMIT ?1)",
            [counted - COUNTED_MAX],
        )?;
    }
    Ok(())
}

pub(super) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
