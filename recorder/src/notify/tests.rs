//! Targets that are real: a server on a local port, programs, sockets.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::sandbox::Starter;

fn starter() -> Starter {
    Starter::new().expect("a thread")
}

pub(super) fn notice() -> Notice {
    Notice {
        event: Occasion::Dump,
        incident: Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_0000_0001),
        rule: "fatal-signal".to_owned(),
        severity: Severity::Medium,
        summary: "sh[7] died of SIGSEGV".to_owned(),
        time: "2026-11-24T09:00:00Z".to_owned(),
        subject: Subject::default(),
        fingerprint: String::new(),
        tags: Vec::new(),
        host: "web-3".to_owned(),
        environment: None,
        dump: Some(DumpOf {
            path: "/d/x.mcap".to_owned(),
            bytes: 100,
            sha256: "00ff".to_owned(),
            events: 9,
        }),
        error: None,
        targets: None,
    }
}

fn target(text: &str) -> Target {
    let target: Target = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    target
        .validate()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    target
}

/// A request as a server got it.
struct Got {
    head: String,
    body: Value,
}

/// Reads a request and answers it.
fn answer(stream: &mut (impl Read + Write), status: &str) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1)?.lines().next()?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let stream = reader.into_inner();
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwhy\n");
    stream.write_all(answer.as_bytes()).ok()?;
    stream.flush().ok()?;
    Some(Got {
        head,
        body: serde_json::from_slice(&body).ok()?,
    })
}

/// A server that answers one request after the other, each with its status; `None` hangs.
fn server(statuses: Vec<Option<&'static str>>) -> (String, mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (send, got) = mpsc::channel();
    std::thread::spawn(move || {
        let mut hanging: Vec<TcpStream> = Vec::new();
        for status in statuses {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            match status {
                Some(status) => {
                    if let Some(got) = answer(&mut stream, status) {
                        let _ = send.send(got);
                    }
                }
                None => hanging.push(stream),
            }
        }
    });
    (format!("http://{address}/hook?token=hidden"), got)
}

fn webhook(url: &str, more: &str) -> Target {
    target(&format!(
        "name = \"hook\"\nkind = \"webhook\"\nurl = \"{url}\"\n{more}"
    ))
}

#[test]
fn a_webhook_gets_the_notice_and_its_token() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let token = directory.path().join("token");
    fs::write(&token, "s3cret\n").expect("ours");
    let (url, got) = server(vec![Some("204 No Content")]);
    let target = webhook(&url, &format!("secret_file = {token:?}"));
    test(&target, &notice()).expect("it is taken");
    let got = got.recv().expect("a request");
    assert!(
        got.head.starts_with("POST /hook?token=hidden HTTP/1.1\r\n"),
        "{}",
        got.head
    );
    assert!(
        got.head.contains("authorization: Bearer s3cret\r\n"),
        "{}",
        got.head
    );
    assert_eq!(got.body["event"], "dump");
    assert_eq!(got.body["dump"]["sha256"], "00ff");
    assert_eq!(got.body["severity"], "medium");
    assert!(got.body.get("targets").is_none());
}

#[test]
fn shapes_are_as_their_services_want_them() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let key = directory.path().join("key");
    fs::write(&key, "R0UTE").expect("ours");
    let (url, got) = server(vec![Some("202 Accepted"), Some("200 OK")]);
    let pagerduty = format!("shape = \"pagerduty\"\nsecret_file = {key:?}");
    test(&webhook(&url, &pagerduty), &notice()).expect("it is taken");
    let event = got.recv().expect("a request");
    assert!(!event.head.contains("R0UTE"), "{}", event.head);
    let event = event.body;
    assert_eq!(event["routing_key"], "R0UTE");
    assert_eq!(event["event_action"], "trigger");
    assert_eq!(event["dedup_key"], notice().incident.to_string());
    assert_eq!(event["payload"]["severity"], "warning");
    assert_eq!(event["payload"]["source"], "web-3");
    assert_eq!(
        event["payload"]["summary"],
        "sh[7] died of SIGSEGV: dump /d/x.mcap"
    );

    test(&webhook(&url, "shape = \"cloudevents\""), &notice()).expect("it is taken");
    let event = got.recv().expect("a request");
    assert!(
        event.head.contains("application/cloudevents+json"),
        "{}",
        event.head
    );
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "recorder.dump"),
        ("source", "/recorder/web-3"),
        ("time", "2026-11-24T09:00:00Z"),
    ] {
        assert_eq!(event.body[name], value);
    }
    assert_eq!(event.body["data"]["rule"], "fatal-signal");
}

