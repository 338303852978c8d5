//! `recorder man`: the manual, made of what the program knows of itself.
//!
//! ```text
//! $ recorder man | man -l -
//! $ recorder man recorder.toml | man -l -
//! # recorder man --output-dir /usr/local/share/man
//! ```

mod config_file;
mod dump_file;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Command;
use clap_mangen::Man;
use roff::{Inline, Roff, bold, roman};

/// Arguments of `recorder man`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Page to write: "recorder", "recorder-show", "recorder.toml", "recorder-dump"
    #[arg(default_value = "recorder")]
    page: String,
    /// Write all pages into this directory instead, in its man1 and man5
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    output_dir: Option<PathBuf>,
}

/// A page of the manual.
struct Page {
    name: String,
    section: u8,
    text: Vec<u8>,
}

/// Writes a page, or all of them, of the manual of `command`.
pub fn run(args: &Args, command: Command) -> Result<ExitCode> {
    let pages = pages(command)?;
    let Some(directory) = &args.output_dir else {
        let Some(page) = pages.iter().find(|page| page.name == args.page) else {
            let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
            bail!("no page {:?}: there are {}", args.page, names.join(", "));
        };
        io::stdout().lock().write_all(&page.text)?;
        return Ok(ExitCode::SUCCESS);
    };
    for page in &pages {
        let section = directory.join(format!("man{}", page.section));
        let path = section.join(format!("{}.{}", page.name, page.section));
        fs::create_dir_all(&section)
            .and_then(|()| fs::write(&path, &page.text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn pages(command: Command) -> io::Result<Vec<Page>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    commands(&command, true, &mut pages)?;
    pages.push(config_file::page());
    pages.push(dump_file::page());
    Ok(pages)
}

/// Adds the page of a command and those of its own commands.
fn commands(command: &Command, is_root: bool, pages: &mut Vec<Page>) -> io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(format!("recorder {}", env!("CARGO_PKG_VERSION")))
        .manual("recorder");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if is_root {
        about_all(&mut text)?;
    } else {
        let mut roff = Roff::new();
        see_also(
            &mut roff,
            &["recorder(1)", "recorder.toml(5)", "recorder-dump(5)"],
        );
        roff.to_writer(&mut text)?;
    }
    pages.push(Page {
        name,
        section: 1,
        text,
    });
    for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        commands(one, false, pages)?;
    }
    Ok(())
}

/// Writes what holds for every command.
fn about_all(text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "Done."),
        ("1", "It did not work."),
        ("2", "The command line or the configuration makes no sense."),
        ("3", "What was read is damaged, or a check found a problem."),
        ("4", "The user may not do this."),
        ("69", "No agent answers."),
    ] {
        term(&mut roff, code, meaning);
    }
    roff.control("SH", ["SIGNALS"]);
    for (signal, meaning) in [
        ("SIGUSR1", "Makes a dump of now, as recorder trigger does."),
        ("SIGTERM, SIGINT", "Finishes the dumps and ends."),
    ] {
        term(&mut roff, signal, meaning);
    }
    roff.control("SH", ["FILES"]);
    for (file, meaning) in [
        (
            "/etc/recorder/recorder.toml",
            "Configuration: see recorder.toml(5).",
        ),
        (
            "/etc/recorder/recorder.toml.d/*.toml",
            "Drop-ins, read after it by name.",
        ),
        (
            "/var/lib/recorder/dumps",
            "The dumps: see recorder-dump(5).",
        ),
        (
            "/run/recorder/control.sock",
            "Where the agent answers, by HTTP.",
        ),
        ("/run/recorder/ring", "The flight ring."),
    ] {
        term(&mut roff, file, meaning);
    }
    see_also(
        &mut roff,
        &["recorder.toml(5)", "recorder-dump(5)", "systemctl(1)"],
    );
    roff.to_writer(text)
}

/// Writes the beginning of a page of section 5.
fn begin(name: &str, about: &str) -> Roff {
    let mut roff = Roff::new();
    let source = format!("recorder {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [&name.to_uppercase(), "5", "", &source, "recorder"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {about}"))]);
    roff
}

fn paragraph(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    roff.text([roman(text)]);
}

/// Writes a term and what it means.
fn term(roff: &mut Roff, term: &str, meaning: &str) {
    terms(roff, vec![bold(term)], meaning);
}

fn terms(roff: &mut Roff, head: Vec<Inline>, meaning: &str) {
    roff.control("TP", []);
    roff.text(head);
    roff.text([roman(meaning)]);
}

/// Writes text as it is.
fn listing(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(pages.join(", "))]);
}

fn page_of(name: &str, roff: &Roff) -> Page {
    Page {
        name: name.to_owned(),
        section: 5,
        text: roff.render().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    fn all() -> Vec<Page> {
        let command = <super::super::Cli as clap::CommandFactory>::command();
        pages(command).expect("memory has room")
    }

    fn text<'a>(pages: &'a [Page], name: &str) -> &'a str {
        let page = pages.iter().find(|page| page.name == name);
        std::str::from_utf8(&page.expect("it is a page").text).expect("text")
    }

    #[test]
    fn every_command_that_shows_has_a_page_and_no_other() {
        let pages = all();
        for name in [
            "recorder",
            "recorder-run",
            "recorder-config-show",
            "recorder-selftest",
        ] {
            assert!(text(&pages, name).starts_with(".ie"), "{name}");
        }
        let hidden = ["recorder-evidence", "recorder-selftest-fail"];
        assert!(
            pages
                .iter()
                .all(|page| !hidden.contains(&page.name.as_str()))
        );
    }

    #[test]
    fn every_setting_and_every_topic_is_in_the_manual() {
        let pages = all();
        let config = text(&pages, "recorder.toml").replace('\\', "");
        for setting in SETTINGS {
            let (_, key) = setting.key.split_once('.').expect("it has a table");
            assert!(config.contains(key), "{}", setting.key);
        }
        let dump = text(&pages, "recorder-dump").replace('\\', "");
        for topic in crate::event::TOPICS {
            assert!(dump.contains(topic.name), "{}", topic.name);
        }
    }
}
