//! Writes the archive that a kernel unpacks as its first root directory: the "newc" format of cpio.
//!
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

const MAGIC: &[u8] = b"070701";
const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;
/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive being written. What has a path has its parents, too.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    inode: u32,
}

impl Archive {
    /// Adds a directory and its parents.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        let path = path.trim_start_matches('/');
        if path.is_empty() || !self.directories.insert(path.to_owned()) {
            return Ok(());
        }
        self.parents(path)?;
        self.entry(path, DIRECTORY, &[])
    }

    /// Adds a file; `mode` is its permissions.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        self.entry(path, FILE | mode, content)
    }

    /// Adds a copy of a file of the host's, as a program.
    pub fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.file(path, 0o755, &content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        self.entry(path, LINK, to.as_bytes())
    }

    /// Ends the archive and returns its bytes.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(TRAILER, 0, &[])?;
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).with_context(|| format!("{path} is too long"))?;
        let name = u32::try_from(path.len() + 1).context("a name is too long")?;
        self.inode += 1;
        self.bytes.extend(MAGIC);
        // inode, mode, uid, gid, links, time, size, device (2), device of a node (2), length of the name, checksum.
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0] {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_brings_its_directories_once_and_everything_is_padded() {
        let mut archive = Archive::default();
        archive.file("/a/b/c", 0o755, b"12345").expect("short");
        archive.file("/a/b/d", 0o644, b"").expect("short");
        archive.link("/a/e", "b/c").expect("short");
        let bytes = archive.finish().expect("short");
        let text = String::from_utf8_lossy(&bytes);
        for name in [
            "a\0",
            "a/b\0",
            "a/b/c\0",
            "a/b/d\0",
            "a/e\0",
            "TRAILER!!!\0",
        ] {
            let found = text
                .match_indices(name)
                .filter(|(at, _)| text[..*at].ends_with('0'));
            assert_eq!(found.count(), 1, "{name:?}");
        }
        assert!(bytes.len().is_multiple_of(4));
        assert!(text.contains("000081ed"), "a program's mode");
        assert!(text.contains("0000a1ff"), "a link's mode");
    }
}
