//! Which dumps make way for the next one.

/// A dump that may have to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its row in the catalog.
    pub(super) key: i64,
    /// Whether people want it to stay.
    pub(super) pinned: bool,
    /// How grave its incident is.
    pub(super) rank: i64,
    /// When that was, in nanoseconds since 1970.
    pub(super) time_ns: i64,
    /// Bytes that it takes of the budget.
    pub(super) bytes: u64,
    /// Bytes that the file system gets back.
    pub(super) freed_bytes: u64,
}

/// What there is and what may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_bytes: u64,
    pub(super) max_count: u64,
    /// Dumps of before are too old, in nanoseconds since 1970.
    pub(super) oldest_ns: i64,
    /// Free on the file system beyond what is to stay free; negative if even that is not.
    pub(super) spare_bytes: i128,
    /// What the next dump wants.
    pub(super) wanted: u64,
}

/// Why a dump makes way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Age,
    Count,
    Bytes,
    Free,
}

impl Reason {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Age => "it was older than dumps are kept",
            Self::Count => "it made way for another: as many dumps as may be",
            Self::Bytes => "it made way for another: dumps took as much as they may",
            Self::Free => "it made way for another: the file system was too full",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The dumps that go, in this order.
    pub(super) victims: Vec<(i64, Reason)>,
    /// What the next dump may take then; 0 if there is no room whatever goes.
    pub(super) room: u64,
    /// Whether pinned dumps take so much that the next one is over the budget.
    pub(super) is_over: bool,
}

