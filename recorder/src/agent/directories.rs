//! Whether the agent's directories are its own: who may write there could put a link where the agent writes, or take its
//! place.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Write permission of others.
const OTHERS_WRITE: u32 = 0o002;
/// Others may add something, and change nothing that is somebody else's.
const STICKY: u32 = 0o1000;

/// Makes the run directory if it is not there.
///
/// # Errors
///
/// If it cannot be made, belongs to somebody else, or everybody may write there.
pub(super) fn run(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let found = metadata(path)?;
    if !is_ours(&found) {
        let (owner, own) = (found.uid(), rustix::process::geteuid().as_raw());
        bail!(
            "{} belongs to user {owner}, who could take the recorder's place: give another --run-dir, or chown it to user {own}",
            path.display()
        );
    }
    match found.mode() & OTHERS_WRITE {
        0 => Ok(()),
        _ => refused(path),
    }
}

/// Refuses a state directory in which everybody may change anything, or in which somebody else has put the directory of dumps.
///
/// # Errors
///
/// If it is one.
pub(super) fn state(path: &Path) -> Result<()> {
    match metadata(path)?.mode() & (OTHERS_WRITE | STICKY) {
        OTHERS_WRITE => refused(path),
        // As file systems in memory are, unless one asks for another mode.
        mode if mode & OTHERS_WRITE != 0 => match fs::symlink_metadata(path.join("dumps")) {
            Ok(dumps) if !is_ours(&dumps) => refused(path),
            Ok(_) | Err(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

fn is_ours(found: &fs::Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    found.uid() == own || found.uid() == 0
}

fn refused(path: &Path) -> Result<()> {
    let path = path.display();
    bail!("everybody can write to {path}: give another directory, or chmod o-w {path}");
}

fn metadata(path: &Path) -> Result<fs::Metadata> {
    fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_could_use_is_refused() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let path = directory.path().join("a/run");
        run(&path).expect("it is made");
        for (mode, is_refused) in [
            (0o700, false),
            (0o775, false),
            (0o777, true),
            (0o1777, true),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(run(&path).is_err(), is_refused, "{mode:o}");
        }
        fs::create_dir(path.join("dumps")).expect("ours");
        for (mode, is_refused) in [(0o700, false), (0o777, true), (0o1777, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(state(&path).is_err(), is_refused, "{mode:o}");
        }
    }
}
