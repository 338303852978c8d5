//! A view on a screen that exists in memory only.

use std::path::Path;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::draw::{Theme, draw};
use super::*;
use crate::event::proto;
use crate::harmless::{escape, is_hostile};
use crate::read::Dump;

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/fixtures/golden/v1/20261123T090000Z-signal.fatal-601de401.mcap"
);

struct NoStory;

impl Story for NoStory {
    fn take(&mut self, _: &Entry) {}
    fn tell(&mut self, _: &Damages) -> String {
        (0..100).map(|line| format!("line {line}\n")).collect()
    }
}

fn words() -> Words {
    Words {
        describe: |body| {
            let process = body.process();
            let comm = process.and_then(|process| process.comm.clone());
            escape(&comm.unwrap_or_default()).into_owned()
        },
        crash: |fatal| vec![format!("fault at {:#x}", fatal.fault_address())],
        resolve: Box::new(|fatal: &mut proto::SignalFatal| fatal.fault_address = Some(0xabcd)),
        choose: Box::new(|text| match text {
            "--type signal" => Ok(Box::new(|entry| entry.body.topic() == "signal.fatal")),
            "--type none" => Ok(Box::new(|_| false)),
            _ => Err("a mistake\u{1b}[2J".to_owned()),
        }),
    }
}

/// A view of the golden dump, and a screen.
struct Seen<'a> {
    view: View<'a>,
    terminal: Terminal<TestBackend>,
    colours: bool,
}

impl<'a> Seen<'a> {
    fn of(dump: &'a Dump, width: u16, height: u16) -> Self {
        let mut incident = dump.incident().expect("the golden dump is whole");
        let clocks: crate::dump::Clocks = dump.metadata(crate::dump::CLOCKS).expect("it is whole");
        let trigger = clocks.freeze.unix_ns_at(incident.trigger.boot_ns);
        // The fixture names a record of its time and type by another number.
        let mut events = dump.events().map(|entry| entry.expect("the file is there"));
        let fatal = events.find(|entry| {
            entry.unix_ns == trigger && entry.body.topic() == incident.trigger.event_type
        });
        incident.trigger.sequence = fatal.expect("it is in the dump").sequence.into();
        let known = Known {
            title: escape(&incident.summary).into_owned(),
            about: "about".to_owned(),
            trigger_unix_ns: Some(trigger),
            ..Known::default()
        };
        let sought = Some((incident.trigger, trigger));
        let index = Index::new(dump, sought, Box::new(NoStory));
        Self {
            view: View::new(known, index, words()),
            terminal: Terminal::new(TestBackend::new(width, height)).expect("it is in memory"),
            colours: true,
        }
    }

    fn done(mut self) -> Self {
        while self.view.is_busy() {
            self.view.work().expect("the file is there");
        }
        self
    }

    fn keys(&mut self, keys: &[KeyCode]) -> String {
        for key in keys {
            self.view.key(KeyEvent::new(*key, KeyModifiers::NONE));
            while self.view.is_busy() {
                self.view.work().expect("the file is there");
            }
        }
        self.screen()
    }

    fn typed(&mut self, text: &str) -> String {
        let keys: Vec<KeyCode> = text.chars().map(KeyCode::Char).collect();
        self.keys(&keys)
    }

    fn screen(&mut self) -> String {
        let theme = Theme {
            colours: self.colours,
        };
        let view = &mut self.view;
        self.terminal
            .draw(|frame| draw(frame, view, theme))
            .expect("memory takes everything");
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let lines = buffer.content().chunks(width).map(|line| {
            let line: String = line.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn order(&self) -> u32 {
        let row = self.view.row().expect("an event is chosen") as usize;
        self.view.index.rows[row].order
    }
}

fn golden() -> Dump {
    Dump::open(Path::new(GOLDEN)).expect("the golden dump is in the tree")
}

#[test]
fn it_opens_at_the_trigger_on_the_smallest_common_terminal() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 80, 24);
    let screen = seen.screen();
    assert!(screen.contains("reading"), "{screen}");
    let mut seen = seen.done();
    let screen = seen.screen();
    assert!(screen.contains("failures"), "{screen}");
    assert!(screen.contains('◈'), "trigger and choice: {screen}");
    let chosen = screen.lines().find(|line| line.starts_with('►'));
    assert!(
        chosen.is_some_and(|line| line.contains("+0.000000 signal.fatal")),
        "{screen}"
    );
    assert!(
        screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
}

#[test]
fn every_size_of_a_terminal_shows_something() {
    let dump = golden();
    for (width, height) in (1..140)
        .step_by(7)
        .flat_map(|w| (1..60).step_by(5).map(move |h| (w, h)))
    {
        let mut seen = Seen::of(&dump, width, height).done();
        seen.screen();
        seen.keys(&[
            KeyCode::Enter,
            KeyCode::End,
            KeyCode::Char('h'),
            KeyCode::Esc,
        ]);
        seen.keys(&[KeyCode::Char('o'), KeyCode::PageDown, KeyCode::Char('+')]);
    }
}

#[test]
fn causes_are_followed_to_effects_and_back() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 80, 24).done();
    let signal = seen.order();
    seen.typed("e");
    let exit = seen.order();
    assert_ne!(signal, exit);
    let screen = seen.keys(&[KeyCode::Enter]);
    assert!(screen.contains("process.exit"), "{screen}");
    assert!(
        screen.contains(&format!("because of #{signal} signal.fatal")),
        "{screen}"
    );
    assert!(screen.contains("death certificate"), "{screen}");
    seen.typed("c");
    assert_eq!(seen.order(), signal);
    seen.typed("bb");
    assert_eq!(seen.order(), signal, "both jumps are taken back");
    let screen = seen.typed("b");
    assert!(screen.contains("where it began"), "{screen}");
}

