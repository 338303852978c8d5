//! Incidents are found again, marked, counted and given up as the budgets say.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use recorder_tests::host::{FileSystem, Mounted};
use recorder_tests::{
    Agent, Json, Need, Options, Output, Program, output, ready, recorder, wait_for,
};
use tempfile::TempDir;

/// Returns the id of the dump's incident, as lists show it.
fn short_id(path: &Path) -> String {
    let stem = path.file_stem().expect("dumps have names");
    let stem = stem.to_string_lossy().into_owned();
    stem.rsplit('-').next().expect("an id").to_owned()
}

#[track_caller]
fn list(agent: &Agent, more: &[&str]) -> Vec<Json> {
    let arguments = [&["list", "--json"], more].concat();
    agent.run(arguments).expect_code(0).json_lines()
}

fn ids(listed: &[Json]) -> Vec<String> {
    let short = |line: &Json| line.str("id").chars().skip(28).collect();
    listed.iter().map(short).collect()
}

fn quick(more: &[&str]) -> Options {
    Options {
        after: "20ms",
        ..Options::with([&["--evidence", "false"], more].concat())
    }
}

#[test]
fn what_stands_out_in_a_dump_is_a_tag_until_somebody_takes_it_away() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&quick(&[]));
    let program = Program::named("loops");
    for _ in 0..3 {
        program.run(["segv-write", "0x1234"]);
    }
    let dump = agent.trigger("what was that?");
    let id = short_id(dump.path());
    let tags = || {
        let listed = list(&agent, &["--rule", "manual"]);
        let tags = listed[0].get("tags").cloned();
        tags.unwrap_or_default().to_string()
    };
    wait_for("it is tagged", || tags().contains("crash-loop"));
    let found = list(&agent, &["--tag", "crash-loop", "--rule", "manual"]);
    assert_eq!(found.len(), 1);
    agent.run(["untag", &id, "crash-loop"]).expect_code(0);
    agent.run(["tag", &id, "mine"]).expect_code(0);
    let is_as_it_was_left = || tags().contains("mine") && !tags().contains("crash-loop");
    assert!(is_as_it_was_left(), "{}", tags());
    // Also by a catalog that is made again from the dumps.
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(agent.state_directory().join(name));
    }
    assert!(is_as_it_was_left(), "{}", tags());
}

#[test]
fn an_incident_is_found_marked_and_removed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&quick(&[]));
    let crash = Program::named("found-again").run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(crash.pid());
    let other = agent.trigger("another");
    let (id, other_id) = (short_id(dump.path()), short_id(other.path()));
    for (filter, expected) in [
        (&["--comm", "found-again"][..], vec![id.clone()]),
        (&["--rule", "manual"], vec![other_id.clone()]),
        (
            &["--since", "1h", "--until", "now"],
            vec![id.clone(), other_id.clone()],
        ),
        (&["--until", "yesterday"], vec![]),
        (&["--limit", "1"], vec![other_id.clone()]),
        (&["--tag", "disk"], vec![]),
        (&["--subject", "found-again"], vec![id.clone()]),
        (
            &["--fingerprint", dump.incident().str("fingerprint")],
            vec![id.clone()],
        ),
    ] {
        assert_eq!(ids(&list(&agent, filter)), expected, "{filter:?}");
    }
    agent.run(["tag", &id, "disk", "mine"]).expect_code(0);
    let tagged = agent.run(["untag", &id, "mine", "--json"]).expect_code(0);
    assert!(
        tagged
            .json()
            .all("tags")
            .iter()
            .any(|tag| tag.to_string() == "\"disk\"")
    );
    agent
        .run(["note", &id, "the", "cable\u{1b}[31m"])
        .expect_code(0);
    agent.run(["pin", &id]).expect_code(0);
    agent.run(["tag", &id, "two words"]).expect_code(2);
    for filter in [&["--tag", "disk"], &["--pinned"][..]] {
        assert_eq!(ids(&list(&agent, filter)), [id.as_str()], "{filter:?}");
    }
    // What vouches for the dump still does.
    output(recorder(["verify"]).arg(dump.path())).expect_code(0);
    // Neither is lost with the catalog.
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(agent.state_directory().join(name));
    }
    let info = agent.run(["info", &id]).expect_code(0);
    for expected in ["the cable\\u{1b}[31m", "disk", "pinned", "found-again"] {
        assert!(info.text().contains(expected), "no {expected:?} in {info}");
    }
    agent
        .run(["info", "latest", "--json"])
        .expect_code(0)
        .json()
        .expect("state", "kept");
    // Any id begins with the digits of this time.
    agent
        .run(["show", &list(&agent, &[])[0].str("id")[..8]])
        .expect_code(1)
        .expect_note(&other_id);
    agent.run(["rm", &id]).expect_code(1).expect_note("unpin");
    agent.run(["unpin", &id]).expect_code(0);
    agent.run(["rm", &id]).expect_code(0);
    assert!(!dump.path().exists() && !dump.path().with_extension("notes.json").exists());
    assert_eq!(ids(&list(&agent, &["--all"])), [other_id.as_str()]);
}

