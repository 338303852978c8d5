//! Sockets and protocols of the host.

use std::io::Write;

use super::{Collected, read_text, section, section_if_there};

/// States of a TCP socket, by the kernel's number.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/net/tcp_states.h#L12>
const STATES: [&str; 13] = [
    "?",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// Puts out counts of sockets, protocols and interfaces.
pub(super) fn collect(out: &mut dyn Write) -> Collected {
    section(out, "/proc/net/sockstat")?;
    section_if_there(out, "/proc/net/sockstat6")?;
    section(out, "/proc/net/dev")?;
    section(out, "/proc/net/snmp")?;
    section_if_there(out, "/proc/net/netstat")?;
    section_if_there(out, "/proc/net/softnet_stat")?;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = read_text(table) else { continue };
        writeln!(out, "==> states in {table} <==")?;
        for (state, count) in states(&text)
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
        {
            writeln!(out, "{} {count}", STATES.get(state).unwrap_or(&"?"))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn states(table: &str) -> [u64; STATES.len()] {
    let mut counts = [0; STATES.len()];
    for line in table.lines().skip(1) {
        let state = line.split_whitespace().nth(3);
        let state = state
            .and_then(|state| usize::from_str_radix(state, 16).ok())
            .unwrap_or(0);
        if let Some(count) = counts.get_mut(state) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_counted() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 0\n   1: 0 0 01 0\n 2: 0 0 zz\n";
        let counts = states(table);
        assert_eq!((counts[10], counts[1], counts[0]), (1, 1, 1));
    }
}
