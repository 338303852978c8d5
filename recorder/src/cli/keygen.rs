//! `recorder keygen`: a key that signs dumps.
//!
//! ```text
//! # recorder keygen /etc/recorder/dumps.key
//! /etc/recorder/dumps.key: the key; `[dumps] sign_key` names it, and only the recorder is to read it
//! /etc/recorder/dumps.key.pub: its public half; `recorder verify --key` takes it, wherever dumps are checked
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::reading;
use super::text::escape;
use crate::sign::SigningKey;

/// Arguments of `recorder keygen`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// File for the key; its public half is written beside it, as FILE.pub
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Makes a key.
///
/// # Errors
///
/// A file that is there already, or cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    reading::finish(keygen(args))
}

fn keygen(args: &Args) -> Result<ExitCode> {
    let mut public = args.file.clone().into_os_string();
    public.push(".pub");
    let public = PathBuf::from(public);
    let (key, private) = SigningKey::generate().context("make a key")?;
    write(&args.file, 0o600, &private)?;
    if let Err(error) = write(&public, 0o644, &key.public_pem()) {
        // Half of it is of no use.
        let _ = fs::remove_file(&args.file);
        return Err(error);
    }
    let said = format!(
        "{}: the key; `[dumps] sign_key` names it, and only the recorder is to read it\n\
         {}: its public half; `recorder verify --key` takes it, wherever dumps are checked\n",
        escape(&args.file.display().to_string()),
        escape(&public.display().to_string()),
    );
    reading::written(io::stdout().write_all(said.as_bytes()), "standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a new file.
fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    let context = || format!("cannot make {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(context)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.with_context(context)
}
