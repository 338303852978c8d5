//! The state of the host, put together from the kernel's files.

use rustix::param::page_size;

use super::cpu::{self, Cpus};
use super::disk::Disks;
use super::file::KernelFile;
use super::list::Refill;
use super::memory::{self, Vmstat};
use super::network::Interfaces;
use super::pressure::{self, Pressures, RESOURCES};
use crate::event::proto::SampleSystem;

/// Reads the files and knows what they said last time. Nothing is allocated once it has seen everything there is.
#[derive(Debug)]
pub(super) struct System {
    stat: KernelFile,
    loadavg: KernelFile,
    meminfo: KernelFile,
    vmstat: KernelFile,
    pressure: [KernelFile; RESOURCES.len()],
    diskstats: KernelFile,
    network: KernelFile,
    cpus: Cpus,
    paging: Vmstat,
    pressures: Pressures,
    disks: Disks,
    interfaces: Interfaces,
    last_boot_ns: Option<u64>,
    sample: SampleSystem,
}

impl System {
    pub(super) fn new() -> Self {
        let proc = |name: &str| KernelFile::new(format!("/proc/{name}"));
        Self {
            stat: proc("stat"),
            loadavg: proc("loadavg"),
            meminfo: proc("meminfo"),
            vmstat: proc("vmstat"),
            pressure: RESOURCES
                .map(|resource| KernelFile::new(format!("/proc/pressure/{resource}"))),
            diskstats: proc("diskstats"),
            network: proc("net/dev"),
            cpus: Cpus::default(),
            paging: Vmstat::default(),
            pressures: Pressures::default(),
            disks: Disks::default(),
            interfaces: Interfaces::default(),
            last_boot_ns: None,
            sample: SampleSystem::default(),
        }
    }

    /// Returns the state of the host now. What cannot be read or understood is absent.
    pub(super) fn sample(&mut self, now_boot_ns: u64) -> &SampleSystem {
        let interval_ns = self
            .last_boot_ns
            .replace(now_boot_ns)
            .map(|last| now_boot_ns.saturating_sub(last));
        let sample = &mut self.sample;
        sample.interval_ns = interval_ns;
        sample.cpu = None;
        // A file that is not there is one that says nothing.
        let load = sample.load.insert(Default::default());
        cpu::loadavg(self.loadavg.read().unwrap_or_default(), load);
        let stat = self.stat.read().unwrap_or_default();
        let mut left_out = self.cpus.stat(stat, interval_ns, sample);
        let memory = sample.memory.get_or_insert_default();
        memory::meminfo(self.meminfo.read().unwrap_or_default(), memory);
        let paging = sample.paging.get_or_insert_default();
        let vmstat = self.vmstat.read().unwrap_or_default();
        self.paging
            .take(vmstat, page_size() as u64, interval_ns, paging);
        let mut list = Refill::new(&mut sample.pressure, RESOURCES.len());
        for ((index, resource), file) in RESOURCES.iter().enumerate().zip(&mut self.pressure) {
            let stalls = self.pressures.take(index, file.read().unwrap_or_default());
            if stalls != (None, None)
                && let Some(slot) = list.next()
            {
                pressure::put(slot, resource, stalls);
            }
        }
        list.finish();
        let diskstats = self.diskstats.read().unwrap_or_default();
        left_out += self.disks.take(diskstats, interval_ns, &mut sample.disks);
        let network = self.network.read().unwrap_or_default();
        left_out += self
            .interfaces
            .take(network, interval_ns, &mut sample.interfaces);
        sample.left_out = (left_out > 0).then_some(left_out);
        &self.sample
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use crate::ingest::{SAMPLE_BYTES_MAX, now_boot_ns};
    use crate::ring::allocations_of_this_thread;

    #[test]
    fn this_host_is_sampled_without_allocating() {
        let mut system = System::new();
        assert_eq!(system.sample(now_boot_ns()).interval_ns, None);
        for _ in 0..3 {
            sleep(Duration::from_millis(20));
            system.sample(now_boot_ns());
        }
        sleep(Duration::from_millis(100));
        let before = allocations_of_this_thread();
        let sample = system.sample(now_boot_ns());
        let allocations = allocations_of_this_thread() - before;
        let memory = sample.memory.expect("every kernel says this");
        assert!(memory.total_bytes > memory.free_bytes);
        assert!(sample.load.expect("as above").threads >= Some(1));
        let cpu = sample.cpu.expect("100 ms are more than a tick");
        let idle = cpu.idle_percent.expect("as above");
        assert!((0.0..=100.0).contains(&idle), "{cpu:?}");
        assert_eq!(allocations, 0, "{sample:?}");
    }

    #[test]
    fn nothing_to_read_gives_an_empty_sample() {
        let mut system = System::new();
        let nowhere = || KernelFile::new("/proc/nowhere");
        system.stat = nowhere();
        system.loadavg = nowhere();
        system.meminfo = nowhere();
        system.vmstat = nowhere();
        system.pressure = RESOURCES.map(|_| nowhere());
        system.diskstats = nowhere();
        system.network = nowhere();
        system.sample(1);
        let sample = system.sample(2);
        assert_eq!(sample.interval_ns, Some(1));
        assert_eq!(sample.cpu, None);
        assert!(sample.pressure.is_empty() && sample.disks.is_empty());
        assert_eq!(sample.load, Some(Default::default()));
    }

    #[test]
    fn the_largest_sample_fits_a_record() {
        use crate::event::proto::{CpuUsage, DiskUsage, InterfaceUsage};
        let mut sample = SampleSystem::default();
        let f = Some(99.99);
        let n = Some(u64::MAX);
        sample.cpus = vec![
            CpuUsage {
                cpu: Some(u32::MAX),
                user_percent: f,
                nice_percent: f,
                system_percent: f,
                idle_percent: f,
                iowait_percent: f,
                irq_percent: f,
                softirq_percent: f,
                steal_percent: f,
            };
            512
        ];
        sample.disks = vec![
            DiskUsage {
                device: Some("4294967295:4294967295".into()),
                name: Some("x".repeat(32)),
                reads_per_second: n,
                writes_per_second: n,
                flushes_per_second: n,
                read_bytes_per_second: n,
                write_bytes_per_second: n,
                discard_bytes_per_second: n,
                read_latency_ns: n,
                write_latency_ns: n,
                in_flight: n,
                queue_length: f,
                busy_percent: f,
                read_bytes: n,
                write_bytes: n,
            };
            128
        ];
        sample.interfaces = vec![
            InterfaceUsage {
                name: Some("x".repeat(16)),
                receive_bytes_per_second: n,
                transmit_bytes_per_second: n,
                receive_packets_per_second: n,
                transmit_packets_per_second: n,
                receive_errors: n,
                transmit_errors: n,
                receive_dropped: n,
                transmit_dropped: n,
                receive_bytes: n,
                transmit_bytes: n,
            };
            128
        ];
        let len = prost::Message::encoded_len(&sample);
        assert!(len + 1024 < SAMPLE_BYTES_MAX, "{len}");
    }
}
