//! `cargo xtask miri`: runs unit tests under an interpreter that finds what the compiler may not be told: reads of what is not
//! there, races, and references that overlap.
//!
//! Run are those of the wire ABI, of the ring, and of a list of modules that read bytes, count and decide. The rest is printed with
//! the reason that it is left out; a test keeps the lists complete.
//!
//! On demand: it takes a nightly toolchain with the interpreter, which not every machine may fetch. It knows no foreign code, no
//! mapped files and few system calls; `pages_miri.rs` has the arena's memory from the allocator.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::exec::{answer, exec, output, without_cargo};
use crate::paths;

/// What threads share, reads bytes, counts and decides: the beginnings of the names of the tests that run.
const RUN: &[&str] = &[
    "api::query",
    "api::range",
    "budget::contract",
    "budget::controller",
    "budget::limit",
    "cli::text",
    "cli::when",
    "compare",
    "config::socket",
    "config::suggest",
    "death",
    "doctor::clock",
    "dump::name",
    "dump::survey",
    "event",
    "export",
    "harmless",
    "health",
    "identity::placement",
    "identity::program",
    "identity::table",
    "identity::tests",
    "identity::users",
    "incident::cooldown",
    "incident::fingerprint",
    "incident::limits",
    "ingest::budget",
    "ingest::savings",
    "ingest::tap",
    "ingest::throttle",
    "kernel",
    "live::fanout",
    "plan",
    "read::damage",
    "read::wire",
    "redact",
    "report::gather",
    "report::tests",
    "ring::tests",
    "rules::count",
    "sample::memory",
    "sample::pattern",
    "sample::pressure",
    "sample::rate",
    "sample::text",
];

/// Modules of which no test runs, and why. What takes long took about half a minute for a test, or more, on a busy machine.
const OUT: &[(&str, &str)] = &[
    ("agent", "not tried"),
    (
        "api::events",
        "needs the clock that counts while the machine sleeps",
    ),
    ("api::metrics", "takes long"),
    ("api::peer", "needs options of sockets"),
    ("api::server", "not tried"),
    ("budget::measure", "takes long"),
    ("cli::extract", "not tried"),
    ("cli::man", "not tried"),
    ("cli::serve", "not tried"),
    ("cli::show", "takes long"),
    ("cli::tail", "not tried"),
    ("cli::tests", "not tried"),
    ("cli::view", "not tried"),
    ("config::file", "takes long: every flag is built"),
    ("config::settings", "not tried"),
    ("config::tests", "not tried"),
    ("doctor::agent", "not tried"),
    ("doctor::files", "not tried"),
    ("doctor::kernel", "not tried"),
    ("doctor::settings", "takes long"),
    ("dump::tests", "needs zstd, which is C"),
    ("evidence", "not tried"),
    ("identity::builds", "not tried"),
    ("identity::look", "not tried"),
    ("incident::tests", "takes long: conditions are parsed"),
    (
        "ingest::note",
        "needs the clock that counts while the machine sleeps",
    ),
    ("ingest::samples", "not tried"),
    ("live::reader", "not tried"),
    ("notify", "takes long, or not tried"),
    ("read::tests", "needs zstd, which is C"),
    ("report::html", "not tried"),
    ("reserve", "needs pages that are locked"),
    ("rules::tests", "not tried"),
    ("sample::cgroup", "fails in part, not looked into"),
    ("sample::cpu", "not tried"),
    ("sample::disk", "not tried"),
    ("sample::file", "not tried"),
    ("sample::kernel_log", "not tried"),
    ("sample::network", "takes long"),
    ("sample::process", "not tried"),
    ("sample::system", "not tried"),
    ("sandbox", "not tried"),
    ("selftest", "not tried"),
    ("sign", "needs the library `ring`, which is C"),
    ("sim", "needs zstd, which is C"),
    ("store::annotations", "not tried"),
    ("store::budget", "not tried"),
    ("store::catalog", "needs SQLite, which is C"),
    ("store::chain", "not tried"),
    ("store::directory", "not tried"),
    ("store::eviction", "not tried"),
    ("symbol", "not tried"),
    ("view", "not tried"),
];

