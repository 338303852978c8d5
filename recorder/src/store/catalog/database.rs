//! The catalog's file, and what stands in for it while it cannot be used.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::schema;
use crate::store::lock::Turn;

/// How long another process may keep the catalog for itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Memory for pages, in KiB.
const CACHE_KIB: i64 = 1024;
/// What SQLite puts beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Who asks for the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Somebody who reads: one that is lacking is not made.
    Read,
    /// Somebody who changes something.
    Write,
}

/// Why the catalog's file cannot be used.
#[derive(Debug)]
enum Trouble {
    /// There is none.
    Absent,
    /// It was made by a newer version.
    Newer(i64),
    /// It is no database, or a broken one; by its inode.
    Corrupt(u64),
    /// Another process keeps it for itself.
    Locked,
    /// It cannot be opened for writing, or the disk is full.
    Refused(String),
}

impl Trouble {
    fn of(error: &rusqlite::Error, inode: u64) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Corrupt(inode),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            // A table that is lacking: the file says that it is a catalog and is none.
            Some(ErrorCode::Unknown) => Self::Corrupt(inode),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// A connection to the catalog, or to something like it in memory.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    /// Whether what is written is kept.
    pub(super) is_durable: bool,
    path: PathBuf,
    inode: u64,
}

impl Database {
    /// Opens the catalog; what stands in the way of using the file is added to `said`, a sentence each.
    pub(super) fn open(
        path: &Path,
        access: Access,
        said: &mut Vec<String>,
    ) -> rusqlite::Result<Self> {
        match connect(path, access) {
            Ok(database) => Ok(database),
            Err(trouble) => stand_in(path, access, trouble, said),
        }
    }

    /// Opens what stands in for a catalog that failed in use.
    pub(super) fn reopen(
        self,
        access: Access,
        error: &rusqlite::Error,
        said: &mut Vec<String>,
    ) -> rusqlite::Result<Self> {
        let Self {
            connection,
            path,
            inode,
            ..
        } = self;
        drop(connection);
        stand_in(&path, access, Trouble::of(error, inode), said)
    }

    pub(super) fn in_memory(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(":memory:", flags)?;
        schema::migrate(&mut connection)?;
        Ok(Self {
            connection,
            is_durable: false,
            path: path.to_owned(),
            inode: 0,
        })
    }
}

/// Opens the file, and makes it if need be and wanted.
fn connect(path: &Path, access: Access) -> Result<Database, Trouble> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if access == Access::Read {
                return Err(Trouble::Absent);
            }
            create(path).map_err(|error| Trouble::Refused(error.to_string()))?
        }
        Err(error) => return Err(Trouble::Refused(error.to_string())),
        Ok(metadata) => metadata,
    };
    if !metadata.is_file() {
        return Err(Trouble::Refused("it is no plain file".to_owned()));
    }
    let inode = metadata.ino();
    let trouble = |error: rusqlite::Error| Trouble::of(&error, inode);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(trouble)?;
    connection.busy_timeout(PATIENCE).map_err(trouble)?;
    let version = schema::version(&connection).map_err(trouble)?;
    if version > schema::VERSION {
        return Err(Trouble::Newer(version));
    }
    if version < schema::VERSION {
        // The change to a log beside the file does not wait for others by itself.
        let _turn = Turn::take(beside(path), PATIENCE);
        connection
            .pragma_update(None, "journal_mode", "wal")
            .map_err(trouble)?;
        schema::migrate(&mut connection).map_err(trouble)?;
    }
    // It can be made again from the dumps.
    connection
        .pragma_update(None, "synchronous", "normal")
        .map_err(trouble)?;
    connection
        .pragma_update(None, "cache_size", -CACHE_KIB)
        .map_err(trouble)?;
    Ok(Database {
        connection,
        is_durable: true,
        path: path.to_owned(),
        inode,
    })
}

/// Makes an empty file for the owner alone, before SQLite makes one for everybody.
fn create(path: &Path) -> io::Result<fs::Metadata> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(_) | Err(_) => {}
    }
    fs::symlink_metadata(path)
}