/// Decides which dumps go: those that are too old; then, as far as need be, the least grave, of those the oldest, and the
/// newest of all last, which stays if half of what is wanted fits beside it. What is pinned stays.
pub(super) fn decide(mut candidates: Vec<Candidate>, bounds: &Bounds) -> Decision {
    let mut taken: u64 = candidates.iter().map(|one| one.bytes).sum();
    let mut count = candidates.len() as u64;
    let mut spare = bounds.spare_bytes;
    let mut victims = Vec::new();
    candidates.retain(|candidate| !candidate.pinned);
    candidates.sort_by_key(|one| (one.rank, one.time_ns, one.key));
    let mut go = |one: &Candidate, reason, taken: &mut u64, count: &mut u64, spare: &mut i128| {
        victims.push((one.key, reason));
        *taken -= one.bytes;
        *count -= 1;
        *spare += i128::from(one.freed_bytes);
    };
    candidates.retain(|one| {
        let is_old = one.time_ns < bounds.oldest_ns;
        if is_old {
            go(one, Reason::Age, &mut taken, &mut count, &mut spare);
        }
        !is_old
    });
    if let Some(newest) = (0..candidates.len()).max_by_key(|at| candidates[*at].time_ns) {
        let newest = candidates.remove(newest);
        candidates.push(newest);
    }
    // Nothing is given up for a disk that is too full whatever goes.
    let freed: i128 = candidates
        .iter()
        .map(|one| i128::from(one.freed_bytes))
        .sum();
    let is_hopeless = spare + freed <= 0;
    let mut at = 0;
    loop {
        let left = candidates.len() - at;
        let least = match left {
            0 => 1,
            1 => bounds.wanted / 2,
            _ => bounds.wanted,
        };
        let by_budget = bounds.max_bytes.saturating_sub(taken);
        let by_disk = u64::try_from(spare.max(0)).unwrap_or(u64::MAX);
        let reason = if count >= bounds.max_count {
            Reason::Count
        } else if by_budget < least {
            Reason::Bytes
        } else if by_disk < least {
            Reason::Free
        } else {
            return Decision {
                victims,
                room: by_budget.min(by_disk).min(bounds.wanted),
                is_over: false,
            };
        };
        let is_enough_on_disk = by_disk >= least;
        if left == 0 || is_hopeless {
            // Only pins are left: the newest goes beyond the budget rather than not at all.
            let is_over = left == 0 && reason != Reason::Free && is_enough_on_disk;
            return Decision {
                victims,
                room: if is_over {
                    by_disk.min(bounds.wanted)
                } else {
                    0
                },
                is_over,
            };
        }
        let one = &candidates[at];
        at += 1;
        // What has a further name elsewhere frees nothing.
        if reason != Reason::Free || one.freed_bytes > 0 {
            go(one, reason, &mut taken, &mut count, &mut spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Bounds = Bounds {
        max_bytes: u64::MAX,
        max_count: u64::MAX,
        oldest_ns: i64::MIN,
        spare_bytes: i128::MAX / 2,
        wanted: 100,
    };

    /// Dumps of 100 bytes, oldest first.
    fn candidates(count: i64) -> Vec<Candidate> {
        (0..count)
            .map(|key| Candidate {
                key,
                pinned: false,
                rank: 1,
                time_ns: key,
                bytes: 100,
                freed_bytes: 100,
            })
            .collect()
    }

    fn victims(decision: &Decision) -> Vec<i64> {
        decision.victims.iter().map(|(key, _)| *key).collect()
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        let decision = decide(candidates(5), &AMPLE);
        assert_eq!((victims(&decision), decision.room), (vec![], 100));
    }

    #[test]
    fn the_least_grave_go_first_and_of_those_the_oldest() {
        let mut all = candidates(6);
        all[0].rank = 3;
        all[1].rank = 2;
        all[2].pinned = true;
        all[4].rank = 0;
        let bounds = |max_count| Bounds { max_count, ..AMPLE };
        assert_eq!(victims(&decide(all.clone(), &bounds(4))), [4, 3, 1]);
        // The newest goes last, whatever its severity, and the pinned one never.
        assert_eq!(victims(&decide(all.clone(), &bounds(2))), [4, 3, 1, 0, 5]);
        let decision = decide(all, &bounds(1));
        assert_eq!(victims(&decision), [4, 3, 1, 0, 5]);
        assert!(decision.is_over && decision.room == 100);
    }

    #[test]
    fn the_newest_stays_beside_half_of_what_is_wanted() {
        let beside = |max_bytes| decide(candidates(2), &Bounds { max_bytes, ..AMPLE });
        assert!(victims(&beside(300)).is_empty());
        let decision = beside(299);
        assert_eq!((victims(&decision), decision.room), (vec![0], 100));
        let decision = beside(160);
        assert_eq!((victims(&decision), decision.room), (vec![0], 60));
        let decision = beside(140);
        assert_eq!((victims(&decision), decision.room), (vec![0, 1], 100));
    }

    #[test]
    fn age_is_a_reason_by_itself_and_not_for_what_is_pinned() {
        let mut all = candidates(4);
        all[0].pinned = true;
        all[2].rank = 3;
        let bounds = Bounds {
            oldest_ns: 3,
            ..AMPLE
        };
        let decision = decide(all, &bounds);
        assert_eq!(decision.victims, [(1, Reason::Age), (2, Reason::Age)]);
    }

    #[test]
    fn a_full_disk_costs_no_dump_if_that_does_not_help() {
        let bounds = |spare_bytes| Bounds {
            spare_bytes,
            ..AMPLE
        };
        // Somebody else has filled it.
        let decision = decide(candidates(3), &bounds(-1000));
        assert_eq!((victims(&decision), decision.room), (vec![], 0));
        let decision = decide(candidates(3), &bounds(-150));
        assert_eq!((victims(&decision), decision.room), (vec![0, 1], 50));
        // What has a further name frees nothing, and stays.
        let mut all = candidates(3);
        all[0].freed_bytes = 0;
        let decision = decide(all, &bounds(0));
        assert_eq!(decision.victims, [(1, Reason::Free)]);
        assert_eq!(decision.room, 100);
    }

    #[test]
    fn pins_that_fill_the_budget_do_not_stop_the_newest_but_a_full_disk_does() {
        let mut all = candidates(3);
        for one in &mut all {
            one.pinned = true;
        }
        let bounds = |spare_bytes| Bounds {
            max_bytes: 250,
            spare_bytes,
            ..AMPLE
        };
        let decision = decide(all.clone(), &bounds(60));
        assert_eq!((victims(&decision), decision.room), (vec![], 60));
        assert!(decision.is_over);
        let decision = decide(all, &bounds(0));
        assert_eq!(decision.room, 0);
        assert!(!decision.is_over);
    }
}
