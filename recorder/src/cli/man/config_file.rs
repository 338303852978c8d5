//! recorder.toml(5), made of the settings and the help of their flags.

use clap::{Args as _, FromArgMatches as _};
use roff::{bold, roman};

use super::{Page, begin, listing, page_of, paragraph, see_also, terms};
use crate::config::{RecordConfig, SETTINGS};

pub(super) fn page() -> Page {
    let mut roff = begin("recorder.toml", "configuration of recorder");
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "How the agent records, as TOML. Each value is taken from the last place that has it:",
    )]);
    listing(
        &mut roff,
        "defaults\n/etc/recorder/recorder.toml\n/etc/recorder/recorder.toml.d/*.toml, by name\n\
         environment\nflags of recorder run",
    );
    paragraph(
        &mut roff,
        "A key that does not exist, a value that makes no sense and two that contradict each other are errors that name the \
         file and the line: recorder config check finds them. recorder config show says where each value comes from. Times \
         are written with their unit, \"500ms\", \"60s\", \"5m\"; sizes as \"48MiB\" or as a number of bytes.",
    );
    let flags = RecordConfig::augment_args(clap::Command::new("recorder"));
    let matches = flags.clone().get_matches_from(["recorder"]);
    let defaults = RecordConfig::from_arg_matches(&matches).ok();
    let mut table = "";
    for setting in SETTINGS {
        let (its_table, key) = setting.key.split_once('.').unwrap_or_default();
        if its_table != table {
            table = its_table;
            roff.control("SH", [format!("[{table}]").as_str()]);
        }
        let mut arguments = flags.get_arguments();
        let argument = arguments.find(|argument| argument.get_id() == setting.flag);
        let help = argument.and_then(|argument| argument.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let default = defaults.as_ref().and_then(|config| setting.get(config));
        let head = match default {
            Some(default) => vec![bold(key), roman(format!(" = {default}"))],
            None => vec![bold(key)],
        };
        terms(
            &mut roff,
            head,
            &format!("{help}. Flag: {}.", setting.flag()),
        );
    }
    roff.control("SH", ["[[collector]]"]);
    roff.text([roman(
        "A program that is run when an incident opens, and whose output stands in the dump as evidence. It may be given more \
         than once; a later one replaces an earlier one of the same name.",
    )]);
    listing(
        &mut roff,
        "[[collector]]\nname = \"routes\"\ncommand = [\"ip\", \"route\"]\nrules = [\"oom-kill\"]\ntimeout = \"2s\"",
    );
    roff.control("SH", ["EXAMPLE"]);
    listing(
        &mut roff,
        "[host]\nenvironment = \"paris-1\"\n\n[window]\nbefore = \"5m\"\n\n[dumps]\nmax_bytes = \"4GiB\"",
    );
    see_also(
        &mut roff,
        &["recorder(1)", "recorder-config(1)", "recorder-run(1)"],
    );
    page_of("recorder.toml", &roff)
}
