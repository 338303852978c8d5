//! A program on a terminal: keys go in, and what the terminal would show comes out.
//!
//! `script` makes the terminal; what it prints is interpreted as a terminal emulator does.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::command::recorder_path;
use crate::host::guest::patience;

/// Longest wait for something to show.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that runs on a terminal of its own.
pub struct Screen {
    child: Child,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    raw: Vec<u8>,
    tty: PathBuf,
    _directory: tempfile::TempDir,
}

impl Screen {
    /// Starts `recorder` with arguments on a terminal of so many columns and rows, with variables of the environment.
    pub fn recorder(
        arguments: &[&str],
        (columns, rows): (u16, u16),
        environment: &[(&str, &str)],
    ) -> Self {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let tty = directory.path().join("tty");
        let quote = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let command: Vec<String> = arguments.iter().map(|one| quote(one)).collect();
        let program = quote(&recorder_path().display().to_string());
        let line = format!(
            "stty rows {rows} cols {columns}; tty > {tty}; {program} {command}; code=$?; \
             echo; stty -a | tr ';' '\\n' | grep -o -- '-*icanon'; echo \"ended with $code\"",
            tty = quote(&tty.display().to_string()),
            command = command.join(" "),
        );
        let mut child = Command::new("script")
            .args(["-qfc", &line, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of util-linux");
        let mut stdout = child.stdout.take().expect("it is piped");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 14];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            output,
            parser: vt100::Parser::new(rows, columns, 0),
            raw: Vec::new(),
            tty,
            _directory: directory,
        }
    }

    /// Presses keys: characters, or the sequences that a terminal sends.
    pub fn press(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(keys.as_bytes()).expect("script reads");
        stdin.flush().expect("script reads");
    }

    /// Waits until the screen is as wanted, and returns it.
    #[track_caller]
    pub fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + patience(PATIENCE);
        loop {
            let screen = self.parser.screen().contents();
            if wanted(&screen) {
                return screen;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    self.parser.process(&bytes);
                    self.raw.extend(bytes);
                }
                Err(RecvTimeoutError::Timeout) => panic!("waited too long for {what}:\n{screen}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before {what}:\n{screen}"),
            }
        }
    }

    /// Waits until the screen has a text.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// Presses a key until the screen has a text.
    #[track_caller]
    pub fn press_until(&mut self, key: &str, text: &str) -> String {
        for _ in 0..40 {
            let shown = self.parser.screen().contents();
            if shown.contains(text) {
                return shown;
            }
            self.press(key);
            while let Ok(bytes) = self
                .output
                .recv_timeout(patience(Duration::from_millis(300)))
            {
                self.parser.process(&bytes);
                self.raw.extend(bytes);
            }
        }
        panic!(
            "{key:?} does not lead to {text}:\n{}",
            self.parser.screen().contents()
        );
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let tty = std::fs::read_to_string(&self.tty).expect("it was written");
        let (columns_text, rows_text) = (columns.to_string(), rows.to_string());
        let done = Command::new("stty")
            .args(["-F", tty.trim(), "rows", &rows_text, "cols", &columns_text])
            .status()
            .expect("stty is part of coreutils");
        assert!(done.success());
        self.parser.screen_mut().set_size(rows, columns);
    }

    /// Returns the process ids of the programs on the terminal whose name is `comm`.
    pub fn pids_of(&self, comm: &str) -> Vec<String> {
        let tty = std::fs::read_to_string(&self.tty).expect("it was written");
        let tty = tty.trim().trim_start_matches("/dev/").to_owned();
        let found = Command::new("ps")
            .args(["-t", &tty, "-o", "pid=,comm="])
            .output()
            .expect("ps is there");
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
        lines
            .filter(|(_, name)| name.trim() == comm)
            .map(|(pid, _)| pid.to_owned())
            .collect()
    }

    /// Waits for the end; returns the last screen. The terminal must be as it was before: its main screen, lines, cursor.
    #[track_caller]
    pub fn ended(&mut self, code: i32) -> String {
        let screen = self.shows("ended with ");
        assert!(screen.contains(&format!("ended with {code}")), "{screen}");
        assert!(
            screen.lines().any(|line| line == "icanon"),
            "not in line mode: {screen}"
        );
        let state = self.parser.screen();
        assert!(!state.alternate_screen(), "still on the alternate screen");
        assert!(!state.hide_cursor(), "the cursor is hidden");
        screen
    }

    /// Returns all that was sent to the terminal.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
