//! The status as OpenMetrics text, or in the older format of Prometheus, which differs in the names of counters.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use recorder_ebpf::abi::Saving;

use super::types::{DURATION_BOUNDS_MS, LaneStatus, Measurement, Status};
use crate::budget::{BudgetStatus, Costs, Resource};
use crate::dump::ProbeState;
use crate::health::Word;

/// Returns a status, and what the probes cost if that was measured, as OpenMetrics text.
pub fn text(status: &Status, measured: Option<&Measurement>) -> String {
    let mut registry = Registry::with_prefix("recorder");
    registry.register_collector(Box::new(Snapshot {
        status: status.clone(),
        measured: measured.cloned(),
    }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a string grows");
    out
}

/// Turns OpenMetrics into the text format of Prometheus (0.0.4): there, the description of a counter has its suffix too.
pub fn prometheus(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The type stands behind the help.
        let kind = if line.starts_with("# HELP ") {
            lines.peek().copied()
        } else {
            Some(line)
        };
        let is_counter =
            line.starts_with("# ") && kind.is_some_and(|kind| kind.ends_with(" counter"));
        let mut words = line.splitn(4, ' ');
        match (
            is_counter,
            words.next(),
            words.next(),
            words.next(),
            words.next(),
        ) {
            (true, Some(mark), Some(what), Some(name), Some(rest)) => {
                out.push_str(&format!("{mark} {what} {name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[derive(Debug)]
struct Snapshot {
    status: Status,
    measured: Option<Measurement>,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        about(&mut families, &self.status)?;
        recording(&mut families, &self.status)?;
        budget(&mut families, &self.status.budget)?;
        incidents(&mut families, &self.status)?;
        dumps(&mut families, &self.status)?;
        readers(&mut families, &self.status)?;
        match &self.measured {
            Some(measured) => programs(&mut families, measured),
            None => Ok(()),
        }
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes metrics of one name.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn family<'a, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        metrics: impl IntoIterator<Item = (Labels<'a>, M)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in metrics {
            match labels.is_empty() {
                true => return metric.encode(encoder),
                false => metric.encode(encoder.encode_family(&labels)?)?,
            }
        }
        Ok(())
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let values = values
            .into_iter()
            .map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, values)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(Vec::new(), value)])
    }

    /// Nanoseconds, told in seconds.
    fn seconds(&mut self, name: &str, help: &str, ns: u64) -> fmt::Result {
        let value = ConstCounter::new(seconds(ns));
        self.family(name, help, MetricType::Counter, [(Vec::new(), value)])
    }

    fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        let values = values
            .into_iter()
            .map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, values)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a metric is a float to who reads it"
    )]
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauges(name, help, [(Vec::new(), value as f64)])
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a float to who reads it"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn about(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    families.gauges(
        "build_info",
        "Version of the recorder; always 1.",
        [(vec![("version", status.version.as_str())], 1.0)],
    )?;
    families.gauges(
        "start_time_seconds",
        "When recording began, since the Unix epoch.",
        [(Vec::new(), seconds(status.started_unix_ns))],
    )?;
    let is = |word: Word| f64::from(u8::from(status.health.state == word));
    families.gauges(
        "health",
        "1 for the state that holds: recording, degraded or not recording.",
        Word::ALL.map(|word| (vec![("state", word.name())], is(word))),
    )?;
    let mut codes: Vec<&str> = status
        .health
        .reasons
        .iter()
        .map(|r| r.code.as_str())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    families.gauges(
        "degraded",
        "1 for each reason why the recorder is degraded.",
        codes.into_iter().map(|code| (vec![("reason", code)], 1.0)),
    )?;
    families.gauges(
        "probe_attached",
        "Whether a type of event is recorded: 1, or 0 if its probe is not attached.",
        status.probes.iter().map(|probe| {
            let labels = vec![
                ("kind", probe.event.as_str()),
                ("hook", probe.hook.as_str()),
            ];
            let is_attached = probe.state != ProbeState::Unavailable;
            (labels, f64::from(u8::from(is_attached)))
        }),
    )?;
    families.seconds("cpu_seconds", "CPU time of the agent.", status.usage.cpu_ns)?;
    families.gauge(
        "resident_memory_bytes",
        "Memory of the agent; the flight ring is in it.",
        status.usage.resident_bytes,
    )
}