/// Single tests that do not run, and why.
const NOT: &[(&str, &str)] = &[
    (
        "budget::controller::tests::a_steady_load_makes_it_wait_longer_and_longer_before_it_tries_again",
        "takes long",
    ),
    (
        "death::tests::the_list_has_the_subject_first_and_is_bounded",
        "takes long",
    ),
    ("death::tests::what_is_remembered_is_bounded", "takes long"),
    (
        "harmless::json::tests::a_string_comes_back_and_has_nothing_hostile",
        "takes long",
    ),
    (
        "identity::program::tests::a_program_is_kept_once_and_forgotten_when_room_is_needed",
        "takes long",
    ),
    (
        "identity::program::tests::programs_in_use_are_never_forgotten_and_further_ones_are_refused",
        "takes long",
    ),
    (
        "identity::table::tests::behaves_as_two_queues",
        "takes long",
    ),
    (
        "identity::tests::a_host_whose_exits_are_all_lost_stays_bounded",
        "not tried",
    ),
    (
        "identity::tests::memory_is_bounded_by_the_living_and_not_by_the_time",
        "not tried",
    ),
    (
        "incident::cooldown::tests::forgets_what_has_not_happened_for_longest",
        "takes long",
    ),
    (
        "ingest::tap::tests::a_watcher_who_takes_nothing_costs_no_more_than_the_batches_there_are",
        "not tried",
    ),
    (
        "redact::tests::any_bytes_are_survived_and_only_ever_covered",
        "takes long",
    ),
    (
        "redact::tests::secrets_are_hidden_and_nothing_else",
        "takes long",
    ),
    (
        "redact::tests::the_memory_of_a_stack_is_left_out_and_all_else_stays",
        "not tried with fewer lengths",
    ),
    (
        "report::tests::a_series_is_thinned_and_split_at_the_trigger",
        "takes long",
    ),
    (
        "report::tests::accounting_is_bounded_and_adds_up",
        "not tried",
    ),
    (
        "ring::tests::abandoned::a_ring_is_read_while_it_is_written",
        "needs a file that is read while it is mapped",
    ),
    (
        "ring::tests::abandoned::neither_a_directory_nor_a_pipe_nor_nothing_is_a_ring",
        "needs pipes with names",
    ),
    (
        "ring::tests::allocations::recording_allocates_nothing_and_faults_no_page",
        "needs page faults",
    ),
    (
        "ring::tests::allocations::the_counter_counts",
        "needs page faults",
    ),
    (
        "ring::tests::twin::a_twin_holds_what_the_ring_held_at_the_last_flush",
        "needs a file that is read while it is mapped",
    ),
    (
        "ring::tests::twin::a_twin_of_no_ring_or_in_no_directory_is_refused",
        "needs a file that is read while it is mapped",
    ),
    (
        "ring::tests::twin::whatever_a_disk_does_to_a_twin_no_record_comes_back_that_was_never_pushed",
        "needs a file that is read while it is mapped",
    ),
    (
        "ring::tests::twin::when_power_goes_between_two_flushes_nothing_of_the_first_is_lost",
        "needs a file that is read while it is mapped",
    ),
    (
        "ring::tests::unit::the_file_has_blocks_for_all_of_its_size",
        "needs the blocks of a file",
    ),
    (
        "ring::tests::unit::the_file_tells_a_later_reader_all_it_needs",
        "needs a file that is read while it is mapped",
    ),
    (
        "rules::count::tests::the_group_that_has_not_matched_for_longest_is_forgotten",
        "not tried",
    ),
];

/// Tests in which threads race.
const THREADS: &str = "ring::tests::threads";

/// How often a test of random input runs that does not say so itself.
const CASES: &str = "4";

/// Options of `cargo xtask miri`.
#[derive(Args)]
pub struct Options {
    /// Run only the tests whose name contains this
    pub filter: Option<String>,
    /// In how many orders the tests with threads run
    #[arg(long, default_value_t = 16)]
    pub seeds: u32,
}

