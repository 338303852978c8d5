//! The post-mortem of real dumps: Markdown and JSON say the same, hostile names are harmless, damage is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use recorder_tests::{Agent, Json, Need, Program, output, python_script, ready, recorder};

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
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    // Of what the kernel skipped the dump knows that it may be missing.
    let is_whole = dump.metadata("recorder.loss").get("skipped").is_none();
    let whole = "- missing: nothing\n";
    assert_eq!(page.contains(whole), is_whole, "{page}");
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

/// Opens a page in a browser and works with it.
fn browse(url: &str, theme: &str) -> Json {
    let mut browse = python_script("browse.py", [url, theme]);
    output(&mut browse).expect_code(0).json()
}

#[test]
fn a_page_of_a_crash_opens_in_a_browser_and_hostile_names_stay_text() {
    if !ready(&[&Need::RECORDING[..], &[Need::Browser]].concat()) {
        return;
    }
    let agent = Agent::start();
    let program = Program::named("<b onclick=1>\u{1b}[2J");
    let crashed = program.run(["segv-write", "0x10"]);
    let dump = agent.dump_of(crashed.pid());
    let directory = tempfile::tempdir().expect("there is room for tests");
    let file = directory.path().join("page.html");
    let mut report = recorder(["report", "--html", "-o"]);
    let told = output(report.arg(&file).arg(dump.path())).expect_code(0);
    assert!(told.stdout.is_empty());

    let seen = browse(&format!("file://{}", file.display()), "light");
    let text = |path: &str| seen.str(path).to_owned();
    assert!(
        text("heading").contains("Exit 139: SIGSEGV (SEGV_MAPERR), write to 0x10"),
        "{seen}"
    );
    // The kernel keeps 15 bytes of a name; all of them are shown, none acts.
    assert!(
        text("heading").starts_with("<b onclick=1>\\u{1b}"),
        "{seen}"
    );
    for (path, part) in [
        ("facts", "fatal-signal"),
        ("deaths", "SIGSEGV"),
        ("crash", "0x10"),
        ("crash", "Registers"),
        ("crash", "rip"),
        ("crash", "workload::fault::instructions::write"),
        ("tree", &crashed.pid().to_string()),
        ("recording", "missing: nothing"),
        ("detail", "signal.fatal"),
        ("address", "q=signal.fatal"),
    ] {
        assert!(text(path).contains(part), "{path} lacks {part}: {seen}");
    }
    seen.expect("injected", 0);
    seen.expect("hostile", false);
    seen.expect("unnamed", 0);
    seen.expect("log", serde_json::json!([]));
    seen.expect("requests", serde_json::json!([]));
    seen.expect_same("events", dump.sidecar(), "events");
    assert!(seen.number("found") >= 1, "{seen}");
    assert!(text("second").starts_with("#2 "), "{seen}");

    let dark = browse(&format!("file://{}", file.display()), "dark");
    assert_ne!(dark.str("background"), text("background"));
}

#[test]
fn dumps_are_served_to_the_own_host_only_and_their_files_are_the_dumps() {
    if !ready(&[&Need::RECORDING[..], &[Need::Browser]].concat()) {
        return;
    }
    let agent = Agent::start();
    let crashed = Program::workload().run(["segv-write", "0x10"]);
    let dump = agent.dump_of(crashed.pid());
    let folder = dump.path().parent().and_then(std::path::Path::parent);
    let mut serve = recorder(["serve", "--listen", "127.0.0.1:0"]);
    let mut server = serve
        .arg(folder.expect("dumps are in a directory"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the recorder starts");
    let stderr = server.stderr.take().expect("it is a pipe");
    let mut first = String::new();
    BufReader::new(stderr)
        .read_line(&mut first)
        .expect("it says where it listens");
    let address = first
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next())
        .expect("an address")
        .to_owned();
    let get = |host: &str, path: &str| {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        answer
    };
    let list = String::from_utf8(get(&address, "/")).expect("a page is UTF-8");
    let foreign = String::from_utf8_lossy(&get("evil.example", "/")).into_owned();
    let none = String::from_utf8_lossy(&get(&address, "/dump/0123456789abcdef")).into_owned();
    let key = list
        .split_once("/dump/")
        .map(|(_, rest)| rest[..16].to_owned())
        .expect("a dump is listed");
    let file = get(&address, &format!("/file/{key}"));
    let seen = browse(&format!("http://{address}/dump/{key}"), "light");
    server.kill().expect("it is still there");
    server.wait().expect("it ends");

    assert!(list.starts_with("HTTP/1.1 200"), "{list}");
    assert!(list.contains("died of SIGSEGV at 0x10"), "{list}");
    assert!(
        list.to_lowercase()
            .contains("content-security-policy: default-src 'none'"),
        "{list}"
    );
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    assert!(!foreign.contains("SIGSEGV"), "{foreign}");
    assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    let bytes = std::fs::read(dump.path()).expect("the dump is there");
    assert!(file.ends_with(&bytes), "the file is the dump");
    assert!(seen.str("heading").contains("SIGSEGV"), "{seen}");
    seen.expect("log", serde_json::json!([]));
}
