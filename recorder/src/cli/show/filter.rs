//! Which events are wanted: the options that `show` and `export` share.

use std::fmt;

use anyhow::{Result, anyhow};
use clap::Args;
use jiff::{SignedDuration, Timestamp};

use crate::event::Selection;
use crate::read::Entry;

/// Options that choose events by what they are about, in a dump and as they happen.
#[derive(Args, Clone, Debug, Default)]
pub struct AboutArgs {
    /// Only events of this type, or of this family ("process" for "process.exec" and "process.exit")
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only events of this process: as their subject, as the sender of a signal, as the one that asked for memory; of samples of many processes only the rows of this one
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Only events of processes with this name
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Only events of this systemd unit
    #[arg(long, value_name = "UNIT")]
    pub unit: Vec<String>,
}

/// Options that choose events; those of one kind are alternatives, those of different kinds all hold.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Choosing events")]
pub struct FilterArgs {
    #[command(flatten)]
    about: AboutArgs,
    /// Only events at most this far from the trigger ("5s", "200ms")
    #[arg(long, value_name = "SPAN", value_parser = span, allow_hyphen_values = true, conflicts_with_all = ["since", "until"])]
    around: Option<SignedDuration>,
    /// Only events from here on: relative to the trigger ("-10s", "+1m"), or a time ("2026-11-23T09:00:00Z")
    #[arg(long, value_name = "WHEN", value_parser = when, allow_hyphen_values = true)]
    since: Option<When>,
    /// Only events up to here: relative to the trigger, or a time
    #[arg(long, value_name = "WHEN", value_parser = when, allow_hyphen_values = true)]
    until: Option<When>,
}

/// A point in time as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    FromTrigger(SignedDuration),
    At(Timestamp),
}

fn span(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(span) if !span.is_negative() => Ok(span),
        _ => Err("not a span of time: write for example 5s, 200ms or 1m30s".to_owned()),
    }
}

fn when(text: &str) -> Result<When, String> {
    text.parse()
        .map(When::At)
        .or_else(|_| text.parse().map(When::FromTrigger))
        .map_err(|_| {
            "not a time: write -10s or +1m for a time from the trigger, or 2026-11-23T09:00:00Z"
                .to_owned()
        })
}

impl FilterArgs {
    /// Tells whether every event is wanted.
    pub fn is_empty(&self) -> bool {
        self.about.types.is_empty()
            && self.about.pid.is_empty()
            && self.about.comm.is_empty()
            && self.about.unit.is_empty()
            && self.around.is_none()
            && self.since.is_none()
            && self.until.is_none()
    }

    /// Makes the filter for a dump whose trigger was at `trigger_unix_ns`.
    ///
    /// # Errors
    ///
    /// If a time is relative to the trigger of a dump that does not say when it was.
    pub fn filter(&self, trigger_unix_ns: Option<u64>) -> Result<Filter> {
        let resolve = |when: When| match (when, trigger_unix_ns) {
            (When::At(time), _) => Ok(time.as_nanosecond()),
            (When::FromTrigger(span), Some(trigger)) => Ok(i128::from(trigger) + span.as_nanos()),
            (When::FromTrigger(_), None) => Err(anyhow!(
                "the dump does not say when its trigger was; give --since and --until as times, like 2026-11-23T09:00:00Z"
            )),
        };
        let (since, until) = match self.around {
            Some(span) => (
                Some(When::FromTrigger(-span)),
                Some(When::FromTrigger(span)),
            ),
            None => (self.since, self.until),
        };
        Ok(Filter {
            selection: Selection {
                types: self.about.types.clone(),
                pids: self.about.pid.clone(),
                comms: self.about.comm.clone(),
                units: self.about.unit.clone(),
                lanes: Vec::new(),
            },
            since_unix_ns: since.map(resolve).transpose()?,
            until_unix_ns: until.map(resolve).transpose()?,
        })
    }
}