/// Runs `cargo xtask miri`.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = find()?;
    let out = match options.filter {
        Some(_) => &[],
        None => OUT,
    };
    for (what, why) in out.iter().chain(NOT) {
        eprintln!("left out: {what}: {why}");
    }
    let agent = |flags: &str| {
        let mut tests = miri(&toolchain, flags, "recorder");
        tests.args(["--no-default-features", "--"]);
        tests
    };
    // Whole names: to look for parts of names in names takes the interpreter minutes.
    let exact = |flags: &str, names: &[&str]| {
        // Without a name, all would run.
        ensure!(!names.is_empty(), "no test that can run has such a name");
        exec(agent(flags).arg("--exact").args(names))
    };
    let list = output(agent("").arg("--list"))?;
    let names = named(&list);
    if let Some(filter) = &options.filter {
        return exact("", &containing(&names, filter));
    }
    let mut chosen = selected(&names)?;
    exec(&mut miri(&toolchain, "", "recorder-ebpf"))?;
    exact("", &chosen)?;
    chosen.retain(|name| is_in(name, THREADS));
    let seeds = format!("-Zmiri-many-seeds=0..{}", options.seeds);
    exact(&seeds, &chosen)
}

/// Returns the names in what the test harness prints when it is asked for a list.
fn named(list: &str) -> Vec<&str> {
    let lines = list.lines();
    lines
        .filter_map(|line| line.strip_suffix(": test"))
        .collect()
}

/// Whether a test of this name is in `module` or below.
fn is_in(name: &str, module: &str) -> bool {
    let rest = name.strip_prefix(module);
    rest.is_some_and(|rest| rest.starts_with("::"))
}

fn is_left_out(name: &str) -> bool {
    NOT.iter().any(|(out, _)| *out == name)
}

/// Returns those of the tests that run. Each beginning stands for some, and each that is left out is there.
fn selected<'a>(names: &[&'a str]) -> Result<Vec<&'a str>> {
    for module in RUN {
        let found = names.iter().any(|name| is_in(name, module));
        ensure!(found, "{module} has no tests any more");
    }
    for (out, _) in NOT {
        ensure!(names.contains(out), "{out} is no test any more");
    }
    let runs = |name: &&&str| {
        let listed = RUN.iter().any(|module| is_in(name, module));
        listed && !is_left_out(name)
    };
    Ok(names.iter().filter(runs).copied().collect())
}

/// Returns those of the tests with `part` in their name, wherever they are, that are not left out one by one.
fn containing<'a>(names: &[&'a str], part: &str) -> Vec<&'a str> {
    let with = names.iter().filter(|name| name.contains(part));
    with.filter(|name| !is_left_out(name)).copied().collect()
}

/// Finds a toolchain with the interpreter and the source of the standard library, by its name.
fn find() -> Result<String> {
    let list = answer(Command::new("rustup").args(["toolchain", "list", "--quiet"]));
    let list = list.unwrap_or_default();
    let mut names = list.lines().filter_map(|line| line.split(' ').next());
    let found = names.find(|name| {
        let run = |words: &[&str]| {
            let mut command = without_cargo("rustup");
            command.env_remove("RUSTUP_TOOLCHAIN");
            answer(command.args(["run", name]).args(words))
        };
        let has_source = || {
            let sysroot = run(&["rustc", "--print", "sysroot"]);
            sysroot.is_some_and(|root| Path::new(&root).join("lib/rustlib/src/rust").exists())
        };
        run(&["cargo", "miri", "--version"]).is_some()
            && (env::var_os("MIRI_LIB_SRC").is_some() || has_source())
    });
    found.map(str::to_owned).context(
        "no toolchain has miri and the source of the standard library: rustup component add --toolchain nightly miri rust-src",
    )
}

