//! Finding incidents.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use thiserror::Error;

use super::CatalogError;
use super::record::{COLUMNS, Record, State};
use crate::dump::DUMP_EXTENSION;

/// Which incidents are wanted. Alternatives of one kind are in one list, those of different kinds all hold; what is empty
/// does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not before, in nanoseconds since 1970.
    pub since_unix_ns: Option<i64>,
    /// Not after, in nanoseconds since 1970.
    pub until_unix_ns: Option<i64>,
    /// States.
    pub states: Vec<State>,
    /// Names of rules.
    pub rules: Vec<String>,
    /// Severities.
    pub severities: Vec<String>,
    /// Subjects: a unit, a command or a device.
    pub subjects: Vec<String>,
    /// Units.
    pub units: Vec<String>,
    /// Commands.
    pub comms: Vec<String>,
    /// How fingerprints begin.
    pub fingerprints: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Only those that are pinned.
    pub pinned: bool,
    /// Only so many, the newest.
    pub limit: Option<u64>,
}

impl Filter {
    /// Tells whether nothing but the time matters.
    pub(super) fn is_about_time_alone(&self) -> bool {
        let Self {
            since_unix_ns: _,
            until_unix_ns: _,
            limit: _,
            states,
            rules,
            severities,
            subjects,
            units,
            comms,
            fingerprints,
            tags,
            pinned,
        } = self;
        let lists = [
            rules,
            severities,
            subjects,
            units,
            comms,
            fingerprints,
            tags,
        ];
        !pinned && states.is_empty() && lists.iter().all(|list| list.is_empty())
    }

    /// Returns the condition and what it asks for.
    fn condition(&self) -> (String, Vec<Value>) {
        let mut conditions: Vec<String> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let bounds = [
            ("time_ns >= ?", self.since_unix_ns),
            ("time_ns <= ?", self.until_unix_ns),
        ];
        for (condition, bound) in bounds {
            if let Some(bound) = bound {
                conditions.push(condition.to_owned());
                values.push(bound.into());
            }
        }
        let states: Vec<String> = self
            .states
            .iter()
            .map(|state| state.name().to_owned())
            .collect();
        // Each condition asks for the same value as often as it has a "?".
        let choices = [
            ("state = ?", &states),
            ("rule = ?", &self.rules),
            ("severity = ?", &self.severities),
            ("? IN (subject, unit, comm, device)", &self.subjects),
            ("unit = ?", &self.units),
            ("comm = ?", &self.comms),
            ("substr(fingerprint, 1, length(?)) = ?", &self.fingerprints),
            (
                "EXISTS (SELECT 1 FROM json_each(tags) WHERE json_each.value = ?)",
                &self.tags,
            ),
        ];
        for (condition, wanted) in choices {
            if wanted.is_empty() {
                continue;
            }
            let times = condition.matches('?').count();
            for one in wanted {
                values.extend(std::iter::repeat_n(Value::from(one.clone()), times));
            }
            let any = vec![condition; wanted.len()].join(" OR ");
            conditions.push(format!("({any})"));
        }
        if self.pinned {
            conditions.push("pinned".to_owned());
        }
        if conditions.is_empty() {
            conditions.push("true".to_owned());
        }
        (conditions.join(" AND "), values)
    }
}

/// Returns the rows of the incidents that are wanted, whatever their time.
pub(super) fn keys(connection: &Connection, filter: &Filter) -> rusqlite::Result<HashSet<i64>> {
    let timeless = Filter {
        since_unix_ns: None,
        until_unix_ns: None,
        ..filter.clone()
    };
    let (condition, values) = timeless.condition();
    let mut statement =
        connection.prepare(&format!("SELECT key FROM incident WHERE {condition}"))?;
    let keys = statement.query_map(params_from_iter(values), |row| row.get(0))?;
    keys.collect()
}

/// Returns the incidents that are wanted, oldest first.
pub(super) fn list(
    connection: &Connection,
    directory: &Path,
    filter: &Filter,
) -> rusqlite::Result<Vec<Record>> {
    let (condition, mut values) = filter.condition();
    let limit = filter.limit.map_or(-1, super::sync::saturating);
    values.push(limit.into());
    let sql = format!(
        "SELECT {COLUMNS} FROM incident WHERE {condition} ORDER BY time_ns DESC, key DESC LIMIT ?"
    );
    let mut statement = connection.prepare(&sql)?;
    let records =
        statement.query_map(params_from_iter(values), |row| Record::of(row, directory))?;
    let mut records: Vec<Record> = records.collect::<rusqlite::Result<_>>()?;
    records.reverse();
    Ok(records)
}

