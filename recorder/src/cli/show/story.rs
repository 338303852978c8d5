//! The head of `show`: what happened, to whom, and how much of it the dump knows.

use super::facts::Facts;
use super::fault;
use super::line::{name, process_exec, process_exit};
use super::sample;
use super::survey::Survey;
use crate::cli::text::{Palette, Style, bytes, duration, escape, plural, time};
use crate::dump::Host;
use crate::event::{Body, proto};
use crate::incident::Incident;
use crate::read::{Damages, Entry};

/// Stack frames shown; the rest is in the event.
const FRAMES_MAX: usize = 16;

/// Broken places shown; `verify` lists them all.
const PLACES_SHOWN: usize = 4;

/// Deaths shown beside that of the subject.
const DEATHS_SHOWN: usize = 6;

/// Characters of the longest label, and two blanks.
const LABEL_WIDTH: usize = 11;

/// Lines of "label  text"; a label with several lines stands before the first.
struct Rows {
    palette: Palette,
    text: String,
}

impl Rows {
    fn add(&mut self, label: &str, line: impl AsRef<str>) {
        self.all(label, [line]);
    }

    fn all(&mut self, label: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut label = label;
        for line in lines {
            let shown = self
                .palette
                .paint(Style::Dim, &format!("{label:<LABEL_WIDTH$}"));
            self.text.push_str(&format!("  {shown}{}\n", line.as_ref()));
            label = "";
        }
    }
}

/// Writes the head.
pub fn tell(facts: &Facts, survey: &Survey, damages: &Damages, palette: Palette) -> String {
    let mut rows = Rows {
        palette,
        text: title(facts, palette),
    };
    if let Some(trigger) = &survey.trigger {
        event(&mut rows, trigger, facts, survey);
    }
    others(&mut rows, survey, facts);
    if let Some(incident) = &facts.incident {
        around(&mut rows, incident);
    }
    rows.all("covered", &facts.coverage);
    if let Some(loss) = &facts.loss {
        let style = if loss.is_none {
            Style::Green
        } else {
            Style::Yellow
        };
        rows.add("missing", palette.paint(style, &loss.words));
    }
    let redaction = facts.redaction.iter();
    rows.all(
        "redacted",
        redaction.map(|words| palette.paint(Style::Yellow, words)),
    );
    rows.all("evidence", &facts.evidence);
    let places = damages.places.iter().take(PLACES_SHOWN);
    rows.all(
        "damaged",
        places.map(|place| palette.paint(Style::Yellow, &place.to_string())),
    );
    if damages.len() > PLACES_SHOWN as u64 {
        rows.add(
            "",
            format!(
                "… {} in all: recorder verify",
                plural(damages.len(), "place")
            ),
        );
    }
    rows.text
}

fn title(facts: &Facts, palette: Palette) -> String {
    let mut line = Vec::new();
    let headline = match &facts.incident {
        Some(incident) => escape(&incident.summary).into_owned(),
        None => "The dump no longer says what it is about.".to_owned(),
    };
    if let Some(incident) = &facts.incident {
        line.push(incident.id.to_string());
        line.push(escape(&incident.rule).into_owned());
    }
    line.extend(facts.trigger_unix_ns.map(time));
    line.extend(facts.host.as_ref().map(|host| {
        let Host {
            hostname,
            kernel_release,
            architecture,
            ..
        } = host;
        escape(&format!(
            "{hostname} (Linux {kernel_release} {architecture})"
        ))
        .into_owned()
    }));
    let headline = palette.paint(Style::Bold, &headline);
    format!(
        "{headline}\n{}\n\n",
        palette.paint(Style::Dim, &line.join(" · "))
    )
}

