//! A report as Markdown, for a person to complete.
//!
//! Nothing that came from a process, a file or a device reaches the page but through [`plain`] or [`code`]: names cannot
//! make links, tables, HTML or control sequences.

use std::fmt::Write as _;

use super::{Ended, Flag, Moment, Report, Series, Subject, Usage};
use crate::death::Certificate;
use crate::dump::{CollectorReport, Host, Verdict};
use crate::harmless::{escape, escape_short};
use crate::units::{bytes, duration};

/// Certificates that are listed.
const DEATHS_MAX: usize = 24;
/// Collectors that are listed.
const COLLECTORS_MAX: usize = 64;
/// Flags that are listed.
const FLAGS_MAX: usize = 24;
/// Most characters of one text of the dump.
const TEXT_MAX: usize = 400;

/// Writes a text so that it reads as itself: nothing in it is Markdown or HTML.
pub(super) fn plain(text: &str) -> String {
    let text = escape_short(text, TEXT_MAX);
    let mut safe = String::with_capacity(text.len() + 8);
    let mut last = ' ';
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied().unwrap_or(' ');
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '|' | '~' | '$' => safe.extend(['\\', character]),
            // Inside a word it is no emphasis: SEGV_MAPERR stays readable.
            '_' if !(last.is_alphanumeric() && next.is_alphanumeric()) => safe.push_str("\\_"),
            // "nginx[812]" is no link, "[x](y)" would be.
            ']' if matches!(next, '(' | '[') => safe.push_str("\\]"),
            '[' | '#' | '-' | '+' | '=' if safe.is_empty() => safe.extend(['\\', character]),
            // A renderer would make a link of it.
            ':' if next == '/' => safe.push_str("&#58;"),
            '@' => safe.push_str("&#64;"),
            _ => safe.push(character),
        }
        last = character;
    }
    safe
}

/// Writes a text as code, whatever is in it; a pipe would end a cell of a table nevertheless.
pub(super) fn code(text: &str) -> String {
    let text = escape_short(text, TEXT_MAX).replace('|', "¦");
    let longest = text.split(|character| character != '`').map(str::len).max();
    let fence = "`".repeat(longest.unwrap_or(0) + 1);
    match text.is_empty() {
        true => "—".to_owned(),
        false if text.starts_with('`') || text.ends_with('`') => format!("{fence} {text} {fence}"),
        false => format!("{fence}{text}{fence}"),
    }
}

