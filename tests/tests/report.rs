//! The post-mortem of real dumps: Markdown and JSON say the same, hostile names are harmless, damage is told.

use recorder_tests::{Agent, Need, Program, output, ready, recorder};

#[test]
fn a_crash_of_a_program_with_a_hostile_name() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let program = Program::named("x|<b>`[y](z)");
    let crashed = program.run(["segv-write", "0x10"]);
    let dump = agent.dump_of(crashed.pid());
    let mut report = recorder(["report"]);
    let page = output(report.arg(dump.path())).expect_code(0);
    let page = page.text();
    assert!(!page.contains("<b>") || page.contains("`x¦<b>"), "{page}");
    assert!(
        page.starts_with("# Post-mortem: x\\|&lt;b&gt;\\`[y\\](z)["),
        "{page}"
    );
    for part in [
        "Cause class | software",
        "Exit 139: SIGSEGV (SEGV_MAPERR), write to 0x10: nothing is mapped at that address",
        "| ► +0.000 |",
        "## Death certificates",
        "| `root` |",
        "_to be filled in_",
        "- missing: nothing",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    // Every row of a table has as many cells as its head.
    let mut cells = None;
    for line in page.lines() {
        let bars = line.replace("\\|", "").matches('|').count();
        match line.starts_with('|') {
            true => assert_eq!(*cells.get_or_insert(bars), bars, "{line}"),
            false => cells = None,
        }
    }

    let mut report = recorder(["report", "--json"]);
    let json = output(report.arg(dump.path())).expect_code(0).json();
    json.expect("cause.class", "software");
    json.expect("incident.subject.pid", crashed.pid());
    json.expect("subject.process.pid", crashed.pid());
    json.expect("deaths.verdicts.fault", 1);
    json.expect_same("deaths.certificates", dump.sidecar(), "deaths.certificates");
    assert!(json.number("accounting.total.processes") >= 1, "{json}");
    json.expect_same("recording.loss", dump.sidecar(), "loss");
}

#[test]
fn a_damaged_dump_is_told_with_what_is_left() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let crashed = Program::workload().run(["segv-write", "0x10"]);
    let dump = agent.dump_of(crashed.pid());
    let bytes = std::fs::read(dump.path()).expect("the dump is there");
    let directory = tempfile::tempdir().expect("there is room for tests");
    let cut = directory.path().join("cut.mcap");
    // Its end is gone, and with it the summary.
    std::fs::write(&cut, &bytes[..bytes.len() - 600]).expect("there is room for tests");
    let file = directory.path().join("report.md");
    let mut report = recorder(["report", "-o"]);
    let told = output(report.arg(&file).arg(&cut)).expect_code(3);
    assert!(told.stdout.is_empty());
    let page = std::fs::read_to_string(&file).expect("it was written");
    assert!(page.contains("The file is damaged"), "{page}");
    assert!(page.contains("died of SIGSEGV at 0x10"), "{page}");
    assert!(page.contains("- damaged "), "{page}");
    // Nothing but its first bytes is left.
    std::fs::write(&cut, &bytes[..40]).expect("there is room for tests");
    let mut report = recorder(["report"]);
    let told = output(report.arg(&cut)).expect_code(3);
    assert!(told.text().contains("no longer says what it is about"));
    std::fs::write(&cut, b"no dump").expect("there is room for tests");
    output(recorder(["report"]).arg(&cut)).expect_code(1);
}
