//! Swap on a file of the test's own.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A file that the kernel swaps to, for as long as this value lives.
#[derive(Debug)]
pub struct Swap {
    path: PathBuf,
    _directory: TempDir,
}

impl Swap {
    /// Adds so much swap, and fills none of it.
    ///
    /// # Errors
    ///
    /// Why this host is not to be given any: it has some of its own, or cannot swap to a file here.
    pub fn add(bytes: usize) -> Result<Self, String> {
        let swaps = fs::read_to_string("/proc/swaps").map_err(|error| error.to_string())?;
        if swaps.lines().count() > 1 {
            return Err("the host has swap of its own".to_owned());
        }
        let directory =
            TempDir::with_prefix("recorder-tests-swap-").map_err(|error| error.to_string())?;
        let path = directory.path().join("swap");
        // Written out: a file to swap to has no holes.
        fs::write(&path, vec![0; bytes]).map_err(|error| error.to_string())?;
        let owner = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, owner).map_err(|error| error.to_string())?;
        let made = Command::new("mkswap").arg(&path).output();
        if !made.is_ok_and(|made| made.status.success()) {
            return Err("mkswap does not work here".to_owned());
        }
        let swap = Self {
            path,
            _directory: directory,
        };
        // SAFETY: the path ends with a NUL and lives until the call is over.
        match unsafe { libc::swapon(swap.name().as_ptr(), 0) } {
            0 => Ok(swap),
            _ => Err(io::Error::last_os_error().to_string()),
        }
    }

    fn name(&self) -> CString {
        CString::new(self.path.as_os_str().as_bytes()).expect("paths of ours have no NUL")
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // What was never added is not there to be taken away.
        // SAFETY: the path ends with a NUL and lives until the call is over.
        unsafe { libc::swapoff(self.name().as_ptr()) };
    }
}
