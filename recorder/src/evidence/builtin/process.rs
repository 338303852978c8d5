//! A process while it lives.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{About, Collected, Lack, read_text, section};

/// Most threads and files that are listed.
const THREADS_MAX: usize = 512;
const FILES_MAX: usize = 4096;
/// Nanoseconds of a tick, by which /proc dates the start of a process: `USER_HZ` is 100 on every architecture.
const TICK_NS: u64 = 10_000_000;

/// Puts out what the kernel says of the process: what cannot hang first, the mappings last, since they wait for a lock that
/// the process may hold.
pub(super) fn collect(about: &About, out: &mut dyn Write) -> Collected {
    let directory = living(about)?;
    for name in [
        "status",
        "stat",
        "wchan",
        "limits",
        "cgroup",
        "io",
        "oom_score",
        "oom_score_adj",
    ] {
        section(out, directory.join(name))?;
    }
    threads(&directory, out)?;
    let sockets = files(&directory, out)?;
    for table in ["tcp", "tcp6", "udp", "udp6", "unix"] {
        sockets_of(&directory.join("net").join(table), &sockets, out)?;
    }
    section(out, directory.join("maps"))?;
    Ok(())
}

/// Returns the directory of the process, if it is there and the same.
pub(super) fn living(about: &About) -> Result<PathBuf, Lack> {
    let pid = about
        .pid
        .ok_or_else(|| Lack::Absent("the incident is about no process".into()))?;
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let Ok(stat) = read_text(directory.join("stat")) else {
        return Err(Lack::Absent(format!("process {pid} has ended")));
    };
    let is_same = about
        .start_boot_ns
        .is_none_or(|start| start_ticks(&stat) == Some(start / TICK_NS));
    match is_same {
        true => Ok(directory),
        false => Err(Lack::Absent(format!(
            "process {pid} has ended, and another one has its number"
        ))),
    }
}

/// Returns when a process started, by its stat file: in nanoseconds since boot, to the tick.
pub fn start_boot_ns(stat: &str) -> Option<u64> {
    start_ticks(stat)?.checked_mul(TICK_NS)
}

/// Returns field 22 of a stat file. The name in it may hold anything, but ends with the last parenthesis.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(22 - 3)?.parse().ok()
}

fn threads(directory: &Path, out: &mut dyn Write) -> Collected {
    let mut tasks = names(&directory.join("task"));
    let count = tasks.len();
    tasks.truncate(THREADS_MAX);
    for task in &tasks {
        let task = directory.join("task").join(task);
        let stat = read_text(task.join("stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, after)| after.chars().next());
        writeln!(
            out,
            "==> {} <==\n{} {}, waits in {}",
            task.join("stack").display(),
            read_text(task.join("comm")).unwrap_or_default().trim_end(),
            state.unwrap_or('?'),
            read_text(task.join("wchan")).unwrap_or_default(),
        )?;
        match read_text(task.join("stack")) {
            Ok(stack) => writeln!(out, "{stack}")?,
            Err(error) => writeln!(out, "({error})\n")?,
        }
    }
    if count > tasks.len() {
        writeln!(out, "... {count} threads in all\n")?;
    }
    Ok(out.flush()?)
}

/// Lists the open files; returns the inodes of the sockets among them.
fn files(directory: &Path, out: &mut dyn Write) -> Result<BTreeSet<String>, Lack> {
    let mut sockets = BTreeSet::new();
    let directory = directory.join("fd");
    let mut numbers: Vec<u32> = names(&directory)
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    numbers.sort_unstable();
    writeln!(out, "==> {} <==", directory.display())?;
    for number in numbers.iter().take(FILES_MAX) {
        // What is closed meanwhile is left out.
        if let Ok(target) = fs::read_link(directory.join(number.to_string())) {
            let target = target.to_string_lossy();
            writeln!(out, "{number} -> {}", crate::harmless::escape(&target))?;
            if let Some(inode) = target.strip_prefix("socket:[") {
                sockets.insert(inode.trim_end_matches(']').to_owned());
            }
        }
    }
    writeln!(out, "{} files in all\n", numbers.len())?;
    out.flush()?;
    Ok(sockets)
}

/// Puts out the lines of a table of sockets that are about these.
fn sockets_of(table: &Path, sockets: &BTreeSet<String>, out: &mut dyn Write) -> Collected {
    if sockets.is_empty() {
        return Ok(());
    }
    let text = read_text(table).unwrap_or_default();
    let mut lines = text.lines();
    let head = lines.next();
    let its: Vec<&str> = lines
        .filter(|line| line.split_whitespace().any(|word| sockets.contains(word)))
        .collect();
    if let (Some(head), false) = (head, its.is_empty()) {
        writeln!(
            out,
            "==> {} (its own) <==\n{head}\n{}\n",
            table.display(),
            its.join("\n")
        )?;
    }
    Ok(())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_start() {
        let stat = format!("7 (a) b (c) S {} 777 9", vec!["0"; 18].join(" "));
        assert_eq!(start_ticks(&stat), Some(777));
        assert_eq!(start_ticks(""), None);
        assert_eq!(start_ticks("7 (x"), None);
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let pid = std::process::id();
        let stat = read_text("/proc/self/stat").expect("it lives");
        let ticks = start_ticks(&stat).expect("it has started");
        let mut about = About {
            pid: Some(pid),
            start_boot_ns: Some(ticks * TICK_NS + 7),
            ..About::default()
        };
        assert!(living(&about).is_ok());
        about.start_boot_ns = Some((ticks + 1) * TICK_NS);
        let Err(Lack::Absent(why)) = living(&about) else {
            panic!("it is another one");
        };
        assert!(why.contains("another one has its number"), "{why}");
    }

    #[test]
    fn what_a_process_holds_is_put_out() {
        let about = About {
            pid: Some(std::process::id()),
            ..About::default()
        };
        let mut out = Vec::new();
        collect(&about, &mut out).expect("memory takes it");
        let text = String::from_utf8_lossy(&out);
        for section in [
            "/status <==",
            "/limits <==",
            "/fd <==",
            "/maps <==",
            "/stack <==",
        ] {
            assert!(text.contains(section), "no {section} in {text}");
        }
        assert!(!text.contains("/environ") && !text.contains("/cmdline"));
    }
}
