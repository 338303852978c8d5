//! What the hardware and its handlers report.

/// Returns what became of a broken page: `enum mf_result`.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/mm.h>
pub(in crate::event) fn memory_failure_result(number: u32) -> Option<&'static str> {
    ["ignored", "failed", "delayed", "recovered"]
        .get(number as usize)
        .copied()
}

/// Returns the part of the machine that an error code of `MCi_STATUS` is about.
///
/// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3B, "Interpreting the MCA Error Codes"; AMD64
/// Architecture Programmer's Manual, volume 2, "MCA Error Codes", has the same for all of these but memory.
pub(in crate::event) fn machine_check_part(code: u16) -> Option<&'static str> {
    /// Says that reports of corrected errors are left out; it may stand in any compound code.
    const FILTERED: u16 = 1 << 12;

    match code & !FILTERED {
        0x0001..=0x0006 | 0x0400..=0x07ff => Some("internal"),
        0x000c..=0x000f | 0x0100..=0x01ff => Some("cache"),
        0x0010..=0x001f => Some("tlb"),
        0x0080..=0x00ff | 0x0280..=0x02ff => Some("memory"),
        0x0800..=0x0fff => Some("bus"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_name_what_failed() {
        for (code, part) in [
            // No error, and a code that nobody has defined.
            (0x0000, None),
            (0x2000, None),
            // An internal timer; the level 2 of the TLB; data read from the level 1 cache; a scrub of channel 0.
            (0x0400, Some("internal")),
            (0x0012, Some("tlb")),
            (0x0135, Some("cache")),
            (0x00c0, Some("memory")),
            (0x1090, Some("memory")),
            (0x0e0b, Some("bus")),
        ] {
            assert_eq!(machine_check_part(code), part, "{code:#06x}");
        }
    }

    #[test]
    fn results_are_the_four_that_there_are() {
        assert_eq!(memory_failure_result(0), Some("ignored"));
        assert_eq!(memory_failure_result(3), Some("recovered"));
        assert_eq!(memory_failure_result(4), None);
    }
}
