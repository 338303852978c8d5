//! Names of users, from the host's own list. Nothing but that file is asked: no directory service, no network.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Most of the list that is read, in bytes.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// The host's users.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    /// Inode, time of change and length of the list that was read.
    version: (u64, i64, i64, u64),
    names: HashMap<u32, String>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            path: "/etc/passwd".into(),
            version: (0, 0, 0, 0),
            names: HashMap::new(),
        }
    }
}

impl Users {
    /// Reads the list again if it has changed; without a list there are no names.
    pub(super) fn refresh(&mut self) {
        if self.try_refresh().is_err() {
            self.names.clear();
            self.version = (0, 0, 0, 0);
        }
    }

    fn try_refresh(&mut self) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let about = file.metadata()?;
        let version = (about.ino(), about.mtime(), about.mtime_nsec(), about.len());
        if version != self.version {
            let mut list = Vec::new();
            io::Read::by_ref(&mut file)
                .take(LIST_BYTES_MAX)
                .read_to_end(&mut list)?;
            self.names = parse(&String::from_utf8_lossy(&list));
            self.version = version;
        }
        Ok(())
    }

    /// Returns the name of a user.
    pub(super) fn name(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(String::as_str)
    }
}

/// Lines are "name:password:uid:..."; of several names for one uid the first counts, as for the system.
fn parse(list: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in list.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next())
            && let Ok(uid) = uid.parse()
            && !name.is_empty()
        {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_uid_counts_and_odd_lines_do_not() {
        let names =
            parse("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n#x\n:x:5:\nbad:x:y:\nw:x:33");
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&33).map(String::as_str), Some("w"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn a_list_that_goes_away_takes_its_names_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passwd");
        let mut users = Users {
            path: path.clone(),
            ..Users::default()
        };
        users.refresh();
        assert_eq!(users.name(7), None);
        std::fs::write(&path, "seven:x:7:7::/:\n").expect("writes");
        users.refresh();
        assert_eq!(users.name(7), Some("seven"));
        std::fs::remove_file(&path).expect("is there");
        users.refresh();
        assert_eq!(users.name(7), None);
    }
}
