//! `recorder config`
//!
//! ```text
//! $ recorder config show
//! # read: /etc/recorder/recorder.toml
//!
//! [window]
//! before = "2m"  # /etc/recorder/recorder.toml:2
//! ```

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args as _, FromArgMatches as _, Subcommand};
use serde_json::json;

use crate::config::{ConfigFile, Loaded, Origin, RecordConfig, SETTINGS, Setting};

/// Arguments of `recorder config`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Print the configuration as TOML, and where each value comes from
    Show {
        /// Print the defaults too
        #[arg(long)]
        effective: bool,
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration
    Check {
        /// Write one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Shows or checks the configuration.
pub fn run(args: &Args, file: &ConfigFile) -> Result<ExitCode> {
    // No flags here, but the environment counts.
    let command = RecordConfig::augment_args(clap::Command::new("recorder"));
    let matches = command.get_matches_from(["recorder"]);
    let loaded = file.load(&RecordConfig::from_arg_matches(&matches)?, &matches)?;
    match args.command {
        Command::Show { effective, json } => {
            let shown =
                |setting: &&Setting| effective || *loaded.origin(setting) != Origin::Default;
            let settings = SETTINGS.iter().filter(shown);
            match json {
                true => print_json(&loaded, settings)?,
                false => print_toml(&loaded, settings, effective)?,
            }
        }
        Command::Check { json } => {
            let mut out = io::stdout().lock();
            match json {
                true => writeln!(out, "{}", json!({"valid": true, "files": loaded.files}))?,
                false => writeln!(out, "valid: {}", sources(&loaded))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Names the files that were read.
fn sources(loaded: &Loaded) -> String {
    if loaded.files.is_empty() {
        return "no configuration file, the defaults hold".to_owned();
    }
    let files = loaded.files.iter().map(|path| path.display().to_string());
    files.collect::<Vec<_>>().join(", ")
}

fn print_toml<'a>(
    loaded: &Loaded,
    settings: impl Iterator<Item = &'a Setting>,
    effective: bool,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "# read: {}", sources(loaded))?;
    let mut table = "";
    for setting in settings {
        let (its_table, key) = setting.key.split_once('.').unwrap_or_default();
        if table != its_table {
            writeln!(out, "\n[{its_table}]")?;
            table = its_table;
        }
        let origin = match loaded.origin(setting) {
            Origin::Default => "default".to_owned(),
            Origin::File { path, line } => format!("{}:{line}", path.display()),
            Origin::Environment => "environment".to_owned(),
            Origin::Flag => setting.flag(),
        };
        match setting.get(&loaded.config) {
            Some(value) => writeln!(out, "{key} = {value}  # {origin}")?,
            None => writeln!(out, "# {key} is not set")?,
        }
    }
    for rule in &loaded.config.rules {
        let origin = match &rule.place.path {
            None if !effective => continue,
            None => "built in".to_owned(),
            Some(path) => format!("{}:{}", path.display(), rule.place.line),
        };
        let text = toml::to_string(rule).map_err(io::Error::other)?;
        writeln!(out, "\n[[rule]]  # {origin}\n{}", text.trim_end())?;
    }
    for collector in &loaded.config.collectors {
        let origin = match loaded.collectors.get(&collector.name) {
            Some(Origin::File { path, line }) => format!("{}:{line}", path.display()),
            _ => "default".to_owned(),
        };
        let text = toml::to_string(collector).map_err(io::Error::other)?;
        let text = text.replace("\n[environment]", "\n[collector.environment]");
        writeln!(out, "\n[[collector]]  # {origin}\n{}", text.trim_end())?;
    }
    for target in &loaded.config.notify {
        let origin = match loaded.notify.get(&target.name) {
            Some(Origin::File { path, line }) => format!("{}:{line}", path.display()),
            _ => "default".to_owned(),
        };
        let text = toml::to_string(target).map_err(io::Error::other)?;
        writeln!(out, "\n[[notify]]  # {origin}\n{}", text.trim_end())?;
    }
    Ok(())
}

fn print_json<'a>(loaded: &Loaded, settings: impl Iterator<Item = &'a Setting>) -> Result<()> {
    let settings: Vec<_> = settings
        .map(|setting| {
            json!({
                "key": setting.key,
                "flag": setting.flag(),
                "value": setting.get(&loaded.config),
                "origin": loaded.origin(setting),
            })
        })
        .collect();
    let collectors: Vec<_> = loaded
        .config
        .collectors
        .iter()
        .map(|one| json!({"collector": one, "origin": loaded.collectors.get(&one.name)}))
        .collect();
    let notify: Vec<_> = loaded
        .config
        .notify
        .iter()
        .map(|one| json!({"notify": one, "origin": loaded.notify.get(&one.name)}))
        .collect();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}",
        json!({"files": loaded.files, "settings": settings, "collectors": collectors, "notify": notify, "rules": loaded.config.rules})
    )?;
    Ok(())
}