#[test]
fn what_is_evicted_stays_known_and_what_is_pinned_stays() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&quick(&["--dumps-max-count", "2"]));
    let pinned = agent.trigger("pinned");
    agent.run(["pin", "latest"]).expect_code(0);
    let evicted = agent.trigger("evicted");
    let id = short_id(evicted.path());
    agent.run(["tag", "latest", "mine"]).expect_code(0);
    let last = agent.trigger("last");
    assert!(pinned.path().exists() && last.path().exists() && !evicted.path().exists());
    let gone = list(&agent, &["--evicted"]);
    assert_eq!(ids(&gone), [id.as_str()]);
    gone[0].expect("state", "evicted");
    gone[0].expect("incident.reason", "evicted");
    assert!(!gone[0].all("tags").is_empty(), "{}", gone[0]);
    agent
        .run(["show", &id])
        .expect_code(1)
        .expect_note("recorder info");
    agent.run(["info", &id]).expect_code(0);
    agent.wait_for_status("one evicted", |status| status.count("dumps.evicted") == 1);
    // Pins that fill the budget are said once, and do not stop the newest.
    agent.run(["pin", "latest"]).expect_code(0);
    agent.trigger("beyond the budget");
    agent.trigger("again");
    let status = agent.wait_for_status("a warning", |status| {
        status.get("dumps.warning").is_some() && status.count("dumps.written") == 5
    });
    assert!(status.str("dumps.warning").contains("--pinned"), "{status}");
    let notes = agent.notes();
    let said = notes.iter().filter(|note| note.contains("list --pinned"));
    assert_eq!(said.count(), 1, "{notes:#?}");
    assert_eq!(list(&agent, &[]).len(), 3);
    assert_eq!(list(&agent, &["--all"]).len(), 5);
}

#[test]
fn many_commands_at_once_agree_with_the_agent() {
    if !ready(&Need::RECORDING) {
        return;
    }
    const AT_ONCE: usize = 6;
    const EACH: usize = 5;
    let agent = Agent::start_with(&quick(&["--dumps-max-count", "4"]));
    let first = agent.trigger("first");
    let id = short_id(first.path());
    agent.run(["pin", &id]).expect_code(0);
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (agent, id) = (&agent, &id);
            scope.spawn(move || {
                for number in 0..EACH {
                    let tag = format!("tag-{worker}-{number}");
                    agent.run(["tag", id, &tag]).expect_code(0);
                    let listed = list(agent, &["--tag", &tag]);
                    assert_eq!(ids(&listed), [id.as_str()]);
                }
            });
        }
        for number in 0..8 {
            agent.trigger(&format!("number {number}"));
        }
    });
    let listed = list(&agent, &["--all"]);
    assert_eq!(listed.len(), 9, "{listed:#?}");
    let tags = listed[0]
        .get("tags")
        .cloned()
        .unwrap_or_default()
        .to_string();
    // What stands out on a busy host is a tag as well.
    assert_eq!(tags.matches("\"tag-").count(), AT_ONCE * EACH, "{tags}");
    assert_eq!(list(&agent, &["--evicted"]).len(), 5);
    let locked = |note: &String| note.contains("locked") || note.contains("corrupt");
    assert!(!agent.notes().iter().any(locked), "{:#?}", agent.notes());
}