/// Writes the report.
pub fn markdown(report: &Report) -> String {
    let mut page = Page::default();
    page.head(report);
    page.facts(report);
    page.cause(report);
    page.impact();
    page.timeline(report);
    page.deaths(report);
    page.host(report);
    page.accounting(report);
    page.evidence(report);
    page.recording(report);
    page.follow_up();
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        let _ = write!(self.text, "\n## {heading}\n\n");
    }

    fn row(&mut self, cells: &[String]) {
        self.line(format!("| {} |", cells.join(" | ")));
    }

    /// Begins a table; a column whose head ends with ":" is of numbers.
    fn table(&mut self, heads: &[&str]) {
        let names: Vec<String> = heads
            .iter()
            .map(|head| head.trim_end_matches(':').to_owned())
            .collect();
        self.row(&names);
        let rules: Vec<String> = heads
            .iter()
            .map(|head| if head.ends_with(':') { "---:" } else { "---" }.to_owned())
            .collect();
        self.row(&rules);
    }

    fn head(&mut self, report: &Report) {
        let title = match &report.incident {
            Some(incident) => incident.summary.as_str(),
            None => "An incident",
        };
        self.line(format!("# Post-mortem: {}\n", plain(title)));
        self.line(format!(
            "**{}.**",
            plain(report.summary.trim_end_matches('.'))
        ));
        if let Some(verdict) = report.recording.verdict {
            let words = match verdict {
                Verdict::Complete => "The recording of the window is complete.",
                Verdict::Lossy => "Part of the window is missing: see the end.",
                Verdict::Unknown => {
                    "Whether the recording of the window is complete is not known: see the end."
                }
            };
            self.line(format!("\n{words}"));
        }
        if !report.recording.damage.is_empty() {
            self.line("\nThe file is damaged: this is what is left of it.");
        }
    }

    fn facts(&mut self, report: &Report) {
        self.heading("Facts");
        self.table(&["", ""]);
        let mut fact = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                self.row(&[name.to_owned(), value]);
            }
        };
        fact("When", report.time.as_deref().map(plain));
        fact("Host", report.host.as_ref().map(host));
        fact(
            "Environment",
            report
                .host
                .as_ref()
                .and_then(|host| host.environment.as_deref())
                .map(plain),
        );
        let subject = &report.subject;
        let field = |name: &str| process_field(subject, name);
        fact("Subject", subject.name.as_deref().map(code));
        fact("Service", field("unit").map(|unit| code(&unit)));
        fact("Container", field("container_id").map(|id| code(&id)));
        fact("Pod", field("pod_uid").map(|id| code(&id)));
        fact(
            "Ran",
            (!subject.command.is_empty()).then(|| code(&subject.command.join(" "))),
        );
        fact("Executable", field("exe").map(|exe| code(&exe)));
        fact("Build ID", field("exe_build_id").map(|id| code(&id)));
        fact("Started by", parents(subject));
        fact("User", user(subject));
        fact(
            "Cgroup",
            field("cgroup")
                .or_else(|| field("cgroup_id").map(|id| format!("id {id}")))
                .map(|cgroup| code(&cgroup)),
        );
        fact("Started", subject.started.as_deref().map(plain));
        fact("Ended", subject.usage.as_ref().map(ended));
        fact("Cause class", Some(report.cause.class.name().to_owned()));
        if let Some(incident) = &report.incident {
            fact("Rule", Some(code(&incident.rule)));
            fact("Reason given", incident.reason.as_deref().map(plain));
            fact("Further triggers", some(incident.followers));
            fact("Suppressed before", some(incident.suppressed_before));
            fact("Incident", Some(code(&incident.id.to_string())));
            fact("Fingerprint", Some(code(&incident.fingerprint)));
        }
        if let (Some(from), Some(to)) = (&report.recording.from, &report.recording.to) {
            fact("Window", Some(format!("{} to {}", plain(from), plain(to))));
        }
        fact("Dump", Some(code(&report.recording.file)));
    }

    fn cause(&mut self, report: &Report) {
        self.heading("Cause");
        self.line(format!(
            "Class: **{}**, because:\n",
            report.cause.class.name()
        ));
        for reason in &report.cause.reasons {
            self.line(format!("- {}", plain(reason)));
        }
        if report.cause.reasons.is_empty() {
            self.line("- the dump does not say");
        }
        self.line("\nProposed flags (remove what does not apply):\n");
        for Flag { name, reason } in report.flags.iter().take(FLAGS_MAX) {
            self.line(format!("- [ ] **{name}**: {}", plain(reason)));
        }
        if report.flags.is_empty() {
            self.line("- none");
        }
        self.line("\nRoot cause, in the words of whoever found it:\n\n> _to be filled in_");
    }

    fn impact(&mut self) {
        self.heading("Impact");
        self.line("> _to be filled in: who noticed what, from when to when, what was lost_");
    }

    fn timeline(&mut self, report: &Report) {
        self.heading("Timeline");
        if report.timeline.is_empty() {
            self.line("Nothing that matters is in the dump.");
            return;
        }
        self.line("Seconds from the trigger; `►` marks it, `←` names the event behind another.\n");
        self.table(&["Seconds:", "#:", "Event", "What"]);
        for moment in &report.timeline {
            self.row(&cells(moment));
        }
        if report.timeline_left_out > 0 {
            let count = report.timeline_left_out;
            self.line(format!(
                "\n{count} further events are in the dump: `recorder show --all`."
            ));
        }
    }

    fn deaths(&mut self, report: &Report) {
        self.heading("Death certificates");
        let deaths = &report.deaths;
        let verdicts: Vec<String> = deaths
            .verdicts
            .iter()
            .map(|(verdict, count)| format!("{count} {}", verdict.name().replace('_', " ")))
            .collect();
        match verdicts.is_empty() {
            true => self.line("Nobody died in the window."),
            false => self.line(format!("Ended in the window: {}.", verdicts.join(", "))),
        }
        if deaths.certificates.is_empty() {
            return;
        }
        self.line("");
        self.table(&["When", "#:", "Process", "Died of", "Lived:"]);
        for death in deaths.certificates.iter().take(DEATHS_MAX) {
            self.row(&certificate(death, report));
        }
        let more = deaths.certificates.len().saturating_sub(DEATHS_MAX) as u64 + deaths.left_out;
        if more > 0 {
            self.line(format!("\n{more} more deaths by a signal are in the dump."));
        }
    }

    fn host(&mut self, report: &Report) {
        self.heading("The host before, at and after");
        if report.series.is_empty() {
            self.line("The dump has no samples of the host.");
            return;
        }
        self.table(&["", "Before:", "At:", "After:", "Lowest:", "Highest:"]);
        for series in &report.series {
            let value = |value: Option<f64>| {
                value.map_or("—".to_owned(), |value| quantity(value, series.unit))
            };
            self.row(&[
                series.name.to_owned(),
                value(series.before),
                value(series.at),
                value(series.after),
                value(Some(series.lowest)),
                value(Some(series.highest)),
            ]);
        }
        self.line("\nEach from its lowest to its highest value; `┊` is the trigger.\n\n```text");
        let names = report
            .series
            .iter()
            .map(|series| series.name.chars().count());
        let width = names.max().unwrap_or(0);
        for series in &report.series {
            let name = series.name;
            self.line(format!("{name:<width$}  {}", chart(series)));
        }
        self.line("```");
        self.top(report);
    }

    fn top(&mut self, report: &Report) {
        if report.top.is_empty() {
            return;
        }
        let when = seconds(report.top_offset_ns);
        self.line(format!(
            "\nBusiest living processes, {when} s from the trigger:\n"
        ));
        self.table(&["Process", "User", "CPU:", "RSS:"]);
        for busy in &report.top {
            let name = crate::death::words::named(busy.comm.as_deref(), Some(busy.pid));
            let cpu = busy.cpu_percent.map(|share| format!("{share:.0} %"));
            self.row(&[
                code(&name),
                busy.user.as_deref().map(plain).unwrap_or_default(),
                cpu.unwrap_or_default(),
                busy.rss_bytes.map(bytes).unwrap_or_default(),
            ]);
        }
    }

    fn accounting(&mut self, report: &Report) {
        let accounting = &report.accounting;
        self.heading("Accounting");
        if accounting.total.processes == 0 {
            self.line("No process ended in the window.");
            return;
        }
        self.line("Of the processes that ended in the window.\n");
        for (what, groups, left_out) in [
            ("User", &accounting.users, accounting.users_left_out),
            (
                "Command",
                &accounting.commands,
                accounting.commands_left_out,
            ),
        ] {
            self.table(&[
                what,
                "Processes:",
                "Failed:",
                "By signal:",
                "CPU user:",
                "CPU system:",
                "Read:",
                "Written:",
                "Max RSS:",
            ]);
            for usage in groups {
                self.row(&usage_cells(usage, code(&usage.name)));
            }
            if left_out > 0 {
                let more = format!("{left_out} more");
                self.row(&std::array::from_fn::<_, 9, _>(|column| match column {
                    0 => more.clone(),
                    _ => String::new(),
                }));
            }
            self.row(&usage_cells(&accounting.total, "**all**".to_owned()));
            self.line("");
        }
        for (what, list) in [
            ("Most CPU time:", &accounting.busiest),
            ("Last to end before the trigger:", &accounting.last),
        ] {
            if list.is_empty() {
                continue;
            }
            self.line(format!("{what}\n"));
            self.table(&[
                "Process", "User", "End", "CPU:", "Lived:", "Max RSS:", "I/O:",
            ]);
            for ended in list {
                self.row(&ended_cells(ended));
            }
            self.line("");
        }
        while self.text.ends_with("\n\n") {
            self.text.pop();
        }
    }

    fn evidence(&mut self, report: &Report) {
        self.heading("Evidence");
        if report.evidence.is_empty() {
            self.line("No collector ran.");
            return;
        }
        self.line("`recorder extract` writes these to files.\n");
        self.table(&["Collector", "State", "Took:", "Kept:", "Note"]);
        for collector in report.evidence.iter().take(COLLECTORS_MAX) {
            self.row(&collector_cells(collector));
        }
        if let Some(more) = report.evidence.len().checked_sub(COLLECTORS_MAX + 1) {
            self.line(format!("\n{} more collectors.", more + 1));
        }
    }

    fn recording(&mut self, report: &Report) {
        let recording = &report.recording;
        self.heading("What the recording covers");
        for line in &recording.coverage {
            self.line(format!("- {}", plain(line)));
        }
        let missing = recording
            .missing
            .as_deref()
            .unwrap_or("the dump does not say");
        self.line(format!("- missing: {}", plain(missing)));
        let events = recording.events;
        self.line(format!("- {events} events read"));
        if recording.unknown > 0 {
            let unknown = recording.unknown;
            self.line(format!(
                "- {unknown} events of types that this version does not know"
            ));
        }
        for place in &recording.damage {
            self.line(format!("- damaged {}", plain(place)));
        }
    }

    fn follow_up(&mut self) {
        self.heading("Follow-up");
        self.line("| What | Who | By when |\n| --- | --- | --- |\n| _to be filled in_ | | |");
    }
}