fn stand_in(
    path: &Path,
    access: Access,
    trouble: Trouble,
    said: &mut Vec<String>,
) -> rusqlite::Result<Database> {
    let shown = path.display();
    match trouble {
        Trouble::Absent => {}
        Trouble::Newer(version) => said.push(format!(
            "the catalog {shown} was made by a newer recorder (version {version}, this one knows {}): it is left alone, and \
             the dumps are read instead",
            schema::VERSION
        )),
        Trouble::Locked => said.push(format!(
            "the catalog {shown} is locked by another process: the dumps are read instead"
        )),
        Trouble::Corrupt(inode) => match set_aside(path, inode) {
            Ok(aside) => {
                if let Some(aside) = aside {
                    said.push(format!(
                        "the catalog {shown} is corrupt: it is kept as {} and made again from the dumps",
                        aside.display()
                    ));
                }
                // Whoever found it so makes the new one.
                if let Ok(database) = connect(path, Access::Write) {
                    return Ok(database);
                }
            }
            Err(error) => said.push(format!(
                "the catalog {shown} is corrupt and cannot be set aside ({error}): the dumps are read instead"
            )),
        },
        Trouble::Refused(why) => {
            let mut database = Database::in_memory(path)?;
            if copy(&mut database.connection, path).is_ok() {
                if access == Access::Write {
                    said.push(format!("the catalog {shown} cannot be written ({why})"));
                }
                return Ok(database);
            }
            said.push(format!(
                "the catalog {shown} cannot be used ({why}): the dumps are read instead"
            ));
        }
    }
    Database::in_memory(path)
}

/// Gives a corrupt catalog another name; `None` if somebody else already did.
fn set_aside(path: &Path, inode: u64) -> io::Result<Option<PathBuf>> {
    let _turn = Turn::take(beside(path), PATIENCE)?;
    let is_same = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.ino() == inode);
    if !is_same {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = now.unwrap_or_default().as_secs();
    let aside = with_suffix(path, &format!(".corrupt-{seconds}"));
    fs::rename(path, &aside)?;
    for beside in BESIDE {
        let _ = fs::rename(with_suffix(path, beside), with_suffix(&aside, beside));
    }
    Ok(Some(aside))
}

/// Returns the directory on which those who make or set aside the file take turns. It is not the one of the dumps: who changes
/// these has a turn on that already.
fn beside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies what is in the file into a database in memory.
fn copy(connection: &mut Connection, path: &Path) -> rusqlite::Result<()> {
    let is_frozen = path
        .parent()
        .and_then(|parent| statvfs(parent).ok())
        .is_some_and(|stats| stats.f_flag.contains(StatVfsMountFlags::RDONLY));
    // Without the files that SQLite would put beside it, it can be read only where nobody writes.
    let ways: &[&str] = match is_frozen {
        true => &["mode=ro", "immutable=1"],
        false => &["mode=ro"],
    };
    let mut result = Err(rusqlite::Error::InvalidQuery);
    for way in ways {
        result = copy_by(connection, &uri(path, way));
        if result.is_ok() {
            break;
        }
        let _ = connection.execute_batch("DETACH disk");
    }
    result
}

fn copy_by(connection: &mut Connection, uri: &str) -> rusqlite::Result<()> {
    connection.execute("ATTACH ?1 AS disk", [uri])?;
    let version: i64 = connection.query_row("PRAGMA disk.user_version", [], |row| row.get(0))?;
    if version != schema::VERSION {
        return Err(rusqlite::Error::InvalidQuery);
    }
    let transaction = connection.transaction()?;
    for table in ["incident", "counted"] {
        let all = format!("INSERT INTO main.{table} SELECT * FROM disk.{table}");
        transaction.execute(&all, [])?;
    }
    transaction.commit()?;
    connection.execute_batch("DETACH disk")
}

/// Returns a path as SQLite's URIs have it.
fn uri(path: &Path, way: &str) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            _ => uri += &format!("%{byte:02x}"),
        }
    }
    uri + "?" + way
}
