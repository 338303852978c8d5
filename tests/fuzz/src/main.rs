//! Fuzz targets: whatever the bytes, nothing panics, nothing takes more memory or time than a bound.
//!
//! | target | bytes are |
//! |---|---|
//! | `record` | a record of the wire ABI behind a header that is right |
//! | `ring` | changes to the arena that an agent left |
//! | `dump` | a file, or the records of a chunk or of a summary in one that is right |
//! | `config` | a configuration file, rules included |
//! | `api` | what a client sends to the control socket |
//!
//! `RECORDER_FUZZ_TARGET` names the target, `RECORDER_FUZZ_SCRATCH` a directory for files. One program has all of them: it takes minutes to build.

#![no_main]

mod api;
mod config;
mod dump;
mod record;
mod ring;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("RECORDER_FUZZ_TARGET").unwrap_or_default();
    match name.as_str() {
        "record" => record::run,
        "ring" => ring::run,
        "dump" => dump::run,
        "config" => config::run,
        "api" => api::run,
        other => panic!("RECORDER_FUZZ_TARGET={other:?}: record, ring, dump, config or api"),
    }
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));

/// Returns the path of a file for this process, in the directory that `RECORDER_FUZZ_SCRATCH` names: libFuzzer ends without
/// cleaning up, so that who starts it removes that.
fn scratch(name: &str) -> std::path::PathBuf {
    static DIRECTORY: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
        let directory = std::env::var_os("RECORDER_FUZZ_SCRATCH");
        directory.expect("RECORDER_FUZZ_SCRATCH is set").into()
    });
    DIRECTORY.join(name)
}