fn event(rows: &mut Rows, trigger: &Entry, facts: &Facts, survey: &Survey) {
    match &trigger.body {
        Body::SignalFatal(fatal) => {
            let boot_ns = facts
                .incident
                .as_ref()
                .map(|incident| incident.trigger.boot_ns);
            process(rows, fatal.process.as_ref(), survey, boot_ns);
            signal(rows, fatal, boot_ns);
        }
        Body::OomKill(kill) => {
            let boot_ns = facts
                .incident
                .as_ref()
                .map(|incident| incident.trigger.boot_ns);
            process(rows, kill.process.as_ref(), survey, boot_ns);
            memory(rows, kill, survey);
        }
        Body::ProcessExit(exit) => process(rows, exit.process.as_ref(), survey, None),
        Body::TaskHung(hung) => process(rows, hung.process.as_ref(), survey, None),
        Body::IoError(_)
        | Body::WritebackError(_)
        | Body::MemoryFailure(_)
        | Body::MachineCheck(_)
        | Body::SignalSent(_)
        | Body::ProcessExec(_)
        | Body::CgroupMkdir(_)
        | Body::CgroupRmdir(_)
        | Body::Note(_)
        | Body::SampleSystem(_)
        | Body::SampleProcess(_)
        | Body::SampleCgroup(_)
        | Body::KernelLog(_)
        | Body::Loss(_)
        | Body::Unknown(_) => rows.add("event", super::line::describe(&trigger.body)),
    }
    if let Some(Body::ProcessExit(exit)) = survey.exit.as_ref().map(|entry| &entry.body) {
        let order = survey.exit.as_ref().map(|entry| entry.order);
        let certificates = survey.deaths.certificates.iter();
        let of_subject = certificates.filter(|certificate| Some(certificate.order) == order);
        rows.all(
            "died of",
            of_subject.map(|certificate| escape(&certificate.text).into_owned()),
        );
        rows.add("end", process_exit(exit));
    }
}

fn process(
    rows: &mut Rows,
    process: Option<&proto::Process>,
    survey: &Survey,
    boot_ns: Option<u64>,
) {
    let Some(process) = process else { return };
    let mut line = name(Some(process));
    let exit = survey.exit.as_ref().and_then(|entry| entry.body.process());
    let exec = survey.exec.as_ref().and_then(|entry| entry.body.process());
    let parent = [Some(process), exec, exit]
        .into_iter()
        .flatten()
        .find_map(|process| process.ppid);
    if process.tid != process.pid
        && let Some(tid) = process.tid
    {
        line.push_str(&format!(", thread {tid}"));
    }
    if let Some(parent) = parent {
        line.push_str(&format!(", parent {parent}"));
    }
    if let (Some(uid), Some(gid)) = (process.uid, process.gid) {
        line.push_str(&format!(", uid {uid}, gid {gid}"));
    }
    match (&process.cgroup, process.cgroup_id) {
        (Some(path), _) => line.push_str(&format!(", cgroup {}", escape(path))),
        (None, Some(id)) => line.push_str(&format!(", cgroup {id}")),
        (None, None) => {}
    }
    if let Some(unit) = &process.unit {
        line.push_str(&format!(", unit {}", escape(unit)));
    }
    if let (Some(now), Some(start)) = (boot_ns, process.start_boot_ns) {
        line.push_str(&format!(", {} old", duration(now.saturating_sub(start))));
    }
    rows.add("process", line);
    let ran = match survey.exec.as_ref().map(|entry| &entry.body) {
        Some(Body::ProcessExec(exec)) => Some(process_exec(exec)),
        _ => process.exe.as_deref().map(|exe| escape(exe).into_owned()),
    };
    if let Some(ran) = ran {
        let build = process.exe_build_id.as_deref();
        let build = build.map(|id| format!(", build ID {}", escape(id)));
        rows.add("ran", ran + &build.unwrap_or_default());
    }
}

fn signal(rows: &mut Rows, fatal: &proto::SignalFatal, boot_ns: Option<u64>) {
    let mut line = fault::signal_and_code(fatal);
    if let Some(access) = fault::access(fatal) {
        line.push_str(&format!(", {access}"));
    }
    if let Some(meaning) = fault::meaning(fatal) {
        line.push_str(&format!(": {meaning}"));
    }
    if fatal.reraised() {
        line.push_str("; a handler of the process took it and raised it again");
    }
    rows.add("signal", line);
    if let Some(sender) = fault::sender_and_when(fatal, boot_ns) {
        rows.add("sender", sender);
    }
    if let Some(ip) = fatal.ip {
        let place = fault::best_stack(fatal).first().map(fault::place);
        let place = place.filter(|place| *place != format!("{ip:#x}"));
        let cpu = fatal.cpu.map(|cpu| format!(", CPU {cpu}"));
        rows.add(
            "at",
            format!(
                "{ip:#x}{}{}",
                place.map(|place| format!(" = {place}")).unwrap_or_default(),
                cpu.unwrap_or_default()
            ),
        );
    }
    if let Some(code) = fault::code(fatal) {
        rows.add("code", code);
    }
    let registers = fault::registers(fatal);
    rows.all("registers", registers.chunks(4).map(|four| four.join("  ")));
    rows.all("stack", fault::stack(fatal, FRAMES_MAX));
}