#[test]
fn what_made_no_dump_is_counted() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        cooldown: "1s",
        ..quick(&["--limit-dumps-per-hour", "1"])
    });
    let program = Program::named("again-and-again");
    let crash = || program.run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(crash().pid());
    for _ in 0..4 {
        crash();
    }
    thread::sleep(Duration::from_millis(1500));
    // Over the limit: known, and without a dump.
    let other = Program::named("over-the-limit").run(["segv-write", "0x1234"]);
    agent.wait_for_status("a limited one", |status| {
        status.count("incidents.limited") > 0
    });
    let wait = Instant::now();
    let listed = loop {
        let listed = list(&agent, &[]);
        if listed.len() == 2 && listed[0].number("repeats") == 4 {
            break listed;
        }
        assert!(wait.elapsed().as_secs() < 10, "{listed:#?}");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ids(&listed)[0], short_id(dump.path()));
    listed[1].expect("state", "unwritten");
    listed[1].expect("incident.subject.pid", other.pid());
    assert!(
        listed[1].str("why").contains("dumps_per_hour"),
        "{}",
        listed[1]
    );
    let trends = agent
        .run(["trends", "--by", "subject", "--json"])
        .expect_code(0);
    let trends = trends.json_lines();
    let first = &trends[0];
    first.expect("key", "again-and-again");
    first.expect("incidents", 1);
    first.expect("repeats", 4);
    first.expect("new", true);
    let new = agent.run(["trends", "--by", "day", "--new-since", "yesterday"]);
    assert_eq!(new.expect_code(0).text().lines().count(), 2);
}

/// A small file system, with a directory for an agent whose state is in it.
fn small(bytes: u64) -> (TempDir, Mounted) {
    let directory = TempDir::with_prefix("recorder-catalog-").expect("there is room");
    let state = directory.path().join("state");
    fs::create_dir(&state).expect("ours");
    let disk = FileSystem::in_memory(bytes).mount(&state);
    (directory, disk)
}

const KEEP_FREE: u64 = 2 << 20;

fn on_small(more: &[&str]) -> Options {
    let always = [
        "--max-dump-bytes",
        "4MiB",
        "--dumps-max-bytes",
        "64MiB",
        "--dumps-keep-free",
        "2MiB",
    ];
    Options {
        before: "60s",
        ..quick(&[&always, more].concat())
    }
}

#[test]
fn a_small_file_system_keeps_its_free_space() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let (directory, disk) = small(8 << 20);
    // A quarter of it is as much as the bytes.
    let agent = Agent::start_in(
        directory.path(),
        &on_small(&["--dumps-keep-free-percent", "25"]),
    );
    Program::workload().run(["flood", "20000"]);
    for number in 0..12 {
        let dump = agent.trigger(&format!("number {number}"));
        assert!(dump.path().exists());
        let free = disk.free_bytes();
        assert!(free >= KEEP_FREE, "{free} bytes free after dump {number}");
    }
    let evicted = list(&agent, &["--evicted"]);
    assert!(!evicted.is_empty());
    assert!(
        evicted[0].str("why").contains("file system"),
        "{}",
        evicted[0]
    );
    agent.run(["verify", "latest"]).expect_code(0);
}

