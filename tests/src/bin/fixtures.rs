//! Builds what tests else compile where they run, for machines that have no compilers: `fixtures DIRECTORY`.

use std::path::PathBuf;

use recorder_tests::fixture::ALL;

fn main() {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.expect("usage: fixtures DIRECTORY");
    for build in ALL {
        if build.is_possible() {
            build.build(&directory.join(build.source));
        } else {
            eprintln!("{}: {} is missing", build.source, build.compiler);
        }
    }
}
