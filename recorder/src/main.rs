//! The `recorder` program: see [`recorder::cli`].

use std::process::ExitCode;

use recorder::reserve::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    recorder::cli::main()
}
