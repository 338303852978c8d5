//! The catalog: every incident that is known, whether or not its dump is still there.
//!
//! A SQLite database beside the directory of dumps. It is a cache: what it says of a dump comes from the dump, what is beside
//! it, and the [annotations](super::annotations) of people, and whoever opens the catalog first brings it in step with the
//! directory. So it can be lost, and dumps can be copied, restored and removed without it. It alone knows what has no dump: what was
//! evicted, what was never written, and what was only counted.
//!
//! A catalog that cannot be used never stands in the way: then the same tables are made in memory from the dumps, and
//! [`Catalog::said`] says why.
//!
//! | the file is | then |
//! |---|---|
//! | lacking | whoever changes something makes it |
//! | corrupt | it is kept under another name, and made again |
//! | of a newer version | it is left alone; the dumps are read |
//! | locked for longer than two seconds | the dumps are read |
//! | not to be written | it is read, and what is different in the directory is added in memory |

mod change;
mod database;
mod details;
mod evict;
mod memory;
mod query;
mod record;
mod schema;
mod sync;
#[cfg(test)]
mod tests;
mod trends;

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use thiserror::Error;

use super::directory::{Entry, dumps};
use database::Database;
use details::Details;
pub use memory::share_allocator;
use sync::Place;

pub use change::{Change, ChangeError};
pub use database::Access;
pub use details::SEVERITIES;
pub use query::{Filter, FindError};
pub use record::{Counted, Record, State, Unwritten};
pub use trends::{By, Trend};

/// Name of the catalog's file.
const FILE: &str = "catalog.db";
/// Name of the directory of dumps.
const DUMPS: &str = "dumps";

/// Why the catalog cannot be read.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The directory of dumps cannot be read.
    #[error("cannot read {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database failed, and what stands in for it, too.
    #[error("the catalog failed")]
    Database(#[from] rusqlite::Error),
}

/// The catalog of one state directory.
#[derive(Debug)]
pub struct Catalog {
    database: Database,
    directory: PathBuf,
    access: Access,
    entries: Vec<Entry>,
    said: Vec<String>,
}

impl Catalog {
    /// Opens the catalog of a state directory, in step with the dumps in it.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Directory`]: the directory of dumps is there and cannot be read.
    pub fn open(state_dir: &Path, access: Access) -> Result<Self, CatalogError> {
        let directory = state_dir.join(DUMPS);
        let entries = dumps(&directory).map_err(|source| CatalogError::Directory {
            directory: directory.clone(),
            source,
        })?;
        let mut said = Vec::new();
        let database = Database::open(&state_dir.join(FILE), access, &mut said)?;
        let mut catalog = Self {
            database,
            directory,
            access,
            entries,
            said,
        };
        catalog.sync()?;
        Ok(catalog)
    }

    /// Returns the directory of dumps.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns what stands in the way of using the catalog's file, a sentence each.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Returns whether what is written into it is kept.
    pub fn is_durable(&self) -> bool {
        self.database.is_durable
    }

    /// Returns the incidents that are wanted, oldest first.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Database`].
    pub fn list(&mut self, filter: &Filter) -> Result<Vec<Record>, CatalogError> {
        self.read(|connection, directory| query::list(connection, directory, filter))
    }

    /// Finds an incident: "latest" for that of the newest dump, or the beginning of its id, long or as short as lists show it.
    ///
    /// # Errors
    ///
    /// [`FindError`].
    pub fn find(&mut self, name: &str) -> Result<Record, FindError> {
        self.read(|connection, directory| query::find(connection, directory, name))?
    }

    /// Finds a dump, by the id of its incident as [`find`](Self::find) does.
    ///
    /// # Errors
    ///
    /// [`FindError`].
    pub fn find_dump(&mut self, name: &str) -> Result<PathBuf, FindError> {
        let record = self.find(name)?;
        let id = record.short_id().unwrap_or_default().to_owned();
        record.path.ok_or_else(|| FindError::NoDump {
            id,
            why: match record.why {
                Some(why) => why,
                None => record.state.name().to_owned(),
            },
        })
    }

    /// Returns what the incidents that are wanted have in common. The filter's times say what is counted, not what is known.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Database`].
    pub fn trends(&mut self, filter: &Filter, by: By) -> Result<Vec<Trend>, CatalogError> {
        self.read(|connection, _| trends::trends(connection, filter, by))
    }

    /// Adds an incident that has no dump and never had one.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Database`].
    pub fn add_unwritten(&mut self, unwritten: &Unwritten<'_>) -> Result<(), CatalogError> {
        let details = Details {
            time_ns: unwritten.unix_ns,
            host: Some(unwritten.host.to_owned()),
            environment: unwritten.environment.map(str::to_owned),
            incident: Some(unwritten.incident.clone()),
            ..Details::default()
        };
        self.write(|transaction| {
            let key = transaction
                .prepare_cached("SELECT key FROM incident WHERE id = ?1")?
                .query_row([details.id()], |row| row.get(0))
                .optional()?;
            let place = Place {
                key,
                file: None,
                stamp: "",
                state: State::Unwritten,
                why: Some(unwritten.why),
                bytes: 0,
            };
            sync::put(transaction, &place, &details)?;
            sync::trim(transaction)
        })
    }

    /// Counts triggers that made no incident of their own.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Database`].
    pub fn add_counted(&mut self, counted: &Counted<'_>) -> Result<(), CatalogError> {
        self.write(|transaction| {
            sync::count(transaction, counted)?;
            sync::trim(transaction)
        })
    }

    /// Changes something, if need be in what stands in for the file.
    fn write(
        &mut self,
        write: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), CatalogError> {
        let change = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            write(&transaction)?;
            transaction.commit()
        };
        match change(&mut self.database.connection) {
            Err(error) if self.database.is_durable => {
                self.degrade(&error)?;
                Ok(change(&mut self.database.connection)?)
            }
            other => Ok(other?),
        }
    }

    /// Brings it in step with the directory again.
    fn refresh(&mut self) -> Result<(), CatalogError> {
        self.entries = dumps(&self.directory).map_err(|source| CatalogError::Directory {
            directory: self.directory.clone(),
            source,
        })?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), CatalogError> {
        let Self {
            database,
            directory,
            entries,
            ..
        } = self;
        let Err(error) = sync::sync(&mut database.connection, directory, entries) else {
            return Ok(());
        };
        self.degrade(&error)
    }

    /// Reads, if need be from what stands in for the file.
    fn read<T>(
        &mut self,
        read: impl Fn(&Connection, &Path) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        match read(&self.database.connection, &self.directory) {
            Err(error) if self.database.is_durable => {
                self.degrade(&error)?;
                Ok(read(&self.database.connection, &self.directory)?)
            }
            other => Ok(other?),
        }
    }

    /// Goes on with what stands in for the file, which failed.
    fn degrade(&mut self, error: &rusqlite::Error) -> Result<(), CatalogError> {
        if !self.database.is_durable {
            return Ok(());
        }
        let nothing = Database::in_memory(Path::new(""))?;
        let failed = std::mem::replace(&mut self.database, nothing);
        self.database = failed.reopen(self.access, error, &mut self.said)?;
        if sync::sync(
            &mut self.database.connection,
            &self.directory,
            &self.entries,
        )
        .is_err()
        {
            self.database = Database::in_memory(Path::new(""))?;
            sync::sync(
                &mut self.database.connection,
                &self.directory,
                &self.entries,
            )?;
        }
        Ok(())
    }
}
