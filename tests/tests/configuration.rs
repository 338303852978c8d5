//! Configurations that cannot be: each is told in one sentence with its place, nothing starts with it, and what runs goes on.

use std::fs;

use recorder_tests::{Agent, Need, Options, Program, output, ready, recorder};
use tempfile::TempDir;

const USAGE: i32 = 2;

/// What is written, and what is said of it behind the name of the file.
const BROKEN: &[(&str, &str)] = &[
    ("[window\nbefore = \"1m\"\n", ":1: "),
    (
        "[window]\nbefore = 60\n",
        ":2: window.before: write a time with its unit",
    ),
    (
        "[window]\nbefor = \"1m\"\n",
        ":2: unknown key \"window.befor\": did you mean \"window.before\"?",
    ),
    (
        "[windows]\nbefore = \"1m\"\n",
        ":1: unknown key \"windows\": did you mean \"window\"?",
    ),
    (
        "before = \"1m\"\n",
        ":1: unknown key \"before\": did you mean \"window.before\"?",
    ),
    (
        "[window]\nbefore = \"48h\"\n",
        "--before 172800 s: at most one day",
    ),
    (
        "[window]\nbefore = \"5m\"\n[memory]\nmax_age = \"1m\"\n",
        "less than the 300 s that a window reaches back",
    ),
    (
        "[dumps]\nmax_bytes = \"64MiB\"\nmax_dump_bytes = \"64MiB\"\n",
        "cannot hold two dumps",
    ),
    (
        "[limits]\nbytes_per_day = \"1MiB\"\n",
        "is less than one dump",
    ),
    ("[dumps]\nmax_count = 0\n", "at least one dump is kept"),
    (
        "[budget]\ncpu = 1\n",
        ":2: budget.cpu: write a share of one core in percent: \"1%\"",
    ),
    (
        "[budget]\ncpu = \"half\"\n",
        ":2: budget.cpu: write a share of one core in percent, from 0.01% on",
    ),
    (
        "[budget]\nprobe_ns = -1\n",
        ":2: budget.probe_ns: write a number that is not negative",
    ),
    (
        "[budget]\nprobe_ns = 3\n",
        "--budget-probe-ns 3: must be 0, or at least 50",
    ),
    (
        "[budget]\nmemory = \"64KiB\"\n",
        "--budget-memory 64 KiB: must be 0, or at least 1 MiB",
    ),
    (
        "[budget]\ncpus = \"1%\"\n",
        ":2: unknown key \"budget.cpus\": did you mean \"budget.cpu\"?",
    ),
    (
        "[[rule]]\nname = \"r\"\nevent = \"io.error\"\nbefore = \"25h\"\n",
        ":4: rule \"r\": before: at most one day",
    ),
    (
        "[[rule]]\nname = \"r\"\nevent = \"io.error\"\ncount = 3\n",
        ":4: rule \"r\": count: say in what time: within = \"60s\"",
    ),
    (
        "[[rule]]\nname = \"r\"\nevent = \"io.error\"\nwhen = 'sectors >'\n",
        ":4: rule \"r\": when: it is no CEL",
    ),
    (
        "[[rule]]\nname = \"r\"\nevent = \"io.error\"\nwhen = 'sectors'\n",
        ":4: rule \"r\": when: it must be true or false",
    ),
    (
        "[[rule]]\nname = \"r\"\nevent = \"io.error\"\nwen = 'true'\n",
        ":4: unknown key \"rule.wen\": did you mean \"rule.when\"?",
    ),
    (
        "[[rule]]\nevent = \"io.error\"\n",
        ":1: rule: missing field `name`",
    ),
    (
        "[[notify]]\nname = \"n\"\nkind = \"webhook\"\nurl = \"ftp://x\"\n",
        ":1: notify: url: write it as",
    ),
    (
        "[[collector]]\nname = \"c\"\ncommand = []\n",
        ":1: collector \"c\": command: write a program",
    ),
];

#[test]
fn what_cannot_be_is_one_sentence_and_what_runs_goes_on() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-configuration-").expect("there is room");
    let config = directory.path().join("recorder.toml");
    fs::write(&config, "").expect("ours");
    let path = config.to_str().expect("UTF-8");
    let agent = Agent::start_with(&Options::with(["--config", path]));
    let mut wrong = Vec::new();
    for (text, says) in BROKEN {
        fs::write(&config, text).expect("ours");
        let started =
            output(recorder(["run", "--config", path]).env("RECORDER_RUN_DIR", directory.path()));
        let checked = output(&mut recorder(["config", "check", "--config", path]));
        let rules = output(&mut recorder(["rules", "check", "--config", path]));
        for said in [started, checked, rules] {
            let said = said.expect_code(USAGE);
            if said.stderr.lines().count() != 1 || !said.stderr.contains(says) {
                wrong.push(format!("{text:?}: {:?}", said.stderr));
            }
        }
        // Its flags stand above the file: what only they contradict is not there.
        if !says.starts_with(':') {
            continue;
        }
        let reloaded = agent.run(["reload"]).expect_code(1);
        if !reloaded.stderr.contains(says) {
            wrong.push(format!("{text:?}: {:?}", reloaded.stderr));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    agent.status().expect_recording();
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    agent.dump_of(crash.pid());
}
