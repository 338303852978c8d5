//! What must hold, whatever the order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread;

use crate::ring::{Copier, Order, Reader, Ring, Shape};

/// How often a thread may be interrupted where it would not have to wait.
const PREEMPTIONS: usize = 3;

/// The models, each by what it shows.
pub const MODELS: &[(&str, fn())] = &[
    ("what a window holds is not written", || windows(1)),
    ("what two windows hold is not written", || windows(2)),
    (
        "who reads one segment finds what is committed, whole",
        || {
            read(Order::Ascending, ONE, 1);
        },
    ),
    ("so it does the other way round", || {
        read(Order::Descending, ONE, 1);
    }),
    ("who reads two segments misses none unsaid", || {
        read(Order::Ascending, TWO, 2);
    }),
    ("what expires is said to be gone", expire),
    ("who copies has what is committed, whole", || {
        follow(Order::Ascending);
    }),
    ("so it does the other way round, too", || {
        follow(Order::Descending);
    }),
];

const ONE: Shape = Shape {
    segments: 1,
    records_per_segment: 2,
    lines_per_record: 1,
};
const TWO: Shape = Shape {
    segments: 2,
    records_per_segment: 1,
    lines_per_record: 2,
};

/// Tries every order; returns how many there are.
pub fn check(model: fn()) -> u64 {
    let orders = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    orders.load(Ordering::Relaxed)
}

/// A thread goes on recording while others read windows and drop them.
fn windows(readers: usize) {
    let mut ring = Ring::new(TWO);
    ring.push(1);
    let windows: Vec<_> = (0..readers).map(|_| ring.freeze(0)).collect();
    let readers = windows.into_iter().map(|window| {
        let shape = ring.shape();
        thread::spawn(move || {
            assert_eq!(window.numbers(shape), [1]);
            assert_eq!(window.numbers(shape), [1]);
        })
    });
    let readers: Vec<_> = readers.collect();
    for number in 2..=4 {
        ring.push(number);
    }
    // The newest segment is free to be held, unless the old window is still there.
    let held = ring.freeze(0).numbers(ring.shape());
    assert!(held.is_sorted() && held.len() <= 2, "{held:?}");
    for reader in readers {
        reader.join().expect("it finds nothing wrong");
    }
}

/// Another process reads while the ring is written, and has been before.
fn read(order: Order, shape: Shape, before: u64) {
    let mut ring = Ring::new(shape);
    for number in 1..=before {
        ring.push(number);
    }
    let reader = Reader::new(ring.file(order), shape);
    let writer = thread::spawn(move || {
        for number in before + 1..=before + 2 {
            ring.push(number);
        }
    });
    let finding = reader.read();
    check_finding(&finding.numbers, finding.complete_after, before);
    writer.join().expect("it finds nothing wrong");
}

/// A thread evicts by age while another process reads.
fn expire() {
    let mut ring = Ring::new(TWO);
    ring.push(1);
    ring.push(2);
    let reader = Reader::new(ring.file(Order::Ascending), TWO);
    let writer = thread::spawn(move || {
        ring.expire(2);
        ring.push(3);
    });
    let finding = reader.read();
    check_finding(&finding.numbers, finding.complete_after, 2);
    writer.join().expect("it finds nothing wrong");
}

/// The keeper of a twin copies while the ring is written.
fn follow(order: Order) {
    let mut ring = Ring::new(ONE);
    ring.push(1);
    let mut copier = Copier::new(ring.file(order), ONE);
    let first = copier.flush();
    assert_eq!(first.numbers, [1]);
    let writer = thread::spawn(move || {
        ring.push(2);
        ring.push(3);
        ring
    });
    let second = copier.flush();
    check_finding(&second.numbers, second.complete_after, 0);
    let ring = writer.join().expect("it finds nothing wrong");
    let third = copier.flush();
    assert_eq!((third.numbers, third.complete_after), (vec![3], 3));
    drop(ring);
}

/// Demands that what was committed `before` is there, or is said not to be, and that nothing is missing from then on.
fn check_finding(numbers: &[u64], complete_after: u64, before: u64) {
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let newest = numbers.last().copied().unwrap_or(0).max(before);
    for number in complete_after + 1..=newest {
        assert!(
            numbers.contains(&number),
            "{number} is missing, and not said to be: {numbers:?} after {complete_after}"
        );
    }
}
