//! Samples of the host in one line each, and which of them a person wants to see without asking.

use crate::cli::text::{bytes, escape, escape_short, plural};
use crate::event::proto;

use super::line::name;

/// Most processes or cgroups in a line; the rest is in the event.
const SHOWN: usize = 3;
/// Most characters of a line of the kernel's log.
const LOG_MAX: usize = 160;

/// Percentage from which a resource is short: of CPU time, of memory, of a disk's time.
const SHORT_PERCENT: f64 = 90.0;
/// Percentage of time lost to waiting that is worth a look.
const PRESSURE_PERCENT: f64 = 10.0;

/// Tells whether a sample shows a host in trouble.
pub fn stands_out(sample: &proto::SampleSystem) -> bool {
    let of = |percent: Option<f64>, limit| percent.is_some_and(|percent| percent >= limit);
    let waited = sample.pressure.iter().any(|pressure| {
        // That a task waits for a CPU is what busy hosts are like.
        pressure.resource() != "cpu"
            && of(stalled(sample, pressure.some.as_ref()), PRESSURE_PERCENT)
    });
    let killed = sample
        .paging
        .as_ref()
        .is_some_and(|paging| paging.oom_kills() > 0);
    let failing = |interface: &proto::InterfaceUsage| {
        interface.receive_errors() + interface.transmit_errors() > 0
    };
    waited
        || killed
        || of(cpu_percent(sample), SHORT_PERCENT)
        || of(memory_percent(sample), SHORT_PERCENT)
        || sample
            .disks
            .iter()
            .any(|disk| of(disk.busy_percent, SHORT_PERCENT))
        || sample.interfaces.iter().any(failing)
}

/// Writes the state of the host: what it was short of, and what moved.
pub fn system(sample: &proto::SampleSystem) -> String {
    let mut parts = Vec::new();
    if let Some(load) = &sample.load {
        parts.push(format!("load {:.2}", load.load1()));
    }
    if let Some(percent) = cpu_percent(sample) {
        let mut part = format!("CPU {percent:.0} %");
        let cpu = sample.cpu.unwrap_or_default();
        let shares = [
            ("system", cpu.system_percent()),
            ("I/O wait", cpu.iowait_percent()),
            ("stolen", cpu.steal_percent()),
        ];
        for (what, share) in shares.iter().filter(|(_, share)| *share >= 1.0) {
            part.push_str(&format!(", {what} {share:.0} %"));
        }
        parts.push(part);
    }
    if let Some((used, total)) = memory(sample) {
        parts.push(format!("memory {} of {}", bytes(used), bytes(total)));
    }
    let pressures: Vec<String> = sample
        .pressure
        .iter()
        .filter_map(|pressure| {
            let percent = stalled(sample, pressure.some.as_ref())?;
            (percent >= 1.0).then(|| format!("{} {percent:.0} %", escape(pressure.resource())))
        })
        .collect();
    if !pressures.is_empty() {
        parts.push(format!("waited for {}", pressures.join(", ")));
    }
    if let Some(kills @ 1..) = sample.paging.as_ref().map(proto::Paging::oom_kills) {
        parts.push(plural(kills, "OOM kill"));
    }
    let busiest = sample
        .disks
        .iter()
        .max_by_key(|disk| disk.read_bytes_per_second() + disk.write_bytes_per_second());
    if let Some(disk) = busiest.filter(|disk| disk.busy_percent() >= 1.0) {
        parts.push(format!(
            "{} {:.0} % busy, {}/s read, {}/s written",
            escape(disk.name()),
            disk.busy_percent(),
            bytes(disk.read_bytes_per_second()),
            bytes(disk.write_bytes_per_second()),
        ));
    }
    parts.join("; ")
}

/// Writes the processes that used most.
pub fn processes(sample: &proto::SampleProcess) -> String {
    let (mut line, shown) = match &sample.reason {
        // At a kill for memory, memory is what counts.
        Some(reason) => (format!("at {}: ", escape(reason)), by_memory(sample)),
        None => {
            let shown = sample.top.iter().take(SHOWN).map(usage_of).collect();
            (String::new(), shown)
        }
    };
    line.push_str(&shown.join("; "));
    if let Some(processes) = sample.processes {
        line.push_str(&format!("; of {processes} processes"));
    }
    line
}

/// Writes the processes that have most memory, each by itself.
pub fn by_memory(sample: &proto::SampleProcess) -> Vec<String> {
    let mut top: Vec<&proto::ProcessUsage> = sample.top.iter().collect();
    top.sort_by_key(|usage| std::cmp::Reverse(usage.rss_bytes()));
    top.into_iter().take(SHOWN).map(usage_of).collect()
}

fn usage_of(usage: &proto::ProcessUsage) -> String {
    let mut text = name(usage.process.as_ref());
    if let Some(percent) = usage.cpu_percent {
        text.push_str(&format!(" {percent:.0} % CPU,"));
    }
    text.push_str(&format!(" {}", bytes(usage.rss_bytes())));
    let moved = usage.read_bytes_per_second() + usage.write_bytes_per_second();
    if moved > 0 {
        text.push_str(&format!(", {}/s I/O", bytes(moved)));
    }
    text
}

