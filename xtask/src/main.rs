//! Sets up, builds, runs, tests and measures recorder: `cargo xtask <command>`.

mod bench;
mod build;
mod cross;
mod dist;
mod exec;
mod fuzz;
mod linker;
mod miri;
mod packages;
mod paths;
mod run;
mod setup;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about,
    disable_help_subcommand = true
)]
enum Xtask {
    /// Find what the build needs and install what is missing
    Setup(setup::Options),
    /// Build the BPF object, then the agent that embeds it
    Build,
    /// Build, then run the agent in the foreground (through sudo if not root)
    Run(run::Options),
    /// Build, then run all tests; the end-to-end tests need root
    Test(test::Options),
    /// Let the fuzz targets run: the decoders and parsers, on bytes that find their way
    Fuzz(fuzz::Options),
    /// Run the unit tests of what is pure and of what threads share under miri, if a nightly toolchain has it
    Miri(miri::Options),
    /// Build, then run the end-to-end tests on the kernels of distributions, in emulated machines
    Vm(vm::Options),
    /// Make the Debian package, and prove that it works
    Dist(dist::Options),
    /// Measure what recording costs, beside what people would use instead; needs root
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::Setup(options) => setup::run(&options),
        Xtask::Build => build::run(),
        Xtask::Run(options) => run::run(&options),
        Xtask::Test(options) => test::run(&options),
        Xtask::Fuzz(options) => fuzz::run(&options),
        Xtask::Miri(options) => miri::run(&options),
        Xtask::Vm(options) => vm::run(&options),
        Xtask::Dist(options) => dist::run(&options),
        Xtask::Bench(options) => bench::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
