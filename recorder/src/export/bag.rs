//! BagIt (RFC 8493): a directory whose files are listed with their hashes, so that who receives it can tell that nothing is
//! missing or changed.
//!
//! The payload is in `data/`; [`seal`] writes the rest.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Bytes read at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Files of the payload.
    pub files: u64,
    /// Their length together.
    pub bytes: u64,
}

/// Hashes every file in `data/` and writes the declaration, the manifests and `bag-info.txt` with these fields.
///
/// # Errors
///
/// What the file system says.
pub fn seal(bag: &Path, info: &[(&str, String)]) -> io::Result<Sealed> {
    let mut files = Vec::new();
    list(&bag.join("data"), "data", &mut files)?;
    files.sort();
    let mut sealed = Sealed { files: 0, bytes: 0 };
    let mut manifest = String::new();
    for name in &files {
        let (hash, bytes) = hash(&bag.join(name))?;
        sealed.files += 1;
        sealed.bytes += bytes;
        manifest.push_str(&format!("{hash}  {}\n", encoded(name)));
    }
    let declaration = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";
    let mut about = String::new();
    for (name, value) in info {
        // A value is one line.
        let value: String = value
            .chars()
            .map(|one| if one.is_control() { ' ' } else { one })
            .collect();
        about.push_str(&format!("{name}: {value}\n"));
    }
    about.push_str(&format!(
        "Payload-Oxum: {}.{}\n",
        sealed.bytes, sealed.files
    ));
    let tags = [
        ("bagit.txt", declaration),
        ("bag-info.txt", about.as_str()),
        ("manifest-sha256.txt", manifest.as_str()),
    ];
    let mut of_tags = String::new();
    for (name, text) in tags {
        write(&bag.join(name), text.as_bytes())?;
        of_tags.push_str(&format!("{:x}  {name}\n", Sha256::digest(text)));
    }
    write(&bag.join("tagmanifest-sha256.txt"), of_tags.as_bytes())?;
    Ok(sealed)
}

fn list(directory: &Path, prefix: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| io::Error::other("a name that is not UTF-8"))?;
        let path = format!("{prefix}/{name}");
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), &path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// Returns the SHA-256 of a file, in hex, and its length in bytes.
///
/// # Errors
///
/// What the file system reports.
pub fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut block)? {
            0 => return Ok((format!("{:x}", digest.finalize()), bytes)),
            read => {
                digest.update(&block[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// Encodes what would end a line of a manifest.
fn encoded(path: &str) -> String {
    path.replace('%', "%25")
        .replace('\n', "%0A")
        .replace('\r', "%0D")
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)
}
