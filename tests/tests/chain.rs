//! What vouches for dumps: their chain, which misses what was taken away, and signatures, which standard tools check.

use std::fs;
use std::path::{Path, PathBuf};

use recorder_tests::{Agent, Json, Need, Options, Output, output, ready, recorder, system};
use tempfile::TempDir;

/// Options of an agent that makes small dumps soon.
fn options(more: &[&str]) -> Options {
    Options {
        after: "20ms",
        ..Options::with([&["--evidence", "false"], more].concat())
    }
}

/// Makes so many dumps; returns their paths, oldest first.
fn dumps(agent: &Agent, count: usize) -> Vec<PathBuf> {
    let reasons = (0..count).map(|number| format!("number {number} of {}", agent.pid()));
    reasons
        .map(|reason| agent.trigger(&reason).path().to_owned())
        .collect()
}

/// Copies a directory of dumps, to do harm to the copy.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::with_prefix("recorder-chain-").expect("there is room");
    for file in fs::read_dir(from).expect("it is the agent's") {
        let file = file.expect("it is readable");
        fs::copy(file.path(), to.path().join(file.file_name())).expect("there is room");
    }
    to
}

fn verify(directory: &Path, more: &[&str]) -> Output {
    output(recorder(["verify", "--json"]).args(more).arg(directory))
}

/// Returns what is wrong with the chain of a directory.
#[track_caller]
fn problems(directory: &Path, more: &[&str]) -> Vec<String> {
    let said = verify(directory, more);
    let lines = said.json_lines();
    let chain = lines
        .last()
        .expect("one line for the directory")
        .at("chain");
    let problems = chain.all("problems");
    let texts = problems
        .iter()
        .map(|one| one.value().as_str().unwrap_or_default().to_owned());
    let texts: Vec<String> = texts.collect();
    let is_well = texts.is_empty() && states(&lines).iter().all(|state| state == "complete");
    assert_eq!(said.code, Some(if is_well { 0 } else { 3 }), "{said}");
    texts
}

fn states(lines: &[Json]) -> Vec<String> {
    let dumps = lines.iter().filter(|line| line.get("state").is_some());
    dumps.map(|line| line.str("state").to_owned()).collect()
}

fn remove(directory: &Path, dump: &Path) {
    let name = dump.file_name().expect("dumps have names");
    let path = directory.join(name);
    for extension in ["mcap", "json", "json.sig"] {
        // Not all of them are there.
        let _ = fs::remove_file(path.with_extension(extension));
    }
}

fn beside(directory: &Path, dump: &Path) -> PathBuf {
    let name = dump.file_name().expect("dumps have names");
    directory.join(name).with_extension("json")
}

#[test]
fn a_dump_that_is_taken_away_changed_or_exchanged_is_missed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&options(&[]));
    let made = dumps(&agent, 4);
    let directory = agent.dumps_directory();
    assert_eq!(problems(&directory, &[]), [""; 0]);
    // What people say about a dump changes nothing that vouches for it.
    let id = made[1]
        .file_stem()
        .and_then(|stem| stem.to_str()?.rsplit('-').next());
    let id = id.expect("an id");
    for words in [
        &["tag", id, "disk"][..],
        &["note", id, "seen"],
        &["pin", id],
    ] {
        agent.run(words).expect_code(0);
    }
    assert_eq!(problems(&directory, &[]), [""; 0]);

    for (number, dump) in made.iter().enumerate() {
        let copy = copy(&directory);
        remove(copy.path(), dump);
        let said = problems(copy.path(), &[]);
        let expected = format!("number {} is missing", number + 1);
        assert!(
            said.len() == 1 && said[0].starts_with(&expected),
            "{said:?}"
        );
    }
    for dump in &made {
        // A sidecar that says something else of the same dump.
        let copy = copy(&directory);
        let path = beside(copy.path(), dump);
        let text = fs::read_to_string(&path).expect("ours");
        let changed = text.replacen("\"hostname\": \"", "\"hostname\": \"not-", 1);
        assert_ne!(text, changed);
        fs::write(&path, changed).expect("ours");
        assert_eq!(problems(copy.path(), &[]).len(), 1, "{}", path.display());
    }
    // Two dumps under each other's names: neither is the one that its sidecar describes.
    let copy = copy(&directory);
    let [one, other] =
        [&made[1], &made[2]].map(|dump| copy.path().join(dump.file_name().expect("a name")));
    let between = copy.path().join("between");
    fs::rename(&one, &between).expect("ours");
    fs::rename(&other, &one).expect("ours");
    fs::rename(&between, &other).expect("ours");
    let said = verify(copy.path(), &[]).expect_code(3);
    let tampered = states(&said.json_lines())
        .into_iter()
        .filter(|state| state == "tampered");
    assert_eq!(tampered.count(), 2, "{said}");
}

