//! `recorder doctor`: what would blind the recorder is told, with what to do about it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use recorder_tests::{Agent, Json, Need, Options, Program, output, ready, recorder};
use tempfile::TempDir;

fn check<'a>(checks: &'a [Json], name: &str, state: &str) -> &'a Json {
    let found = checks.iter().find(|check| {
        check.get("check") == Some(&name.into()) && check.get("state") == Some(&state.into())
    });
    found.unwrap_or_else(|| panic!("no {name} that is {state}: {checks:#?}"))
}

#[test]
fn settings_that_are_wrong_or_leave_something_out_are_told_with_their_place() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::new().expect("there is room for tests");
    let config = directory.path().join("recorder.toml");
    let doctor = || {
        let mut doctor = recorder(["doctor", "--json"]);
        doctor
            .env("RECORDER_CONFIG", &config)
            .env("RECORDER_STATE_DIR", directory.path().join("state"))
            .env("RECORDER_RUN_DIR", directory.path().join("run"));
        output(&mut doctor)
    };
    fs::write(&config, "[window]\nbefor = \"1s\"\n").expect("ours");
    let broken = doctor().expect_code(3).json_lines();
    let found = check(&broken, "configuration", "fail")
        .str("found")
        .to_owned();
    assert!(
        found.contains("recorder.toml:2") && found.contains("window.before"),
        "{found}"
    );

    fs::write(
        &config,
        "[samples]\ninterval = \"0s\"\n[evidence]\nenabled = false\n",
    )
    .expect("ours");
    let blind = doctor().json_lines();
    check(&blind, "configuration", "pass");
    check(&blind, "samples", "warn");
    check(&blind, "evidence", "warn");

    fs::write(&config, "[dumps]\nkeep_free = \"1000000GiB\"\n").expect("ours");
    let full = doctor().expect_code(3).json_lines();
    check(&full, "budget of dumps", "fail");
}

#[test]
fn what_is_open_to_others_and_what_the_agent_has_lost_are_told() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        before: "60m",
        more: vec!["--lifecycle-bytes".into(), "1MiB".into()],
        ..Options::default()
    });
    let checks = agent.run(["doctor", "--json"]).json_lines();
    check(&checks, "directory of dumps", "pass");
    check(&checks, "control socket", "pass");
    check(&checks, "agent", "pass");
    check(&checks, "agent's capabilities", "pass");
    check(&checks, "lost events", "pass");
    check(&checks, "clock since the start", "pass");

    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(agent.dumps_directory(), open).expect("ours");
    // More than the lane holds.
    Program::workload().run(["flood", "20000"]);
    agent.wait_for_status("evicted records", |status| {
        status.number("lanes.1.evicted") > 0
    });
    let checks = agent.run(["doctor", "--json"]).json_lines();
    let dumps = check(&checks, "directory of dumps", "warn");
    assert!(dumps.str("remedy").starts_with("chmod 700"), "{dumps}");
    let lane = check(&checks, "lifecycle lane", "warn");
    assert!(
        lane.str("remedy").contains("memory.lifecycle_bytes"),
        "{lane}"
    );
}
