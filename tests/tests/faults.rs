//! Faults: each kind ends in one dump that says who, where, why, and with what registers and stack.

use recorder_tests::{
    Agent, Dump, Ended, Event, Need, Program, Workload, cpu, host, output, ready, recorder,
};
use serde_json::Value;

/// Largest distance between the stack pointer at a fault and the workload's own idea of its stack.
const STACK_NEAR_BYTES: u64 = 64 * 1024;
/// What a page fault was for.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
    Fetch,
}

/// How the kernel names a fault.
struct Kind {
    signal: (i32, &'static str),
    code: (i32, &'static str),
}

const SEGV_MAPERR: Kind = Kind {
    signal: (11, "SIGSEGV"),
    code: (1, "SEGV_MAPERR"),
};
const SEGV_ACCERR: Kind = Kind {
    signal: (11, "SIGSEGV"),
    code: (2, "SEGV_ACCERR"),
};
const BUS_ADRERR: Kind = Kind {
    signal: (7, "SIGBUS"),
    code: (2, "BUS_ADRERR"),
};
/// A division by zero; aarch64 knows none that fails, and its workload stops at a breakpoint.
const DIVISION: Kind = if cpu::IS_X86_64 {
    Kind {
        signal: (8, "SIGFPE"),
        code: (1, "FPE_INTDIV"),
    }
} else {
    Kind {
        signal: (5, "SIGTRAP"),
        code: (1, "TRAP_BRKPT"),
    }
};
const UNDEFINED: Kind = if cpu::IS_X86_64 {
    Kind {
        signal: (4, "SIGILL"),
        code: (2, "ILL_ILLOPN"),
    }
} else {
    Kind {
        signal: (4, "SIGILL"),
        code: (1, "ILL_ILLOPC"),
    }
};
const ABORTED: Kind = Kind {
    signal: (6, "SIGABRT"),
    code: (-6, "SI_TKILL"),
};
const FORBIDDEN: Kind = Kind {
    signal: (31, "SIGSYS"),
    code: (1, "SYS_SECCOMP"),
};

/// A crash and the dump of it.
struct Crash {
    ended: Ended,
    dump: Dump,
}

impl Crash {
    /// Lets a workload crash and checks all that crashes have in common.
    #[track_caller]
    fn of(agent: &Agent, arguments: &[&str], kind: &Kind) -> Self {
        let ended = Program::workload().run(arguments);
        assert_eq!(ended.signal(), Some(kind.signal.0), "{arguments:?}");
        let crash = Self {
            dump: agent.dump_of(ended.pid()),
            ended,
        };
        crash.check_fault(kind);
        crash.check_incident(kind);
        crash.check_history(arguments);
        crash
    }

    #[track_caller]
    fn fatal(&self) -> &Event {
        self.dump.only("signal.fatal", self.ended.pid())
    }

    #[track_caller]
    fn check_fault(&self, kind: &Kind) {
        let fatal = self.fatal();
        self.ended.expect_subject(fatal);
        fatal.expect("body.signal.number", kind.signal.0);
        fatal.expect("body.signal.name", kind.signal.1);
        fatal.expect("body.code.number", kind.code.0);
        fatal.expect("body.code.name", kind.code.1);
        let cpus = std::fs::read_to_string("/proc/cpuinfo").expect("procfs is mounted");
        let cpus = cpus
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        fatal.expect_within("body.cpu", 0..=cpus as i128 - 1);
        assert!(!fatal.is_true("body.reraised"), "{fatal}");
        assert_eq!(fatal.register(cpu::IP), fatal.address("body.ip"), "{fatal}");
        assert_eq!(fatal.register(cpu::SP), fatal.address("body.sp"), "{fatal}");
    }

    #[track_caller]
    fn check_incident(&self, kind: &Kind) {
        let incident = self.dump.incident();
        incident.expect("trigger.type", "signal.fatal");
        incident.expect_same("subject.comm", &self.ended.facts, "comm");
        let summary = incident.str("summary");
        let pid = self.ended.pid().to_string();
        for part in [self.ended.facts.str("comm"), &pid, kind.signal.1] {
            assert!(summary.contains(part), "no {part} in {summary:?}");
        }
        let trigger = incident.number("trigger.boot_ns");
        // As much before and after as this host needs.
        let config = self.dump.metadata("recorder.config");
        let (before, after) = (config.number("before_ns"), config.number("after_ns"));
        assert_eq!(incident.number("window_start_boot_ns"), trigger - before);
        assert_eq!(incident.number("window_end_boot_ns"), trigger + after);
    }

    /// The dump tells the life of the process: that it executed, and that it ended because of the fault.
    #[track_caller]
    fn check_history(&self, arguments: &[&str]) {
        let pid = self.ended.pid();
        let exec = self.dump.only("process.exec", pid);
        let argv = exec.all("body.argv");
        let argv: Vec<_> = argv
            .iter()
            .skip(1)
            .filter_map(|each| each.value().as_str())
            .collect();
        assert_eq!(argv, arguments, "{exec}");
        let exit = self.dump.only("process.exit", pid);
        exit.expect("body.signal.number", self.ended.signal());
        exit.expect_absent("body.exit_code");
        let fatal = self.fatal();
        exit.expect_same("cause", fatal, "order");
        assert!(
            exec.number("order") < fatal.number("order"),
            "{exec}\n{fatal}"
        );
        assert!(
            fatal.number("order") < exit.number("order"),
            "{fatal}\n{exit}"
        );
    }

    /// Checks a fault whose address, instruction and registers the workload knew.
    #[track_caller]
    fn check_place(&self) {
        let (fatal, facts) = (self.fatal(), &self.ended.facts);
        assert_eq!(
            fatal.address("body.fault_address"),
            facts.address("fault_address"),
            "{fatal}"
        );
        assert_eq!(fatal.address("body.ip"), facts.address("ip"), "{fatal}");
        self.check_registers();
        fatal.expect_same("body.instruction_bytes", facts, "code");
        let innermost = fatal.at("body.stack.0");
        assert_eq!(innermost.address("address"), facts.address("ip"), "{fatal}");
        innermost.expect_same("offset", facts, "offset");
        innermost.expect("build_id", Program::workload().build_id());
    }

    #[track_caller]
    fn check_registers(&self) {
        let (fatal, facts) = (self.fatal(), &self.ended.facts);
        // The second argument of every function that fails.
        assert_eq!(
            fatal.register(cpu::SECOND),
            facts.address("mark"),
            "{fatal}"
        );
        let distance = fatal
            .address("body.sp")
            .abs_diff(facts.address("stack_near"));
        assert!(distance < STACK_NEAR_BYTES, "{distance} bytes:\n{fatal}");
    }

    /// Checks the processor's account of a page fault: each has its own, and a person reads of the access alone.
    #[track_caller]
    fn check_page_fault(&self, access: Access) {
        let fatal = self.fatal();
        let code = fatal.number("body.error_code");
        if cpu::IS_X86_64 {
            let (write, user, fetch) = (1 << 1, 1 << 2, 1 << 4);
            let expected = match access {
                Access::Read => user,
                Access::Write => user | write,
                Access::Fetch => user | fetch,
            };
            let mask = write | user | fetch;
            assert_eq!(code & mask, expected, "error code {code:#x}:\n{fatal}");
            fatal.expect("body.trap_number", 14);
        } else {
            // The class of the exception, and of an access to data whether it was to write.
            let (class, write) = (code >> 26, code >> 6 & 1);
            let expected = match access {
                Access::Read => (0x24, 0),
                Access::Write => (0x24, 1),
                Access::Fetch => (0x20, 0),
            };
            assert_eq!((class, write), expected, "error code {code:#x}:\n{fatal}");
            fatal.expect_absent("body.trap_number");
        }
        let words = match access {
            Access::Read => "read of",
            Access::Write => "write to",
            Access::Fetch => "jump to",
        };
        let shown = output(recorder(["show"]).arg(self.dump.path())).expect_code(0);
        assert!(shown.text().contains(words), "no {words:?} in {shown}");
    }
}

fn is_ready() -> bool {
    ready(&Need::RECORDING)
}

#[test]
fn a_write_that_is_not_allowed() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    for (target, kind) in [("0x1234", &SEGV_MAPERR), ("read-only", &SEGV_ACCERR)] {
        let crash = Crash::of(&agent, &["segv-write", target], kind);
        crash.check_place();
        crash.check_page_fault(Access::Write);
        assert_eq!(
            crash.fatal().register(cpu::FIRST),
            crash.fatal().address("body.fault_address")
        );
    }
}

#[test]
fn a_read_that_is_not_allowed() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    for (target, kind) in [("0xdead000", &SEGV_MAPERR), ("no-access", &SEGV_ACCERR)] {
        let crash = Crash::of(&agent, &["segv-read", target], kind);
        crash.check_place();
        crash.check_page_fault(Access::Read);
    }
}

