//! The configuration file and its drop-ins.
//!
//! ```text
//! defaults < /etc/recorder/recorder.toml < /etc/recorder/recorder.toml.d/*.toml < environment < flags
//! ```
//!
//! A default file that is missing is an empty one; a file that the user names must be there. Every mistake names the file,
//! the line and the key, and if the key is near to one that exists, that one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use serde::de::IntoDeserializer as _;
use serde::{Deserialize as _, Serialize};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::{SETTINGS, Setting};
use super::suggest::nearest;
use super::{Contradiction, RecordConfig, references};
use crate::evidence::Collector;
use crate::notify::Target;
use crate::rules::{self, Fault, RuleSet};

/// Where the configuration is unless the user says otherwise.
pub const DEFAULT_PATH: &str = "/etc/recorder/recorder.toml";
/// The tables that define collectors.
pub(super) const COLLECTOR: &str = "collector";
/// The tables that define who is told of incidents.
pub(super) const NOTIFY: &str = "notify";
/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which configuration file.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// Configuration file; *.toml in the directory of the same name with ".d" behind it are read after it
    /// [default: /etc/recorder/recorder.toml]
    #[arg(long, value_name = "FILE", global = true, env = "RECORDER_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line of the value, from 1 on.
        line: usize,
    },
    /// A variable of the environment.
    Environment,
    /// A flag.
    Flag,
}

/// The effective configuration, and where each value of it comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration; it has been validated.
    pub config: RecordConfig,
    /// Every file that was read, in order.
    pub files: Vec<PathBuf>,
    /// By key of the setting.
    origins: BTreeMap<&'static str, Origin>,
    /// Where each collector comes from, by its name.
    pub collectors: BTreeMap<String, Origin>,
    /// Where each target of notifications comes from, by its name.
    pub notify: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Returns where the value of a setting comes from.
    pub fn origin(&self, setting: &Setting) -> &Origin {
        self.origins.get(setting.key).unwrap_or(&Origin::Default)
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file says what makes no sense.
    #[error("{}:{line}: {text}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong, with the key.
        text: String,
    },
    /// Two settings contradict each other, or one cannot be.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// A rule makes no sense.
    #[error("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rules {
        /// All that is wrong.
        faults: Vec<Fault>,
    },
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self::Rules {
            faults: vec![fault],
        }
    }
}

/// Checks the rules, and what refers to them and to what.
fn check_rules(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let compiled = RuleSet::compile(&config.rules, &config.rule_settings());
    let mut faults = compiled.err().unwrap_or_default();
    faults.extend(references::faults(loaded));
    for rule in &config.rules {
        let before = rule.before.map(|time| time.0);
        if let (Some(before), Some(max_age)) = (before, config.max_age)
            && before > max_age
        {
            let text = "the ring keeps nothing as old: raise memory.max_age";
            faults.push(rule.fault("before", text));
        }
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(ConfigError::Rules { faults }),
    }
}

impl ConfigFile {
    /// Returns the effective configuration: `given` is what `matches` says, and the files stand below it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn load(&self, given: &RecordConfig, matches: &ArgMatches) -> Result<Loaded, ConfigError> {
        let mut loaded = Loaded {
            config: given.clone(),
            files: Vec::new(),
            origins: BTreeMap::new(),
            collectors: BTreeMap::new(),
            notify: BTreeMap::new(),
        };
        // The built-in rules are the file before all files.
        loaded.config.rules = rules::builtin();
        for path in self.files()? {
            let text = read(&path)?;
            take(&mut loaded, &path, &text)?;
            loaded.files.push(path);
        }
        for setting in SETTINGS {
            let origin = match matches.value_source(setting.flag) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                Some(ValueSource::EnvVariable) => Origin::Environment,
                Some(_) | None => continue,
            };
            setting.copy(&mut loaded.config, given);
            loaded.origins.insert(setting.key, origin);
        }
        let contradiction = loaded.config.validate();
        contradiction.map_err(|contradiction| located(contradiction, &loaded))?;
        check_rules(&loaded)?;
        Ok(loaded)
    }

    /// Returns the files that are there, in the order in which they are read.
    fn files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let default = Path::new(DEFAULT_PATH);
        let main = self.config.as_deref().unwrap_or(default);
        let mut files = Vec::new();
        // What is there but cannot be read is an error later.
        if self.config.is_some() || main.symlink_metadata().is_ok() {
            files.push(main.to_owned());
        }
        let mut directory = main.as_os_str().to_owned();
        directory.push(".d");
        let directory = PathBuf::from(directory);
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            Err(source) => {
                return Err(ConfigError::Read {
                    path: directory,
                    source,
                });
            }
        };
        let is_drop_in = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            !name.starts_with(b".") && name.ends_with(b".toml")
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut drop_ins: Vec<PathBuf> = paths.filter(is_drop_in).collect();
        drop_ins.sort();
        files.extend(drop_ins);
        Ok(files)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
    // A fifo would wait for a writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(failed(invalid("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let mut file = file.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(invalid("it is longer than 1 MiB")));
    }
    String::from_utf8(bytes).map_err(|_| failed(invalid("it is not UTF-8")))
}

