//! `recorder selftest`: what it proves, what it says when it cannot, and that nothing of it stays behind.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use recorder_tests::{Agent, Json, Need, Options, output, ready, recorder};

/// What a whole self-test needs of the host.
const NEEDS: [Need; 5] = [
    Need::Root,
    Need::Btf,
    Need::Agent,
    Need::Loop,
    Need::MemoryCgroup,
];

fn step<'a>(steps: &'a [Json], name: &str) -> &'a Json {
    let step = steps
        .iter()
        .find(|step| step.get("step") == Some(&name.into()));
    step.unwrap_or_else(|| panic!("no step {name}: {steps:#?}"))
}

fn expect_all_pass(steps: &[Json]) {
    for name in ["agent", "crash", "memory", "disk"] {
        step(steps, name).expect("state", "pass");
    }
}

/// Returns what is there of self-tests: directories, and cgroups.
fn leftovers() -> Vec<String> {
    let roots = [
        std::env::temp_dir(),
        "/sys/fs/cgroup".into(),
        "/sys/fs/cgroup/memory".into(),
    ];
    let entries = roots.iter().filter_map(|root| fs::read_dir(root).ok());
    entries
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("recorder-selftest-"))
        .collect()
}

#[test]
fn without_an_agent_it_brings_its_own_and_leaves_nothing() {
    if !ready(&NEEDS) {
        return;
    }
    let before = leftovers();
    let start = Instant::now();
    let mut selftest = recorder(["selftest", "--json"]);
    selftest.env("RECORDER_RUN_DIR", "/nonexistent/recorder");
    let steps = output(&mut selftest).expect_code(0).json_lines();
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    expect_all_pass(&steps);
    for name in ["crash", "memory", "disk"] {
        let dump = step(&steps, name)
            .get("dump")
            .expect("it has a dump")
            .clone();
        let dump = dump.as_str().expect("a path").to_owned();
        assert!(!Path::new(&dump).exists(), "{dump}");
    }
    assert_eq!(leftovers(), before);
}

#[test]
fn the_running_agent_passes_it_twice_in_a_row_and_keeps_no_dump_of_it() {
    if !ready(&NEEDS) {
        return;
    }
    // The disk of both tests may be the same device: the cooldown must not fool the second.
    let agent = Agent::start_with(&Options {
        cooldown: "60s",
        ..Options::default()
    });
    for _ in 0..2 {
        let steps = agent
            .run(["selftest", "--json"])
            .expect_code(0)
            .json_lines();
        expect_all_pass(&steps);
        let found = step(&steps, "agent")
            .get("found")
            .expect("it says which")
            .to_string();
        assert!(found.contains(&agent.pid().to_string()), "{found}");
    }
    let left = agent.run(["list", "--json"]).expect_code(0).json_lines();
    let ours = |dump: &&Json| dump.to_string().contains("selftest-");
    assert_eq!(left.iter().filter(ours).count(), 0, "{left:#?}");
}

#[test]
fn dumps_that_are_kept_verify() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start();
    let steps = agent
        .run(["selftest", "--keep", "--json"])
        .expect_code(0)
        .json_lines();
    expect_all_pass(&steps);
    let dump = step(&steps, "crash")
        .get("dump")
        .expect("it has one")
        .clone();
    let dump = dump.as_str().expect("a path").to_owned();
    agent.run(["verify", &dump]).expect_code(0);
    let shown = agent.run(["show", &dump]).expect_code(0);
    assert!(shown.text().contains("0x5e1f"), "{shown}");
    // Nobody takes it for what it looks like.
    let tagged = agent.run(["list", "--tag", "selftest", "--json"]);
    let tagged = tagged.expect_code(0).json_lines();
    assert!(
        tagged.iter().any(|one| one.str("path") == dump),
        "{tagged:?}"
    );
}

#[test]
fn an_agent_that_writes_nothing_fails_it() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start_with(&Options {
        after: "100ms",
        ..Options::default()
    });
    // Its dumps have nowhere to go.
    let dumps = agent.dumps_directory();
    fs::remove_dir_all(&dumps).expect("ours");
    fs::write(&dumps, "in the way").expect("ours");
    let failed = agent.run(["selftest", "--json"]);
    assert!(matches!(failed.code, Some(1 | 3)), "{failed}");
    assert!(!failed.stderr.contains("panicked"), "{failed}");
}

#[test]
fn nobody_without_privileges_is_told_that_it_works() {
    if !ready(&[Need::Root, Need::Agent]) {
        return;
    }
    use std::os::unix::process::CommandExt as _;
    let directory = recorder_tests::host::public_directory();
    let mut selftest = recorder(["selftest"]);
    selftest
        .env("RECORDER_RUN_DIR", directory.path().join("none"))
        .uid(65534)
        .gid(65534);
    output(&mut selftest).expect_code(4);
}