fn memory(rows: &mut Rows, kill: &proto::OomKill, survey: &Survey) {
    rows.add(
        "memory",
        format!(
            "{} anonymous, {} file, {} shared, {} page tables; {} address space; score adjustment {}",
            bytes(kill.anon_rss_bytes()),
            bytes(kill.file_rss_bytes()),
            bytes(kill.shmem_rss_bytes()),
            bytes(kill.pgtables_bytes()),
            bytes(kill.total_vm_bytes()),
            kill.oom_score_adj(),
        ),
    );
    if kill.trigger.is_some() {
        rows.add("asked by", name(kill.trigger.as_ref()));
    }
    let ran_out = survey
        .cgroups
        .iter()
        .flat_map(|sample| &sample.top)
        .find(|cgroup| cgroup.ran_out() && cgroup.id == kill.memory_cgroup_id);
    match (&kill.memory_cgroup, ran_out, kill.memory_cgroup_id) {
        (_, Some(cgroup), _) => rows.add("group", sample::cgroup(cgroup)),
        (Some(path), None, _) => rows.add("group", escape(path)),
        (None, None, Some(id)) => rows.add("group", format!("memory cgroup {id} of the victim")),
        (None, None, None) => {}
    }
    if let Some(had_memory) = &survey.had_memory {
        rows.all("heaviest", sample::by_memory(had_memory));
    }
}

/// Says who else died by a signal, those nearest to the trigger first.
fn others(rows: &mut Rows, survey: &Survey, facts: &Facts) {
    let subject = survey.exit.as_ref().map(|entry| entry.order);
    let trigger = facts.trigger_unix_ns.unwrap_or_default();
    let mut others: Vec<_> = survey
        .deaths
        .certificates
        .iter()
        .filter(|certificate| Some(certificate.order) != subject)
        .collect();
    others.sort_by_key(|certificate| certificate.unix_ns.abs_diff(trigger));
    let all = others.len() as u64 + survey.deaths.left_out;
    others.truncate(DEATHS_SHOWN);
    others.sort_by_key(|certificate| certificate.order);
    let mut lines: Vec<String> = others
        .iter()
        .map(|certificate| {
            let line = format!("{}: {}", certificate.name(), certificate.text);
            format!("{}  #{}", escape(&line), certificate.order)
        })
        .collect();
    if let Some(more) = all.checked_sub(DEATHS_SHOWN as u64 + 1) {
        lines.push(format!(
            "… and {} by a signal",
            plural(more + 1, "more death")
        ));
    }
    rows.all("also died", lines);
}

/// Says what belongs to the incident beside its trigger.
fn around(rows: &mut Rows, incident: &Incident) {
    if let Some(reason) = &incident.reason {
        rows.add("reason", escape(reason));
    }
    let trigger = incident.trigger.boot_ns;
    rows.add(
        "window",
        format!(
            "{} before the trigger to {} after it",
            duration(trigger.saturating_sub(incident.window_start_boot_ns)),
            duration(incident.window_end_boot_ns.saturating_sub(trigger)),
        ),
    );
    if incident.followers > 0 {
        let followers = plural(incident.followers, "further trigger");
        rows.add("followers", format!("{followers} joined this incident"));
    }
    if incident.suppressed_before > 0 {
        let suppressed = plural(incident.suppressed_before, "time");
        rows.add(
            "suppressed",
            format!("the same failure {suppressed} before, without a dump: it came back too soon"),
        );
    }
}
