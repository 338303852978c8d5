//! A window is read while its ring is written.

use std::{sync::mpsc, thread};

use recorder_ebpf::abi::Lane;

use super::{record, small_ring};
use crate::ring::{Share, Window};

/// Returns what the window holds; every record is checked to be one that was pushed whole.
fn contents(window: &Window) -> Vec<u64> {
    let records = window.records(Lane::Lifecycle).map(|record| {
        let boot_ns = u64::from_ne_bytes(*record.first_chunk().expect("a header"));
        let fill = boot_ns as u8;
        assert!(record[72..].iter().all(|byte| *byte == fill), "{boot_ns}");
        boot_ns
    });
    records.collect()
}

#[test]
fn a_window_never_changes_while_the_ring_is_overwritten() {
    // An interpreter takes a second for each.
    const WINDOWS: usize = if cfg!(miri) { 5 } else { 500 };
    const RECORDS: usize = if cfg!(miri) { 40 } else { 200 };
    let mut ring = small_ring();
    // One window in the reader's hand and one in the writer's: of three segments at most, so that both fit the lane's share.
    let (sender, receiver) = mpsc::sync_channel::<(Window, u64)>(0);
    let reader = thread::spawn(move || {
        let mut windows = 0;
        for (window, last) in receiver {
            let first_look = contents(&window);
            assert_eq!(
                first_look.last(),
                Some(&last),
                "the window ends with the freeze"
            );
            assert!(first_look.is_sorted());
            for _ in 0..if cfg!(miri) { 2 } else { 20 } {
                assert_eq!(contents(&window), first_look);
            }
            windows += 1;
        }
        windows
    });
    let mut boot_ns = 0;
    for _ in 0..WINDOWS {
        for _ in 0..RECORDS {
            boot_ns += 1;
            let len = 72 + 8 * (boot_ns as usize % 16);
            ring.push(Lane::Lifecycle, &record(boot_ns, len, boot_ns as u8))
                .expect("room");
        }
        // The reader keeps windows alive while this thread overwrites everything it may.
        let window = ring.freeze(boot_ns - 12, Share::Half);
        if sender.send((window, boot_ns)).is_err() {
            break;
        }
    }
    drop(sender);
    assert_eq!(
        reader.join().expect("the reader found nothing wrong"),
        WINDOWS
    );
    let stats = *ring.stats().lane(Lane::Lifecycle);
    assert_eq!(stats.pinned_bytes, 0, "all windows are gone");
    assert_eq!(stats.dropped, 0);
    assert_eq!(stats.pushed, stats.records + stats.evicted);
}
