//! Takes the terminal, and gives it back however it ends: by a key, an error, a panic or a signal.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::draw::{Theme, draw};
use super::state::View;

/// Longest wait for a key before the signals are looked at.
const PATIENCE: Duration = Duration::from_millis(200);
/// Time between two screens while there is work.
const FRAME: Duration = Duration::from_millis(50);

/// How a view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The person has seen enough.
    Done,
    /// There is no terminal to show it on.
    NoTerminal,
}

/// The terminal, taken; dropping gives it back.
struct Taken(DefaultTerminal);

impl Taken {
    fn take() -> io::Result<Self> {
        // Also gives it back before a panic is told.
        ratatui::try_init().map(Self)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows a view until the person has seen enough.
///
/// # Errors
///
/// What the terminal or the file system reports.
pub fn run(view: &mut View<'_>) -> io::Result<Ended> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() || dumb {
        return Ok(Ended::NoTerminal);
    }
    let theme = Theme {
        colours: !set("NO_COLOR"),
    };
    let signal = Arc::new(AtomicUsize::new(0));
    await_signals(Arc::clone(&signal))?;
    let mut terminal = Taken::take()?;
    let ended = show(view, &mut terminal, theme, &signal);
    drop(terminal);
    ended?;
    if let Ok(number @ 1..) = i32::try_from(signal.load(Ordering::Relaxed)) {
        // Whoever waits for this process sees what ended it.
        emulate_default_handler(number)?;
    }
    Ok(Ended::Done)
}

/// Notes the signals that end programs, and ends this one itself if nobody looks: a wait for a key may not come back
/// from a terminal that hung up.
fn await_signals(signal: Arc<AtomicUsize>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(number) = signals.forever().next() {
            signal.store(usize::try_from(number).unwrap_or(0), Ordering::Relaxed);
            std::thread::sleep(5 * PATIENCE);
            ratatui::restore();
            // It ends here; an error leaves nothing to do.
            let _ = emulate_default_handler(number);
        }
    });
    Ok(())
}

fn show(
    view: &mut View<'_>,
    terminal: &mut Taken,
    theme: Theme,
    signal: &AtomicUsize,
) -> io::Result<()> {
    let mut drawn: Option<Instant> = None;
    let mut is_stale = true;
    while !view.is_over() && signal.load(Ordering::Relaxed) == 0 {
        let is_busy = view.is_busy();
        let is_due = drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME);
        if is_stale && (is_due || !is_busy) {
            terminal.0.draw(|frame| draw(frame, view, theme))?;
            drawn = Some(Instant::now());
            is_stale = false;
        }
        let patience = if is_busy { Duration::ZERO } else { PATIENCE };
        if is_there(patience)? {
            is_stale = true;
            match event::read()? {
                Event::Key(key) if is_stop(key) => stop(terminal)?,
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    view.key(key);
                    // A key is answered at once.
                    drawn = None;
                }
                _ => drawn = None,
            }
        } else if is_busy {
            view.work()?;
            is_stale = true;
        }
    }
    Ok(())
}

/// Tells whether the terminal has something to say.
///
/// # Errors
///
/// A terminal that is gone, of which `event::poll` would not come back.
fn is_there(patience: Duration) -> io::Result<bool> {
    // Keys that were read together with one that was taken; without patience nothing is read.
    if event::poll(Duration::ZERO)? {
        return Ok(true);
    }
    let read = match await_input(patience)? {
        true => event::poll(PATIENCE),
        false if patience.is_zero() => Ok(false),
        // The terminal may have another size.
        false => event::poll(Duration::from_millis(1)),
    };
    match read {
        // A signal: its flag says more.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        other => other,
    }
}

/// Waits for input, a signal, or the end of patience; tells whether there is input.
fn await_input(patience: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(patience).unwrap_or_default();
    let stdin = io::stdin();
    let mut input = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut input, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let [input] = input;
    match input.revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        true => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the terminal is gone",
        )),
        false => Ok(input.revents().contains(PollFlags::IN)),
    }
}

fn is_stop(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('z') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Stops, as a shell's user expects of Ctrl-Z, and goes on when continued.
fn stop(terminal: &mut Taken) -> io::Result<()> {
    ratatui::restore();
    emulate_default_handler(SIGTSTP)?;
    *terminal = Taken::take()?;
    terminal.0.clear()
}