/// Takes what a file says.
fn take(loaded: &mut Loaded, path: &Path, text: &str) -> Result<(), ConfigError> {
    let invalid = |span: Range<usize>, what: String| ConfigError::Invalid {
        path: path.to_owned(),
        line: line(text, span.start),
        text: what,
    };
    let tables = DeTable::parse(text)
        .map_err(|error| invalid(error.span().unwrap_or_default(), one_line(error.message())))?;
    for (table, content) in tables.get_ref() {
        let (name, span) = (table.get_ref().as_ref(), table.span());
        let take_one: Option<TakeOne> = match name {
            NOTIFY => Some(take_target),
            COLLECTOR => Some(take_collector),
            _ => None,
        };
        if let Some(take_one) = take_one {
            let DeValue::Array(all) = content.get_ref() else {
                return Err(invalid(span, format!("{name}: write [[{name}]]")));
            };
            for one in all.iter() {
                let start = line(text, one.span().start);
                take_one(loaded, path, start, one)
                    .map_err(|(at, what)| invalid(at.unwrap_or(one.span()), what))?;
            }
            continue;
        }
        if name == rules::TABLE {
            for rule in rules::read(Some(path), text, content)? {
                rules::add(&mut loaded.config.rules, rule);
            }
            continue;
        }
        let known = SETTINGS
            .iter()
            .any(|setting| setting.key.split('.').next() == Some(name));
        if !known {
            return Err(invalid(span, unknown(name)));
        }
        let DeValue::Table(settings) = content.get_ref() else {
            return Err(invalid(span, format!("{name}: write a table: [{name}]")));
        };
        for (key, value) in settings {
            let full = format!("{name}.{}", key.get_ref());
            let setting = SETTINGS.iter().find(|setting| setting.key == full);
            let setting = setting.ok_or_else(|| invalid(key.span(), unknown(&full)))?;
            setting
                .set(&mut loaded.config, value.get_ref())
                .map_err(|error| invalid(value.span(), format!("{full}: {error}")))?;
            let origin = Origin::File {
                path: path.to_owned(),
                line: line(text, value.span().start),
            };
            loaded.origins.insert(setting.key, origin);
        }
    }
    Ok(())
}

/// Takes one of the tables of a list, which begins at this line; an error has its place in the file, if that is known.
type TakeOne = fn(
    &mut Loaded,
    &Path,
    usize,
    &Spanned<DeValue<'_>>,
) -> Result<(), (Option<Range<usize>>, String)>;

/// Takes a collector; one of the same name makes way for it.
fn take_collector(
    loaded: &mut Loaded,
    path: &Path,
    line: usize,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), (Option<Range<usize>>, String)> {
    let deserializer = value.clone().into_deserializer();
    let collector = Collector::deserialize(deserializer)
        .map_err(|error: toml::de::Error| (error.span(), explained(COLLECTOR, error.message())))?;
    let origin = Origin::File {
        path: path.to_owned(),
        line,
    };
    loaded.collectors.insert(collector.name.clone(), origin);
    put(&mut loaded.config.collectors, collector, |one| &one.name);
    Ok(())
}

/// Adds a value to a list; one of the same name makes way for it.
fn put<T>(list: &mut Vec<T>, value: T, name: fn(&T) -> &String) {
    match list.iter_mut().find(|one| name(one) == name(&value)) {
        Some(one) => *one = value,
        None => list.push(value),
    }
}

/// Takes a target of notifications; one of the same name makes way for it.
fn take_target(
    loaded: &mut Loaded,
    path: &Path,
    line: usize,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), (Option<Range<usize>>, String)> {
    let deserializer = value.clone().into_deserializer();
    let target = Target::deserialize(deserializer)
        .map_err(|error: toml::de::Error| (error.span(), explained(NOTIFY, error.message())))?;
    target
        .validate()
        .map_err(|what| (None, format!("{NOTIFY}: {what}")))?;
    let origin = Origin::File {
        path: path.to_owned(),
        line,
    };
    loaded.notify.insert(target.name.clone(), origin);
    put(&mut loaded.config.notify, target, |one| &one.name);
    Ok(())
}

