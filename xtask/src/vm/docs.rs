//! Writes `docs/kernels.md` from what the guests reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::outcome::{Outcome, Verdict};
use super::power::Round;
use super::{ON_HOST, Run};

const INTRODUCTION: &str = "\
# Kernels

<!-- Written by `cargo xtask vm --write-docs` from what the guests reported: change xtask/src/vm/docs.rs instead. -->

recorder supports Linux 5.10 and newer. `cargo xtask vm` boots distribution kernels under QEMU and runs the end-to-end
tests in each: the same tests as on a host, and more that need a machine to break. This page is what those runs found.

    cargo xtask vm                     # the oldest and the newest
    cargo xtask vm --all               # all of them; --update fetches newer ones
    cargo xtask vm arm64-6.12          # one for aarch64: the agent, its probes and the tests are built for that, too
    cargo xtask vm 6.1 --test devices  # one file of tests on one kernel
    cargo xtask vm 6.12 --test power   # machines whose kernel dies
    cargo xtask vm --short             # a part on two kernels, as `cargo xtask test` does behind all other tests

Kernels and QEMU come from Debian's archive, through an apt root of their own in `~/.cache/recorder/vm` (or
`RECORDER_VM_CACHE`), where they are checked by hash and unpacked: nothing is installed. QEMU emulates: neither KVM nor root
is needed. For aarch64 the C compiler is such a package, too, and the standard library one that rustup has
(`rustup target add aarch64-unknown-linux-gnu`) or Debian, for its own compiler. What a guest said is in `target/vm/KERNEL/report.log`, its kernel's messages in `console.log` beside it.

Kernels before 5.11 do not tell a BPF program of what type the running task is: the agent has a second object for them,
which copies each field instead of loading it. The victim of a kill for memory is named to it by pid alone, and found by
the signal that the kernel has just sent. Errors of device-mapper and md devices raise no request and leave no line in the
kernel's log: they are recorded by a probe that is attached only where such a device exists when the agent starts. Of
a crash on a kernel before 6.1 the mappings are not read: its frames have build IDs and offsets, and no names.

Broken pages of memory and machine checks (`hw.memory_failure`, `hw.machine_check`) are recorded where the kernel has the tracepoints
`memory_failure_event` and `mce_record`: of these, from 6.12 on, the second on x86-64 only. Elsewhere the kernel's log tells of them.

