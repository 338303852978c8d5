//! What the agent's budgets need of the catalog.

use std::collections::HashMap;

use rusqlite::params;

use super::record::State;
use super::{Catalog, CatalogError, sync};
use crate::store::directory::entry_at;
use crate::store::eviction::Candidate;

impl Catalog {
    /// Returns the dumps that are there, as the budgets see them.
    pub(in crate::store) fn candidates(&mut self) -> Result<Vec<Candidate>, CatalogError> {
        let entries: HashMap<String, (u64, u64)> = self
            .entries
            .iter()
            .map(|entry| (entry.file(), (entry.total_bytes(), entry.freed_bytes)))
            .collect();
        self.read(|connection, _| {
            let mut statement = connection.prepare_cached(
                "SELECT key, file, pinned, rank, time_ns FROM incident WHERE file IS NOT NULL",
            )?;
            let mut rows = statement.query([])?;
            let mut candidates = Vec::new();
            while let Some(row) = rows.next()? {
                let file: String = row.get(1)?;
                // One that another process has just made known is not in this look at the directory.
                if let Some((bytes, freed_bytes)) = entries.get(&file) {
                    candidates.push(Candidate {
                        key: row.get(0)?,
                        pinned: row.get(2)?,
                        rank: row.get(3)?,
                        time_ns: row.get(4)?,
                        bytes: *bytes,
                        freed_bytes: *freed_bytes,
                    });
                }
            }
            Ok(candidates)
        })
    }

    /// Removes a dump to make room, and keeps what is known of its incident. Returns the incident's id.
    pub(in crate::store) fn evict(
        &mut self,
        key: i64,
        why: &str,
    ) -> Result<Option<String>, CatalogError> {
        let (id, file) = self.read(|connection, _| {
            let (id, file) = connection
                .prepare_cached("SELECT id, file FROM incident WHERE key = ?1")?
                .query_row([key], |row| {
                    Ok((
                        row.get::<_, Option<String>>(0)?,
                        row.get::<_, Option<String>>(1)?,
                    ))
                })?;
            Ok((id, file))
        })?;
        let path = file.map(|file| self.directory.join(file));
        if let Some(entry) = path.as_deref().and_then(entry_at) {
            entry.remove().map_err(|source| CatalogError::Directory {
                directory: self.directory.clone(),
                source,
            })?;
        }
        self.entries
            .retain(|entry| Some(&entry.path) != path.as_ref());
        self.write(|transaction| {
            sync::lose(transaction, key, State::Evicted, Some(why), sync::now_ns())?;
            sync::trim(transaction)
        })?;
        Ok(id)
    }

    /// Notes that a dump was evicted while the catalog could not be written.
    pub(in crate::store) fn was_evicted(
        &mut self,
        id: &str,
        why: &str,
    ) -> Result<(), CatalogError> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE incident SET state = ?2, why = ?3 WHERE id = ?1 AND file IS NULL",
                )?
                .execute(params![id, State::Evicted.name(), why])?;
            Ok(())
        })
    }
}