#[test]
fn a_server_that_hangs_fails_or_is_away_is_said_so() {
    let (url, _got) = server(vec![
        None,
        Some("500 Oh"),
        Some("400 Bad"),
        Some("429 Slow"),
    ]);
    let quick = webhook(&url, "timeout = \"300ms\"");
    let begun = Instant::now();
    let failure = |target: &Target| test(target, &notice()).expect_err("it is not taken");
    assert!(failure(&quick).contains("no answer within 0.3 s"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(failure(&quick).contains("500 Internal Server Error: why"));
    assert!(failure(&quick).contains("400 Bad Request: why"));
    assert!(failure(&quick).contains("429"));
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let away = webhook(&format!("http://{}/", closed.expect("a port")), "");
    assert!(failure(&away).contains("cannot connect to 127.0.0.1:"));
}

#[test]
fn tls_trusts_whom_it_is_told_to_and_nobody_else() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, made.cert.pem()).expect("ours");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.expect("a key"))
        .expect("a certificate and its key");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let (send, got) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Ok(mut connection) = rustls::ServerConnection::new(Arc::clone(&config)) else {
                return;
            };
            let mut stream = rustls::Stream::new(&mut connection, &mut stream);
            if let Some(got) = answer(&mut stream, "200 OK") {
                let _ = send.send(got);
            }
        }
    });
    let trusting = format!("ca_file = {ca:?}");
    test(
        &webhook(&format!("https://localhost:{port}/"), &trusting),
        &notice(),
    )
    .expect("trusted");
    assert_eq!(got.recv().expect("a request").body["rule"], "fatal-signal");
    // By another name, and without the certificate.
    let other = webhook(&format!("https://127.0.0.1:{port}/"), &trusting);
    assert!(
        test(&other, &notice())
            .expect_err("not its name")
            .contains("no TLS with")
    );
    fs::write(&ca, "nothing").expect("ours");
    let empty = webhook(&format!("https://localhost:{port}/"), &trusting);
    assert!(
        test(&empty, &notice())
            .expect_err("nobody")
            .contains("no certificate is trusted")
    );
}

#[test]
fn a_hook_gets_the_notice_on_its_standard_input() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let out = directory.path().join("out");
    let script = format!(
        "cat > {0}; echo $RECORDER_EVENT $RECORDER_DUMP >> {0}",
        out.display()
    );
    let hook = target(&format!(
        "name = \"x\"\nkind = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]"
    ));
    test(&hook, &notice()).expect("it is taken");
    let text = fs::read_to_string(out).expect("it was written");
    let (notice, environment) = text.split_once('\n').expect("two lines");
    let notice: Value = serde_json::from_str(notice).expect("JSON");
    assert_eq!(notice["summary"], "sh[7] died of SIGSEGV");
    assert_eq!(environment, "dump /d/x.mcap\n");
}

#[test]
fn a_hook_that_hangs_floods_or_fails_is_ended_with_all_its_group() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let pid = directory.path().join("pid");
    let run = |script: &str| {
        let hook = target(&format!(
            "name = \"x\"\nkind = \"exec\"\ntimeout = \"500ms\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]"
        ));
        test(&hook, &notice()).expect_err("it does not take it")
    };
    let hangs = format!("sleep 300 & echo $! > {}; wait", pid.display());
    assert!(run(&hangs).contains("killed after 0.5 s"));
    let child = fs::read_to_string(&pid).expect("it was written");
    let stat = format!("/proc/{}/stat", child.trim());
    let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    let begun = Instant::now();
    while !is_gone() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(is_gone(), "its child lives on");
    assert!(run("echo no room >&2; exit 3").contains("exit code 3: no room"));
    assert!(run("exec yes >&2").contains("killed after 0.5 s: y"));
    let missing = target("name = \"x\"\nkind = \"exec\"\ncommand = [\"/nonexistent\"]");
    assert!(
        test(&missing, &notice())
            .expect_err("none")
            .contains("cannot run /nonexistent")
    );
}

