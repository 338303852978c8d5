//! The configuration: whether it is sound, whether it fits this host, and what it leaves out.

use std::path::{Path, PathBuf};

use clap::{Args as _, FromArgMatches as _};
use rustix::fs::statvfs;

use super::{Check, line};
use crate::config::{ConfigFile, Loaded, Paths, RecordConfig, saturating_ns};
use crate::store;
use crate::units::{bytes, duration};

/// Share of the host's memory that a ring may take without a word.
const RING_SHARE: u64 = 8;

pub(super) fn checks(paths: &Paths, file: &ConfigFile) -> Vec<Check> {
    let loaded = match load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            let remedy = "mend it; an agent that runs keeps what it has read before";
            return vec![Check::fail("configuration", format!("{error:#}"), remedy)];
        }
    };
    let config = &loaded.config;
    let mut checks = vec![Check::pass("configuration", sources(&loaded))];
    checks.extend(left_out(config));
    checks.extend(ring(config, line("/proc/meminfo").as_deref()));
    checks.push(budget(config, &paths.dumps()));
    checks
}

fn load(file: &ConfigFile) -> anyhow::Result<Loaded> {
    // No flags here, but the environment counts.
    let command = RecordConfig::augment_args(clap::Command::new("recorder"));
    let matches = command.get_matches_from(["recorder"]);
    Ok(file.load(&RecordConfig::from_arg_matches(&matches)?, &matches)?)
}

fn sources(loaded: &Loaded) -> String {
    let files: Vec<String> = loaded
        .files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match files.as_slice() {
        [] => "the defaults hold: there is no file".to_owned(),
        files => format!("valid: {}", files.join(", ")),
    }
}

/// Settings that are sound and leave something unseen.
fn left_out(config: &RecordConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    if config.sample_interval.is_zero() {
        checks.push(Check::warn(
            "samples",
            "none are taken: dumps show neither load, memory nor disks before the failure",
            "samples.interval = \"1s\"",
        ));
    }
    let before = config.longest_before();
    if config.sample_interval > before {
        checks.push(Check::warn(
            "samples",
            format!(
                "one each {}, and a window reaches back {}: most dumps hold none",
                duration(saturating_ns(config.sample_interval)),
                duration(saturating_ns(before))
            ),
            "a shorter samples.interval, or a longer window.before",
        ));
    }
    if !config.evidence {
        checks.push(Check::warn(
            "evidence",
            "none is collected beside the events",
            "evidence.enabled = true",
        ));
    }
    if config.no_default_redaction {
        checks.push(Check::warn(
            "redaction",
            "passwords and keys in arguments are recorded",
            "redact.no_defaults = false",
        ));
    }
    let lanes = ring_bytes(config);
    if config.max_dump_bytes.0 < lanes / 16 {
        checks.push(Check::warn(
            "dump size",
            format!(
                "a full ring of {} may not fit into a dump of {}: its oldest part is cut",
                bytes(lanes),
                config.max_dump_bytes
            ),
            "a larger dumps.max_dump_bytes",
        ));
    }
    checks
}

fn ring_bytes(config: &RecordConfig) -> u64 {
    config.failure_bytes.0 + config.lifecycle_bytes.0 + config.sample_bytes.0
}

/// The ring beside the host's memory.
fn ring(config: &RecordConfig, meminfo: Option<&str>) -> Option<Check> {
    let total = meminfo?
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = total.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    let ring = ring_bytes(config);
    let found = format!("{} of the host's {}", bytes(ring), bytes(total));
    Some(match ring > total / RING_SHARE {
        true => Check::warn(
            "ring",
            found,
            "smaller memory.* settings: the ring is always resident",
        ),
        false => Check::pass("ring", found),
    })
}

/// What dumps may take, beside what there is.
fn budget(config: &RecordConfig, dumps: &Path) -> Check {
    const NAME: &str = "budget of dumps";
    let entries = match store::dumps(dumps) {
        Ok(entries) => entries,
        Err(error) => return Check::unseen(NAME, format!("{}: {error}", dumps.display())),
    };
    let used: u64 = entries.iter().map(store::Entry::total_bytes).sum();
    let existing = dumps.ancestors().find(|path| path.exists());
    let Some(stats) = existing
        .map(Path::to_owned)
        .and_then(|path: PathBuf| statvfs(&path).ok())
    else {
        return Check::unseen(NAME, "the file system does not say what is free");
    };
    let free = stats.f_bavail.saturating_mul(stats.f_frsize);
    let found = format!(
        "{} dumps take {} of {}; {} free, {} kept free",
        entries.len(),
        bytes(used),
        config.dumps_max_bytes,
        bytes(free),
        config.dumps_keep_free
    );
    let usable = (free + used).saturating_sub(config.dumps_keep_free.0);
    if free < config.dumps_keep_free.0 {
        Check::fail(
            NAME,
            found,
            "make room on the file system, or lower dumps.keep_free: old dumps go for each new one, and then none is written",
        )
    } else if usable < config.dumps_max_bytes.0 {
        Check::warn(
            NAME,
            found,
            "the budget is more than there is room for: fewer dumps are kept than dumps.max_bytes says",
        )
    } else {
        Check::pass(NAME, found)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::State;
    use super::*;
    use crate::config::Bytes;

    fn config() -> RecordConfig {
        let file = ConfigFile { config: None };
        let command = RecordConfig::augment_args(clap::Command::new("recorder"));
        let matches = command.get_matches_from(["recorder"]);
        drop(file);
        RecordConfig::from_arg_matches(&matches).expect("the defaults are valid")
    }

    #[test]
    fn the_defaults_leave_nothing_out() {
        assert_eq!(left_out(&config()), []);
    }

    #[test]
    fn what_a_configuration_leaves_out_is_told() {
        let blind = RecordConfig {
            sample_interval: Duration::ZERO,
            evidence: false,
            no_default_redaction: true,
            max_dump_bytes: Bytes(1 << 20),
            ..config()
        };
        let told: Vec<String> = left_out(&blind).into_iter().map(|one| one.check).collect();
        assert_eq!(told, ["samples", "evidence", "redaction", "dump size"]);
    }

    #[test]
    fn a_ring_that_the_host_feels_is_told() {
        let state = |text| ring(&config(), Some(text)).map(|check| check.state);
        assert_eq!(state("MemTotal:  262144 kB\n"), Some(State::Warn));
        assert_eq!(state("MemTotal:  8388608 kB\n"), Some(State::Pass));
        assert_eq!(state("nothing"), None);
    }
}
