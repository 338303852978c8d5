//! A program that is run for each notice, with the notice as JSON on its standard input.
//!
//! It has `RECORDER_EVENT`, `RECORDER_INCIDENT`, `RECORDER_RULE`, `RECORDER_SEVERITY` and, once there is one,
//! `RECORDER_DUMP` in its environment, and nothing else but `PATH`. It runs in a process group of its own, which is killed
//! when it has ended or its time is over. Exit code 0 means that it took the notice; any other that it is to be tried again.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};

use super::message::plain;
use super::{Failure, Notice};
use crate::harmless::escape_short;
use crate::sandbox::Starter;

/// Where programs are found that a hook starts by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of what it says on standard error, so much is kept.
const STDERR_BYTES: usize = 1024;
/// Between two looks at it.
const TICK: Duration = Duration::from_millis(10);
/// How long a killed one is waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// Runs the program.
pub(super) fn send(
    starter: &Starter,
    command: &[String],
    notice: &Notice,
    lost_before: u64,
    timeout: Duration,
) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::again("there is no command"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("RECORDER_EVENT", notice.event.name())
        .env("RECORDER_INCIDENT", notice.incident.to_string())
        .env("RECORDER_RULE", &notice.rule)
        .env("RECORDER_SEVERITY", notice.severity.name())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(dump) = &notice.dump {
        command.env("RECORDER_DUMP", &dump.path);
    }
    let child = starter
        .spawn(command)
        .map_err(|error| Failure::again(format!("cannot run {program}: {error}")))?;
    let mut text = plain(notice, lost_before).to_string();
    text.push('\n');
    Running {
        child,
        stderr: Vec::new(),
    }
    .finish(text.as_bytes(), timeout)
}

struct Running {
    child: Child,
    stderr: Vec<u8>,
}

impl Running {
    fn finish(mut self, mut input: &[u8], timeout: Duration) -> Result<(), Failure> {
        // Neither end of a pipe makes this thread wait.
        if let Some(pipe) = &self.child.stdin {
            let _ = ioctl_fionbio(pipe, true);
        }
        if let Some(pipe) = &self.child.stderr {
            let _ = ioctl_fionbio(pipe, true);
        }
        let deadline = Instant::now() + timeout;
        let ended = loop {
            self.feed(&mut input);
            self.listen();
            match self.child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Err(error) => break Err(format!("cannot wait for it: {error}")),
                Ok(None) if Instant::now() >= deadline => {
                    break Err(format!("killed after {} s", timeout.as_secs_f64()));
                }
                Ok(None) => sleep(TICK),
            }
        };
        self.kill();
        self.listen();
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failure(&how(status))),
            Err(why) => Err(self.failure(&why)),
        }
    }

    /// Writes what the pipe takes, and closes it at the end.
    fn feed(&mut self, input: &mut &[u8]) {
        let Some(pipe) = &mut self.child.stdin else {
            return;
        };
        match pipe.write(input) {
            Ok(count) => *input = &input[count..],
            Err(error) if is_not_yet(&error) => return,
            // It does not want to know more.
            Err(_) => *input = &[],
        }
        if input.is_empty() {
            self.child.stdin = None;
        }
    }

    /// Keeps the beginning of what it says; the rest is taken too, so that it need not wait.
    fn listen(&mut self) {
        let Some(pipe) = &mut self.child.stderr else {
            return;
        };
        let mut block = [0; 4096];
        for _ in 0..16 {
            match pipe.read(&mut block) {
                Ok(count @ 1..) => {
                    let room = STDERR_BYTES.saturating_sub(self.stderr.len());
                    self.stderr.extend_from_slice(&block[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Ends it, and all of its group.
    fn kill(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // As long as one of the group lives, nobody else has its number.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let deadline = Instant::now() + KILL_PATIENCE;
        while let Ok(None) = self.child.try_wait()
            && Instant::now() < deadline
        {
            sleep(TICK);
        }
    }

    fn failure(&self, how: &str) -> Failure {
        let said = String::from_utf8_lossy(&self.stderr);
        match said.trim() {
            "" => Failure::again(how),
            said => Failure::again(format!("{how}: {}", escape_short(said, 200))),
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