#[test]
fn a_jump_to_where_no_code_is() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    for (target, kind) in [("0x5000", &SEGV_MAPERR), ("no-exec", &SEGV_ACCERR)] {
        let crash = Crash::of(&agent, &["segv-exec", target], kind);
        let (fatal, facts) = (crash.fatal(), &crash.ended.facts);
        assert_eq!(
            fatal.address("body.fault_address"),
            facts.address("fault_address"),
            "{fatal}"
        );
        assert_eq!(
            fatal.address("body.ip"),
            facts.address("fault_address"),
            "{fatal}"
        );
        crash.check_registers();
        crash.check_page_fault(Access::Fetch);
        // What cannot be read is absent; the page that is there but not executable holds zeros.
        if let Some(bytes) = fatal.get("body.instruction_bytes") {
            assert_eq!(
                (target, bytes),
                ("no-exec", &Value::from("00".repeat(16))),
                "{fatal}"
            );
        }
    }
}

#[test]
fn a_fault_in_a_thread() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    // The subject is the thread "crasher", which is not the process's first.
    let crash = Crash::of(&agent, &["segv-thread", "0x77"], &SEGV_MAPERR);
    crash.check_place();
    let fatal = crash.fatal();
    assert_ne!(
        fatal.number("body.process.tid"),
        fatal.number("body.process.pid"),
        "{fatal}"
    );
    fatal.expect("body.process.comm", "crasher");
}