#[test]
fn what_budgets_and_people_remove_is_not_missed_also_after_a_restart_and_without_the_catalog() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-chain-").expect("there is room");
    let few = options(&["--dumps-max-count", "3"]);
    let mut agent = Agent::start_in(directory.path(), &few);
    let made = dumps(&agent, 5);
    let of = agent.dumps_directory();
    assert_eq!(problems(&of, &[]), [""; 0]);
    agent
        .run([
            "rm",
            made[3]
                .file_stem()
                .and_then(|stem| stem.to_str()?.rsplit('-').next())
                .expect("an id"),
        ])
        .expect_code(0);
    assert_eq!(problems(&of, &[]), [""; 0], "a person removed it");
    assert_eq!(agent.stop().code(), Some(0));
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        // Not all of them are there.
        let _ = fs::remove_file(agent.state_directory().join(file));
    }
    let mut agent = Agent::start_in(directory.path(), &few);
    dumps(&agent, 2);
    let said = verify(&of, &[]).expect_code(0);
    let chain = said
        .json_lines()
        .last()
        .expect("one for the directory")
        .at("chain");
    chain.expect("dumps", 3);
    // The ring that the first agent left may be a dump as well.
    let number = chain.number("number");
    assert!(number == 7 || number == 8, "{chain}");
    assert_eq!(agent.stop().code(), Some(0));
    // Without its file the chain goes on where its dumps end, and that the end may be missing is said.
    fs::remove_file(of.join("chain.json")).expect("it is there");
    let said = problems(&of, &[]);
    assert!(
        said.len() == 1 && said[0].contains("would not be missed"),
        "{said:?}"
    );
    let agent = Agent::start_in(directory.path(), &few);
    dumps(&agent, 1);
    assert_eq!(problems(&of, &[]), [""; 0]);
}

