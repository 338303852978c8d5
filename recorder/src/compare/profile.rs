//! What a dump is made of, in bounded memory.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dump::{CONFIG, PROBES, Probe};
use crate::event::{Body, proto};
use crate::export::Origin;
use crate::read::{Dump, Entry};

/// Most names of a kind that are told apart.
const NAMES_MAX: usize = 4096;
/// Longest name, in characters.
const NAME_MAX: usize = 160;

/// What a dump is made of.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// What is known of the host.
    pub host: BTreeMap<String, String>,
    /// What the incident is.
    pub incident: BTreeMap<String, String>,
    /// State of each probe.
    pub probes: BTreeMap<String, String>,
    /// The configuration, flat.
    pub config: BTreeMap<String, String>,
    /// Events of each type.
    pub types: BTreeMap<String, u64>,
    /// Processes that did not end well, by name and how.
    pub deaths: BTreeMap<String, u64>,
    /// I/O errors, lost writes, OOM kills, hung tasks.
    pub failures: BTreeMap<String, u64>,
    /// Lines of the kernel's log from warnings up, numbers left out.
    pub log: BTreeMap<String, u64>,
    /// Programs that were executed.
    pub programs: BTreeMap<String, u64>,
    samples: BTreeMap<String, Mean>,
    first_unix_ns: Option<u64>,
    last_unix_ns: u64,
}

