//! The counters of samples.

use crate::event::proto;

/// Takes group, name, unit and value of a counter.
pub(super) type Counter<'a> = dyn FnMut(&str, &str, &str, Option<f64>) + 'a;

/// Calls `counter` with group, name, unit and value of all that a sample of the host says and people draw.
pub(super) fn system(sample: &proto::SampleSystem, counter: &mut Counter<'_>) {
    let whole = |number: Option<u64>| number.map(|number| number as f64);
    if let Some(load) = &sample.load {
        counter("Load", "load1", "", load.load1);
        counter("Load", "runnable threads", "", whole(load.runnable));
        counter("Load", "blocked threads", "", whole(load.blocked));
        let switches = whole(load.context_switches_per_second);
        counter("Load", "context switches", "/s", switches);
        counter("Load", "forks", "/s", whole(load.forks_per_second));
    }
    if let Some(cpu) = &sample.cpu {
        counter("CPU", "idle", "%", cpu.idle_percent);
        counter("CPU", "user", "%", cpu.user_percent);
        counter("CPU", "system", "%", cpu.system_percent);
        counter("CPU", "waiting for storage", "%", cpu.iowait_percent);
        counter("CPU", "stolen", "%", cpu.steal_percent);
    }
    if let Some(memory) = &sample.memory {
        counter(
            "Memory",
            "available",
            "bytes",
            whole(memory.available_bytes),
        );
        counter(
            "Memory",
            "anonymous",
            "bytes",
            whole(memory.anonymous_bytes),
        );
        counter("Memory", "page cache", "bytes", whole(memory.cached_bytes));
        counter("Memory", "dirty", "bytes", whole(memory.dirty_bytes));
        counter(
            "Memory",
            "swap free",
            "bytes",
            whole(memory.swap_free_bytes),
        );
    }
    if let Some(paging) = &sample.paging {
        let faults = whole(paging.major_faults_per_second);
        counter("Memory", "major faults", "/s", faults);
    }
    for pressure in &sample.pressure {
        for (kind, stall) in [("some", &pressure.some), ("full", &pressure.full)] {
            if let Some(stall) = stall {
                let name = format!("{} {kind}", pressure.resource());
                counter("Pressure", &name, "%", stall.avg10_percent);
            }
        }
    }
    for disk in &sample.disks {
        let mut disk_counter = |what: &str, unit: &str, value| {
            counter("Disks", &format!("{} {what}", disk.name()), unit, value);
        };
        disk_counter("busy", "%", disk.busy_percent);
        disk_counter("read", "bytes/s", whole(disk.read_bytes_per_second));
        disk_counter("written", "bytes/s", whole(disk.write_bytes_per_second));
        disk_counter("in flight", "", whole(disk.in_flight));
    }
    for interface in &sample.interfaces {
        let mut interface_counter = |what: &str, value| {
            let name = format!("{} {what}", interface.name());
            counter("Network", &name, "bytes/s", whole(value));
        };
        interface_counter("received", interface.receive_bytes_per_second);
        interface_counter("sent", interface.transmit_bytes_per_second);
    }
}
