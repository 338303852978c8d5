//! A machine that has little memory and runs out of it, again and again: `cargo xtask vm` gives it 256 MiB.

use std::fs;
use std::io::Write as _;

use recorder_tests::{Agent, Need, Options, Program, Workload, ready};

/// The cgroup without limits: what is taken there is the machine's.
const EVERYTHING: &str = "/sys/fs/cgroup/cgroup.procs";
/// How often it runs out.
const ROUNDS: usize = 8;
/// Most memory of the agent's own, in KiB. It grows with its windows, from 5 MiB to 15 once they hold the minute that is asked
/// for, and stays there.
const OWN_KIB_MAX: i128 = 24 << 10;
/// Memory of its ring, in KiB: that of all lanes.
const RING_KIB: i128 = 12 << 10;

fn kib_of(agent: &Agent, name: &str) -> i128 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    kib.and_then(|kib| kib.parse().ok())
        .expect("the kernel says it")
}

fn hog(score_adj: &str) -> Workload {
    Program::workload().start(["hog", EVERYTHING, score_adj, "anonymous"])
}

#[test]
fn the_agent_records_a_machine_that_runs_out_of_memory_again_and_again() {
    if !ready(&[
        Need::Guest,
        Need::SmallMachine,
        Need::Root,
        Need::Btf,
        Need::Agent,
    ]) {
        return;
    }
    let mut options = Options::with([
        "--failure-bytes=2MiB",
        "--lifecycle-bytes=8MiB",
        "--sample-bytes=2MiB",
        // There is no disk, and memory is what is to run out.
        "--dumps-keep-free=0",
    ]);
    // An emulated machine takes as long as it takes for all rounds.
    options.before = "600s";
    // As its unit does.
    let adjusted = "echo -900 >/proc/self/oom_score_adj && exec \"$@\"";
    options.through = ["sh", "-c", adjusted, "sh"].map(Into::into).into();
    let agent = Agent::start_with(&options);
    let locked = kib_of(&agent, "VmLck");
    assert!(
        locked >= RING_KIB && locked >= kib_of(&agent, "VmRSS"),
        "the ring and the program stay in memory"
    );
    let mut most_kib = 0;
    for round in 0..ROUNDS {
        // One that gives itself up, or several of which the kernel takes the largest, which are as important as any.
        let hogs = match round % 2 {
            0 => vec![hog("1000")],
            _ => vec![hog("0"), hog("0"), hog("0")],
        };
        let victims: Vec<_> = hogs.into_iter().map(Workload::wait).collect();
        // Those of several that died together may share one dump: this one has them all.
        let dump = agent.trigger(&format!("those of round {round} are gone"));
        for victim in victims {
            assert_eq!(victim.signal(), Some(libc::SIGKILL), "{round}");
            let oom = dump.only("oom.kill", victim.pid());
            victim.expect_subject(oom);
            dump.only("process.exit", victim.pid())
                .expect("body.signal.name", "SIGKILL");
        }
        most_kib = most_kib.max(kib_of(&agent, "RssAnon"));
    }
    // Past the test runner, which would keep it to itself.
    let _ = writeln!(
        std::io::stdout(),
        "memory of the agent's own: {most_kib} KiB at most"
    );
    assert!(most_kib < OWN_KIB_MAX, "it has {most_kib} KiB");
    let status = agent.status();
    for lane in status.all("lanes") {
        lane.expect("dropped", 0);
        for cpu in lane.all("cpus") {
            cpu.expect("lost", 0);
        }
    }
    status.expect("dumps.failed", 0);
    // Not a byte was asked of a machine that had none.
    status.expect("dumps.reserve.beside", 0);
    let adjusted = fs::read_to_string(format!("/proc/{}/oom_score_adj", agent.pid()));
    assert_eq!(adjusted.expect("it runs").trim(), "-900");
}