/// Puts what serde says of a table into our words: "unknown field `a`, expected one of `b`, `c`".
pub(crate) fn explained(table: &str, message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((key, known)) if message.starts_with("unknown field") => {
            match nearest(key, known.iter().copied()) {
                Some(meant) => {
                    format!("unknown key \"{table}.{key}\": did you mean \"{table}.{meant}\"?")
                }
                None => format!(
                    "unknown key \"{table}.{key}\": there are {}",
                    known.join(", ")
                ),
            }
        }
        _ => format!("{table}: {}", one_line(message)),
    }
}

/// Says that there is no such key, and which may be meant.
fn unknown(key: &str) -> String {
    let keys = SETTINGS.iter().map(|setting| setting.key);
    // The right key in the wrong table, or in none.
    let last = key.rsplit('.').next();
    let moved = SETTINGS
        .iter()
        .find(|setting| setting.key.rsplit('.').next() == last || Some(setting.flag) == last)
        .map(|setting| setting.key);
    let tables = SETTINGS
        .iter()
        .filter_map(|setting| setting.key.split('.').next())
        .chain([COLLECTOR, NOTIFY, rules::TABLE]);
    let candidate = match key.contains('.') {
        true => moved.or_else(|| nearest(key, keys)),
        false => nearest(key, tables).or(moved),
    };
    match candidate {
        Some(candidate) => format!("unknown key {key:?}: did you mean {candidate:?}?"),
        None => format!("unknown key {key:?}: `recorder config show --effective` lists all"),
    }
}

/// Adds where the values come from that contradict each other, if they stand in a file.
fn located(Contradiction(mut text): Contradiction, loaded: &Loaded) -> Contradiction {
    let mut places = Vec::new();
    for setting in SETTINGS {
        let flag = setting.flag();
        let named = text.split([' ', ':']).any(|word| word == flag);
        if named && let Origin::File { path, line } = loaded.origin(setting) {
            places.push(format!(
                "{flag} is {} at {}:{line}",
                setting.key,
                path.display()
            ));
        }
    }
    if !places.is_empty() {
        text = format!("{text} ({})", places.join(", "));
    }
    Contradiction(text)
}

