//! Numbers with the units that people use.

/// Writes bytes with a unit that keeps the number short: "1.5 MiB".
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would round to "1024.0".
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Writes a span of nanoseconds with the unit people would use: "350 µs", "1.234 s", "3 min 4 s", "2 h 5 min".
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000..60_000_000_000 => {
            let thousandths = ns / 1_000_000 % 1_000;
            let text = format!("{seconds}.{thousandths:03}");
            format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        60_000_000_000..3_600_000_000_000 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600_000_000_000..86_400_000_000_000 => {
            pair(seconds / 3600, "h", seconds % 3600 / 60, "min")
        }
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}