From 7.0 on a probe at a tracepoint may be preempted ([a46023d5616e](https://github.com/torvalds/linux/commit/a46023d5616ed3ed781e56ca93400eb9490e3646)),
and no kernel runs a program on a processor that is inside it already. So a second program stands behind those of `process.exec`
and `process.exit`, which takes what the first was not run for (`cargo xtask vm newest --test flood`: 20,000 exits on one processor
while others there preempt them, where one program alone misses some 80). `bpf_preempt_disable` would not help: what waits runs as
soon as that ends, which is still inside the program. What neither program was run for is counted, said by `recorder status`
(`skipped-events`) and in each dump from which it may be missing.
";

const DEATHS: &str = "
## When the kernel dies

A machine with `--ring-sync 250ms` and 200 exits a second dies by a panic (`echo c >/proc/sysrq-trigger`; what its memory held stays),
or because its power goes (the emulator is killed), and boots again with the same disk. What was found there as the incident
`unclean-boot`, how much before the last sign of life is missing, how many segments were being written, and what the kernel had
left in persistent memory (ramoops):

";

const EVENTS: &str = "
## Events, where they are taken, and their fields

For each type of event, the probe or the file that it is taken from, and which of its fields were met in the dumps of these
runs: on all of these kernels, on none, or on some. A field is absent where its kernel or processor does not tell it, and also
where nothing in these runs could have it: no guest has containers, pods, units, or users who logged in.
";

/// Returns the page; `all` is how many files of tests there are.
pub fn page(runs: &[Run], rounds: &[Round], all: usize) -> String {
    let mut page = INTRODUCTION.to_owned();
    let names: Vec<&str> = runs.iter().map(|run| run.kernel.name).collect();
    let outcomes: Vec<&Outcome> = runs.iter().map(|run| &run.outcome).collect();

    page.push_str("\n## Runs\n\n");
    head(
        &mut page,
        &["", "release", "passed", "failed", "skipped", "seconds"],
    );
    for run in runs {
        let (passed, failed, skipped) = run.outcome.counts();
        let seconds = run.outcome.seconds;
        let (name, version) = (run.kernel.name, &run.kernel.version);
        let _ = writeln!(
            page,
            "| {name} | {version} | {passed} | {failed} | {skipped} | {seconds:.0} |"
        );
    }

    page.push_str("\n## Tests\n\n");
    let files: BTreeSet<&str> = outcomes
        .iter()
        .flat_map(|outcome| outcome.cases.iter().map(|case| case.file.as_str()))
        .collect();
    let _ = writeln!(
        page,
        "Of the {all} files of tests, {} were run: passed, and what did not.",
        files.len()
    );
    let on_host = ON_HOST.map(|(file, why)| format!("{file} ({why})"));
    let _ = writeln!(
        page,
        "Run on the host alone, as they would show nothing of a kernel: {}.\n",
        on_host.join(", ")
    );
    head(&mut page, &[&["file"], names.as_slice()].concat());
    for file in files {
        let cells: Vec<String> = outcomes
            .iter()
            .map(|outcome| tally(outcome, file))
            .collect();
        row(&mut page, file, cells.iter().map(String::as_str));
    }
    page.push_str("\n### What failed or was skipped\n\n");
    let is_good = |outcome: &Outcome| {
        let mut cases = outcome.cases.iter();
        cases.all(|case| case.verdict == Verdict::Passed)
    };
    if outcomes.iter().all(|outcome| is_good(outcome)) {
        page.push_str("Nothing.\n");
    }
    // By reason: most are the same on every kernel.
    let mut reasons: BTreeMap<&str, BTreeMap<(&str, &str), Vec<&str>>> = BTreeMap::new();
    for run in runs {
        for case in &run.outcome.cases {
            let said = match &case.verdict {
                Verdict::Passed => continue,
                Verdict::Failed => "failed",
                Verdict::Skipped(why) => why,
            };
            let cases = reasons.entry(said).or_default();
            let kernels = cases.entry((&case.file, &case.name)).or_default();
            kernels.push(run.kernel.name);
        }
    }
    for (reason, cases) in reasons {
        let _ = writeln!(page, "- {reason}:");
        for ((file, name), kernels) in cases {
            let on = match kernels.len() == runs.len() {
                true => "all".to_owned(),
                false => kernels.join(", "),
            };
            let _ = writeln!(page, "  - {file}: {} ({on})", name.replace('_', " "));
        }
    }

    page.push_str(DEATHS);
    head(
        &mut page,
        &[
            "kernel",
            "death",
            "events found",
            "missing",
            "segments torn",
            "kept",
        ],
    );
    for round in rounds {
        let (events, torn) = (round.events.to_string(), round.torn.to_string());
        let missing = format!("{} ms", round.missing_ns / 1_000_000);
        let cells = [round.death, &events, &missing, &torn, &round.kept];
        row(&mut page, round.kernel, cells.into_iter());
    }

    page.push_str(EVENTS);
    let probes: Vec<BTreeMap<String, String>> = outcomes
        .iter()
        .map(|outcome| probes(&outcome.doctor))
        .collect();
    let mut events: BTreeSet<&str> = probes
        .iter()
        .flat_map(BTreeMap::keys)
        .map(String::as_str)
        .collect();
    let known = outcomes.iter().flat_map(|outcome| &outcome.known);
    events.extend(known.filter_map(|field| field.split(' ').next()));
    for event in events {
        // What ends in a table has no empty line behind it.
        if !page.ends_with("\n\n") {
            page.push('\n');
        }
        let _ = writeln!(page, "### {event}\n");
        taken(&mut page, event, &names, &probes);
        fields(&mut page, event, &names, &outcomes);
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// Writes where an event is taken: in a sentence if that is the same everywhere.
fn taken(page: &mut String, event: &str, names: &[&str], probes: &[BTreeMap<String, String>]) {
    let hooks: Vec<&str> = probes
        .iter()
        .map(|probes| probes.get(event).map_or("", String::as_str))
        .collect();
    match hooks.as_slice() {
        [first, rest @ ..] if rest.iter().all(|hook| hook == first) => {
            if !first.is_empty() {
                let _ = writeln!(page, "Taken at {first}.\n");
            }
        }
        _ => {
            head(page, &[&["taken at"], names].concat());
            row(page, "", hooks.into_iter());
            page.push('\n');
        }
    }
}

/// Writes which fields of an event were met where.
fn fields(page: &mut String, event: &str, names: &[&str], outcomes: &[&Outcome]) {
    let prefix = format!("{event} ");
    let all: BTreeSet<&str> = outcomes
        .iter()
        .flat_map(|outcome| outcome.known.iter().chain(&outcome.fields))
        .filter_map(|field| field.strip_prefix(&prefix))
        .collect();
    if all.is_empty() {
        return;
    }
    let met = |field: &str| -> Vec<bool> {
        let name = format!("{prefix}{field}");
        let has = outcomes
            .iter()
            .map(|outcome| outcome.fields.contains(&name));
        has.collect()
    };
    let (mut everywhere, mut nowhere, mut some) = (Vec::new(), Vec::new(), Vec::new());
    for field in all {
        let met = met(field);
        match (met.iter().all(|has| *has), met.iter().any(|has| *has)) {
            (true, _) => everywhere.push(format!("`{field}`")),
            (false, false) => nowhere.push(format!("`{field}`")),
            (false, true) => some.push((field, met)),
        }
    }
    for (what, fields) in [("On all", everywhere), ("On none", nowhere)] {
        if !fields.is_empty() {
            let _ = writeln!(page, "{what}: {}.\n", fields.join(", "));
        }
    }
    if !some.is_empty() {
        head(page, &[&["field"], names].concat());
        for (field, met) in some {
            let cells = met.into_iter().map(|has| if has { "yes" } else { "" });
            row(page, field, cells);
        }
    }
}

fn head(page: &mut String, columns: &[&str]) {
    let _ = writeln!(page, "| {} |", columns.join(" | "));
    let _ = writeln!(page, "|{}", "---|".repeat(columns.len()));
}

fn row<'a>(page: &mut String, name: &str, cells: impl Iterator<Item = &'a str>) {
    let cells: Vec<String> = cells.map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
}

/// Reads how each event is taken off what `recorder doctor --json` says, a line for each check.
fn probes(doctor: &str) -> BTreeMap<String, String> {
    let checks = doctor
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    checks
        .filter_map(|check| {
            let found = check["found"].as_str()?;
            let hook = found
                .strip_suffix(" attaches")
                .or_else(|| found.starts_with("not recorded").then_some(found))
                .or_else(|| found.contains(" instead: ").then_some(found))?;
            Some((check["check"].as_str()?.to_owned(), hook.to_owned()))
        })
        .collect()
}

fn tally(outcome: &Outcome, file: &str) -> String {
    let of = |is: fn(&Verdict) -> bool| {
        let cases = outcome.cases.iter();
        cases
            .filter(|case| case.file == file && is(&case.verdict))
            .count()
    };
    let passed = of(|verdict| *verdict == Verdict::Passed);
    let failed = of(|verdict| *verdict == Verdict::Failed);
    let skipped = of(|verdict| matches!(verdict, Verdict::Skipped(_)));
    if passed + failed + skipped == 0 {
        return "not run".to_owned();
    }
    let mut text = passed.to_string();
    if failed > 0 {
        let _ = write!(text, ", {failed} failed");
    }
    if skipped > 0 {
        let _ = write!(text, ", {skipped} skipped");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_by_where_they_were_met() {
        let outcome = |fields: &[&str]| Outcome {
            known: ["x both", "x one", "x none", "y other"]
                .map(str::to_owned)
                .into(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            ..Outcome::default()
        };
        let outcomes = [outcome(&["x both", "x one"]), outcome(&["x both"])];
        let mut page = String::new();
        let outcomes: Vec<&Outcome> = outcomes.iter().collect();
        fields(&mut page, "x", &["old", "new"], &outcomes);
        for part in ["On all: `both`.", "On none: `none`.", "| one | yes |  |"] {
            assert!(page.contains(part), "no {part:?} in {page}");
        }
        assert!(!page.contains("other"), "{page}");
    }

    #[test]
    fn probes_are_told_from_the_other_checks() {
        let doctor = concat!(
            "{\"check\":\"kernel\",\"state\":\"pass\",\"found\":\"Linux 6.1\"}\n",
            "{\"check\":\"a\",\"state\":\"pass\",\"found\":\"tp_btf/x attaches\"}\n",
            "{\"check\":\"b\",\"state\":\"warn\",\"found\":\"tp_btf/y instead: no x\"}\n",
            "{\"check\":\"c\",\"state\":\"warn\",\"found\":\"not recorded: why\"}\n",
            "not json\n",
        );
        let probes: Vec<(String, String)> = probes(doctor).into_iter().collect();
        let expected = [
            ("a", "tp_btf/x"),
            ("b", "tp_btf/y instead: no x"),
            ("c", "not recorded: why"),
        ];
        let expected = expected.map(|(check, hook)| (check.to_owned(), hook.to_owned()));
        assert_eq!(probes, expected);
    }
}