impl fmt::Display for FilterArgs {
    /// Writes the options as a person types them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        let mut option = |name: &str, value: String| match value.contains(' ') {
            true => options.push(format!("--{name} '{value}'")),
            false => options.push(format!("--{name} {value}")),
        };
        let about = &self.about;
        about
            .types
            .iter()
            .for_each(|one| option("type", one.clone()));
        about
            .pid
            .iter()
            .for_each(|one| option("pid", one.to_string()));
        about
            .comm
            .iter()
            .for_each(|one| option("comm", one.clone()));
        about
            .unit
            .iter()
            .for_each(|one| option("unit", one.clone()));
        if let Some(span) = self.around {
            option("around", span.to_string());
        }
        for (name, when) in [("since", self.since), ("until", self.until)] {
            match when {
                Some(When::At(time)) => option(name, time.to_string()),
                Some(When::FromTrigger(span)) => option(name, span.to_string()),
                None => {}
            }
        }
        formatter.write_str(&options.join(" "))
    }
}

/// Decides about each event.
#[derive(Clone, Debug)]
pub struct Filter {
    selection: Selection,
    since_unix_ns: Option<i128>,
    until_unix_ns: Option<i128>,
}

impl Filter {
    /// Leaves of an event that is wanted what is wanted of it: of a table of processes, the rows of those asked for.
    pub fn narrow(&self, entry: &mut Entry) {
        self.selection.narrow(&mut entry.body);
    }

    /// Tells whether an event is wanted.
    pub fn wants(&self, entry: &Entry) -> bool {
        let time = i128::from(entry.unix_ns);
        self.since_unix_ns.is_none_or(|since| since <= time)
            && self.until_unix_ns.is_none_or(|until| time <= until)
            && self.selection.wants(&entry.body)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::event::{Body, proto};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        filter: FilterArgs,
    }

    const TRIGGER: u64 = 1_795_424_400_000_000_000;

    fn filter(args: &[&str]) -> Filter {
        let command = Command::try_parse_from([&["show"], args].concat()).expect("valid options");
        command.filter.filter(Some(TRIGGER)).expect("a trigger")
    }

    fn exit(pid: u32, comm: &str, after_trigger_ns: i64) -> Entry {
        Entry {
            order: 1,
            cause: None,
            unix_ns: TRIGGER.saturating_add_signed(after_trigger_ns),
            sequence: 0,
            body: Body::ProcessExit(proto::ProcessExit {
                process: Some(proto::Process {
                    pid: Some(pid),
                    comm: Some(comm.to_owned()),
                    unit: Some("nginx.service".to_owned()),
                    ..proto::Process::default()
                }),
                ..proto::ProcessExit::default()
            }),
        }
    }

    #[test]
    fn a_family_takes_in_its_types_and_no_namesake() {
        assert!(filter(&["--type", "process"]).wants(&exit(7, "sh", 0)));
        assert!(filter(&["--type", "process.exit"]).wants(&exit(7, "sh", 0)));
        assert!(!filter(&["--type", "process.ex"]).wants(&exit(7, "sh", 0)));
        assert!(!filter(&["--type", "process.exec"]).wants(&exit(7, "sh", 0)));
        assert!(
            filter(&["--type", "io", "--type", "process"]).wants(&exit(7, "sh", 0)),
            "alternatives"
        );
    }

    #[test]
    fn different_options_all_hold() {
        assert!(filter(&["--pid", "7", "--comm", "sh"]).wants(&exit(7, "sh", 0)));
        assert!(!filter(&["--pid", "7", "--comm", "sh"]).wants(&exit(8, "sh", 0)));
        assert!(!filter(&["--pid", "7", "--comm", "sh"]).wants(&exit(7, "bash", 0)));
        assert!(filter(&["--unit", "nginx"]).wants(&exit(7, "sh", 0)));
        assert!(!filter(&["--unit", "ngin"]).wants(&exit(7, "sh", 0)));
    }

