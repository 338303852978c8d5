//! The memory limit of the agent's own cgroup: told before it is reached, recorded when it is, and survived.

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use recorder_tests::host::{FileSystem, MemoryCgroup};
use recorder_tests::{Agent, Need, Options, Program, Workload, output, ready, recorder, system};
use tempfile::TempDir;

const NEEDS: [Need; 4] = [Need::Root, Need::Btf, Need::Agent, Need::MemoryCgroup];

const MEBIBYTE: u64 = 1 << 20;
/// The ring of these agents, in MiB: three lanes.
const RING: u64 = 3 * 8;
/// What their cgroup may hold, in MiB.
const LIMIT: u64 = 128;

/// Options of an agent that starts inside a cgroup, with this score for who is killed there.
fn inside(cgroup: &MemoryCgroup, score: &str) -> Options {
    let lanes = ["--failure-bytes", "--lifecycle-bytes", "--sample-bytes"];
    let more = lanes.into_iter().flat_map(|lane| [lane, "8MiB"]);
    // Not every root may make itself less likely to be killed.
    let enter = format!(
        "{{ echo {score} >/proc/self/oom_score_adj; }} 2>/dev/null; echo $$ > {} && exec \"$0\" \"$@\"",
        cgroup.processes().display()
    );
    Options {
        through: ["sh", "-c", &enter].map(Into::into).into(),
        ..Options::with(more)
    }
}

/// Uses so much memory in the cgroup, in MiB; all there is without a number.
fn hog(cgroup: &MemoryCgroup, score: &str, mebibytes: Option<u64>) -> Workload {
    let processes = cgroup.processes();
    let processes = processes.to_str().expect("a plain path");
    let mut arguments = vec!["hog".to_owned(), processes.to_owned(), score.to_owned()];
    arguments.push("anonymous".to_owned());
    arguments.extend(mebibytes.map(|mebibytes| (mebibytes * MEBIBYTE).to_string()));
    Program::workload().start(arguments)
}

/// Returns the path of a cgroup as the kernel names it.
fn name(cgroup: &MemoryCgroup) -> String {
    let name = cgroup.path().file_name().and_then(|name| name.to_str());
    format!("/{}", name.expect("a plain name"))
}

#[test]
fn memory_that_runs_short_is_told_and_what_is_killed_for_it_recorded() {
    if !ready(&NEEDS) {
        return;
    }
    let cgroup = MemoryCgroup::with_limit(LIMIT * MEBIBYTE);
    // As its unit does: the kernel kills again where the memory of who died is slow to come back, and then not the agent.
    let agent = Agent::start_with(&inside(&cgroup, "-900"));
    let status = agent.wait_for_status("a limit", |status| status.get("budget.cgroup").is_some());
    status.expect("budget.cgroup.cgroup", name(&cgroup));
    status.expect("budget.cgroup.limit_bytes", LIMIT * MEBIBYTE);
    status.expect("budget.cgroup.is_short", false);
    status.expect_recording();
    let used = u64::try_from(status.number("budget.cgroup.used_bytes")).expect("not below 0");
    assert!(used > RING * MEBIBYTE, "the ring is in it: {status}");

    // Nearly all that is left, by another that the kernel will take first; more, as long as there are pages of files to drop.
    let mut neighbour = hog(&cgroup, "1000", Some(LIMIT * 95 / 100 - used / MEBIBYTE));
    neighbour.line();
    let further = RefCell::new(Vec::new());
    let status = agent.wait_for_status("memory running short", |status| {
        let is_short = status.is_true("budget.cgroup.is_short");
        if !is_short {
            // It is looked at once a second.
            std::thread::sleep(Duration::from_millis(1500));
            let mut more = hog(&cgroup, "1000", Some(1));
            more.line();
            further.borrow_mut().push(more);
        }
        is_short
    });
    status.expect("state", "degraded");
    status.expect("reasons.0.code", "memory-short");
    agent.wait_for_note(&format!("cgroup {} holds", name(&cgroup)));
    // Who wants the rest has the neighbour killed, and then is killed itself.
    hog(&cgroup, "1000", None).wait();
    let dump = agent.dump_of(neighbour.pid());
    let kill = dump.only("oom.kill", neighbour.pid());
    kill.expect("body.memory_cgroup_id", cgroup.id());
    agent.wait_for_status("memory again", |status| {
        !status.is_true("budget.cgroup.is_short") && status.is_recording()
    });
    let dump = agent.trigger("there is memory again");
    let notes = dump.matching("recorder.note", "kind", &"memory".into());
    let texts: Vec<&str> = notes.iter().map(|note| note.str("body.text")).collect();
    // What died gives its memory back bit by bit on a slow machine, and somebody else may have taken it meanwhile.
    assert!(!texts.is_empty(), "{notes:?}");
    for pair in texts.chunks(2) {
        assert!(pair[0].contains("MemoryMax="), "{texts:?}");
        assert!(pair[1].contains("has memory again"), "{texts:?}");
    }
}

#[test]
fn an_agent_that_is_killed_at_its_limit_is_told_of_by_the_next() {
    if !ready(&NEEDS) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-limit-").expect("there is room");
    let cgroup = MemoryCgroup::with_limit(LIMIT * MEBIBYTE);
    let mut agent = Agent::start_in(directory.path(), &inside(&cgroup, "0"));
    let before = Program::workload().run(["segv-write", "0x1234"]);
    agent.dump_of(before.pid());
    // What is written to a file in memory belongs to the cgroup, and to no process that could be killed for it: that leaves the
    // recorder, which is larger than the writer.
    let memory = FileSystem::in_memory(2 * LIMIT * MEBIBYTE);
    let write = format!(
        "echo $$ > {} && exec head -c {} /dev/zero > {}",
        cgroup.processes().display(),
        LIMIT * MEBIBYTE,
        memory.path("filler").display()
    );
    let mut writer = system("sh").args(["-c", &write]).spawn().expect("a shell");
    let ended = agent.wait();
    writer.kill().expect("it is ours");
    writer.wait().expect("it is ours");
    assert_eq!(ended.signal(), Some(libc::SIGKILL));
    let pid = agent.pid();
    drop(agent);

    let next = Agent::start_in(directory.path(), &Options::default());
    let died = next.dump_where("the end of the first", |incident| {
        incident.get("rule") == Some(&"recorder-died".into())
    });
    let summary = died.incident().str("summary").to_owned();
    let how = format!(
        "recorder[{pid}] died (killed for memory: cgroup {} had reached its limit)",
        name(&cgroup)
    );
    assert!(summary.starts_with(&how), "{summary}");
    died.only("signal.fatal", before.pid());
    output(recorder(["verify"]).arg(died.path())).expect_code(0);
    let after = Program::workload().run(["segv-write", "0x1234"]);
    next.dump_of(after.pid());
}

#[test]
fn a_ring_that_cannot_fit_is_refused_with_what_to_do() {
    if !ready(&NEEDS) {
        return;
    }
    let cgroup = MemoryCgroup::with_limit(64 * MEBIBYTE);
    let directory = TempDir::with_prefix("recorder-limit-").expect("there is room");
    let said = output(&mut Agent::command_in(
        directory.path(),
        &inside(&cgroup, "0"),
    ));
    let said = said.expect_code(1);
    for part in [
        "the flight ring of 24",
        "the 64",
        &name(&cgroup),
        "MemoryMax=",
        "memory.lifecycle_bytes",
    ] {
        assert!(said.stderr.contains(part), "{part}: {said}");
    }
    assert!(!directory.path().join("run/ring").exists());
    assert_eq!(cgroup.kills(), 0);
}