fn some(count: u64) -> Option<String> {
    (count > 0).then(|| count.to_string())
}

fn host(host: &Host) -> String {
    let system = format!(
        "{} {}, {} CPUs",
        host.kernel_release, host.architecture, host.cpus
    );
    format!("{} (Linux {})", code(&host.hostname), plain(&system))
}

fn process_field(subject: &Subject, name: &str) -> Option<String> {
    let value = subject.process.as_ref()?.get(name)?;
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn user(subject: &Subject) -> Option<String> {
    let uid = process_field(subject, "uid")?;
    let gid = process_field(subject, "gid").map(|gid| format!(", gid {gid}"));
    let name = process_field(subject, "user").map(|name| format!("{} ", code(&name)));
    let login = process_field(subject, "loginuid").map(|uid| format!(", logged in as uid {uid}"));
    Some(format!(
        "{}uid {uid}{}{}",
        name.unwrap_or_default(),
        gid.unwrap_or_default(),
        login.unwrap_or_default()
    ))
}

/// Writes the line of parents: as events name them, else as their starts in the window do.
fn parents(subject: &Subject) -> Option<String> {
    let named = |parent: &serde_json::Value| {
        let comm = parent.get("comm").and_then(serde_json::Value::as_str);
        let pid = parent.get("pid").and_then(serde_json::Value::as_u64)?;
        let pid = u32::try_from(pid).ok();
        Some(crate::death::words::named(comm, pid))
    };
    let list = subject
        .process
        .as_ref()
        .and_then(|process| process.get("parents"));
    let stated: Vec<String> = list
        .and_then(serde_json::Value::as_array)
        .map(|list| list.iter().filter_map(named).collect())
        .unwrap_or_default();
    let line = match stated.is_empty() {
        true => &subject.parents,
        false => &stated,
    };
    let line: Vec<String> = line.iter().map(|one| code(one)).collect();
    (!line.is_empty()).then(|| line.join(" ← "))
}

fn ended(ended: &Ended) -> String {
    let mut text = plain(&ended.end);
    if let Some(lifetime) = ended.lifetime_ns {
        let _ = write!(text, " after {}", duration(lifetime));
    }
    let _ = write!(
        text,
        "; CPU {}, {} of memory at most, {} of storage I/O",
        duration(ended.cpu_ns),
        bytes(ended.max_rss_bytes),
        bytes(ended.io_bytes)
    );
    text
}

fn seconds(offset_ns: i64) -> String {
    let sign = if offset_ns < 0 { '-' } else { '+' };
    let millis = offset_ns.unsigned_abs() / 1_000_000;
    format!("{sign}{}.{:03}", millis / 1000, millis % 1000)
}

fn cells(moment: &Moment) -> [String; 4] {
    let mark = if moment.is_trigger { "► " } else { "" };
    let mut text = plain(&moment.text);
    if moment.repeated > 0 {
        let _ = write!(text, " (and {} more like it)", moment.repeated);
    }
    if let Some(cause) = moment.cause {
        let _ = write!(text, " ← {cause}");
    }
    if moment.is_trigger {
        text = format!("**{text}**");
    }
    [
        format!("{mark}{}", seconds(moment.offset_ns)),
        moment.order.to_string(),
        code(moment.event_type),
        text,
    ]
}

fn certificate(death: &Certificate, report: &Report) -> [String; 5] {
    let is_subject = report.incident.as_ref().is_some_and(|incident| {
        incident.subject.pid.is_some() && incident.subject.pid == death.process.pid
    });
    let mut name = code(&death.name());
    if let Some(unit) = &death.process.unit {
        let _ = write!(name, " of {}", code(unit));
    }
    if is_subject {
        name = format!("**{name}**");
    }
    let time = jiff::Timestamp::from_nanosecond(death.unix_ns.into());
    [
        time.map(|time| format!("{time:.3}")).unwrap_or_default(),
        death.order.to_string(),
        name,
        plain(&death.text),
        death.lifetime_ns.map(duration).unwrap_or_default(),
    ]
}

fn usage_cells(usage: &Usage, name: String) -> [String; 9] {
    [
        name,
        usage.processes.to_string(),
        usage.failed.to_string(),
        usage.signalled.to_string(),
        duration(usage.user_ns),
        duration(usage.system_ns),
        bytes(usage.read_bytes),
        bytes(usage.write_bytes),
        bytes(usage.max_rss_bytes),
    ]
}

fn ended_cells(ended: &Ended) -> [String; 7] {
    let name = crate::death::words::named(ended.comm.as_deref(), Some(ended.pid));
    [
        code(&name),
        ended.user.as_deref().map(plain).unwrap_or_default(),
        plain(&ended.end),
        duration(ended.cpu_ns),
        ended.lifetime_ns.map(duration).unwrap_or_default(),
        bytes(ended.max_rss_bytes),
        bytes(ended.io_bytes),
    ]
}

fn collector_cells(collector: &CollectorReport) -> [String; 5] {
    let mut notes = Vec::new();
    if collector.truncated {
        notes.push("cut".to_owned());
    }
    if let Some(code) = collector.exit_code.filter(|code| *code != 0) {
        notes.push(format!("exit code {code}"));
    }
    if let Some(signal) = collector.signal {
        notes.push(format!("signal {signal}"));
    }
    notes.extend(collector.detail.as_deref().map(plain));
    [
        code(&collector.name),
        collector.state.name().to_owned(),
        collector.duration_ns.map(duration).unwrap_or_default(),
        match collector.attachment {
            Some(_) => bytes(collector.bytes),
            None => String::new(),
        },
        notes.join("; "),
    ]
}

/// Writes a value in its unit.
fn quantity(value: f64, unit: &str) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a value beyond the range saturates, which a chart survives"
    )]
    let whole = value.max(0.0) as u64;
    match unit {
        "percent" => format!("{value:.0} %"),
        "bytes" => bytes(whole),
        "bytes_per_second" => format!("{}/s", bytes(whole)),
        "per_second" => format!("{value:.0}/s"),
        _ => format!("{value:.1}").trim_end_matches(".0").to_owned(),
    }
}

/// Draws a series from its lowest to its highest value; percentages from 0 to 100.
pub(super) fn chart(series: &Series) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = match series.unit {
        "percent" => (0.0, 100.0_f64.max(series.highest)),
        _ => (series.lowest, series.highest),
    };
    let mut text = String::new();
    let mut is_after = false;
    for (at, value) in &series.points {
        if *at > 0 && !is_after {
            text.push('┊');
            is_after = true;
        }
        let share = match high > low {
            true => ((value - low) / (high - low)).clamp(0.0, 1.0),
            false => 0.0,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of seven is at most seven"
        )]
        let step = (share * 7.0).round() as usize;
        text.push(STEPS[step.min(7)]);
    }
    escape(&text).into_owned()
}