/// A mean being made.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Profile {
    /// Starts with what the dump says beside its events.
    pub fn new(dump: &Dump, origin: &Origin) -> Self {
        let mut profile = Self::default();
        if let Some(host) = &origin.host {
            flat(
                &mut profile.host,
                "",
                &serde_json::to_value(host).unwrap_or_default(),
            );
        }
        if let Some(incident) = &origin.incident {
            let texts = [
                ("rule", incident.rule.clone()),
                ("summary", incident.summary.clone()),
                ("fingerprint", incident.fingerprint.clone()),
            ];
            let texts = texts.map(|(name, text)| (name.to_owned(), text));
            profile.incident.extend(texts);
        }
        if let Some(loss) = &origin.loss {
            let verdict = format!("{:?}", loss.verdict).to_lowercase();
            profile.incident.insert("verdict".to_owned(), verdict);
        }
        for probe in dump.metadata::<Vec<Probe>>(PROBES).unwrap_or_default() {
            let state = format!("{:?} at {}", probe.state, probe.hook).to_lowercase();
            profile.probes.insert(probe.event, state);
        }
        let config: Value = dump.metadata(CONFIG).unwrap_or_default();
        flat(&mut profile.config, "", &config);
        profile
    }

    /// Takes the next event.
    pub fn take(&mut self, entry: &Entry) {
        self.first_unix_ns.get_or_insert(entry.unix_ns);
        self.last_unix_ns = self.last_unix_ns.max(entry.unix_ns);
        count(&mut self.types, entry.body.topic().to_owned());
        match &entry.body {
            Body::ProcessExec(exec) => {
                let path = exec
                    .process
                    .as_ref()
                    .and_then(|process| process.exe.clone());
                let path = path.or_else(|| exec.filename.clone());
                count(&mut self.programs, path.unwrap_or_default());
            }
            Body::ProcessExit(exit) => {
                if let Some(how) = how(exit) {
                    let comm = exit.process.as_ref().map_or("?", |process| process.comm());
                    count(&mut self.deaths, format!("{comm}, {how}"));
                }
            }
            Body::OomKill(kill) => {
                let cgroup = kill.memory_cgroup();
                count(&mut self.failures, format!("out of memory in {cgroup}"));
            }
            Body::IoError(error) => count(
                &mut self.failures,
                format!(
                    "{} of {} failed: {}",
                    error.operation(),
                    error.disk(),
                    error.status()
                ),
            ),
            Body::WritebackError(error) => count(
                &mut self.failures,
                format!("write to {} lost: {}", error.name(), error.errno()),
            ),
            Body::TaskHung(hung) => {
                let comm = hung.process.as_ref().map_or("?", |process| process.comm());
                count(&mut self.failures, format!("{comm} hung"));
            }
            Body::MemoryFailure(_) => count(&mut self.failures, "memory is broken".to_owned()),
            Body::MachineCheck(check) => count(
                &mut self.failures,
                format!(
                    "CPU {} reported an {} error of {}",
                    check.cpu(),
                    if check.uncorrected() {
                        "uncorrected"
                    } else {
                        "corrected"
                    },
                    check.part.as_deref().unwrap_or("hardware")
                ),
            ),
            Body::KernelLog(log)
                if matches!(log.level(), "emerg" | "alert" | "crit" | "err" | "warning") =>
            {
                count(&mut self.log, without_numbers(log.text()));
            }
            Body::SampleSystem(sample) => self.sample(sample),
            _ => {}
        }
    }

    /// Returns how long the events last, in seconds, at least one.
    pub fn seconds(&self) -> f64 {
        let first = self.first_unix_ns.unwrap_or(self.last_unix_ns);
        (self.last_unix_ns.saturating_sub(first) as f64 / 1e9).max(1.0)
    }

    /// Returns the means of the samples.
    pub fn means(&self) -> BTreeMap<String, f64> {
        let mean = |(name, mean): (&String, &Mean)| (name.clone(), mean.sum / mean.count as f64);
        self.samples.iter().map(mean).collect()
    }

    fn sample(&mut self, sample: &proto::SampleSystem) {
        let whole = |number: Option<u64>| number.map(|number| number as f64);
        let mebibytes = |bytes: Option<u64>| whole(bytes).map(|bytes| bytes / f64::from(1 << 20));
        let mut take = |name: &str, value: Option<f64>| {
            if let Some(value) = value
                && (self.samples.contains_key(name) || self.samples.len() < NAMES_MAX)
            {
                let mean = self.samples.entry(short(name)).or_default();
                mean.sum += value;
                mean.count += 1;
            }
        };
        if let Some(load) = &sample.load {
            take("load, 1 min", load.load1);
            take("threads that run", whole(load.runnable));
            take("forks/s", whole(load.forks_per_second));
            take(
                "context switches/s",
                whole(load.context_switches_per_second),
            );
        }
        if let Some(cpu) = &sample.cpu {
            let busy = cpu.idle_percent.map(|idle| 100.0 - idle);
            take("CPU busy, %", busy);
            take("CPU waiting for storage, %", cpu.iowait_percent);
            take("CPU stolen, %", cpu.steal_percent);
        }
        if let Some(memory) = &sample.memory {
            take("memory available, MiB", mebibytes(memory.available_bytes));
            take("memory dirty, MiB", mebibytes(memory.dirty_bytes));
            take("swap free, MiB", mebibytes(memory.swap_free_bytes));
        }
        for pressure in &sample.pressure {
            let some = pressure.some.as_ref().and_then(|some| some.avg10_percent);
            take(&format!("pressure on {}, %", pressure.resource()), some);
        }
        for disk in &sample.disks {
            take(&format!("{} busy, %", disk.name()), disk.busy_percent);
            let written = mebibytes(disk.write_bytes_per_second);
            take(&format!("{} written, MiB/s", disk.name()), written);
        }
    }
}

/// Says how a process ended, unless it ended well.
fn how(exit: &proto::ProcessExit) -> Option<String> {
    match (&exit.signal, exit.exit_code) {
        (Some(signal), _) => Some(match &signal.name {
            Some(name) => name.clone(),
            None => format!("signal {}", signal.number()),
        }),
        (None, Some(0) | None) => None,
        (None, Some(code)) => Some(format!("exit code {code}")),
    }
}

/// Makes lines of the log that differ in numbers only one.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character.is_ascii_digit() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(character),
        }
    }
    out
}

fn short(name: &str) -> String {
    name.chars().take(NAME_MAX).collect()
}

fn count(counts: &mut BTreeMap<String, u64>, name: String) {
    let name = short(&name);
    if let Some(count) = counts.get_mut(&name) {
        *count += 1;
    } else if counts.len() < NAMES_MAX {
        counts.insert(name, 1);
    }
}

fn flat(out: &mut BTreeMap<String, String>, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                flat(out, &path, value);
            }
        }
        Value::Null => {}
        _ if out.len() >= NAMES_MAX => {}
        Value::String(text) => drop(out.insert(short(path), text.clone())),
        other => drop(out.insert(short(path), other.to_string())),
    }
}
