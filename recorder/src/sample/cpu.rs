//! Load, run queues, and where the time of the CPUs went: `/proc/loadavg`, `/proc/stat`.

use super::list::Refill;
use super::rate::{advance, per_second, percent};
use super::text::{decimal, lines, number, numbers, words};
use crate::event::proto::{CpuUsage, Load, SampleSystem};

/// Most CPUs of a sample.
const CPUS_MAX: usize = 512;
/// user, nice, system, idle, iowait, irq, softirq, steal: the time of guests is in that of users.
const MODES: usize = 8;

type Ticks = [u64; MODES];

/// What was counted up to the sample before.
#[derive(Debug, Default)]
pub(super) struct Cpus {
    all: Option<Ticks>,
    /// By number of the CPU.
    each: Vec<Option<Ticks>>,
    switches: Option<u64>,
    interrupts: Option<u64>,
    forks: Option<u64>,
}

impl Cpus {
    /// Takes in `/proc/stat`; returns how many CPUs were left out.
    pub(super) fn stat(
        &mut self,
        text: &[u8],
        interval_ns: Option<u64>,
        to: &mut SampleSystem,
    ) -> u32 {
        let mut cpus = Refill::new(&mut to.cpus, CPUS_MAX);
        let load = to.load.get_or_insert_default();
        for line in lines(text) {
            let mut words = words(line);
            let name = words.next().unwrap_or_default();
            let rate = |before: &mut Option<u64>, now: Option<&[u8]>| {
                let now = now.and_then(number);
                let before = std::mem::replace(before, now);
                let amount = advance(before?, now?)?;
                Some(per_second(amount, interval_ns?))
            };
            match name {
                b"cpu" => {
                    let ticks = ticks(words);
                    to.cpu = usage(self.all, ticks);
                    self.all = ticks;
                }
                b"ctxt" => {
                    load.context_switches_per_second = rate(&mut self.switches, words.next())
                }
                b"intr" => load.interrupts_per_second = rate(&mut self.interrupts, words.next()),
                b"processes" => load.forks_per_second = rate(&mut self.forks, words.next()),
                b"procs_blocked" => load.blocked = words.next().and_then(number),
                _ => {
                    let cpu = name.strip_prefix(b"cpu").and_then(number);
                    if let Some(cpu) = cpu.and_then(|cpu| u16::try_from(cpu).ok())
                        && let Some(usage) = self.one(cpu, ticks(words))
                        && let Some(slot) = cpus.next()
                    {
                        *slot = usage;
                    }
                }
            }
        }
        cpus.finish()
    }

    fn one(&mut self, cpu: u16, now: Option<Ticks>) -> Option<CpuUsage> {
        let index = usize::from(cpu);
        if self.each.len() <= index {
            self.each.resize(index + 1, None);
        }
        let before = std::mem::replace(&mut self.each[index], now);
        Some(CpuUsage {
            cpu: Some(cpu.into()),
            ..usage(before, now)?
        })
    }
}

/// Returns the ticks of each mode; older kernels have fewer modes.
fn ticks<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Ticks> {
    let mut ticks = [0; MODES];
    (numbers(words, &mut ticks) >= 4).then_some(ticks)
}

/// Returns where the time between two counts went; `None` if there was none.
fn usage(before: Option<Ticks>, now: Option<Ticks>) -> Option<CpuUsage> {
    let (before, now) = (before?, now?);
    let mut spent = [0; MODES];
    for ((spent, before), now) in spent.iter_mut().zip(before).zip(now) {
        // Idle and iowait are estimates of the kernel that sometimes go back a little.
        *spent = now.saturating_sub(before);
    }
    let total: u64 = spent
        .iter()
        .fold(0, |sum, spent| sum.saturating_add(*spent));
    if total == 0 {
        return None;
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] =
        spent.map(|spent| Some(percent(spent, total)));
    Some(CpuUsage {
        cpu: None,
        user_percent: user,
        nice_percent: nice,
        system_percent: system,
        idle_percent: idle,
        iowait_percent: iowait,
        irq_percent: irq,
        softirq_percent: softirq,
        steal_percent: steal,
    })
}

