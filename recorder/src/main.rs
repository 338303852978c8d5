//! The `recorder` program: see [`recorder::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    recorder::cli::main()
}