    #[test]
    fn a_sender_has_a_part_in_the_signal() {
        let entry = Entry {
            body: Body::SignalFatal(proto::SignalFatal {
                sender: Some(proto::Sender {
                    pid: Some(99),
                    comm: Some("kill".to_owned()),
                    ..proto::Sender::default()
                }),
                ..proto::SignalFatal::default()
            }),
            ..exit(7, "sh", 0)
        };
        assert!(filter(&["--pid", "99"]).wants(&entry));
        assert!(filter(&["--comm", "kill"]).wants(&entry));
        assert!(!filter(&["--pid", "7"]).wants(&entry));
    }

    #[test]
    fn of_a_table_of_processes_only_the_rows_asked_for_are_left() {
        let row = |pid, comm: &str| proto::ProcessUsage {
            process: Some(proto::Process {
                pid: Some(pid),
                comm: Some(comm.to_owned()),
                ..proto::Process::default()
            }),
            ..proto::ProcessUsage::default()
        };
        let entry = Entry {
            body: Body::SampleProcess(proto::SampleProcess {
                top: vec![row(7, "sh"), row(8, "sh"), row(9, "cc")],
                ..proto::SampleProcess::default()
            }),
            ..exit(7, "sh", 0)
        };
        let left = |args: &[&str]| {
            let filter = filter(args);
            let mut entry = entry.clone();
            filter.narrow(&mut entry);
            let Body::SampleProcess(sample) = entry.body else {
                panic!("it stays what it is");
            };
            sample.top.len()
        };
        assert!(filter(&["--pid", "8"]).wants(&entry));
        assert_eq!(left(&["--pid", "8"]), 1);
        assert_eq!(left(&["--comm", "sh"]), 2);
        assert!(!filter(&["--pid", "7", "--comm", "cc"]).wants(&entry));
        assert!(!filter(&["--pid", "10"]).wants(&entry));
        assert_eq!(left(&["--type", "sample"]), 3);
    }

    #[test]
    fn times_are_relative_to_the_trigger_or_absolute() {
        let second = 1_000_000_000;
        for (args, inside) in [
            (vec!["--around", "5s"], [false, true, true, true, false]),
            (vec!["--since", "-10s"], [true, true, true, true, true]),
            (vec!["--since", "-5s"], [false, true, true, true, true]),
            (vec!["--until", "0s"], [true, true, true, false, false]),
            (
                vec!["--since", "2026-11-23T09:00:00Z", "--until", "+5s"],
                [false, false, true, true, false],
            ),
        ] {
            let filter = filter(&args);
            let wants = [-10, -5, 0, 5, 10].map(|at| filter.wants(&exit(7, "sh", at * second)));
            assert_eq!(wants, inside, "{args:?}");
        }
    }

    #[test]
    fn options_are_written_as_they_are_typed() {
        for args in [
            vec!["--type", "signal", "--pid", "7", "--around", "5s"],
            vec![
                "--comm",
                "a b",
                "--since",
                "-10s",
                "--until",
                "2026-11-23T09:00:00Z",
            ],
        ] {
            let typed = |args: &[&str]| Command::try_parse_from([&["show"], args].concat());
            let text = typed(&args).expect("valid").filter.to_string();
            let again: Vec<&str> = match text.split_once('\'') {
                Some((before, rest)) => {
                    let (quoted, after) = rest.split_once('\'').expect("two");
                    let before = before.split_whitespace();
                    before
                        .chain([quoted])
                        .chain(after.split_whitespace())
                        .collect()
                }
                None => text.split(' ').collect(),
            };
            let again = typed(&again).expect(&text).filter;
            assert_eq!(
                format!("{:?}", again),
                format!("{:?}", typed(&args).expect("valid").filter)
            );
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for args in [["--around", "x"], ["--around", "-5s"], ["--since", "soon"]] {
            let error = Command::try_parse_from(["show", args[0], args[1]])
                .err()
                .expect("refused");
            assert!(error.to_string().contains("write"), "{error}");
        }
    }

    #[test]
    fn a_relative_time_needs_a_trigger() {
        let command = Command::try_parse_from(["show", "--around", "5s"]).expect("valid");
        assert!(command.filter.filter(None).is_err());
    }
}