/// Takes in `/proc/loadavg`: "0.11 0.34 0.31 2/94 9602".
pub(super) fn loadavg(text: &[u8], load: &mut Load) {
    let mut words = words(lines(text).next().unwrap_or_default());
    load.load1 = words.next().and_then(decimal);
    load.load5 = words.next().and_then(decimal);
    load.load15 = words.next().and_then(decimal);
    let mut threads = words.next().unwrap_or_default().split(|byte| *byte == b'/');
    load.runnable = threads.next().and_then(number);
    load.threads = threads.next().and_then(number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CUT_STEP;

    const BEFORE: &[u8] = b"cpu  100 0 50 800 50 0 0 0 0 0\n\
        cpu0 60 0 25 400 15 0 0 0 0 0\ncpu1 40 0 25 400 35 0 0 0 0 0\n\
        intr 1000 1 2 3\nctxt 5000\nbtime 1\nprocesses 300\nprocs_running 1\nprocs_blocked 0\n";
    const NOW: &[u8] = b"cpu  160 10 70 900 60 1 2 3 7 0\n\
        cpu0 110 10 35 420 25 0 0 0 0 0\ncpu1 50 0 35 480 35 0 0 0 0 0\n\
        intr 3000 1 2 3\nctxt 9000\nbtime 1\nprocesses 310\nprocs_running 3\nprocs_blocked 2\n";

    fn samples(texts: &[&[u8]]) -> SampleSystem {
        let mut cpus = Cpus::default();
        let mut sample = SampleSystem::default();
        for text in texts {
            cpus.stat(text, Some(2_000_000_000), &mut sample);
        }
        sample
    }

    #[test]
    fn time_is_shared_out_in_percent() {
        let sample = samples(&[BEFORE, NOW]);
        let cpu = sample.cpu.expect("two counts");
        // 206 ticks: 60, 10, 20, 100, 10, 1, 2, 3.
        assert_eq!(cpu.user_percent, Some(29.13));
        assert_eq!(cpu.idle_percent, Some(48.54));
        assert_eq!(cpu.steal_percent, Some(1.46));
        assert_eq!(cpu.cpu, None);
        let numbers: Vec<_> = sample.cpus.iter().map(|cpu| cpu.cpu).collect();
        assert_eq!(numbers, [Some(0), Some(1)]);
        assert_eq!(sample.cpus[0].user_percent, Some(50.0));
        let load = sample.load.expect("the lines are there");
        assert_eq!(load.context_switches_per_second, Some(2000));
        assert_eq!(load.interrupts_per_second, Some(1000));
        assert_eq!(load.forks_per_second, Some(5));
        assert_eq!(load.blocked, Some(2));
    }

    #[test]
    fn the_first_sample_has_no_rates() {
        let sample = samples(&[BEFORE]);
        assert_eq!((sample.cpu, sample.cpus.len()), (None, 0));
        let load = sample.load.expect("the lines are there");
        assert_eq!((load.forks_per_second, load.blocked), (None, Some(0)));
    }

    #[test]
    fn a_cpu_that_goes_away_and_comes_back_is_absent_in_between() {
        let without: &[u8] = b"cpu  160 0 0 900\ncpu0 120 0 0 430\n";
        assert_eq!(samples(&[BEFORE, NOW, without]).cpus.len(), 1);
        assert_eq!(samples(&[BEFORE, without, NOW]).cpus.len(), 2);
    }

    #[test]
    fn counters_that_go_back_never_give_more_than_all() {
        let sample = samples(&[NOW, BEFORE]);
        assert_eq!(sample.cpu, None, "nothing went on");
        assert_eq!(sample.load.expect("there").forks_per_second, None);
    }

    #[test]
    fn whatever_the_text_is_nothing_fails() {
        for text in [
            &b""[..],
            b"cpu",
            b"cpu  1 2 3",
            b"cpu99999999999999999999 1 2 3 4",
            b"cpu70000 1 2 3 4",
            b"cpu  18446744073709551615 18446744073709551615 1 1",
            b"ctxt\nintr x\nprocesses -5\n\xff\xfe\0",
        ] {
            for cut in 0..=text.len() {
                samples(&[BEFORE, &text[..cut], NOW]);
            }
        }
        for cut in (0..=NOW.len()).step_by(CUT_STEP) {
            samples(&[BEFORE, &NOW[..cut]]);
        }
    }

    #[test]
    fn load_averages_and_run_queue() {
        let mut load = Load::default();
        loadavg(b"0.11 1.34 10.31 2/94 9602\n", &mut load);
        assert_eq!(
            (load.load1, load.load5, load.load15),
            (Some(0.11), Some(1.34), Some(10.31))
        );
        assert_eq!((load.runnable, load.threads), (Some(2), Some(94)));
        loadavg(b"0.11 x", &mut load);
        assert_eq!(
            (load.load1, load.load5, load.threads),
            (Some(0.11), None, None)
        );
    }
}
