//! What the network interfaces carried: `/proc/net/dev`.

use super::list::Refill;
use super::rate::{advance, per_second};
use super::text::{lines, numbers, set, words};
use crate::event::proto::InterfaceUsage;

/// Most interfaces of a sample.
const INTERFACES_MAX: usize = 128;
/// Longest name, as the kernel has it (`IFNAMSIZ`).
const NAME_MAX: usize = 16;
/// Receive: bytes packets errs drop fifo frame compressed multicast; transmit: bytes packets errs drop fifo colls carrier compressed.
const FIELDS: usize = 16;
const SENT: usize = 8;

type Counters = [u64; FIELDS];

/// What an interface had carried up to the sample before.
#[derive(Clone, Copy, Debug)]
struct Interface {
    name: [u8; NAME_MAX],
    counters: Counters,
    /// The sample in which it was seen last.
    round: u64,
}

/// What all interfaces had carried.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    before: Vec<Interface>,
    round: u64,
}

impl Interfaces {
    /// Takes in `/proc/net/dev`; returns how many interfaces were left out.
    pub(super) fn take(
        &mut self,
        text: &[u8],
        interval_ns: Option<u64>,
        to: &mut Vec<InterfaceUsage>,
    ) -> u32 {
        self.round += 1;
        let mut list = Refill::new(to, INTERFACES_MAX);
        for line in lines(text) {
            // A name may hold a colon, the counters none.
            let Some(colon) = line.iter().rposition(|byte| *byte == b':') else {
                continue;
            };
            let name = line[..colon].trim_ascii_start();
            let mut counters = [0; FIELDS];
            if name.is_empty()
                || name.len() > NAME_MAX
                || numbers(words(&line[colon + 1..]), &mut counters) < FIELDS
                || counters.iter().all(|count| *count == 0)
            {
                continue;
            }
            let before = self.replace(name, counters);
            if let Some(slot) = list.next() {
                usage(slot, before.as_ref().zip(interval_ns), &counters);
                set(&mut slot.name, name);
            }
        }
        let round = self.round;
        self.before.retain(|interface| interface.round == round);
        list.finish()
    }

    /// Remembers what an interface has carried; returns what it had carried before.
    fn replace(&mut self, name: &[u8], counters: Counters) -> Option<Counters> {
        let mut key = [0; NAME_MAX];
        key[..name.len()].copy_from_slice(name);
        let round = self.round;
        match self
            .before
            .iter_mut()
            .find(|interface| interface.name == key)
        {
            Some(interface) => {
                interface.round = round;
                Some(std::mem::replace(&mut interface.counters, counters))
            }
            None => {
                self.before.push(Interface {
                    name: key,
                    counters,
                    round,
                });
                None
            }
        }
    }
}

fn usage(slot: &mut InterfaceUsage, before: Option<(&Counters, u64)>, now: &Counters) {
    let moved = |index: usize| before.and_then(|(before, _)| advance(before[index], now[index]));
    let rate = |index: usize| {
        let (_, interval_ns) = before?;
        Some(per_second(moved(index)?, interval_ns))
    };
    let name = slot.name.take();
    *slot = InterfaceUsage {
        name,
        receive_bytes_per_second: rate(0),
        transmit_bytes_per_second: rate(SENT),
        receive_packets_per_second: rate(1),
        transmit_packets_per_second: rate(SENT + 1),
        receive_errors: moved(2),
        transmit_errors: moved(SENT + 2),
        receive_dropped: moved(3),
        transmit_dropped: moved(SENT + 3),
        receive_bytes: Some(now[0]),
        transmit_bytes: Some(now[SENT]),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    fn interfaces(texts: &[&[u8]]) -> Vec<InterfaceUsage> {
        let mut interfaces = Interfaces::default();
        let mut list = Vec::new();
        for text in texts {
            interfaces.take(text, Some(500_000_000), &mut list);
        }
        list
    }

    fn dev(lines: &str) -> Vec<u8> {
        format!("{HEAD}{lines}").into_bytes()
    }

    #[test]
    fn traffic_and_errors_of_what_carried_anything() {
        let before = dev(
            "    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0\n\
               ifb0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n\
             eth0:12345 100 1 2 0 0 0 0 999 50 3 4 0 0 0 0\n",
        );
        let now = dev(
            "    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0\n\
             eth0:13345 110 2 4 0 0 0 0 1099 60 6 8 0 0 0 0\n",
        );
        let list = interfaces(&[&before, &now]);
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].receive_bytes_per_second, Some(0));
        assert_eq!(
            list[1],
            InterfaceUsage {
                name: Some("eth0".into()),
                receive_bytes_per_second: Some(2000),
                transmit_bytes_per_second: Some(200),
                receive_packets_per_second: Some(20),
                transmit_packets_per_second: Some(20),
                receive_errors: Some(1),
                transmit_errors: Some(3),
                receive_dropped: Some(2),
                transmit_dropped: Some(4),
                receive_bytes: Some(13345),
                transmit_bytes: Some(1099),
            }
        );
    }

    #[test]
    fn an_interface_made_anew_has_no_rates_of_the_old() {
        let before = dev("veth:5000 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n");
        let now = dev("veth:10 1 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n");
        let list = interfaces(&[&before, &now]);
        assert_eq!(list[0].receive_bytes_per_second, None);
        assert_eq!(list[0].receive_bytes, Some(10));
    }

    #[test]
    fn whatever_the_text_is_nothing_fails() {
        let text = dev(
            "a:b\x1b[2J:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nx: 1 2\n",
        );
        assert_eq!(interfaces(&[&text, &text]).len(), 1);
        assert_eq!(interfaces(&[&text])[0].name(), "a:b\u{1b}[2J");
        for cut in 0..=text.len() {
            interfaces(&[&text, &text[..cut], &text]);
        }
        let long = dev("a-name-that-is-longer-than-any: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        assert!(interfaces(&[&long]).is_empty());
    }
}