/// Returns the line of an offset, from 1 on.
pub(crate) fn line(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use clap::FromArgMatches as _;
    use tempfile::TempDir;

    use super::*;
    use crate::config::Bytes;

    /// A configuration file and its drop-ins in a directory of their own.
    struct Files(TempDir);

    impl Files {
        fn new(main: &str) -> Self {
            let files = Self(TempDir::new().expect("there is room for tests"));
            fs::create_dir(files.path().with_extension("toml.d")).expect("ours");
            fs::write(files.path(), main).expect("ours");
            files
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("recorder.toml")
        }

        fn drop_in(self, name: &str, text: &str) -> Self {
            let directory = self.path().with_extension("toml.d");
            fs::write(directory.join(name), text).expect("ours");
            self
        }

        fn load(&self, flags: &[&str]) -> Result<Loaded, ConfigError> {
            let command = RecordConfig::augment_args(clap::Command::new("recorder"));
            let arguments = ["recorder"].iter().chain(flags);
            let matches = command.get_matches_from(arguments);
            let given = RecordConfig::from_arg_matches(&matches).expect("just parsed");
            let file = ConfigFile {
                config: Some(self.path()),
            };
            file.load(&given, &matches)
        }

        fn error(&self) -> String {
            let error = self.load(&[]).expect_err("it makes no sense").to_string();
            let directory = format!("{}/", self.0.path().display());
            error.replace(&directory, "")
        }
    }

    fn origin(loaded: &Loaded, key: &str) -> Origin {
        let setting = SETTINGS.iter().find(|setting| setting.key == key);
        loaded.origin(setting.expect("it exists")).clone()
    }

    #[test]
    fn later_layers_win_and_each_value_knows_where_it_is_from() {
        let files =
            Files::new("[window]\nbefore = \"10s\"\nafter = '1s'\n[dumps]\nmax_count = 7\n")
                .drop_in("20.toml", "[window]\nbefore = \"30s\"\n")
                .drop_in("10.toml", "[window]\nbefore = \"20s\"\nafter = \"2s\"\n")
                .drop_in(".hidden.toml", "nonsense")
                .drop_in("README", "nonsense");
        let loaded = files.load(&["--after", "9s"]).expect("valid");
        assert_eq!(loaded.config.before, Duration::from_secs(30));
        assert_eq!(loaded.config.after, Duration::from_secs(9));
        assert_eq!(loaded.config.dumps_max_count, 7);
        assert_eq!(loaded.config.cooldown, Duration::from_secs(60));
        assert_eq!(loaded.files.len(), 3);
        let Origin::File { path, line } = origin(&loaded, "window.before") else {
            panic!("it is from a file");
        };
        assert!(path.ends_with("20.toml") && line == 2, "{}", path.display());
        assert_eq!(origin(&loaded, "window.after"), Origin::Flag);
        assert_eq!(origin(&loaded, "incident.cooldown"), Origin::Default);
    }

    #[test]
    fn every_kind_of_value_reads_as_its_flag_does() {
        let text = "host.environment = \"paris-1\"\nincident.watch = [\"nginx\", \"php\"]\n\
                    memory.failure_bytes = \"4MiB\"\nmemory.sample_bytes = 4194304\n";
        let config = Files::new(text).load(&[]).expect("valid").config;
        assert_eq!(config.environment.as_deref(), Some("paris-1"));
        assert_eq!(config.watch, ["nginx", "php"]);
        assert_eq!(config.failure_bytes, Bytes(4 << 20));
        assert_eq!(config.sample_bytes, Bytes(4 << 20));
    }

    #[test]
    fn mistakes_name_the_file_the_line_the_key_and_what_is_meant() {
        for (text, says) in [
            (
                "[window]\nbefor = \"1s\"\n",
                "recorder.toml:2: unknown key \"window.befor\": did you mean \"window.before\"?",
            ),
            (
                "\n\n[windows]\n",
                "recorder.toml:3: unknown key \"windows\": did you mean \"window\"?",
            ),
            (
                "[dumps]\nbefore = \"1s\"\n",
                "recorder.toml:2: unknown key \"dumps.before\": did you mean \"window.before\"?",
            ),
            (
                "before = \"1s\"\n",
                "recorder.toml:1: unknown key \"before\": did you mean \"window.before\"?",
            ),
            (
                "[tracing]\n",
                "recorder.toml:1: unknown key \"tracing\": `recorder config show --effective` lists all",
            ),
            (
                "[window]\nbefore = 60\n",
                "recorder.toml:2: window.before: write a time with its unit: \"60s\", not a bare number",
            ),
            (
                "[window]\nbefore = \"60\"\n",
                "recorder.toml:2: window.before: write a time with its unit: \"60s\", \"500ms\", \"5m\"",
            ),
            (
                "[dumps]\nmax_count = -1\n",
                "recorder.toml:2: dumps.max_count: write a number that is not negative",
            ),
            (
                "window = 3\n",
                "recorder.toml:1: window: write a table: [window]",
            ),
        ] {
            assert_eq!(Files::new(text).error(), says);
        }
        let broken = Files::new("[window]\nbefore = \n").error();
        assert!(broken.starts_with("recorder.toml:2: "), "{broken}");
        assert_eq!(broken.lines().count(), 1, "{broken}");
    }

    #[test]
    fn contradictions_name_the_place_too() {
        let files = Files::new("[dumps]\nmax_dump_bytes = \"100MiB\"\n")
            .drop_in("a.toml", "[dumps]\nmax_bytes = \"150MiB\"\n");
        assert_eq!(
            files.error(),
            "--dumps-max-bytes 150 MiB cannot hold two dumps of --max-dump-bytes 100 MiB: raise the first or lower the \
             second (--max-dump-bytes is dumps.max_dump_bytes at recorder.toml:2, --dumps-max-bytes is dumps.max_bytes at \
             recorder.toml.d/a.toml:2)"
        );
    }

    #[test]
    fn a_file_that_the_user_names_must_be_there_and_be_text() {
        let missing = ConfigFile {
            config: Some("/nonexistent/recorder.toml".into()),
        };
        assert_eq!(missing.files().expect("nothing was read").len(), 1);
        let files = Files::new("");
        fs::remove_file(files.path()).expect("ours");
        assert!(matches!(files.load(&[]), Err(ConfigError::Read { .. })));
        fs::write(files.path(), [0xff, 0xfe]).expect("ours");
        assert!(matches!(files.load(&[]), Err(ConfigError::Read { .. })));
        fs::remove_file(files.path()).expect("ours");
        fs::create_dir(files.path()).expect("ours");
        assert!(matches!(files.load(&[]), Err(ConfigError::Read { .. })));
    }
}
