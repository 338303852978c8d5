//! The chain of a directory's dumps: each sidecar names the one before it by number and SHA-256, so that one that was changed,
//! removed or put in its place stands out.
//!
//! `chain.json` in the directory says where the chain ends, and which dumps budgets and people have removed. It is a memory
//! aid: lost, it is made again from the sidecars, which say the same up to the newest of them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::directory::{Entry, dumps, read_plain};
use super::lock::Turn;
use crate::dump::{Chain, Link, remove_file, write_file};
use crate::sign::SigningKey;

/// Name of the file that says where the chain ends.
const FILE: &str = "chain.json";
/// Longest such file that is read, in bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Longest sidecar that is read, in bytes.
const SIDECAR_BYTES_MAX: u64 = 16 << 20;
/// Most runs of removed numbers that are told apart; of more the oldest ones are taken for one.
const RUNS_MAX: usize = 1024;
/// How often a directory is looked at in which an agent writes and removes dumps meanwhile.
const LOOKS_MAX: u32 = 20;

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    id: Uuid,
    /// Number of the newest dump; 0 if there was none yet.
    number: u64,
    /// SHA-256 of its sidecar, in hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sha256: Option<String>,
    /// Numbers of removed dumps, first and last of each run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    removed: Vec<(u64, u64)>,
}

/// What the chain needs of a sidecar.
#[derive(Deserialize)]
struct Sidecar {
    chain: Option<Chain>,
}

/// A dump of a chain.
struct Linked {
    file: String,
    chain: Chain,
    sha256: String,
}

impl Ledger {
    fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            number: 0,
            sha256: None,
            removed: Vec::new(),
        }
    }

    fn read(directory: &Path) -> Option<Self> {
        let bytes = read_plain(&directory.join(FILE), BYTES_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Reads where the chain of a directory ends, and goes on to what its sidecars know beyond that.
    fn of(directory: &Path) -> Self {
        match Self::read(directory) {
            Some(ledger) => ledger,
            None => Self::again(&chains_in(directory), None),
        }
    }

    /// Takes in the dumps that an agent linked and did not come to note.
    pub(super) fn catch_up(directory: &Path) -> io::Result<()> {
        let known = Self::read(directory);
        let ledger = Self::again(&chains_in(directory), known.clone());
        match known.as_ref() == Some(&ledger) || (known.is_none() && ledger.number == 0) {
            true => Ok(()),
            false => ledger.write(directory),
        }
    }

    /// Goes on from what is known to what sidecars say.
    fn again(chains: &BTreeMap<Uuid, Vec<Linked>>, known: Option<Self>) -> Self {
        let longest = || {
            let longest = chains.iter().max_by_key(|(_, dumps)| dumps.len())?;
            Some(Self {
                id: *longest.0,
                ..Self::new()
            })
        };
        let mut ledger = known.or_else(longest).unwrap_or_else(Self::new);
        for linked in chains.get(&ledger.id).into_iter().flatten() {
            if linked.chain.number > ledger.number {
                ledger.number = linked.chain.number;
                ledger.sha256 = Some(linked.sha256.clone());
            }
            for run in &linked.chain.removed {
                ledger.remove(*run);
            }
        }
        ledger
    }

    fn write(&self, directory: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        write_file(&directory.join(FILE), &text)
    }

    /// Notes that a run of numbers is gone by right.
    fn remove(&mut self, (first, last): (u64, u64)) {
        if first > last {
            return;
        }
        self.removed.push((first, last));
        self.removed.sort_unstable();
        let mut runs: Vec<(u64, u64)> = Vec::with_capacity(self.removed.len());
        for (first, last) in self.removed.drain(..) {
            match runs.last_mut() {
                Some(run) if first <= run.1.saturating_add(1) => run.1 = run.1.max(last),
                _ => runs.push((first, last)),
            }
        }
        if runs.len() > RUNS_MAX {
            let second = runs.remove(1);
            runs[0].1 = second.1;
        }
        self.removed = runs;
    }

    fn is_removed(&self, number: u64) -> bool {
        let mut runs = self.removed.iter();
        runs.any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Returns what is to be noted when a dump goes by right, which it has not yet.
    pub(super) fn removal(entry: &Entry) -> Removal<'_> {
        Removal {
            directory: entry.path.parent(),
            chain: linked(entry).map(|linked| linked.chain),
        }
    }
}

/// A dump that goes by right.
pub(super) struct Removal<'a> {
    directory: Option<&'a Path>,
    chain: Option<Chain>,
}

