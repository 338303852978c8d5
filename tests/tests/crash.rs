//! Crashes without a core dump: what was on the stack, what was mapped where, and what can be made of it later.

use std::process::Command;

use recorder_tests::{
    Agent, Dump, Ended, Event, Json, Need, Program, Workload, cpu, fixture, host, output, ready,
    recorder, system,
};

fn is_ready() -> bool {
    is_ready_with(&[])
}

/// The same, for tests that compile a program first.
fn is_ready_with(builds: &[fixture::Build]) -> bool {
    let builds = builds.iter().copied().map(Need::Build);
    let needs: Vec<Need> = Need::RECORDING.into_iter().chain(builds).collect();
    ready(&needs)
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
    if !is_ready_with(&[fixture::BARE_C]) || !ready(&[Need::Mappings]) {
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
    code.expect("path", host::path_in_file_system(program.path()));
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
    if !is_ready() || !ready(&[Need::Mappings]) {
        return;
    }
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &Program::workload(), &["segv-thread", "0x77"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    if !cpu::IS_X86_64 {
        // Its thread pointer is in a register that the kernel saves only when another thread runs.
        fatal.expect_absent("body.fs_base");
        assert_eq!(
            mapping_of(fatal, fatal.address("body.sp")).str("permissions"),
            "rw-p"
        );
        return;
    }
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
        fatal.register(cpu::SP),
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

/// Returns what `symbolize --json` makes of the crash of a process.
#[track_caller]
fn symbolized(dump: &Dump, pid: u32, arguments: &[&str]) -> Event {
    let mut symbolize = recorder(["symbolize", "--json"]);
    symbolize.args(arguments).arg(dump.path());
    let events = output(&mut symbolize).expect_code(0).json_lines();
    let mut events = events.into_iter();
    let event = events.find(|event| event.number("body.process.pid") == pid.into());
    event.expect("symbolize shows every crash")
}

/// Demands that a frame is a function at a marked line of its source.
#[track_caller]
fn expect_place(place: &Json, function: &str, build: &fixture::Build, mark: &str) {
    place.expect("symbol", function);
    let file = place.str("file");
    assert!(file.ends_with(build.source), "{place}");
    place.expect("line", build.line(mark));
}

#[test]
fn a_cpp_program_is_named_to_the_line_and_through_inlined_calls() {
    if !is_ready_with(&[fixture::CPP]) || !ready(&[Need::Mappings]) {
        return;
    }
    let (_directory, program) = fixture::CPP.program();
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &program, &["10"]);
    // The agent knows the functions as it writes the dump.
    let fatal = dump.only("signal.fatal", ended.pid());
    fatal.expect(
        "body.stack.0.symbol",
        "int shop::Cart::total<double>(double const&)",
    );
    let module = host::path_in_file_system(program.path());
    fatal.expect("body.stack.0.module", module);
    fatal.expect_absent("body.stack.0.line");
    let named = symbolized(&dump, ended.pid(), &[]);
    let build = &fixture::CPP;
    expect_place(
        &named.at("body.stack.0.inlined.0"),
        "shop::Price::set(int) const",
        build,
        "fault",
    );
    let total = named.at("body.stack.0");
    expect_place(
        &total,
        "int shop::Cart::total<double>(double const&)",
        build,
        "inlined call",
    );
    let check_out = named.at("body.unwound_stack.1");
    assert!(
        check_out.str("symbol").starts_with("shop::check_out(std::"),
        "{check_out}"
    );
    check_out.expect("line", build.line("total"));
    expect_place(&named.at("body.unwound_stack.2"), "main", build, "main");
}

#[test]
fn a_rust_program_is_named_to_the_line_and_through_inlined_calls() {
    if !is_ready_with(&[fixture::RUST]) || !ready(&[Need::Mappings]) {
        return;
    }
    let (_directory, program) = fixture::RUST.program();
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &program, &["10"]);
    let named = symbolized(&dump, ended.pid(), &[]);
    let build = &fixture::RUST;
    let put = named.at("body.stack.0");
    let inlined = put.all("inlined");
    let write = inlined
        .iter()
        .find(|call| call.str("symbol") == "ledger::write");
    let write = write.unwrap_or_else(|| panic!("nothing inlined in {put}"));
    expect_place(write, "ledger::write", build, "fault");
    expect_place(
        &put,
        "<ledger::Ledger as ledger::Store>::put",
        build,
        "inlined call",
    );
    expect_place(&named.at("body.stack.1"), "ledger::post", build, "put");
    expect_place(&named.at("body.stack.2"), "ledger::main", build, "post");
    // A person sees the same.
    let shown = output(recorder(["show"]).arg(dump.path())).expect_code(0);
    let shown = shown.text();
    assert!(
        shown.contains(&format!("ledger.rs:{}", build.line("fault"))),
        "{shown}"
    );
}

#[test]
fn a_program_without_frame_pointers_and_symbols_is_unwound_to_main() {
    if !is_ready_with(&[fixture::BARE_C]) || !ready(&[Need::Mappings]) {
        return;
    }
    let (_directory, program) = fixture::BARE_C.program();
    let symbols = tempfile::tempdir().expect("there is room for tests");
    std::fs::copy(program.path(), symbols.path().join("whole")).expect("there is room for tests");
    fixture::strip(program.path());
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &program, &["5a5a"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    let stack = fatal.all("body.unwound_stack");
    let path = host::path_in_file_system(program.path());
    let own = stack
        .iter()
        .take_while(|frame| frame.get("module") == Some(&path.as_str().into()));
    // store, parse, handle, main; then libc, which called it; then _start, of the program again.
    assert_eq!(own.count(), 4, "{fatal}");
    assert_eq!(stack[0].address("address"), fatal.address("body.ip"));
    let libc = stack[4].str("module");
    assert!(libc.contains("/libc.so"), "{fatal}");
    // The frames' own marks lie where the tables say that the frames are: between one frame's end and the next's.
    let start = fatal.address("body.sp");
    let returns: Vec<u64> = stack[1..5]
        .iter()
        .map(|frame| frame.address("address"))
        .collect();
    let mut at = start;
    for address in returns {
        while word_at(fatal, at) != address {
            at += 8;
        }
    }
    assert!(at > ended.facts.address("mark_address"), "{fatal}");
    // With the symbols that were stripped, found by build ID, it reads as it was written.
    let directory = symbols.path().to_str().expect("a plain path");
    let named = symbolized(&dump, ended.pid(), &["--debug-dir", directory]);
    let names = named.all("body.unwound_stack");
    let names: Vec<&str> = names
        .iter()
        .map(|frame| frame.str("symbol"))
        .take(4)
        .collect();
    assert_eq!(names, ["store", "parse", "handle", "main"], "{named}");
}

#[test]
fn a_dump_is_named_from_debug_data_after_the_program_is_gone() {
    if !is_ready_with(&[fixture::CPP]) || !ready(&[Need::Mappings]) {
        return;
    }
    let (directory, program) = fixture::CPP.program();
    let (path, build_id) = (program.path().to_owned(), program.build_id());
    let debug = tempfile::tempdir().expect("there is room for tests");
    let by_id = debug.path().join(".build-id").join(&build_id[..2]);
    std::fs::create_dir_all(&by_id).expect("it is the test's own");
    let data = by_id.join(format!("{}.debug", &build_id[2..]));
    let mut copy = Command::new("objcopy");
    output(copy.arg("--only-keep-debug").arg(&path).arg(&data)).expect_code(0);
    fixture::strip(&path);
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &program, &["10"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    fatal.expect_absent("body.stack.0.symbol");
    drop(directory);
    let build = &fixture::CPP;
    let without = symbolized(&dump, ended.pid(), &[]);
    without.expect_absent("body.stack.0.symbol");
    let debug = debug.path().to_str().expect("a plain path");
    let named = symbolized(&dump, ended.pid(), &["--debug-dir", debug]);
    expect_place(
        &named.at("body.stack.0.inlined.0"),
        "shop::Price::set(int) const",
        build,
        "fault",
    );
    expect_place(&named.at("body.unwound_stack.2"), "main", build, "main");
    // The copy has them for good, and everything else as it was.
    let copies = tempfile::tempdir().expect("there is room for tests");
    let copy = copies.path().join("named.mcap");
    let mut symbolize = recorder(["symbolize", "--debug-dir", debug, "-o"]);
    let said = output(symbolize.arg(&copy).arg(dump.path())).expect_code(0);
    assert!(said.text().contains("shop.cpp"), "{said}");
    let verified = output(recorder(["verify", "--json"]).arg(&copy))
        .expect_code(0)
        .json();
    verified.expect("state", "complete");
    verified.expect("sidecar", "matches");
    let original = dump.path().file_name().and_then(|name| name.to_str());
    verified.expect("derived_from.file", original);
    verified.expect("derived_from.sha256", dump.sidecar().str("sha256"));
    verified.expect("derived_from.vouched_for", true);
    let said = output(recorder(["verify"]).arg(&copy)).expect_code(0);
    assert!(said.text().contains("symbolize of "), "{said}");
    let events = output(recorder(["export"]).arg(&copy))
        .expect_code(0)
        .json_lines();
    assert_eq!(events.len(), dump.events().len());
    for (copied, event) in events.iter().zip(dump.events()) {
        if event.str("type") == "signal.fatal"
            && event.number("body.process.pid") == ended.pid().into()
        {
            assert_eq!(copied.value()["body"], named.value()["body"]);
        } else if event.str("type") != "signal.fatal" {
            assert_eq!(copied.value(), event.value());
        }
    }
}

#[test]
fn a_file_of_the_same_path_in_another_mount_namespace_is_not_taken_for_it() {
    if !is_ready_with(&[fixture::CPP, fixture::RUST]) || !ready(&[Need::Mappings]) {
        return;
    }
    // On the host, the path leads to one program; in the namespace, where the crash is, to another.
    let directory = host::public_directory();
    let (opt, image) = (directory.path().join("opt"), directory.path().join("image"));
    for each in [&opt, &image] {
        std::fs::create_dir(each).expect("it is the test's own");
    }
    let path = opt.join("program");
    fixture::RUST.build(&path);
    let inside = Program::at(&image.join("program"));
    fixture::CPP.build(inside.path());
    let mut unshare = Command::new("unshare");
    let script = "mount --bind \"$0\" \"$1\" && exec \"$1/program\" 10";
    unshare
        .args(["--mount", "sh", "-c", script])
        .arg(&image)
        .arg(&opt);
    let agent = Agent::start();
    let ended = Workload::start(&mut unshare).wait();
    let dump = agent.dump_of(ended.pid());
    let fatal = dump.only("signal.fatal", ended.pid());
    fatal.expect("body.stack.0.build_id", inside.build_id());
    fatal.expect(
        "body.stack.0.symbol",
        "int shop::Cart::total<double>(double const&)",
    );
    // Where the kernel has the file, whatever it was called inside.
    let module = host::path_in_file_system(inside.path());
    fatal.expect("body.stack.0.module", module);
    let named = symbolized(&dump, ended.pid(), &[]);
    expect_place(
        &named.at("body.unwound_stack.2"),
        "main",
        &fixture::CPP,
        "main",
    );
    // A file that is another by now has nothing to say.
    fixture::RUST.build(inside.path());
    let replaced = symbolized(&dump, ended.pid(), &[]);
    replaced.expect_absent("body.unwound_stack.2.line");
}

#[test]
fn a_file_that_is_only_in_a_container_is_found_while_that_lives() {
    if !is_ready_with(&[fixture::CPP]) || !ready(&[Need::Mappings]) {
        return;
    }
    let (directory, program) = fixture::CPP.program();
    let inside = directory.path().join("inside");
    std::fs::create_dir(&inside).expect("it is the test's own");
    let mut unshare = Command::new("unshare");
    let script = "mount -t tmpfs none \"$1\" && cp \"$0\" \"$1/program\" && \"$1/program\" 10; exec sleep 60";
    unshare.args(["--mount", "sh", "-c", script]);
    unshare.arg(program.path()).arg(&inside);
    let agent = Agent::start();
    // The shell stays in the namespace until this is dropped.
    let container = Workload::start(&mut unshare);
    let pid = u32::try_from(container.facts.number("pid")).expect("process ids are small");
    let dump = agent.dump_of(pid);
    let fatal = dump.only("signal.fatal", pid);
    fatal.expect("body.stack.0.module", "/program");
    fatal.expect(
        "body.stack.0.symbol",
        "int shop::Cart::total<double>(double const&)",
    );
    let main = fatal.at("body.unwound_stack.2");
    main.expect("symbol", "main");
}

#[test]
fn the_core_dump_is_one_of_this_processor() {
    if !is_ready() || !ready(&[Need::Command("readelf")]) {
        return;
    }
    let agent = Agent::start();
    let (_, dump) = crash(&agent, &Program::workload(), &["segv-deep", "0x1234"]);
    let cores = tempfile::tempdir().expect("there is room for tests");
    let core = cores.path().join("core");
    let mut export = recorder(["export", "--format", "core", "-o"]);
    output(export.arg(&core).arg(dump.path())).expect_code(0);
    let mut readelf = system("readelf");
    readelf.args(["--wide", "--file-header", "--segments", "--notes"]);
    let said = output(readelf.arg(&core)).expect_code(0);
    let machine = if cpu::IS_X86_64 {
        "Advanced Micro Devices X86-64"
    } else {
        "AArch64"
    };
    for expected in [
        "CORE (Core file)",
        machine,
        "NT_PRSTATUS",
        "NT_PRPSINFO",
        "NT_SIGINFO",
        "NT_AUXV",
    ] {
        assert!(said.text().contains(expected), "no {expected:?} in {said}");
    }
    // It finds nothing wrong, and says so by silence.
    assert_eq!(said.stderr, "", "{said}");
}

#[test]
fn gdb_reads_the_core_dump() {
    if !is_ready_with(&[fixture::BARE_C]) || !ready(&[Need::Command("gdb")]) {
        return;
    }
    let (_directory, program) = fixture::BARE_C.program();
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &program, &["5a5a"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    let cores = tempfile::tempdir().expect("there is room for tests");
    let core = cores.path().join("core");
    let mut export = recorder(["export", "--format", "core", "-o"]);
    output(export.arg(&core).arg(dump.path())).expect_code(0);
    let mark = ended.facts.str("mark_address");
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"])
        .arg("-ex")
        .arg(format!("core-file {}", core.display()));
    for command in [
        "printf \"signal %d code %d address %#lx\\n\", $_siginfo.si_signo, $_siginfo.si_code, $_siginfo._sifields._sigfault.si_addr",
        "printf \"rip %#lx rsp %#lx rdi %#lx fs_base %#lx\\n\", $rip, $rsp, $rdi, $fs_base",
        "x/gx $sp",
        &format!("x/gx {mark}"),
    ] {
        gdb.args(["-ex", command]);
    }
    let said = output(&mut gdb).expect_code(0);
    let said = said.text();
    let register = |name: &str| fatal.register(name);
    let expected = [
        "Program terminated with signal SIGSEGV".to_owned(),
        "signal 11 code 1 address 0x5a5a".to_owned(),
        format!(
            "rip {:#x} rsp {:#x} rdi {:#x} fs_base {:#x}",
            register("rip"),
            register("rsp"),
            register("rdi"),
            fatal.address("body.fs_base")
        ),
        format!(
            "{:#x}:\t{:#018x}",
            register("rsp"),
            word_at(fatal, register("rsp"))
        ),
        format!("{mark}:\t{:#018x}", ended.facts.address("mark")),
        format!("[New LWP {}]", ended.pid()),
        format!("Core was generated by `{} 5a5a'", program.path().display()),
    ];
    for expected in expected {
        assert!(said.contains(&expected), "no {expected:?} in\n{said}");
    }
    let notes = output(Command::new("readelf").arg("-n").arg(&core)).expect_code(0);
    for kind in ["PRSTATUS", "PRPSINFO", "SIGINFO", "AUXV", "FILE"] {
        assert!(notes.text().contains(kind), "no {kind} in\n{notes}");
    }
    let again = output(recorder(["export", "--format", "core", "--pid", "1"]).arg(dump.path()));
    again.expect_code(1).expect_note("no crash");
}

#[test]
fn gdb_finds_a_program_that_lies_anywhere() {
    if !is_ready_with(&[fixture::CPP]) || !ready(&[Need::Command("gdb")]) {
        return;
    }
    let (_directory, program) = fixture::CPP.program();
    let agent = Agent::start();
    let (ended, dump) = crash(&agent, &program, &["10"]);
    let cores = tempfile::tempdir().expect("there is room for tests");
    let core = cores.path().join("core");
    let mut export = recorder(["export", "--format", "core", "-o"]);
    output(export.arg(&core).arg(dump.path())).expect_code(0);
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]).arg(program.path()).arg(&core);
    gdb.args(["-ex", "info auxv", "-ex", "info symbol $pc"]);
    let said = output(&mut gdb).expect_code(0);
    let entry = dump.only("signal.fatal", ended.pid()).all("body.auxiliary");
    let entry = entry.iter().find(|entry| entry.number("key") == 9);
    let entry = entry
        .expect("the kernel says where it is entered")
        .str("value");
    for expected in ["AT_ENTRY", entry, "shop::"] {
        assert!(said.text().contains(expected), "no {expected:?} in\n{said}");
    }
}

#[test]
fn the_memory_of_the_stack_can_be_left_out() {
    if !is_ready() || !ready(&[Need::Mappings]) {
        return;
    }
    let agent = Agent::start_with(&recorder_tests::Options::with(["--no-stack-memory"]));
    let ended = Program::workload().run(["segv-deep", "0x1234"]);
    let dump = agent.dump_of(ended.pid());
    let fatal = dump.only("signal.fatal", ended.pid());
    fatal.expect_absent("body.stack_memory");
    fatal.expect_absent("body.stack_memory_address");
    assert!(!fatal.all("body.mappings").is_empty(), "{fatal}");
    assert!(!fatal.all("body.stack").is_empty(), "{fatal}");
    // The ring has none of it either: what was on the stack, the copy beside the failure lane's records included.
    let ring = std::fs::read(agent.run_directory().join("ring")).expect("the agent keeps it there");
    let mark = fatal.register(cpu::SP).to_le_bytes();
    assert!(
        ring.windows(8).any(|bytes| bytes == mark),
        "and the registers are"
    );
}

#[test]
fn a_jump_into_nowhere_is_unwound_to_where_it_came_from() {
    if !is_ready() || !ready(&[Need::Mappings]) {
        return;
    }
    let agent = Agent::start();
    let program = Program::workload();
    let (ended, dump) = crash(&agent, &program, &["segv-exec", "0x5000"]);
    let fatal = dump.only("signal.fatal", ended.pid());
    fatal.expect("body.unwound_stack.0.address", "0x5000");
    fatal.expect("body.unwound_stack.1.build_id", program.build_id());
    let last = fatal
        .all("body.unwound_stack")
        .pop()
        .expect("there are two at least");
    last.expect("symbol", "_start");
}
