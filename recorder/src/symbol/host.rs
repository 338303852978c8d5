//! Where on this host a file is that the kernel named by its device and its path from the root of the filesystem.
//!
//! A process in a container had a root of its own; by the time its dump is written, it is gone. The device and the path
//! inside it are true in every mount namespace: this one's mounts are tried first, then those of processes that live in
//! others. Whatever is found must show its build ID: a path that leads elsewhere by now leads to nothing.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};

use crate::event::proto;

/// Mount namespaces that are searched.
const NAMESPACES_MAX: usize = 256;
/// Processes whose namespace is looked at.
const PROCESSES_MAX: usize = 1 << 16;

/// The mounts of a namespace, and the way into it.
struct Namespace {
    root: PathBuf,
    mounts: Vec<Mount>,
    /// What `root` leads through, if it does not go by a process.
    _held: Option<OwnedFd>,
}

/// The namespaces that were opened ahead.
static OPENED: OnceLock<Vec<Namespace>> = OnceLock::new();

/// Opens the ways into the other mount namespaces of this host, as far as this user may: a process that is confined is let
/// into none any more.
pub fn open_namespaces() {
    OPENED.get_or_init(|| {
        let mut namespaces = other_namespaces();
        for namespace in &mut namespaces {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            if let Ok(root) = rustix::fs::open(&namespace.root, flags, Mode::empty()) {
                namespace.root = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
                namespace._held = Some(root);
            }
        }
        namespaces
    });
}

/// A line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    /// What of the filesystem is mounted.
    root: PathBuf,
    point: PathBuf,
}

/// The mounts of this host, read once.
#[derive(Default)]
pub struct Mounts {
    own: Option<Namespace>,
    others: Option<Vec<Namespace>>,
}

impl Mounts {
    /// Returns the first path of a mapped file that `is_right` accepts.
    pub fn find<T>(
        &mut self,
        mapping: &proto::Mapping,
        mut is_right: impl FnMut(&Path) -> Option<T>,
    ) -> Option<T> {
        let (device, path) = (mapping.device.as_deref()?, mapping.path.as_deref()?);
        if mapping.path_truncated() {
            return None;
        }
        let own = self.own.get_or_insert_with(|| Namespace {
            root: PathBuf::new(),
            mounts: mounts(Path::new("/proc/self/mountinfo")),
            _held: None,
        });
        let mut try_all = |namespace: &Namespace| {
            let mut paths = namespace.paths(device, Path::new(path));
            paths.find_map(|path| is_right(&path))
        };
        if let Some(found) = try_all(own) {
            return Some(found);
        }
        let others = match OPENED.get() {
            Some(opened) => opened,
            None => self.others.get_or_insert_with(other_namespaces),
        };
        others.iter().find_map(try_all)
    }
}

impl Namespace {
    /// Returns every path by which a file of a device can be reached.
    fn paths<'a>(&'a self, device: &'a str, path: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        // The newest mount first: it may hide an older one.
        let mounts = self.mounts.iter().rev();
        mounts
            .filter(move |mount| mount.device == device)
            .filter_map(move |mount| {
                let inside = path.strip_prefix(&mount.root).ok()?;
                let from_root = mount.point.join(inside);
                if self.root.as_os_str().is_empty() {
                    return Some(from_root);
                }
                Some(self.root.join(from_root.strip_prefix("/").ok()?))
            })
    }
}

/// Returns one entry for each mount namespace but this one, by any process that lives there.
fn other_namespaces() -> Vec<Namespace> {
    let mut seen: HashSet<PathBuf> = fs::read_link("/proc/self/ns/mnt").into_iter().collect();
    let mut namespaces = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return namespaces;
    };
    for process in processes.flatten().take(PROCESSES_MAX) {
        let process = process.path();
        let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else {
            continue;
        };
        if seen.insert(namespace) {
            namespaces.push(Namespace {
                root: process.join("root"),
                mounts: mounts(&process.join("mountinfo")),
                _held: None,
            });
        }
        if namespaces.len() == NAMESPACES_MAX {
            break;
        }
    }
    namespaces
}

fn mounts(path: &Path) -> Vec<Mount> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(mount).collect()
}

/// Parses "36 35 98:0 /root /point options…".
fn mount(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ').skip(2);
    Some(Mount {
        device: fields.next()?.to_owned(),
        root: unescaped(fields.next()?),
        point: unescaped(fields.next()?),
    })
}

/// Returns a path whose blanks, tabs, line ends and backslashes the kernel wrote as `\040` and so on.
fn unescaped(field: &str) -> PathBuf {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        text.push_str(before);
        let digits = escape.get(1..4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(byte.into());
                rest = &escape[4..];
            }
            None => {
                text.push('\\');
                rest = &escape[1..];
            }
        }
    }
    text.push_str(rest);
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str =
        "36 35 98:0 /root/of\\040it /mnt\\134x rw,noatime master:1 - ext3 /dev/root rw\n";

    #[test]
    fn a_line_of_mountinfo() {
        let mount = mount(INFO).expect("it is one");
        assert_eq!(mount.device, "98:0");
        assert_eq!(mount.root, Path::new("/root/of it"));
        assert_eq!(mount.point, Path::new("/mnt\\x"));
        assert_eq!(unescaped("/a\\"), Path::new("/a\\"));
        assert_eq!(unescaped("/a\\é"), Path::new("/a\\é"));
    }

    #[test]
    fn a_path_below_what_is_mounted_and_no_other() {
        let namespace = Namespace {
            root: "/proc/7/root".into(),
            mounts: INFO.lines().filter_map(mount).collect(),
            _held: None,
        };
        let paths =
            |device, path| -> Vec<PathBuf> { namespace.paths(device, Path::new(path)).collect() };
        assert_eq!(
            paths("98:0", "/root/of it/bin/x"),
            [PathBuf::from("/proc/7/root/mnt\\x/bin/x")]
        );
        assert!(paths("98:0", "/root/of italy").is_empty());
        assert!(paths("98:1", "/root/of it/bin/x").is_empty());
    }
}