impl Removal<'_> {
    /// Notes it; whoever calls this has the turn of the directory.
    pub(super) fn note(&self) -> io::Result<()> {
        let (Some(directory), Some(chain)) = (self.directory, &self.chain) else {
            return Ok(());
        };
        let mut ledger = Ledger::of(directory);
        if ledger.id != chain.id || ledger.is_removed(chain.number) {
            return Ok(());
        }
        ledger.remove((chain.number, chain.number));
        ledger.write(directory)
    }
}

/// Reads the place of a dump; `None` if its sidecar names none.
fn linked(entry: &Entry) -> Option<Linked> {
    let bytes = read_plain(&entry.sidecar_path(), SIDECAR_BYTES_MAX).ok()?;
    let sidecar: Sidecar = serde_json::from_slice(&bytes).ok()?;
    Some(Linked {
        file: entry.file(),
        chain: sidecar.chain?,
        sha256: hex(&bytes),
    })
}

/// Returns the dumps of each chain, by their numbers.
fn chains(entries: &[Entry]) -> BTreeMap<Uuid, Vec<Linked>> {
    let mut chains: BTreeMap<Uuid, Vec<Linked>> = BTreeMap::new();
    for linked in entries.iter().filter_map(linked) {
        chains.entry(linked.chain.id).or_default().push(linked);
    }
    for dumps in chains.values_mut() {
        dumps.sort_by(|one, other| {
            (one.chain.number, &one.file).cmp(&(other.chain.number, &other.file))
        });
    }
    chains
}

/// Returns the dumps of each chain in a directory; none of one that cannot be read.
fn chains_in(directory: &Path) -> BTreeMap<Uuid, Vec<Linked>> {
    chains(&dumps(directory).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Links the next dump of a directory. From the moment that its place is asked for nobody else changes the directory.
pub(super) struct Linking<'a> {
    directory: &'a Path,
    key: Option<&'a SigningKey>,
    turn: Option<Turn>,
    ledger: Option<Ledger>,
    patience: std::time::Duration,
}

impl<'a> Linking<'a> {
    pub(super) fn new(
        directory: &'a Path,
        key: Option<&'a SigningKey>,
        patience: std::time::Duration,
    ) -> Self {
        Self {
            directory,
            key,
            turn: None,
            ledger: None,
            patience,
        }
    }
}

impl Link for Linking<'_> {
    fn next(&mut self) -> Chain {
        // Without its turn, too: a person who does not let go must not cost a dump.
        self.turn = Turn::take(self.directory, self.patience).ok();
        let ledger = Ledger::of(self.directory);
        let chain = Chain {
            id: ledger.id,
            number: ledger.number + 1,
            previous: ledger.sha256.clone(),
            removed: ledger.removed.clone(),
        };
        self.ledger = Some(ledger);
        chain
    }

    fn sign(&self, sidecar: &[u8]) -> Option<Vec<u8>> {
        Some(self.key?.sign(sidecar).to_vec())
    }

    fn linked(&mut self, sidecar: &[u8]) {
        if let Some(mut ledger) = self.ledger.take() {
            ledger.number += 1;
            ledger.sha256 = Some(hex(sidecar));
            // What cannot be noted now is found in the sidecar when the directory is opened again, and by the next link.
            if ledger.write(self.directory).is_err() {
                let _ = remove_file(&self.directory.join(FILE));
            }
        }
        self.turn = None;
    }
}

/// What the chain of a directory is like.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChainReport {
    /// Dumps of the directory's chain that are there.
    pub dumps: u64,
    /// Number of the newest one that was written; 0 if there is no chain.
    pub number: u64,
    /// SHA-256 of the sidecar of that, in hex: whoever keeps it elsewhere can tell if the end of the chain is taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Numbers of dumps that budgets or people have removed, first and last of each run.
    pub removed: Vec<(u64, u64)>,
    /// Dumps of other chains: they were copied in.
    pub foreign: u64,
    /// Dumps that no chain links: of older versions, copies, or put there.
    pub unlinked: u64,
    /// What is wrong with it, a sentence each.
    pub problems: Vec<String>,
}

/// Checks the chain of a directory of dumps.
///
/// # Errors
///
/// A directory that cannot be read.
pub fn check_chain(directory: &Path) -> io::Result<ChainReport> {
    let mut known = Ledger::read(directory);
    for _ in 1..LOOKS_MAX {
        // After the ledger: what it knows of was there then, and what it does not know yet is a dump more.
        let report = report(&dumps(directory)?, known.clone());
        let now = Ledger::read(directory);
        if report.problems.is_empty() || now == known {
            return Ok(report);
        }
        // An agent removed some meanwhile, by right.
        known = now;
    }
    Ok(report(&dumps(directory)?, known))
}

