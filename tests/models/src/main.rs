//! Models of the flight ring's protocol.
//!
//! The code is the ring's own: arena, lane, and how others look at a segment. Below it are loom's atomics, and memory of which
//! loom knows who accesses it. Loom runs each model in every order that the steps of its threads can have, where a load may
//! find any value that the memory model allows, with a bound on how often a thread is interrupted.
//!
//! Then each ordering that the code asks for is taken away in turn, wherever it stands: at least one model must fail. So no
//! ordering is missing, as far as the models go, and none is there for nothing.

mod models;
mod ring;

/// What the ring's configuration says of clocks.
mod event {
    /// The same moment on both clocks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ClockPair {
        pub boot_ns: u64,
        pub unix_ns: u64,
    }
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use models::MODELS;
use ring::sync::{Site, sites, weaken};

fn main() -> ExitCode {
    for (name, model) in MODELS {
        let begun = Instant::now();
        let orders = models::check(*model);
        eprintln!("{name}: holds in {orders} orders, {:.1?}", begun.elapsed());
    }
    let needless: Vec<Site> = sites()
        .into_iter()
        .filter(|site| !is_needed(*site))
        .collect();
    for site in &needless {
        eprintln!("{site}: without this ordering, all models hold");
    }
    match needless.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Tells whether a model fails without the ordering.
fn is_needed(site: Site) -> bool {
    // What fails is meant to.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    weaken(Some(site));
    let failing = MODELS
        .iter()
        .find(|(_, model)| catch_unwind(AssertUnwindSafe(|| models::check(*model))).is_err());
    weaken(None);
    std::panic::set_hook(hook);
    if let Some((name, _)) = failing {
        eprintln!("{site}: without this ordering, it does not hold that {name}");
    }
    failing.is_some()
}