/// Returns the command that runs tests of the library of `package` under the interpreter.
fn miri(toolchain: &str, flags: &str, package: &str) -> Command {
    let mut command = without_cargo("rustup");
    command
        .current_dir(paths::root())
        .env_remove("RUSTUP_TOOLCHAIN")
        // Files and clocks are those of the host.
        .env(
            "MIRIFLAGS",
            format!("-Zmiri-disable-isolation {flags}").trim_end(),
        )
        .env("PROPTEST_CASES", CASES)
        .args(["run", toolchain, "cargo", "miri", "test", "--lib"])
        .args(["--package", package, "--target-dir"])
        .arg(paths::target().join("miri"));
    command
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Modules below `directory` with tests, as their names begin.
    fn tested(directory: &Path, module: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("it is there") {
            let path = entry.expect("it can be read").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let stem = stem.expect("names are text");
            let inner = match stem {
                "mod" | "lib" | "main" => module.to_owned(),
                _ => format!("{module}{stem}::"),
            };
            if path.is_dir() {
                tested(&path, &inner, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("it is text");
                if text.contains("#[test]") {
                    found.push(inner);
                }
            }
        }
    }

    #[test]
    fn every_module_runs_or_is_left_out_with_a_reason() {
        let mut modules = Vec::new();
        tested(&paths::root().join("recorder/src"), "", &mut modules);
        let is_of = |name: &str, module: &str| is_in(module, name);
        let out: Vec<_> = OUT.iter().map(|(name, _)| *name).collect();
        for module in &modules {
            let runs = RUN.iter().any(|name| is_of(name, module));
            // A file `a/mod.rs` has `a::tests`, which may be left out where files beside it run.
            let module = &format!("{module}tests::");
            let is_out = out.iter().any(|name| is_of(name, module));
            assert!(runs != is_out, "{module} is in one of the lists");
        }
        for name in [RUN, &out].concat() {
            let names_any = |module: &String| is_of(name, &format!("{module}tests::"));
            assert!(modules.iter().any(names_any), "{name} has tests");
        }
    }

    #[test]
    fn names_are_those_of_tests_and_nothing_else() {
        let list = "a::tests::b: test\na::c - d: test\ne: benchmark\n\n2 tests, 1 benchmark\n";
        assert_eq!(named(list), ["a::tests::b", "a::c - d"]);
    }

    /// A list in which the lists above are complete, with a test for each module.
    fn all() -> Vec<String> {
        let runs = RUN
            .iter()
            .map(|module| format!("{module}::tests::it_works"));
        let out = OUT
            .iter()
            .map(|(module, _)| format!("{module}::tests::it_works"));
        let not = NOT.iter().map(|(test, _)| (*test).to_owned());
        runs.chain(out).chain(not).collect()
    }

    #[test]
    fn what_is_listed_runs_and_what_is_left_out_does_not() {
        let all = all();
        let mut names: Vec<_> = all.iter().map(String::as_str).collect();
        let odd = ["doctor::kernel::tests::a", "kernels::tests::a", "planning"];
        names.extend(odd);
        let run = selected(&names).expect("the lists are complete");
        assert_eq!(run, all[..RUN.len()]);
        // By its name, what is not listed runs as well.
        assert_eq!(containing(&names, "kernel::tests::a"), odd[..1]);
        let (out, _) = NOT[0];
        assert!(containing(&names, out).is_empty());
    }

    #[test]
    fn a_list_that_names_what_is_gone_is_an_error() {
        let all = all();
        let names: Vec<_> = all.iter().map(String::as_str).collect();
        let error = selected(&names[1..]).expect_err("its module has no test");
        assert_eq!(
            error.to_string(),
            format!("{} has no tests any more", RUN[0])
        );
        let (out, _) = NOT[NOT.len() - 1];
        let error = selected(&names[..names.len() - 1]).expect_err("it is not there");
        assert_eq!(error.to_string(), format!("{out} is no test any more"));
    }

    #[test]
    fn what_is_left_out_by_name_is_in_a_module_that_runs() {
        for (name, _) in NOT {
            assert!(RUN.iter().any(|module| is_in(name, module)), "{name}");
        }
    }
}