/// Checks the dumps of a directory, and what its ledger said before they were there.
fn report(entries: &[Entry], known: Option<Ledger>) -> ChainReport {
    let mut chains = chains(entries);
    let linked: usize = chains.values().map(Vec::len).sum();
    let mut report = ChainReport {
        unlinked: (entries.len() - linked) as u64,
        ..ChainReport::default()
    };
    if known.is_none() && linked == 0 {
        return report;
    }
    let ledger = Ledger::again(&chains, known.clone());
    let own = chains.remove(&ledger.id).unwrap_or_default();
    report.foreign = (linked - own.len()) as u64;
    report.dumps = own.len() as u64;
    report.number = ledger.number;
    report.sha256.clone_from(&ledger.sha256);
    report.removed.clone_from(&ledger.removed);
    let mut problems = Vec::new();
    if known.is_none() {
        problems.push(format!(
            "{FILE} is gone: dumps behind number {} would not be missed",
            ledger.number
        ));
    }
    check_links(&own, &ledger, &mut problems);
    // Those that an agent linked and did not come to note are beyond what is noted, and linked.
    let newest = own
        .last()
        .map(|linked| (linked.chain.number, &linked.sha256));
    if let Some(known) = known {
        let is_other = own.iter().any(|linked| {
            linked.chain.number == known.number && Some(&linked.sha256) != known.sha256.as_ref()
        });
        if is_other {
            problems.push(format!(
                "the sidecar of number {} is another than {FILE} says",
                known.number
            ));
        }
        if known.number > newest.map_or(0, |(number, _)| number) {
            let from = newest.map_or(1, |(number, _)| number + 1);
            missing(from, known.number, &ledger, &mut problems);
        }
    }
    report.problems = problems;
    report
}

/// Checks that each dump names the one before it, and that those between them are gone by right.
fn check_links(own: &[Linked], ledger: &Ledger, problems: &mut Vec<String>) {
    if let Some(first) = own.first().filter(|first| first.chain.number > 1) {
        missing(1, first.chain.number - 1, ledger, problems);
    }
    for pair in own.windows(2) {
        let [before, after] = pair else { continue };
        let (one, other) = (before.chain.number, after.chain.number);
        if one == other {
            problems.push(format!(
                "{} and {} are both number {one}",
                before.file, after.file
            ));
        } else if one + 1 < other {
            missing(one + 1, other - 1, ledger, problems);
        } else if after.chain.previous.as_ref() != Some(&before.sha256) {
            problems.push(format!(
                "the sidecar of {} is not the one that {} was linked to",
                before.file, after.file
            ));
        }
    }
}