#[test]
fn an_entry_of_the_journal_has_its_fields_however_long_they_are() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let path = directory.path().join("journal");
    let socket = UnixDatagram::bind(&path).expect("the directory is ours");
    let journal = target(&format!(
        "name = \"j\"\nkind = \"journal\"\nsocket = {path:?}"
    ));
    let mut told = notice();
    told.error = Some("one\ntwo".to_owned());
    test(&journal, &told).expect("it is taken");
    let mut bytes = vec![0; 1 << 16];
    let count = socket.recv(&mut bytes).expect("a datagram");
    let entry = String::from_utf8_lossy(&bytes[..count]).into_owned();
    for line in [
        "MESSAGE=sh[7] died of SIGSEGV: dump /d/x.mcap\n",
        "PRIORITY=4\n",
        "SYSLOG_IDENTIFIER=recorder\n",
        "RECORDER_INCIDENT=019ab000-0000-7000-8000-000000000001\n",
        "RECORDER_DUMP=/d/x.mcap\n",
        "RECORDER_ERROR\n\x07\0\0\0\0\0\0\0one\ntwo\n",
    ] {
        assert!(entry.contains(line), "{line:?} in {entry:?}");
    }
    told.summary = "x".repeat(4 << 20);
    test(&journal, &told).expect("it is taken");
    let file = received_file(&socket);
    let mut entry = String::new();
    let mut file = file.take(8 << 20);
    std::io::Seek::rewind(file.get_mut()).expect("it is a file");
    file.read_to_string(&mut entry).expect("text");
    assert!(entry.starts_with("MESSAGE=xxx") && entry.contains("\nRECORDER_RULE=fatal-signal\n"));
    drop(socket);
    let gone = test(&journal, &notice()).expect_err("nobody listens");
    assert!(gone.contains("journal: "), "{gone}");
}

/// Receives the file that comes with an empty datagram, as the journal does.
fn received_file(socket: &UnixDatagram) -> fs::File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut nothing = [0; 16];
    let mut buffers = [std::io::IoSliceMut::new(&mut nothing)];
    let message = recvmsg(socket, &mut buffers, &mut control, RecvFlags::empty());
    assert_eq!(message.expect("a datagram").bytes, 0);
    let mut files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    files.next().expect("a file").into()
}

#[test]
fn a_line_of_the_system_log_arrives() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let path = directory.path().join("log");
    let socket = UnixDatagram::bind(&path).expect("the directory is ours");
    let text = format!("name = \"s\"\nkind = \"syslog\"\nsocket = {path:?}\nformat = \"rfc5424\"");
    test(&target(&text), &notice()).expect("it is taken");
    let mut bytes = vec![0; 4096];
    let count = socket.recv(&mut bytes).expect("a datagram");
    let line = String::from_utf8_lossy(&bytes[..count]).into_owned();
    assert!(
        line.starts_with("<28>1 20") && line.contains(" web-3 recorder "),
        "{line}"
    );
    // Others listen for a stream.
    let stream = directory.path().join("stream");
    let listener = std::os::unix::net::UnixListener::bind(&stream).expect("the directory is ours");
    let text = format!("name = \"s\"\nkind = \"syslog\"\nsocket = {stream:?}");
    test(&target(&text), &notice()).expect("it is taken");
    let mut line = String::new();
    let (mut stream, _) = listener.accept().expect("it connected");
    stream.read_to_string(&mut line).expect("text");
    assert!(line.starts_with("<28>") && line.ends_with(")\n"), "{line}");
}

#[test]
fn one_that_hangs_holds_up_no_other_and_nobody_who_tells() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let out = directory.path().join("out");
    let (url, _got) = server(vec![None; 8]);
    let hangs = webhook(&url, "timeout = \"2s\"");
    let script = format!("wc -l >> {}", out.display());
    let works = target(&format!(
        "name = \"works\"\nkind = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]"
    ));
    let (notifier, threads) = Notifier::start(&[hangs, works], starter(), |_| {}).expect("threads");
    let begun = Instant::now();
    for _ in 0..600 {
        notifier.tell(notice());
    }
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let of = |index: usize| notifier.status()[index].clone();
    while of(1).delivered < 5 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", of(1));
        std::thread::sleep(Duration::from_millis(10));
    }
    // Half of the first attempt may be over; nothing of it is lost count of.
    let stuck = of(0);
    assert_eq!(stuck.delivered, 0);
    assert!(stuck.waiting + stuck.dropped >= 599, "{stuck:?}");
    assert!(stuck.dropped > 0, "{stuck:?}");
    drop(notifier);
    let ending = Instant::now();
    threads.join();
    assert!(
        ending.elapsed() < Duration::from_secs(12),
        "{:?}",
        ending.elapsed()
    );
}