#[test]
fn a_disk_that_somebody_else_fills_costs_no_older_dump_and_no_recording() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let (directory, disk) = small(16 << 20);
    let agent = Agent::start_in(directory.path(), &on_small(&["--dumps-fallback", "none"]));
    let before = agent.trigger("before");
    disk.fill();
    let filler = disk.path("filler");
    agent
        .run(["trigger", "--reason", "while it is full"])
        .expect_code(0);
    let status = agent.wait_for_status("a failure", |status| status.count("dumps.failed") == 1);
    assert!(
        status.str("dumps.last_error").contains("--dumps-keep-free"),
        "{status}"
    );
    assert!(before.path().exists(), "it would not have helped");
    fs::remove_file(filler).expect("ours");
    let after = agent.trigger("after");
    let listed = list(&agent, &[]);
    let ids = ids(&listed);
    assert_eq!(
        (&ids[0], ids.last()),
        (&short_id(before.path()), Some(&short_id(after.path())))
    );
    // Known, if the catalog had room for it.
    for line in listed
        .iter()
        .filter(|line| line.str("state") == "unwritten")
    {
        line.expect("incident.reason", "while it is full");
    }
}

#[track_caller]
fn expect_one_sentence(output: &Output) {
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(!output.stderr.contains("panicked"), "{output}");
}

#[test]
fn a_read_only_file_system_is_read_and_recording_goes_on() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let (directory, disk) = small(16 << 20);
    let options = on_small(&["--dumps-max-count", "1", "--dumps-fallback", "none"]);
    let mut agent = Agent::start_in(directory.path(), &options);
    agent.trigger("evicted");
    let dump = agent.trigger("kept");
    let id = short_id(dump.path());
    assert_eq!(agent.stop().code(), Some(0));
    disk.set_read_only(true);
    let state = directory.path().join("state");
    let run = |arguments: &[&str]| output(recorder(arguments).env("RECORDER_STATE_DIR", &state));
    // With what is known of those that are gone.
    let listed = run(&["list", "--all", "--json"]).expect_code(0);
    assert_eq!(listed.json_lines().len(), 2, "{listed}");
    run(&["verify", &id]).expect_code(0);
    expect_one_sentence(&run(&["pin", &id]).expect_code(1));
    expect_one_sentence(&run(&["rm", &id]).expect_code(1));
    let agent = Agent::start_in(directory.path(), &options);
    agent
        .run(["trigger", "--reason", "to nowhere"])
        .expect_code(0);
    // The window that the first agent left has no place either.
    let status = agent.wait_for_status("a failure", |status| {
        let error = status.get("dumps.last_error");
        error.is_some_and(|error| error.to_string().contains("to nowhere"))
    });
    assert!(
        status.str("dumps.last_error").contains("Read-only"),
        "{status}"
    );
    disk.set_read_only(false);
    assert!(agent.trigger("writable again").path().exists());
}

#[test]
fn a_corrupt_catalog_costs_nothing_and_is_said_once() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&quick(&[]));
    let dump = agent.trigger("before");
    let file = agent.state_directory().join("catalog.db");
    // After the agent has written it.
    agent.run(["tag", "latest", "mine"]).expect_code(0);
    fs::write(&file, "x".repeat(8192)).expect("ours");
    let listed = agent.run(["list", "--json"]).expect_code(0);
    // Whoever came first, the agent or this one, has said it.
    let is_said = || agent.notes().iter().any(|note| note.contains("corrupt"));
    wait_for("it is said", || {
        listed.stderr.contains("corrupt") || is_said()
    });
    assert_eq!(ids(&listed.json_lines()), [short_id(dump.path())]);
    let again = agent.run(["list", "--tag", "mine"]).expect_code(0);
    assert!(!again.stderr.contains("corrupt"), "{again}");
    fs::write(&file, "x".repeat(8192)).expect("ours");
    agent.trigger("after");
    assert_eq!(list(&agent, &[]).len(), 2);
    agent.wait_for_status("both", |status| status.count("dumps.written") == 2);
    let aside = fs::read_dir(agent.state_directory()).expect("ours");
    let names = aside.map(|file| file.expect("ours").file_name());
    let count = names
        .filter(|name| name.to_string_lossy().starts_with("catalog.db.corrupt-"))
        .count();
    // What is written over an open file may be half undone by who has it open: each time one more is kept.
    assert!((1..=4).contains(&count), "{count}");
}

