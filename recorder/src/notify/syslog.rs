//! Lines of the system's log, to the socket `/dev/log`.

use std::io::{self, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::journal::priority;
use super::message::sentence;
use super::{Failure, Notice, SyslogFormat};
use crate::harmless::escape;

/// Where the system's log listens.
pub(super) const SOCKET: &str = "/dev/log";
/// The facility "daemon".
const FACILITY: u8 = 3;
/// Longest line, in bytes: what every daemon takes.
const LINE_MAX: usize = 2048;

/// Sends a line.
pub(super) fn send(
    socket: &Path,
    format: SyslogFormat,
    notice: &Notice,
    timeout: Duration,
) -> Result<(), Failure> {
    let line = line(format, notice, Timestamp::now(), &TimeZone::system());
    let sent = deliver(socket, line.as_bytes(), timeout);
    sent.map_err(|error| Failure::again(format!("{}: {error}", socket.display())))
}

fn deliver(path: &Path, line: &[u8], timeout: Duration) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(timeout))?;
    match socket.connect(path) {
        Ok(()) => socket.send(line).map(drop),
        // Some daemons want a stream, with lines that end.
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(timeout))?;
            stream.write_all(line)?;
            stream.write_all(b"\n")
        }
        Err(error) => Err(error),
    }
}

fn line(format: SyslogFormat, notice: &Notice, now: Timestamp, zone: &TimeZone) -> String {
    let number = FACILITY * 8 + priority(notice);
    let pid = std::process::id();
    let text = sentence(notice);
    // A log is read on terminals.
    let text = escape(&text);
    let mut line = match format {
        SyslogFormat::Rfc3164 => {
            let time = now
                .to_zoned(zone.clone())
                .strftime("%b %e %H:%M:%S")
                .to_string();
            format!(
                "<{number}>{time} recorder[{pid}]: {text} (incident {}, rule {}, severity {})",
                notice.incident,
                notice.rule,
                notice.severity.name()
            )
        }
        SyslogFormat::Rfc5424 => {
            let data = [
                ("incident", notice.incident.to_string()),
                ("rule", notice.rule.clone()),
                ("severity", notice.severity.name().to_owned()),
            ];
            let data: String = data
                .iter()
                .map(|(name, value)| parameter(name, value))
                .collect();
            format!(
                "<{number}>1 {:.6} {} recorder {pid} {} [recorder@32473{data}] {text}",
                now,
                word(&notice.host),
                notice.event.name()
            )
        }
    };
    line.truncate(line.floor_char_boundary(LINE_MAX));
    line
}

fn parameter(name: &str, value: &str) -> String {
    let mut escaped = String::new();
    for character in escape(value).chars() {
        if matches!(character, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    format!(" {name}=\"{escaped}\"")
}

/// Returns a name as one word of printable ASCII, or the dash that stands for none.
fn word(text: &str) -> String {
    let word: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    match word.is_empty() {
        true => "-".to_owned(),
        false => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::notice;

    #[test]
    fn lines_are_as_the_standards_want_them() {
        let mut notice = notice();
        notice.rule = "a\"b]".to_owned();
        notice.summary = "sh[7] died\nof \x1b[2J".to_owned();
        let now: Timestamp = "2026-11-03T09:00:00.5Z".parse().expect("a time");
        let old = line(SyslogFormat::Rfc3164, &notice, now, &TimeZone::UTC);
        let start = format!(
            "<28>Nov  3 09:00:00 recorder[{}]: sh[7] died\\nof \\u{{1b}}[2J: dump ",
            std::process::id()
        );
        assert!(old.starts_with(&start), "{old}");
        let new = line(SyslogFormat::Rfc5424, &notice, now, &TimeZone::UTC);
        assert!(
            new.starts_with("<28>1 2026-11-03T09:00:00.500000Z web-3 recorder "),
            "{new}"
        );
        assert!(
            new.contains("rule=\"a\\\"b\\]\" severity=\"medium\"] sh[7]"),
            "{new}"
        );
        notice.summary = "é".repeat(4096);
        assert!(line(SyslogFormat::Rfc3164, &notice, now, &TimeZone::UTC).len() <= LINE_MAX);
    }
}
