//! Which records a dump leaves out so as not to become too large.

use recorder_ebpf::abi::{self, Header, Lane};

use super::{
    DumpInput, LANES,
    survey::{Span, Survey},
};

/// In which order lanes give up their oldest records: what failed is kept to the last.
const ORDER: [Lane; LANES] = [Lane::Lifecycle, Lane::Sample, Lane::Failure];

/// Returns the span of every lane that the incident asks for.
pub(super) fn asked(input: &DumpInput<'_>) -> [Span; LANES] {
    [Span {
        from: input.incident.window_start_boot_ns,
        to: input.incident.window_end_boot_ns,
    }; LANES]
}

/// Returns shorter spans after an attempt of which only `fitted` messages fitted; `None` if nothing is left to leave out.
///
/// A tenth fewer than fitted, since the newest records may compress less well than the oldest. Each attempt leaves out at
/// least a tenth of a lane more, so that attempts end.
pub(super) fn shorter(
    input: &DumpInput<'_>,
    spans: &[Span; LANES],
    survey: &Survey,
    fitted: u64,
) -> Option<[Span; LANES]> {
    let records = |lane: Lane| survey.lanes[lane as usize].records;
    let total: u64 = Lane::ALL.into_iter().map(records).sum();
    // Less than one chunk fitted: that says nothing.
    let target = if fitted == 0 { total / 4 } else { fitted };
    let target = target - target / 10;
    let lane = ORDER.into_iter().find(|lane| records(*lane) > 0)?;
    let others = total - records(lane);
    let keep = target
        .saturating_sub(others)
        .min(records(lane) - records(lane).div_ceil(10));
    if lane == Lane::Failure && keep == 0 {
        return None;
    }
    let mut spans = *spans;
    let span = &mut spans[lane as usize];
    span.from = newest(input, lane, *span, keep);
    Some(spans)
}

/// Returns the time of the oldest of the `keep` newest records in a span; behind its end for none.
fn newest(input: &DumpInput<'_>, lane: Lane, span: Span, keep: u64) -> u64 {
    let mut times: Vec<u64> = input
        .frozen
        .records(lane)
        .filter_map(abi::decode::<Header>)
        .map(|header| header.boot_ns)
        .filter(|boot_ns| span.contains(*boot_ns))
        .collect();
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    match times.len().checked_sub(keep) {
        Some(out) if out < times.len() => {
            let (_, oldest_kept, _) = times.select_nth_unstable(out);
            // Never a span that is as long as it was: records of one moment go together.
            (*oldest_kept).max(span.from.saturating_add(1))
        }
        _ => span.to.saturating_add(1),
    }
}