fn recording(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    families.counters(
        "events",
        "Records taken into the flight ring, by type of event.",
        status
            .events
            .iter()
            .map(|(kind, count)| (vec![("kind", kind.as_str())], *count)),
    )?;
    families.counters(
        "bpf_missed_events",
        "Runs of a program that the kernel left out because the CPU was inside it already.",
        status
            .skipped
            .iter()
            .map(|(program, count)| (vec![("prog", program.as_str())], *count)),
    )?;
    let mut lost = Vec::new();
    for lane in &status.lanes {
        let mut kinds = std::collections::BTreeMap::new();
        for (kind, count) in lane.cpus.iter().flat_map(|cpu| &cpu.lost_by_kind) {
            *kinds.entry(kind.as_str()).or_insert(0) += *count;
        }
        let labels = |kind| vec![("lane", lane.lane.as_str()), ("kind", kind)];
        lost.extend(kinds.into_iter().map(|(kind, count)| (labels(kind), count)));
    }
    families.counters(
        "ringbuf_lost",
        "Records for which the kernel ring had no room, by lane and type of event.",
        lost,
    )?;
    type Figure = fn(&LaneStatus) -> u64;
    let figures: [(&str, &str, Figure); 4] = [
        (
            "ring_bytes",
            "Bytes of records in the flight ring.",
            |lane| lane.used_bytes,
        ),
        (
            "ring_capacity_bytes",
            "Bytes that the flight ring has room for.",
            |lane| lane.capacity_bytes,
        ),
        (
            "ring_pinned_bytes",
            "Bytes that windows keep from being overwritten.",
            |lane| lane.pinned_bytes,
        ),
        ("ring_events", "Records in the flight ring.", |lane| {
            lane.records
        }),
    ];
    for (name, help, figure) in figures {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a metric is a float to who reads it"
        )]
        let of = |lane: &LaneStatus| figure(lane) as f64;
        families.gauges(
            name,
            help,
            status.lanes.iter().map(|lane| (of_lane(lane), of(lane))),
        )?;
    }
    families.gauges(
        "ring_oldest_event_age_seconds",
        "How far the flight ring reaches back; 0 if it is empty.",
        status
            .lanes
            .iter()
            .map(|lane| (of_lane(lane), seconds(lane.span_ns.unwrap_or(0)))),
    )?;
    let counters: [(&str, &str, Figure); 2] = [
        (
            "ring_evicted_events",
            "Records overwritten by newer ones, by design.",
            |lane| lane.evicted,
        ),
        (
            "ring_dropped_events",
            "Records that the flight ring had no room for.",
            |lane| lane.dropped,
        ),
    ];
    for (name, help, figure) in counters {
        families.counters(
            name,
            help,
            status
                .lanes
                .iter()
                .map(|lane| (of_lane(lane), figure(lane))),
        )?;
    }
    let samples = &status.samples;
    families.counter("samples", "Samples of the host taken.", samples.taken)?;
    families.counter(
        "samples_missed",
        "Samples not taken in time.",
        samples.missed,
    )?;
    families.counter(
        "kernel_log_lines",
        "Lines of the kernel's log recorded.",
        samples.log_lines,
    )?;
    families.counter(
        "kernel_log_lost_lines",
        "Lines of the kernel's log overwritten before they were read, or beyond the limit.",
        samples.log_lost + samples.log_left_out,
    )
}

fn budget(families: &mut Families<'_>, budget: &BudgetStatus) -> fmt::Result {
    let left_out = |saving: Saving| {
        let is_left_out = budget.left_out.iter().any(|what| what == saving.name());
        (
            vec![("what", saving.name())],
            f64::from(u8::from(is_left_out)),
        )
    };
    families.gauges(
        "budget_left_out",
        "1 for each thing that is left out to keep to the budget.",
        Saving::ALL.map(left_out),
    )?;
    families.counters(
        "budget_records",
        "Records of which all or something was left out to keep to the budget.",
        Saving::ALL.map(|saving| {
            let records = budget.records.get(saving.name()).copied();
            (vec![("what", saving.name())], records.unwrap_or(0))
        }),
    )?;
    families.counters(
        "budget_steps",
        "Steps that left something out, and that took something back.",
        [
            (vec![("direction", "out")], budget.degradations),
            (vec![("direction", "back")], budget.recoveries),
        ],
    )?;
    costs(
        families,
        "budget_limit",
        "What recording may cost: cpu in cores, probe_ns in nanoseconds a run, memory in bytes; absent what may cost any amount.",
        &budget.limits,
    )?;
    costs(
        families,
        "budget_used",
        "What recording does cost, in the same units.",
        &budget.measured,
    )?;
    if let Some(cgroup) = &budget.cgroup {
        families.gauge(
            "cgroup_memory_limit_bytes",
            "What the agent's cgroup may hold.",
            cgroup.limit_bytes,
        )?;
        families.gauge(
            "cgroup_memory_used_bytes",
            "What the agent's cgroup holds, with what the kernel could drop.",
            cgroup.used_bytes,
        )?;
    }
    let threads = budget.threads.iter().map(|thread| {
        let spent = ConstCounter::new(seconds(thread.cpu_ns));
        (vec![("thread", thread.name.as_str())], spent)
    });
    families.family(
        "thread_cpu_seconds",
        "CPU time of the agent's threads.",
        MetricType::Counter,
        threads,
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a float to who reads it"
)]
fn costs(families: &mut Families<'_>, name: &str, help: &str, costs: &Costs) -> fmt::Result {
    let amounts = Resource::ALL.into_iter().filter_map(|resource| {
        let amount = costs.get(resource)? as f64;
        let amount = match resource {
            Resource::Cpu => amount / 1e6,
            Resource::ProbeNs | Resource::Memory => amount,
        };
        Some((vec![("resource", resource.name())], amount))
    });
    families.gauges(name, help, amounts)
}