#[test]
fn a_catalog_of_a_newer_version_is_left_alone_and_dumps_are_written() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-newer-").expect("there is room");
    let mut first = Agent::start_in(directory.path(), &quick(&[]));
    first.trigger("known");
    assert_eq!(first.stop().code(), Some(0));
    let file = first.state_directory().join("catalog.db");
    let mut bytes = fs::read(&file).expect("it is there");
    // Where SQLite keeps the version of what it is used for.
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&file, &bytes).expect("ours");
    let second = Agent::start_in(directory.path(), &quick(&[]));
    second.trigger("new");
    let listed = second.run(["list", "--json"]).expect_code(0);
    // The second has kept the first one's window, too.
    assert_eq!(listed.json_lines().len(), 3, "{listed}");
    assert!(listed.stderr.contains("newer"), "{listed}");
    assert_eq!(listed.stderr.lines().count(), 1, "{listed}");
    let notes = second.notes();
    let told = notes.iter().filter(|note| note.contains("newer")).count();
    assert_eq!(told, 1, "{notes:?}");
    assert_eq!(
        fs::read(&file).expect("it is there"),
        bytes,
        "it is as it was"
    );
}

#[test]
fn links_in_the_directory_of_dumps_are_not_followed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&quick(&["--dumps-max-count", "1"]));
    let dump = agent.trigger("planted beside");
    let outside = agent.state_directory().join("outside");
    fs::write(&outside, "precious").expect("ours");
    let dumps = agent.dumps_directory();
    symlink(&outside, dumps.join("planted.mcap")).expect("ours");
    // The agent may have proposed tags meanwhile.
    let notes = dump.path().with_extension("notes.json");
    while symlink(&outside, &notes).is_err() {
        fs::remove_file(&notes).expect("ours");
    }
    assert_eq!(list(&agent, &[]).len(), 1);
    agent.run(["tag", "latest", "mine"]).expect_code(1);
    // Who knows what it said: with it the dump would count as pinned.
    fs::remove_file(dump.path().with_extension("notes.json")).expect("ours");
    let backup = agent.state_directory().join("backup.mcap");
    fs::hard_link(dump.path(), &backup).expect("ours");
    agent.trigger("evicts the first");
    assert!(!dump.path().exists() && backup.exists());
    assert_eq!(fs::read_to_string(&outside).expect("ours"), "precious");
}

#[test]
fn a_plan_says_what_a_window_costs() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&quick(&[]));
    Program::workload().run(["flood", "2000"]);
    // However slow the machine is, it has not room for so long at this rate.
    let arguments = ["plan", "--seconds", "1", "--window", "12h", "--json"];
    let plan = agent.run(arguments).expect_code(0).json();
    plan.expect("measured_by", "agent");
    plan.expect("wanted_seconds", 43_200.0);
    let lanes = plan.all("lanes");
    assert_eq!(lanes.len(), 3);
    let lifecycle = &lanes[1];
    assert!(
        lifecycle.number("wanted_bytes") > lifecycle.number("budget_bytes"),
        "{plan}"
    );
    plan.expect("is_enough", false);
    let text = agent.run(&arguments[..5]).expect_code(0);
    assert!(text.text().contains("raise --lifecycle-bytes"), "{text}");
    drop(agent);
    let directory = TempDir::with_prefix("recorder-catalog-").expect("there is room");
    let mut alone = recorder(["plan", "--seconds", "1", "--json"]);
    let plan = output(
        alone
            .env("RECORDER_STATE_DIR", directory.path())
            .env("RECORDER_RUN_DIR", directory.path()),
    );
    let plan = plan.expect_code(0).json();
    plan.expect("measured_by", "own probes");
    assert!(plan.all("lanes")[2].number("wanted_bytes") > 0, "{plan}");
}
