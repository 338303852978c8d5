//! Kernel modules for a guest, each after what it depends on.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// A module, ready for `insmod`.
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// Its file's content.
    pub content: Vec<u8>,
}

/// Returns `wanted` and what they depend on, in an order in which they load. What the kernel has not, or has built in, is
/// left out.
pub fn closure(directory: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = HashMap::new();
    index(directory, &mut files)?;
    let mut order = Vec::new();
    for name in wanted {
        add(name, &files, &mut order)?;
    }
    Ok(order)
}

fn add(name: &str, files: &HashMap<String, PathBuf>, order: &mut Vec<Module>) -> Result<()> {
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let content = read(path).with_context(|| format!("read {}", path.display()))?;
    for dependency in dependencies(&content) {
        add(&dependency, files, order)?;
    }
    order.push(Module {
        name: name.to_owned(),
        content,
    });
    Ok(())
}

/// Finds every module below `directory`.
fn index(directory: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        // Not through links: one leads to the kernel's source, where there is any.
        if entry.file_type()?.is_dir() {
            index(&path, files)?;
        } else if let Some((name, rest)) = entry
            .file_name()
            .to_str()
            .and_then(|file| file.split_once('.'))
            && rest.split('.').next() == Some("ko")
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// Reads a module, which may be compressed.
fn read(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(fs::read(path)?),
    };
    let output = Command::new(program)
        .args(["--decompress", "--stdout"])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(output.stdout)
}

/// Reads what a module says of itself: strings, each ended by a zero byte.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let value = &module[at + KEY.len()..];
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    let names = value.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_depends_on() {
        assert_eq!(
            dependencies(b"ELF\0license=GPL\0depends=scsi_mod,t10-pi\0rest"),
            ["scsi_mod", "t10_pi"]
        );
        assert!(dependencies(b"\0depends=\0x").is_empty());
        assert!(dependencies(b"none").is_empty());
    }
}
