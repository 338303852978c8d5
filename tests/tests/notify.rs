//! Notifications: a real incident reaches every kind of target, and one that is away holds nothing up.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use recorder_tests::host::guest::patience;
use recorder_tests::{Agent, Json, Need, Options, Program, output, ready, recorder};

/// A server that takes requests and hands over their bodies; the first `failures` it answers with 503.
fn server(failures: usize) -> (String, mpsc::Receiver<Json>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (send, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(stream) = stream else { return };
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let status = match number < failures {
                true => "503 Service Unavailable",
                false => "200 OK",
            };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = reader.into_inner().write_all(answer.as_bytes());
            if number >= failures {
                let _ = send.send(Json::parse(&String::from_utf8_lossy(&body)));
            }
        }
    });
    (format!("http://{address}/services/T0/s3cret"), bodies)
}

fn with_config(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::TempDir::with_prefix("recorder-notify-").expect("there is room");
    let config = directory.path().join("recorder.toml");
    fs::write(&config, text).expect("ours");
    (directory, config)
}

fn agent_with(config: &Path) -> Agent {
    Agent::start_with(&Options::with([
        "--config".into(),
        config.as_os_str().to_owned(),
    ]))
}

#[test]
fn a_crash_reaches_every_kind_of_target_at_once_and_when_its_dump_is_durable() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let path = |name: &str| directory.path().join(name);
    let journal = UnixDatagram::bind(path("journal")).expect("ours");
    let log = UnixDatagram::bind(path("log")).expect("ours");
    for socket in [&journal, &log] {
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time");
    }
    let (url, bodies) = server(1);
    let hook = format!("cat >> {}", path("hook").display());
    let (_directory, config) = with_config(&format!(
        "[[notify]]\nname = \"web\"\nkind = \"webhook\"\nurl = \"{url}\"\n\
         [[notify]]\nname = \"hook\"\nkind = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", {hook:?}]\n\
         [[notify]]\nname = \"journal\"\nkind = \"journal\"\nevents = [\"dump\"]\nsocket = {:?}\n\
         [[notify]]\nname = \"log\"\nkind = \"syslog\"\nevents = [\"incident\"]\nsocket = {:?}\n",
        path("journal"),
        path("log"),
    ));
    let agent = agent_with(&config);
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(crash.pid());
    let id = dump.incident().str("id").to_owned();

    // The first attempt fails, and is made again.
    let mut told = Vec::new();
    while told.len() < 2 {
        let body = bodies
            .recv_timeout(Duration::from_secs(20))
            .expect("a request");
        if body.str("incident") == id {
            told.push(body);
        }
    }
    told[0].expect("event", "incident");
    told[0].expect("rule", "fatal-signal");
    told[0].expect("subject.pid", crash.pid());
    told[1].expect("event", "dump");
    assert_eq!(told[1].str("dump.path"), dump.path().display().to_string());
    let sha256 = told[1].str("dump.sha256").to_owned();
    dump.sidecar().expect("sha256", sha256.as_str());

    let mut bytes = vec![0; 1 << 16];
    let mut wanted = |socket: &UnixDatagram, text: &str| loop {
        let count = socket.recv(&mut bytes).expect("a datagram");
        let entry = String::from_utf8_lossy(&bytes[..count]).into_owned();
        if entry.contains(text) {
            return entry;
        }
    };
    let entry = wanted(&journal, &format!("RECORDER_INCIDENT={id}\n"));
    assert!(entry.contains("\nRECORDER_EVENT=dump\n"), "{entry}");
    assert!(
        entry.contains(&format!("\nRECORDER_DUMP_SHA256={sha256}\n")),
        "{entry}"
    );
    let line = wanted(&log, &id);
    assert!(
        line.contains(" recorder[") && line.contains("died of SIGSEGV"),
        "{line}"
    );
    let begun = Instant::now();
    let hooked = || -> Vec<Json> {
        let text = fs::read_to_string(path("hook")).unwrap_or_default();
        text.lines()
            .map(Json::parse)
            .filter(|notice| notice.str("incident") == id)
            .collect()
    };
    while hooked().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:#?}", hooked());
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = agent.status();
    let web = status
        .all("notify")
        .into_iter()
        .find(|target| target.str("name") == "web");
    let web = web.unwrap_or_else(|| panic!("{status}"));
    assert!(
        web.number("delivered") >= 2 && web.number("failures") >= 1,
        "{web}"
    );
    // The configuration in the dump has no secret.
    let recorded = dump.metadata("recorder.config").to_string();
    assert!(
        recorded.contains("(hidden)") && !recorded.contains("s3cret"),
        "{recorded}"
    );
}