#[test]
fn a_target_that_comes_back_is_told_what_waited_in_order() {
    let (url, got) = server(vec![Some("500 Oh"), Some("200 OK"), Some("200 OK")]);
    let (notifier, threads) =
        Notifier::start(&[webhook(&url, "")], starter(), |_| {}).expect("threads");
    for event in [Occasion::Incident, Occasion::Dump] {
        notifier.tell(Notice { event, ..notice() });
    }
    let events: Vec<_> = (0..3)
        .map(|_| {
            got.recv_timeout(Duration::from_secs(20))
                .expect("a request")
        })
        .map(|got| got.body["event"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(events, ["incident", "incident", "dump"]);
    drop(notifier);
    threads.join();
}

#[test]
fn a_target_hears_of_what_it_wants() {
    let wants = |text: &str, notice: &Notice| {
        target(&format!("name = \"j\"\nkind = \"journal\"\n{text}")).wants(notice)
    };
    assert!(wants("", &notice()));
    assert!(!wants("enabled = false", &notice()));
    assert!(!wants("events = [\"incident\"]", &notice()));
    assert!(wants("min_severity = \"medium\"", &notice()));
    assert!(!wants("min_severity = \"high\"", &notice()));
    assert!(!wants("rules = [\"oom-kill\"]", &notice()));
    let named = |targets: &[&str]| Notice {
        targets: Some(targets.iter().map(|name| (*name).to_owned()).collect()),
        ..notice()
    };
    assert!(wants("", &named(&["j"])));
    assert!(!wants("", &named(&["other"])));
    assert!(!wants("", &named(&[])));
}

#[test]
fn nonsense_is_refused_with_what_to_write() {
    for (text, says) in [
        ("kind = \"exec\"", "write a program by its path"),
        (
            "kind = \"exec\"\ncommand = [\"logger\"]",
            "write a program by its path",
        ),
        ("kind = \"webhook\"", "url: write where to"),
        (
            "kind = \"webhook\"\nurl = \"ftp://x/\"",
            "https://host/path",
        ),
        (
            "kind = \"webhook\"\nurl = \"https://u:p@x/\"",
            "secret_file",
        ),
        (
            "kind = \"webhook\"\nurl = \"https://x/\"\nshape = \"pagerduty\"",
            "routing key",
        ),
        (
            "kind = \"journal\"\nurl = \"https://x/\"",
            "only for kind webhook",
        ),
        ("kind = \"journal\"\ntimeout = \"0s\"", "at most"),
        ("kind = \"journal\"\nevents = []", "enabled = false"),
    ] {
        let target: Target = toml::from_str(&format!("name = \"x\"\n{text}")).expect("it parses");
        let error = target.validate().expect_err("nonsense");
        assert!(error.contains(says), "{error}");
    }
    toml::from_str::<Target>("name = \"x\"\nkind = \"journal\"\nevents = [\"test\"]")
        .expect_err("nobody waits for tests");
}

#[test]
fn what_may_be_secret_is_not_shown() {
    let target = webhook(
        "https://hooks.example:8443/services/T0/B0/s3cret?token=s3cret",
        "",
    );
    let shown = toml::to_string(&target).expect("TOML");
    assert!(shown.contains("https://hooks.example/(hidden)"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    let json = serde_json::to_string(&target).expect("JSON");
    assert!(!json.contains("s3cret"), "{json}");
}

#[test]
fn a_secret_that_cannot_be_read_is_said_without_it() {
    let directory = tempfile::tempdir().expect("there is room for tests");
    let token = directory.path().join("token");
    let (url, _got) = server(vec![]);
    let hook = webhook(&url, &format!("secret_file = {token:?}"));
    let why = |path: &Path| {
        let error = test(&hook, &notice()).expect_err("no secret");
        assert!(error.contains(&path.display().to_string()), "{error}");
        error
    };
    assert!(why(&token).contains("No such file"));
    fs::write(&token, "").expect("ours");
    assert!(why(&token).contains("empty"));
    fs::write(&token, "a\nb").expect("ours");
    let error = test(&hook, &notice()).expect_err("two lines");
    assert!(
        error.contains("no header can have") && !error.contains('\n'),
        "{error}"
    );
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&token, mode).expect("ours");
}
