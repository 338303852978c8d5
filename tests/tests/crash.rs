//! Crashes without a core dump: what was on the stack, what was mapped where, and what can be made of it later.

use recorder_tests::{Agent, Dump, Ended, Event, Json, Need, Program, fixture, ready};

/// These tests know the processor's registers and calling convention.
fn is_ready() -> bool {
    cfg!(target_arch = "x86_64") && ready(&Need::RECORDING)
}

/// Returns the bytes that the dump has of the stack from `address` on.
#[track_caller]
fn stack_at(fatal: &Event, address: u64) -> Vec<u8> {
    let digits = fatal.str("body.stack_memory").as_bytes();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).expect("hex digits"))
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex digits"))
        .collect();
    let at = address - fatal.address("body.stack_memory_address");
    bytes[usize::try_from(at).expect("a small distance")..].to_vec()
}

#[track_caller]
fn word_at(fatal: &Event, address: u64) -> u64 {
    let bytes = stack_at(fatal, address);
    u64::from_le_bytes(bytes[..8].try_into().expect("eight of them"))
}

/// Returns the mapping that `address` lies in.
#[track_caller]
fn mapping_of(fatal: &Event, address: u64) -> Json {
    let mut mappings = fatal.all("body.mappings").into_iter();
    let mapping = mappings
        .find(|mapping| (mapping.address("start")..mapping.address("end")).contains(&address));
    mapping.unwrap_or_else(|| panic!("{address:#x} is in no mapping of\n{fatal}"))
}

fn crash(agent: &Agent, program: &Program, arguments: &[&str]) -> (Ended, Dump) {
    let ended = program.run(arguments);
    let dump = agent.dump_of(ended.pid());
    (ended, dump)
}

#[test]
fn the_stack_is_there_up_to_its_end_and_no_further() {
    if !is_ready() {
        return;
    }
    let (_directory, program) = fixture::BARE_C.program();
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &program, &["5a5a"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    let (facts, sp) = (&ended.facts, fatal.address("body.sp"));
    assert_eq!(fatal.address("body.stack_memory_address"), sp, "{fatal}");
    let mark = facts.address("mark_address");
    assert_eq!(word_at(fatal, mark), facts.address("mark"), "{fatal}");
    let stack = mapping_of(fatal, sp);
    stack.expect("permissions", "rw-p");
    stack.expect_absent("path");
    let len = stack_at(fatal, sp).len() as u64;
    // It ends with a page: with the last one, or before one that the process never touched, as above a stack's arguments.
    assert!(
        len <= 16 << 10 && sp + len <= stack.address("end"),
        "{fatal}"
    );
    assert!(
        len == 16 << 10 || (sp + len).is_multiple_of(4096),
        "{fatal}"
    );
    // The first return address on the stack leads back into the program.
    let code = mapping_of(fatal, fatal.address("body.ip"));
    code.expect("permissions", "r-xp");
    code.expect("path", program.path().to_str().expect("a plain path"));
    code.expect("build_id", program.build_id());
    let libc = fatal.all("body.mappings");
    let mut paths = libc.iter().filter(|mapping| mapping.get("path").is_some());
    assert!(
        paths.any(|mapping| mapping.str("path").contains("/libc.so")),
        "main was called by libc:\n{fatal}"
    );
}

#[test]
fn a_deep_stack_fills_its_room() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &Program::workload(), &["stack-overflow"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    let (sp, start) = (
        fatal.address("body.sp"),
        fatal.address("body.stack_memory_address"),
    );
    // The stack pointer itself may be in the page that is not there.
    assert!(start == sp || start == (sp | 4095) + 1, "{fatal}");
    assert_eq!(stack_at(fatal, start).len(), 16 << 10, "{fatal}");
}

#[test]
fn a_thread_has_its_own_stack_and_base() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &Program::workload(), &["segv-thread", "0x77"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    let base = fatal.address("body.fs_base");
    // The thread's descriptor lies above its stack, in the same mapping, and begins with its own address.
    let stack = mapping_of(fatal, fatal.address("body.sp"));
    assert!(
        (stack.address("start")..stack.address("end")).contains(&base),
        "{fatal}"
    );
    let end = fatal.address("body.sp") + stack_at(fatal, fatal.address("body.sp")).len() as u64;
    if base + 8 <= end {
        assert_eq!(word_at(fatal, base), base, "{fatal}");
    }
}

#[test]
fn a_fault_that_was_raised_again_has_the_stack_of_the_fault() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &Program::workload(), &["reraise", "0x33"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    assert!(fatal.is_true("body.reraised"), "{fatal}");
    assert_eq!(
        fatal.address("body.stack_memory_address"),
        fatal.register("rsp"),
        "{fatal}"
    );
    assert!(
        !stack_at(fatal, fatal.address("body.sp")).is_empty(),
        "{fatal}"
    );
}

#[test]
fn a_signal_that_dumps_no_core_costs_no_stack() {
    if !is_ready() {
        return;
    }
    let agent = Agent::start();
    let sleeper = Program::workload().start(["sleep"]);
    let pid = sleeper.pid();
    sleeper.signal(rustix::process::Signal::KILL);
    let ended = sleeper.wait();
    assert_eq!(ended.signal(), Some(9));
    let dump = agent.trigger("killed");
    let fatal = dump.only("signal.fatal", pid);
    fatal.expect_absent("body.stack_memory");
    fatal.expect_absent("body.mappings");
}