fn of_lane(lane: &LaneStatus) -> Labels<'_> {
    vec![("lane", lane.lane.as_str())]
}

fn incidents(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let incidents = &status.incidents;
    families.gauge("incidents_open", "Incidents open now.", incidents.open)?;
    families.counters(
        "incidents",
        "Incidents opened, by rule.",
        incidents
            .opened_by_rule
            .iter()
            .map(|(rule, count)| (vec![("kind", rule.as_str())], *count)),
    )?;
    let outcomes = [
        ("opened", incidents.opened),
        ("joined", incidents.joined),
        ("suppressed", incidents.suppressed),
        ("overflow", incidents.overflow),
    ];
    families.counters(
        "triggers",
        "Times a rule fired, by what became of it.",
        outcomes.map(|(outcome, count)| (vec![("outcome", outcome)], count)),
    )?;
    families.counter(
        "rule_errors",
        "Times the condition of a rule could not be decided.",
        status.rule_errors,
    )
}

fn dumps(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    let dumps = &status.dumps;
    let results = [("written", dumps.written), ("failed", dumps.failed)];
    families.counters(
        "dumps",
        "Dumps, by result.",
        results.map(|(result, count)| (vec![("result", result)], count)),
    )?;
    let bounds = DURATION_BOUNDS_MS.map(|bound| seconds(bound * 1_000_000));
    let bounds = bounds.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(dumps.durations.counts).collect();
    let mut histogram = families.0.encode_descriptor(
        "dump_duration_seconds",
        "From the end of a window to its dump on the disk.",
        None,
        MetricType::Histogram,
    )?;
    histogram.encode_histogram::<Labels<'_>>(
        seconds(dumps.durations.sum_ns),
        dumps.durations.counts.iter().sum(),
        &buckets,
        None,
    )?;
    families.gauge(
        "dumps_waiting",
        "Windows that wait to be written.",
        dumps.waiting,
    )?;
    families.gauge(
        "dump_reserve_bytes",
        "Memory that is set aside for writing dumps.",
        dumps.reserve.bytes,
    )?;
    families.gauge(
        "dump_reserve_peak_bytes",
        "Most of it that was in use.",
        dumps.reserve.peak,
    )?;
    families.counter(
        "dump_reserve_beside_bytes",
        "What writing dumps took of the system because the reserve had no room.",
        dumps.reserve.beside,
    )?;
    families.gauges(
        "last_dump_timestamp_seconds",
        "When the last dump was durable, since the Unix epoch; absent if none was.",
        dumps.last_unix_ns.map(|ns| (Vec::new(), seconds(ns))),
    )?;
    if let Some(space) = &dumps.space {
        families.gauge("dump_dir_bytes", "Bytes of all dumps.", space.used_bytes)?;
        families.gauge(
            "dump_dir_max_bytes",
            "Most bytes of all dumps.",
            space.max_bytes,
        )?;
        families.gauge("dump_dir_dumps", "Dumps that are kept.", space.dumps)?;
        families.gauge(
            "dump_dir_max_dumps",
            "Most dumps that are kept.",
            space.max_dumps,
        )?;
        families.gauge(
            "dump_dir_free_bytes",
            "Free on the file system of the dumps.",
            space.free_bytes,
        )?;
        families.gauge(
            "dump_dir_keep_free_bytes",
            "To stay free on the file system of the dumps.",
            space.keep_free_bytes,
        )?;
    }
    Ok(())
}