#[test]
fn a_target_that_hangs_delays_no_dump_and_no_end_and_is_said() {
    if !ready(&Need::RECORDING) {
        return;
    }
    // It accepts and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (_directory, config) = with_config(&format!(
        "[[notify]]\nname = \"hangs\"\nkind = \"webhook\"\nurl = \"http://{address}/\"\ntimeout = \"200ms\"\n"
    ));
    let mut agent = agent_with(&config);
    for number in 0..3 {
        agent.trigger(&format!("number {number}"));
    }
    let status = agent.wait_for_status("a target that fails", |status| {
        status.get("state") == Some(&"degraded".into())
    });
    let codes = status.all("reasons");
    assert!(
        codes
            .iter()
            .any(|reason| reason.str("code") == "notifications-fail"),
        "{status}"
    );
    let asked = Instant::now();
    assert_eq!(agent.stop().code(), Some(0));
    assert!(
        asked.elapsed() < patience(Duration::from_secs(10)),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        agent
            .notes()
            .iter()
            .any(|line| line.contains("to hangs were not delivered")),
        "{:#?}",
        agent.notes()
    );
}

#[test]
fn a_reload_takes_new_targets_and_lets_old_ones_go() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let ((old, to_old), (new, to_new)) = (server(0), server(0));
    let target = |name: &str, url: &str| {
        format!(
            "[[notify]]\nname = \"{name}\"\nkind = \"webhook\"\nevents = [\"dump\"]\nurl = \"{url}\"\n"
        )
    };
    let (_directory, config) = with_config(&target("old", &old));
    let agent = agent_with(&config);
    agent.trigger("to the old one");
    let patience = patience(Duration::from_secs(10));
    to_old.recv_timeout(patience).expect("it is told");
    fs::write(&config, target("new", &new)).expect("ours");
    let reloaded = agent.run(["reload"]).expect_code(0);
    assert!(!reloaded.to_string().contains("restart"), "{reloaded}");
    agent.trigger("to the new one");
    let told = to_new.recv_timeout(patience).expect("it is told");
    told.expect("rule", "manual");
    assert!(to_old.try_recv().is_err(), "it is told no more");
    let targets = agent.status().all("notify");
    assert_eq!(targets.len(), 1);
    targets[0].expect("name", "new");
}

#[test]
fn a_target_is_tried_by_hand_and_its_secrets_are_not_shown() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let (url, bodies) = server(0);
    let (directory, config) = with_config(&format!(
        "[[notify]]\nname = \"web\"\nkind = \"webhook\"\nurl = \"{url}\"\n\
         [[notify]]\nname = \"away\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n"
    ));
    let run = |arguments: &[&str]| {
        let mut command = recorder(arguments);
        output(command.env("RECORDER_CONFIG", &config))
    };
    let tried = run(&["notify", "test", "web"]).expect_code(0);
    assert!(
        tried.text().starts_with("web (webhook) took the test"),
        "{tried}"
    );
    bodies.recv().expect("a request").expect("event", "test");
    run(&["notify", "test", "away"])
        .expect_code(1)
        .expect_note("cannot connect to 127.0.0.1:1");
    run(&["notify", "test", "no"])
        .expect_code(1)
        .expect_note("there are web, away");
    for shown in [run(&["config", "show"]), run(&["config", "show", "--json"])] {
        let shown = shown.expect_code(0);
        assert!(shown.text().contains("(hidden)"), "{shown}");
        assert!(!shown.text().contains("s3cret"), "{shown}");
    }
    fs::write(&config, "[[notify]]\nname = \"x\"\nkind = \"webhok\"\n").expect("ours");
    run(&["config", "check"])
        .expect_code(2)
        .expect_note("recorder.toml:3: notify: ");
    fs::write(
        &config,
        "[[notify]]\nname = \"x\"\nkind = \"journal\"\nevent = [\"dump\"]\n",
    )
    .expect("ours");
    run(&["config", "check"])
        .expect_code(2)
        .expect_note("did you mean \"notify.events\"?");
    drop(directory);
}