/// Why an incident was not found.
#[derive(Debug, Error)]
pub enum FindError {
    /// No incident has this id.
    #[error("no incident {name:?} in {}: `recorder list --all` says which there are", directory.display())]
    None {
        /// What was asked for.
        name: String,
        /// Where.
        directory: PathBuf,
    },
    /// There are no dumps.
    #[error("no dump in {} yet", .0.display())]
    Empty(PathBuf),
    /// Several ids begin so.
    #[error("{name:?} may be any of {}: give more of the id", among.join(", "))]
    Several {
        /// What was asked for.
        name: String,
        /// What it may be: the incidents' ids, or the names of dumps that are copies of one.
        among: Vec<String>,
    },
    /// The incident has no dump.
    #[error("the incident {id} has no dump: {why} (`recorder info {id}` says what is known of it)")]
    NoDump {
        /// Short id of the incident.
        id: String,
        /// Why.
        why: String,
    },
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Most candidates that an ambiguous name is answered with.
const AMONG_MAX: usize = 10;

/// Finds an incident: "latest" for that of the newest dump, the beginning of its id, long or as short as lists show it, or the
/// name of its dump's file.
pub(super) fn find(
    connection: &Connection,
    directory: &Path,
    name: &str,
) -> rusqlite::Result<Result<Record, FindError>> {
    if name == "latest" {
        let filter = Filter {
            states: vec![State::Kept],
            limit: Some(1),
            ..Filter::default()
        };
        let latest = list(connection, directory, &filter)?.pop();
        return Ok(latest.ok_or_else(|| FindError::Empty(directory.to_owned())));
    }
    let wanted: String = name
        .chars()
        .filter(|character| *character != '-')
        .map(|character| character.to_ascii_lowercase())
        .collect();
    let is_id = !wanted.is_empty() && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found = Vec::new();
    let path = Path::new(name);
    if path.extension().is_some_and(|is| is == DUMP_EXTENSION) {
        let file = path.file_name().map(|file| file.to_string_lossy());
        let sql = format!("SELECT {COLUMNS} FROM incident WHERE file = ?1");
        let mut statement = connection.prepare(&sql)?;
        let records = statement.query_map([file], |row| Record::of(row, directory))?;
        found = records.collect::<rusqlite::Result<Vec<Record>>>()?;
    } else if is_id {
        let sql = format!(
            "SELECT {COLUMNS} FROM incident WHERE substr(replace(id, '-', ''), 1, length(?1)) = ?1 \
             OR substr(substr(id, -8), 1, length(?1)) = ?1 ORDER BY time_ns, key LIMIT ?2"
        );
        let mut statement = connection.prepare(&sql)?;
        let most = AMONG_MAX as i64 + 1;
        let records = statement.query_map((&wanted, most), |row| Record::of(row, directory))?;
        found = records.collect::<rusqlite::Result<Vec<Record>>>()?;
    }
    Ok(match found.len() {
        0 => Err(FindError::None {
            name: name.to_owned(),
            directory: directory.to_owned(),
        }),
        1 => Ok(found.remove(0)),
        _ => Err(FindError::Several {
            name: name.to_owned(),
            among: candidates(&found),
        }),
    })
}

/// Tells candidates apart: by the short id, by the whole one where that is not enough, by the file for copies of one dump.
fn candidates(found: &[Record]) -> Vec<String> {
    let is_only = |of: &dyn Fn(&Record) -> Option<String>, record: &Record| {
        let mine = of(record);
        let same = found.iter().filter(|other| of(other) == mine).count();
        if same == 1 { mine } else { None }
    };
    let mut names: Vec<String> = found
        .iter()
        .take(AMONG_MAX)
        .filter_map(|record| {
            is_only(&|one| one.short_id().map(str::to_owned), record)
                .or_else(|| is_only(&|one| one.id.clone(), record))
                .or_else(|| record.path.as_ref().map(|path| path.display().to_string()))
                .or_else(|| record.id.clone())
        })
        .collect();
    if found.len() > AMONG_MAX {
        names.push("others".to_owned());
    }
    names
}