#[test]
fn a_signature_is_checked_by_the_recorder_and_by_openssl() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::Command("openssl")]) {
        return;
    }
    let keys = TempDir::with_prefix("recorder-keys-").expect("there is room");
    let path = |name: &str| keys.path().join(name).display().to_string();
    output(&mut recorder(["keygen", &path("key")])).expect_code(0);
    output(&mut recorder(["keygen", &path("key")]))
        .expect_code(1)
        .expect_note("cannot make");
    // The other one is made by a standard tool.
    let mut openssl = system("openssl");
    output(openssl.args(["genpkey", "-algorithm", "ed25519", "-out", &path("other")]))
        .expect_code(0);
    let mut openssl = system("openssl");
    output(openssl.args([
        "pkey",
        "-in",
        &path("other"),
        "-pubout",
        "-out",
        &path("other.pub"),
    ]))
    .expect_code(0);
    // Ours is what that tool takes for a key, with the same public half.
    let mut openssl = system("openssl");
    let public = output(openssl.args(["pkey", "-in", &path("key"), "-pubout"])).expect_code(0);
    assert_eq!(
        public.stdout,
        fs::read(path("key.pub")).expect("it is made")
    );

    let agent = Agent::start_with(&options(&["--dumps-sign-key", &path("key")]));
    let made = dumps(&agent, 2);
    let directory = agent.dumps_directory();
    let key = ["--key", &path("key.pub")];
    assert_eq!(problems(&directory, &key), [""; 0]);
    let said = output(recorder(["verify"]).args(key).arg(&made[0])).expect_code(0);
    assert!(said.text().contains("signed by this key"), "{said}");
    let said = output(recorder(["verify"]).arg(&made[0])).expect_code(0);
    assert!(said.text().contains(", signed"), "{said}");
    let sidecar = made[0].with_extension("json").display().to_string();
    let checked = |public: &str| {
        let mut openssl = system("openssl");
        openssl.args(["pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin"]);
        output(openssl.args(["-in", &sidecar, "-sigfile", &format!("{sidecar}.sig")]))
    };
    let said = checked(&path("key.pub")).expect_code(0);
    assert!(said.text().contains("Verified Successfully"), "{said}");
    assert_ne!(checked(&path("other.pub")).code, Some(0));

    // Another key, no signature, another sidecar, and one signed anew by somebody else.
    let other = ["--key", &path("other.pub")];
    let said = output(recorder(["verify"]).args(other).arg(&made[0])).expect_code(3);
    assert!(said.text().contains("not signed by this key"), "{said}");
    let copy = copy(&directory);
    let forged = beside(copy.path(), &made[0]);
    let dump = forged.with_extension("mcap");
    let text = fs::read_to_string(&forged).expect("ours");
    fs::write(
        &forged,
        text.replacen("\"hostname\": \"", "\"hostname\": \"not-", 1),
    )
    .expect("ours");
    output(recorder(["verify"]).args(key).arg(&dump)).expect_code(3);
    let signature = forged.with_extension("json.sig").display().to_string();
    let mut openssl = system("openssl");
    openssl
        .args([
            "pkeyutl",
            "-sign",
            "-inkey",
            &path("other"),
            "-rawin",
            "-in",
        ])
        .arg(&forged);
    output(openssl.args(["-out", &signature])).expect_code(0);
    output(recorder(["verify"]).args(other).arg(&dump)).expect_code(0);
    let said = output(recorder(["verify"]).args(key).arg(&dump)).expect_code(3);
    assert!(said.text().contains("not by this key"), "{said}");
    fs::remove_file(&signature).expect("ours");
    let said = output(recorder(["verify"]).args(key).arg(&dump)).expect_code(3);
    assert!(said.text().contains("no signature"), "{said}");

    // It goes with its dump.
    let id = made[0]
        .file_stem()
        .and_then(|stem| stem.to_str()?.rsplit('-').next())
        .expect("an id");
    agent.run(["rm", id]).expect_code(0);
    assert!(!made[0].with_extension("json.sig").exists());
    assert_eq!(problems(&directory, &key), [""; 0]);
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    if !ready(&Need::RECORDING) {
        return;
    }
    let keys = TempDir::with_prefix("recorder-keys-").expect("there is room");
    let key = keys.path().join("key");
    output(recorder(["keygen"]).arg(&key)).expect_code(0);
    assert_eq!(
        fs::metadata(&key).expect("made").permissions().mode() & 0o777,
        0o600
    );
    let start = |key: &Path| {
        let mut command = recorder(["run", "--dumps-sign-key"]);
        command.arg(key);
        command.env("RECORDER_RUN_DIR", keys.path().join("run"));
        command.env("RECORDER_STATE_DIR", keys.path().join("state"));
        output(&mut command)
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("ours");
    start(&key)
        .expect_code(1)
        .expect_note("others can read the key");
    let public = keys.path().join("key.pub");
    fs::set_permissions(&public, fs::Permissions::from_mode(0o600)).expect("ours");
    start(&public)
        .expect_code(1)
        .expect_note("is no Ed25519 key");
    start(&keys.path().join("none"))
        .expect_code(1)
        .expect_note("cannot read");
}