#[test]
fn a_stack_that_is_used_up() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let crash = Crash::of(&agent, &["stack-overflow"], &SEGV_MAPERR);
    crash.check_page_fault(Access::Write);
    let (fatal, facts) = (crash.fatal(), &crash.ended.facts);
    let stack_bytes = facts.number("stack_bytes");
    let used =
        i128::from(facts.address("stack_near")) - i128::from(fatal.address("body.fault_address"));
    let near = i128::from(STACK_NEAR_BYTES);
    assert!(
        (stack_bytes - used).abs() < near,
        "{used} bytes of stack used:\n{fatal}"
    );
    let distance = fatal
        .address("body.fault_address")
        .abs_diff(fatal.address("body.sp"));
    assert!(
        distance < 4096,
        "{distance} bytes from the stack pointer:\n{fatal}"
    );
}

#[test]
fn a_mapping_whose_file_was_cut() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let directory = host::public_directory();
    let directory = directory.path().to_str().expect("a plain path");
    let crash = Crash::of(&agent, &["bus", directory], &BUS_ADRERR);
    crash.check_place();
    crash.check_page_fault(Access::Read);
}

#[test]
fn an_abort() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let crash = Crash::of(&agent, &["abort"], &ABORTED);
    crash.fatal().expect_absent("body.fault_address");
    // Whoever is named as the sender, it is the process itself.
    if crash.fatal().get("body.sender").is_some() {
        crash.fatal().expect("body.sender.pid", crash.ended.pid());
    }
}

#[test]
fn a_division_by_zero_and_an_instruction_that_is_none() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let crash = Crash::of(&agent, &["fpe"], &DIVISION);
    crash.check_place();
    let crash = Crash::of(&agent, &["ill"], &UNDEFINED);
    crash.check_place();
    if cpu::IS_X86_64 {
        crash.fatal().expect("body.trap_number", 6);
    }
}

#[test]
fn a_system_call_that_a_filter_forbids() {
    if !is_ready() || !ready(&[Need::FilterSignals]) {
        return;
    }
    let agent = Agent::start();
    let crash = Crash::of(&agent, &["forbidden-call"], &FORBIDDEN);
    // The registers are rolled back to those of the call.
    let number = i128::from(crash.fatal().register(cpu::CALL));
    assert_eq!(
        number,
        crash.ended.facts.number("system_call"),
        "{}",
        crash.fatal()
    );
}

#[test]
fn a_stack_of_several_frames() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let crash = Crash::of(&agent, &["segv-deep", "0x99"], &SEGV_MAPERR);
    let build_id = Program::workload().build_id();
    let expected = crash.ended.facts.all("stack");
    let found = crash.fatal().all("body.stack");
    assert!(found.len() >= expected.len(), "{}", crash.fatal());
    for (frame, expected) in found.iter().zip(&expected) {
        assert_eq!(
            frame.address("address"),
            expected.address("ip"),
            "{}",
            crash.fatal()
        );
        frame.expect_same("offset", expected, "offset");
        frame.expect("build_id", build_id.as_str());
    }
}

#[test]
fn the_cpu_of_a_fault() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    for cpu in allowed_cpus() {
        let mut pinned = std::process::Command::new("taskset");
        pinned.args(["--cpu-list", &cpu.to_string()]);
        // Each at an address of its own, so that the second is not taken for the first once more.
        pinned
            .arg(Program::workload().path())
            .args(["segv-write", "0x1234"]);
        let ended = Workload::start(&mut pinned).wait();
        let dump = agent.trigger(&format!("crashed on CPU {cpu}"));
        dump.only("signal.fatal", ended.pid())
            .expect("body.cpu", cpu);
    }
}

/// Returns up to two CPUs that this process may run on.
fn allowed_cpus() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.expect("the kernel says where we may run").trim();
    let ranges = list.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let parse = |text: &str| text.parse::<u32>().expect("CPUs are numbers");
        parse(first)..=parse(last)
    });
    ranges.take(2).collect()
}
