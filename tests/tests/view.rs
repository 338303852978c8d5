//! A dump on a real terminal, by keyboard: what it shows, and how it leaves the terminal.

use std::process::Command;

use recorder_tests::fixture::golden;
use recorder_tests::{Agent, Need, Program, Screen, output, ready, recorder, wait_for};

const RIGHT: &str = "\u{1b}[C";

#[test]
fn a_crash_is_shown_filtered_searched_and_followed_to_its_exit() {
    if !ready(&[&Need::RECORDING[..], &[Need::Command("script")]].concat()) {
        return;
    }
    let agent = Agent::start();
    // The name would clear the screen, and write behind the reader's back.
    let program = Program::named("\u{1b}[2J\u{202e}x");
    let crashed = program.run(["segv-write", "0x10"]);
    let dump = agent.dump_of(crashed.pid());
    let path = dump.path().display().to_string();

    let mut screen = Screen::recorder(&["view", &path], (80, 24), &[]);
    let shown = screen.until("the trigger", |screen| {
        screen.contains("+0.000000 signal.fatal") && screen.contains("failures")
    });
    assert!(shown.contains("died of SIGSEGV at 0x10"), "{shown}");
    assert!(
        shown.contains('◈') && shown.contains("processes"),
        "{shown}"
    );
    assert!(shown.lines().any(|line| line.starts_with('►')), "{shown}");

    screen.press(RIGHT);
    let shown = screen.shows("more lines");
    assert!(shown.contains("write to 0x10"), "{shown}");
    screen.press(" ");
    screen.until("a register", |screen| {
        screen.contains("ip 0x") || screen.contains("x0 0x")
    });
    screen.press_until(" ", "start_boot_ns");
    let shown = screen.press_until("k", &format!("{}", crashed.pid()));
    assert!(shown.contains("\\u{1b}[2J"), "{shown}");

    screen.press("e");
    let shown = screen.shows("death certificate");
    assert!(shown.contains("Exit 139: SIGSEGV (SEGV_MAPERR)"), "{shown}");
    screen.press("c");
    screen.shows("Z, the trigger");
    screen.press("\u{1b}");
    screen.until("the list", |screen| {
        screen.lines().any(|line| line.starts_with('►'))
    });

    screen.press("f");
    screen.shows("filter: --");
    screen.press("type process\r");
    let shown = screen.shows("(--type process)");
    assert!(!shown.lines().any(|line| line.starts_with('!')), "{shown}");
    screen.press("F/process.exec\r");
    screen.until("the search", |screen| {
        !screen.contains("searching") && screen.contains("process.exec")
    });

    screen.press("o");
    screen.shows("missing");
    screen.press("q");
    screen.resize(140, 40);
    screen.until("both sides", |screen| {
        screen.contains('│') && screen.contains("memory")
    });
    screen.press("q");
    screen.ended(0);
    let raw = String::from_utf8_lossy(screen.raw());
    assert!(!raw.contains("\u{1b}[2J\u{202e}") && !raw.contains('\u{202e}'));
}

#[test]
fn without_colours_none_is_sent_and_a_signal_gives_the_terminal_back() {
    if !ready(&[Need::Agent, Need::Command("script"), Need::Command("ps")]) {
        return;
    }
    let path = golden()[0].display().to_string();
    let mut screen = Screen::recorder(&["view", &path], (80, 24), &[("NO_COLOR", "1")]);
    screen.shows("signal.fatal");
    let raw = String::from_utf8_lossy(screen.raw()).into_owned();
    // Colours are what sets a style and is none of bold, dim, reversed and their ends.
    let styles = raw.split("\u{1b}[").filter_map(|part| {
        let (style, _) = part.split_once('m')?;
        let is_style = style
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b';');
        is_style.then_some(style)
    });
    let plain = ["", "0", "1", "2", "7", "22", "27"];
    let parts = styles.flat_map(|style| style.split(';'));
    let colours: Vec<&str> = parts.filter(|one| !plain.contains(one)).collect();
    assert!(colours.is_empty(), "{colours:?} in {raw:?}");
    let pids = screen.pids_of("recorder");
    assert_eq!(pids.len(), 1, "{pids:?}");
    let killed = Command::new("kill").args(["-TERM", &pids[0]]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    screen.ended(143);

    let mut screen = Screen::recorder(&["view", &path, "--type", "signal"], (80, 24), &[]);
    screen.shows("(--type signal)");
    screen.press("\u{3}");
    screen.ended(0);
}

#[test]
fn a_terminal_that_hangs_up_ends_it() {
    if !ready(&[Need::Agent, Need::Command("script"), Need::Command("ps")]) {
        return;
    }
    let path = golden()[0].display().to_string();
    let mut screen = Screen::recorder(&["view", &path], (80, 24), &[]);
    screen.shows("signal.fatal");
    let pids = screen.pids_of("recorder");
    assert_eq!(pids.len(), 1, "{pids:?}");
    drop(screen);
    let process = std::path::Path::new("/proc").join(&pids[0]);
    wait_for("it ends with its terminal", || !process.exists());
}

#[test]
fn a_cut_dump_is_shown_as_far_as_it_goes_and_said_to_be_cut() {
    if !ready(&[Need::Agent, Need::Command("script")]) {
        return;
    }
    let whole = std::fs::read(&golden()[0]).expect("it is readable");
    let directory = tempfile::tempdir().expect("there is room for tests");
    let path = directory.path().join("cut.mcap");
    std::fs::write(&path, &whole[..whole.len() * 3 / 4]).expect("there is room for tests");
    let mut screen = Screen::recorder(&["view", &path.display().to_string()], (80, 24), &[]);
    screen.shows("damaged: o says where");
    screen.press("q");
    let screen = screen.ended(3);
    assert!(screen.contains("cut.mcap is damaged"), "{screen}");
}

#[test]
fn where_there_is_no_terminal_it_says_what_does_the_same() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let told = output(recorder(["view"]).arg(&golden()[0])).expect_code(1);
    assert_eq!(
        told.stderr,
        "recorder: view needs a terminal; recorder show writes the same as text\n"
    );
    assert!(told.stdout.is_empty());
}
