//! The configuration file: what it says is done, what it says wrong is named.

use std::fs;

use recorder_tests::{Agent, Need, Options, output, ready, recorder};
use tempfile::TempDir;

const USAGE: i32 = 2;

fn directory_with(main: &str, drop_in: &str) -> TempDir {
    let directory = TempDir::with_prefix("recorder-config-").expect("there is room");
    fs::write(directory.path().join("recorder.toml"), main).expect("ours");
    let drop_ins = directory.path().join("recorder.toml.d");
    fs::create_dir(&drop_ins).expect("ours");
    fs::write(drop_ins.join("10-site.toml"), drop_in).expect("ours");
    directory
}

#[test]
fn the_agent_records_as_the_files_say_and_flags_go_before_them() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = directory_with(
        "[window]\nbefore = \"1h\"\nafter = \"1h\"\n[memory]\nsample_bytes = \"2MiB\"\n",
        "[host]\nenvironment = \"paris-1\"\n[memory]\nsample_bytes = \"3MiB\"\n",
    );
    // The harness gives --before and --after.
    let config = directory.path().join("recorder.toml");
    let agent = Agent::start_with(&Options {
        after: "300ms",
        ..Options::with(["--config".into(), config.clone().into_os_string()])
    });
    let dump = agent.trigger("configured");
    dump.sidecar().expect("host.environment", "paris-1");
    let recorded = dump.metadata("recorder.config");
    recorded.expect("after_ns", 300_000_000);
    recorded.expect("sample_bytes", 3 << 20);

    let shown = output(recorder(["config", "show", "--json", "--config"]).arg(&config));
    let shown = shown.expect_code(0).json();
    assert_eq!(shown.all("files").len(), 2, "{shown}");
    let settings = shown.all("settings");
    let sample = settings
        .iter()
        .find(|setting| setting.str("key") == "memory.sample_bytes");
    let sample = sample.expect("it is set");
    sample.expect("value", "3MiB");
    sample.expect("origin.line", 4);
    assert!(sample.str("origin.path").ends_with("10-site.toml"));
    let text = output(recorder(["config", "show", "--effective", "--config"]).arg(&config));
    let text = text.expect_code(0);
    assert!(text.text().contains("before = \"3600s\""), "{text}");
    assert!(
        text.text().contains("cooldown = \"60s\"  # default"),
        "{text}"
    );
}

#[test]
fn mistakes_end_with_usage_and_one_sentence_before_anything_is_touched() {
    if !ready(&[Need::Agent]) {
        return;
    }
    for (main, drop_in, says) in [
        (
            "",
            "[window]\nbefor = \"1s\"\n",
            "10-site.toml:2: unknown key \"window.befor\": did you mean \"window.before\"?",
        ),
        ("[window\n", "", "recorder.toml:1: "),
        (
            "[memory]\nlifecycle_bytes = \"1KiB\"\n",
            "",
            "--lifecycle-bytes is memory.lifecycle_bytes at ",
        ),
    ] {
        let directory = directory_with(main, drop_in);
        let config = directory.path().join("recorder.toml");
        let state = directory.path().join("state");
        for arguments in [&["run"][..], &["config", "check"], &["config", "show"]] {
            let mut command = recorder(arguments);
            command.env("RECORDER_CONFIG", &config);
            command.arg("--state-dir").arg(&state);
            let output = output(&mut command).expect_code(USAGE).expect_note(says);
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
        }
        assert!(!state.exists());
    }
    let missing = output(&mut recorder(["run", "--config", "/nonexistent.toml"]));
    missing.expect_code(USAGE).expect_note("/nonexistent.toml");
}
