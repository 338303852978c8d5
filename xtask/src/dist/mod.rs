//! `cargo xtask dist`: the Debian package, and the proof that it works.
//!
//! | file | does |
//! |---|---|
//! | `tree.rs` | lays out the files of the package |
//! | `package.rs` | packs them, and has them judged by lintian |
//! | `prove.rs` | installs, upgrades and purges the package under a real systemd in an emulated machine |

mod package;
mod prove;
mod tree;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{build, paths};

/// Options of `cargo xtask dist`.
#[derive(Args)]
pub struct Options {
    /// Install, upgrade, break and purge the package in an emulated Debian
    #[arg(long)]
    prove: bool,
    /// Do not let lintian judge it
    #[arg(long)]
    no_lint: bool,
}

/// Runs `cargo xtask dist`.
pub fn run(options: &Options) -> Result<()> {
    let agent = build::agent()?;
    let package = package::build(&agent, &version(""))?;
    if !options.no_lint {
        package::lint(&package)?;
    }
    if options.prove {
        // The same program: what is proved is how one package makes way for the next.
        let next = package::build(&agent, &version("+next"))?;
        prove::run(&package, &next)?;
    }
    println!("{}", package.display());
    Ok(())
}

/// The version of the package: the workspace's, with what tells one build of it from another.
fn version(more: &str) -> String {
    format!("{}{more}", env!("CARGO_PKG_VERSION"))
}

/// Where packages and their trees are.
fn directory() -> PathBuf {
    paths::target().join("dist")
}