#[test]
fn a_crash_shows_its_fault_and_names_on_demand() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 130, 50).done();
    let screen = seen.screen();
    assert!(
        screen.contains("crash") && screen.contains("fault at"),
        "{screen}"
    );
    assert!(screen.contains("start_boot_ns"), "identity: {screen}");
    let screen = seen.typed("s");
    assert!(screen.contains("fault at 0xabcd"), "{screen}");
}

#[test]
fn a_filter_lists_some_and_a_jump_out_of_it_takes_it_off() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 100, 24).done();
    seen.typed("f");
    seen.typed("type signal");
    let screen = seen.keys(&[KeyCode::Enter]);
    assert!(screen.contains("(--type signal)"), "{screen}");
    assert!(
        screen.contains("signal.fatal") && !screen.contains("process.exit"),
        "{screen}"
    );
    let screen = seen.typed("e");
    assert!(screen.contains("the filter hid that event"), "{screen}");
    assert!(screen.contains("process.exit"), "{screen}");

    let mut seen = Seen::of(&dump, 100, 24).done();
    seen.typed("ftype none");
    let screen = seen.keys(&[KeyCode::Enter]);
    assert!(screen.contains("no event is like that"), "{screen}");
    seen.keys(&[
        KeyCode::Up,
        KeyCode::Char('c'),
        KeyCode::Enter,
        KeyCode::Esc,
    ]);
    let screen = seen.typed("F");
    assert!(screen.contains("signal.fatal"), "{screen}");

    seen.typed("fx");
    let screen = seen.keys(&[KeyCode::Enter]);
    assert!(screen.contains("a mistake\\u{1b}[2J"), "{screen}");
}

#[test]
fn a_search_goes_round_and_says_when_there_is_nothing() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 100, 24).done();
    let here = seen.order();
    seen.typed("/PROCESS.EXEC");
    seen.keys(&[KeyCode::Enter]);
    let first = seen.order();
    assert_ne!(first, here);
    seen.typed("n");
    let mut orders = vec![first];
    while seen.order() != first && orders.len() < 1000 {
        orders.push(seen.order());
        seen.typed("n");
    }
    assert!(orders.iter().all(|order| *order != here));
    seen.typed("N");
    assert_eq!(Some(&seen.order()), orders.last());
    seen.typed("/no such text");
    let screen = seen.keys(&[KeyCode::Enter]);
    assert!(screen.contains("\"no such text\" is nowhere"), "{screen}");
}

#[test]
fn no_colour_is_no_colour_and_nothing_hostile_reaches_a_cell() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 130, 40).done();
    seen.colours = false;
    for key in ['G', 'g', 'i', 'o', 'o', 'h', 'h', 'e', 's'] {
        seen.keys(&[KeyCode::Char(key)]);
        let buffer = seen.terminal.backend().buffer();
        for cell in buffer.content() {
            assert!(!cell.symbol().chars().any(is_hostile), "{cell:?}");
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{cell:?}");
        }
    }
}

#[test]
fn the_timeline_zooms_around_the_chosen_event_and_follows_it() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 80, 24).done();
    let whole = seen.view.span();
    seen.typed("+++");
    let close = seen.view.span();
    assert!(close.len() < whole.len() / 4, "{close:?} {whole:?}");
    seen.typed("g");
    let first = seen.view.time().expect("an event");
    assert!(seen.view.span().contains(first));
    seen.typed("0");
    assert_eq!(seen.view.span(), whole);
    let screen = seen.typed("t");
    assert!(!screen.contains("failures"), "{screen}");
}

#[test]
fn the_help_tells_every_key_and_fits() {
    let dump = golden();
    let mut seen = Seen::of(&dump, 80, 26).done();
    let screen = seen.typed("h");
    for line in keys::HELP {
        assert!(screen.contains(line.trim_end()), "{line}");
    }
    seen.typed("q");
    assert!(!seen.view.is_over());
    seen.typed("q");
    assert!(seen.view.is_over());
}