/// Writes the cgroups that used most memory.
pub fn cgroups(sample: &proto::SampleCgroup) -> String {
    let ran_out = sample.top.iter().filter(|cgroup| cgroup.ran_out());
    let others = sample.top.iter().filter(|cgroup| !cgroup.ran_out());
    let shown: Vec<String> = ran_out.chain(others).take(SHOWN).map(cgroup).collect();
    format!("at {}: {}", escape(sample.reason()), shown.join("; "))
}

/// Writes what memory a cgroup uses.
pub fn cgroup(cgroup: &proto::CgroupMemory) -> String {
    let used = bytes(cgroup.usage_bytes());
    let path = escape(cgroup.path());
    match cgroup.limit_bytes {
        Some(limit) => format!("{path} {used} of {}", bytes(limit)),
        None => format!("{path} {used}"),
    }
}

/// Tells whether a line of the kernel's log reports an error.
pub fn is_error(log: &proto::KernelLog) -> bool {
    ["emerg", "alert", "crit", "err"].contains(&log.level())
}

/// Writes a line of the kernel's log.
pub fn kernel_log(log: &proto::KernelLog) -> String {
    let mut line = escape(log.level()).into_owned();
    if log.facility() != "kern" {
        line.push_str(&format!(" ({})", escape(log.facility())));
    }
    line.push_str(&format!(": {}", escape_short(log.text(), LOG_MAX)));
    let missing = log.lost_before() + log.left_out_before();
    if missing > 0 {
        line.push_str(&format!(" ({} before it missing)", plural(missing, "line")));
    }
    line
}

/// Returns how busy the CPUs were.
fn cpu_percent(sample: &proto::SampleSystem) -> Option<f64> {
    let cpu = sample.cpu.as_ref()?;
    Some((100.0 - cpu.idle_percent? - cpu.iowait_percent()).max(0.0))
}

/// Returns how much memory is in use, and of how much.
fn memory(sample: &proto::SampleSystem) -> Option<(u64, u64)> {
    let memory = sample.memory.as_ref()?;
    let total = memory.total_bytes?;
    Some((total.saturating_sub(memory.available_bytes?), total))
}

fn memory_percent(sample: &proto::SampleSystem) -> Option<f64> {
    let (used, total) = memory(sample)?;
    Some(used as f64 * 100.0 / total.max(1) as f64)
}

/// Returns the share of the interval that was lost; without an interval, of the last 10 s.
fn stalled(sample: &proto::SampleSystem, stall: Option<&proto::Stall>) -> Option<f64> {
    let stall = stall?;
    match (stall.stalled_ns, sample.interval_ns) {
        (Some(stalled), Some(interval @ 1..)) => Some(stalled as f64 * 100.0 / interval as f64),
        _ => stall.avg10_percent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> proto::SampleSystem {
        proto::SampleSystem {
            interval_ns: Some(1_000_000_000),
            load: Some(proto::Load {
                load1: Some(0.5),
                ..proto::Load::default()
            }),
            cpu: Some(proto::CpuUsage {
                idle_percent: Some(70.0),
                iowait_percent: Some(5.0),
                system_percent: Some(10.0),
                ..proto::CpuUsage::default()
            }),
            memory: Some(proto::Memory {
                total_bytes: Some(8 << 30),
                available_bytes: Some(6 << 30),
                ..proto::Memory::default()
            }),
            ..proto::SampleSystem::default()
        }
    }

    #[test]
    fn a_healthy_host_does_not_stand_out() {
        assert!(!stands_out(&healthy()));
        assert!(!stands_out(&proto::SampleSystem::default()));
        assert_eq!(
            system(&healthy()),
            "load 0.50; CPU 25 %, system 10 %, I/O wait 5 %; memory 2.0 GiB of 8.0 GiB"
        );
    }

    #[test]
    fn what_is_short_stands_out_and_is_named() {
        let mut sample = healthy();
        sample.pressure.push(proto::Pressure {
            resource: Some("memory".into()),
            some: Some(proto::Stall {
                stalled_ns: Some(400_000_000),
                ..proto::Stall::default()
            }),
            full: None,
        });
        assert!(stands_out(&sample));
        assert!(system(&sample).contains("waited for memory 40 %"));
        let mut sample = healthy();
        sample.cpu = Some(proto::CpuUsage {
            idle_percent: Some(3.0),
            ..proto::CpuUsage::default()
        });
        assert!(stands_out(&sample));
        let mut sample = healthy();
        sample.memory.as_mut().expect("set above").available_bytes = Some(1 << 20);
        assert!(stands_out(&sample));
    }

    #[test]
    fn a_hostile_log_line_shows_and_does_not_act() {
        let log = proto::KernelLog {
            level: Some("err".into()),
            facility: Some("kern".into()),
            text: Some("bad \u{1b}[2J name".into()),
            lost_before: Some(3),
            ..proto::KernelLog::default()
        };
        let line = kernel_log(&log);
        assert!(!line.contains('\u{1b}'), "{line}");
        assert!(line.ends_with("(3 lines before it missing)"), "{line}");
    }
}