/// Says which of these numbers are missing.
fn missing(first: u64, last: u64, ledger: &Ledger, problems: &mut Vec<String>) {
    let mut at = first;
    let mut runs = ledger
        .removed
        .iter()
        .filter(|run| run.1 >= first && run.0 <= last);
    let mut say = |from: u64, to: u64| {
        if from < to {
            problems.push(format!(
                "numbers {from} to {to} are missing: neither a budget nor a person removed them"
            ));
        } else if from == to {
            problems.push(format!(
                "number {from} is missing: neither a budget nor a person removed it"
            ));
        }
    };
    while at <= last {
        match runs.next() {
            Some((from, to)) => {
                if *from > at {
                    say(at, from - 1);
                }
                at = at.max(to.saturating_add(1));
            }
            None => {
                say(at, last);
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    /// Writes a dump of a few bytes, linked.
    fn dump(directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(format!("{name}.mcap"));
        fs::write(&path, name).expect("the directory is ours");
        let mut linking = Linking::new(directory, None, Duration::from_secs(1));
        let chain = linking.next();
        let text = serde_json::json!({ "file": name, "chain": chain }).to_string();
        fs::write(path.with_extension("json"), &text).expect("the directory is ours");
        linking.linked(text.as_bytes());
        path
    }

    fn problems(directory: &Path) -> Vec<String> {
        check_chain(directory).expect("it is readable").problems
    }

    fn chain(names: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let paths = names
            .iter()
            .map(|name| dump(directory.path(), name))
            .collect();
        (directory, paths)
    }

    fn entry(path: &Path) -> Entry {
        super::super::directory::entry_at(path).expect("it is there")
    }

    const NO_PROBLEMS: [&str; 0] = [];

    #[test]
    fn a_chain_goes_on_where_it_ended_whatever_was_removed_by_right() {
        let (directory, paths) = chain(&["a", "b", "c"]);
        assert_eq!(problems(directory.path()), NO_PROBLEMS);
        for path in &paths[..2] {
            entry(path).remove().expect("ours");
        }
        dump(directory.path(), "d");
        let report = check_chain(directory.path()).expect("it is readable");
        assert_eq!(report.problems, NO_PROBLEMS);
        assert_eq!(
            (report.dumps, report.number, report.removed),
            (2, 4, vec![(1, 2)])
        );
        // All of them, and another start.
        for name in ["c", "d"] {
            let path = directory.path().join(format!("{name}.mcap"));
            entry(&path).remove().expect("ours");
        }
        Ledger::catch_up(directory.path()).expect("ours");
        dump(directory.path(), "e");
        let report = check_chain(directory.path()).expect("it is readable");
        assert_eq!(
            (report.dumps, report.number, report.removed),
            (1, 5, vec![(1, 4)])
        );
    }

    #[test]
    fn what_was_removed_by_hand_is_missed_wherever_it_was() {
        for (gone, says) in [
            ("a", "number 1 is"),
            ("b", "number 2 is"),
            ("d", "number 4 is"),
        ] {
            let (directory, _) = chain(&["a", "b", "c", "d"]);
            for extension in ["mcap", "json"] {
                fs::remove_file(directory.path().join(format!("{gone}.{extension}")))
                    .expect("ours");
            }
            let said = problems(directory.path());
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with(says), "{said:?}");
        }
    }

    #[test]
    fn what_was_changed_or_put_in_another_s_place_stands_out() {
        let (directory, paths) = chain(&["a", "b", "c"]);
        let sidecar = |number: usize| paths[number].with_extension("json");
        let text = |number: usize| fs::read_to_string(sidecar(number)).expect("ours");
        let (first, second, third) = (text(0), text(1), text(2));
        for number in 0..3 {
            let changed = text(number).replace("\"file\":\"", "\"file\":\"x");
            let before = text(number);
            fs::write(sidecar(number), changed).expect("ours");
            assert_eq!(problems(directory.path()).len(), 1, "number {number}");
            fs::write(sidecar(number), before).expect("ours");
        }
        assert_eq!(problems(directory.path()), NO_PROBLEMS);
        // Swapped: each is still where its number says.
        fs::write(sidecar(0), &second).expect("ours");
        fs::write(sidecar(1), &first).expect("ours");
        assert_eq!(
            problems(directory.path()),
            NO_PROBLEMS,
            "names do not matter"
        );
        // Twice the same.
        fs::write(sidecar(1), &third).expect("ours");
        assert!(!problems(directory.path()).is_empty());
    }

    #[test]
    fn without_its_file_a_chain_is_found_again() {
        let (directory, paths) = chain(&["a", "b", "c"]);
        entry(&paths[0]).remove().expect("ours");
        dump(directory.path(), "d");
        fs::remove_file(directory.path().join(FILE)).expect("ours");
        let said = problems(directory.path());
        assert!(
            said.len() == 1 && said[0].contains("would not be missed"),
            "{said:?}"
        );
        dump(directory.path(), "e");
        assert_eq!(problems(directory.path()), NO_PROBLEMS);
        // An agent that died before it noted the last one.
        let old = fs::read(directory.path().join(FILE)).expect("ours");
        dump(directory.path(), "f");
        fs::write(directory.path().join(FILE), old).expect("ours");
        assert_eq!(problems(directory.path()), NO_PROBLEMS);
        Ledger::catch_up(directory.path()).expect("ours");
        dump(directory.path(), "g");
        let report = check_chain(directory.path()).expect("it is readable");
        assert_eq!((report.problems.len(), report.number), (0, 7));
    }

    #[test]
    fn nothing_is_missed_of_a_directory_that_changes_meanwhile() {
        let (directory, paths) = chain(&["a", "b"]);
        let path = directory.path();
        std::thread::scope(|scope| {
            let agent = scope.spawn(|| {
                let mut there = VecDeque::from(paths);
                for number in 0..100 {
                    there.push_back(dump(path, &format!("dump-{number}")));
                    let oldest = there.pop_front().expect("there are three");
                    entry(&oldest).remove().expect("ours");
                }
            });
            while !agent.is_finished() {
                let report = check_chain(path).expect("it is readable");
                assert_eq!(report.problems, NO_PROBLEMS);
            }
        });
        let report = check_chain(path).expect("it is readable");
        assert_eq!((report.dumps, report.number), (2, 102));
    }

    #[test]
    fn dumps_of_elsewhere_are_no_links() {
        let (directory, _) = chain(&["a", "b"]);
        let (other, paths) = chain(&["x"]);
        let copy = directory.path().join("x.mcap");
        fs::copy(&paths[0], &copy).expect("ours");
        fs::copy(paths[0].with_extension("json"), copy.with_extension("json")).expect("ours");
        fs::write(directory.path().join("old.mcap"), "old").expect("ours");
        let report = check_chain(directory.path()).expect("it is readable");
        assert_eq!(report.problems, NO_PROBLEMS);
        assert_eq!((report.dumps, report.foreign, report.unlinked), (2, 1, 1));
        drop(other);
    }
}