fn readers(families: &mut Families<'_>, status: &Status) -> fmt::Result {
    families.gauge(
        "live_readers",
        "Readers of live events.",
        status.live.readers,
    )?;
    families.counter(
        "live_lost_events",
        "Live events for which a reader was too slow; they are recorded all the same.",
        status.live.lost,
    )?;
    families.counter(
        "live_missed_events",
        "Records that no reader of live events was given, because the host was too busy.",
        status.live.missed,
    )?;
    let mut results = Vec::new();
    let mut waiting = Vec::new();
    for target in &status.notify {
        let name = target.name.as_str();
        for (result, count) in [
            ("delivered", target.delivered),
            ("refused", target.refused),
            ("dropped", target.dropped),
            ("expired", target.expired),
        ] {
            results.push((vec![("target", name), ("result", result)], count));
        }
        #[expect(clippy::cast_precision_loss, reason = "a queue is short")]
        waiting.push((vec![("target", name)], target.waiting as f64));
    }
    families.counters(
        "notifications",
        "Notifications, by what became of them.",
        results,
    )?;
    families.gauges(
        "notifications_waiting",
        "Notifications not delivered yet.",
        waiting,
    )?;
    families.counters(
        "notification_failures",
        "Attempts to deliver a notification that failed.",
        status
            .notify
            .iter()
            .map(|target| (vec![("target", target.name.as_str())], target.failures)),
    )
}

fn programs(families: &mut Families<'_>, measured: &Measurement) -> fmt::Result {
    let programs = &measured.programs;
    families.family(
        "overhead_program_seconds",
        "Time inside a probe, while somebody measured.",
        MetricType::Counter,
        programs.iter().map(|of| {
            let labels = vec![("prog", of.program.as_str())];
            (labels, ConstCounter::new(seconds(of.run_ns_total)))
        }),
    )?;
    families.counters(
        "overhead_program_runs",
        "Runs of a probe, while somebody measured.",
        programs
            .iter()
            .map(|of| (vec![("prog", of.program.as_str())], of.runs_total)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ProgramUse;

    #[test]
    fn the_older_format_describes_counters_by_their_full_name() {
        let new = "# HELP a_b Help counter\n# TYPE a_b counter\na_b_total 1\n# HELP g Help.\n# TYPE g gauge\ng 2\n# EOF\n";
        let old = "# HELP a_b_total Help counter\n# TYPE a_b_total counter\na_b_total 1\n# HELP g Help.\n# TYPE g gauge\ng 2\n";
        assert_eq!(prometheus(new), old);
    }

    #[test]
    fn what_has_no_value_is_absent_and_every_figure_stands_once() {
        let mut status = Status {
            lanes: vec![LaneStatus {
                lane: "failure".to_owned(),
                evicted: 7,
                ..LaneStatus::default()
            }],
            ..Status::default()
        };
        status
            .incidents
            .opened_by_rule
            .insert("a\"b\\c\nd".to_owned(), 3);
        status
            .dumps
            .durations
            .add(std::time::Duration::from_millis(20));
        let plain = text(&status, None);
        assert!(plain.ends_with("# EOF\n"));
        assert!(!plain.contains("\nrecorder_last_dump_timestamp_seconds "));
        assert!(!plain.contains("overhead_program"));
        for line in [
            "recorder_ring_evicted_events_total{lane=\"failure\"} 7",
            "recorder_incidents_total{kind=\"a\\\"b\\\\c\\nd\"} 3",
            "recorder_dump_duration_seconds_bucket{le=\"0.03\"} 1",
            "recorder_dump_duration_seconds_bucket{le=\"0.01\"} 0",
            "recorder_dump_duration_seconds_bucket{le=\"+Inf\"} 1",
            "recorder_health{state=\"recording\"} 1.0",
            "recorder_health{state=\"not recording\"} 0.0",
        ] {
            assert_eq!(
                plain.lines().filter(|one| *one == line).count(),
                1,
                "{line}\n{plain}"
            );
        }
        let measured = Measurement {
            measured_ns: 1,
            programs: vec![ProgramUse {
                program: "process_exit".to_owned(),
                runs_total: 5,
                run_ns_total: 1_500_000_000,
                ..ProgramUse::default()
            }],
        };
        let text = text(&status, Some(&measured));
        assert!(
            text.contains("recorder_overhead_program_seconds_total{prog=\"process_exit\"} 1.5")
        );
        assert!(text.contains("recorder_overhead_program_runs_total{prog=\"process_exit\"} 5"));
    }
}
