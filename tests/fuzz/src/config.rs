//! Configuration files and rules: each is taken or refused in one line that names the place.

use std::fs;
use std::sync::LazyLock;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use recorder::config::{ConfigFile, RecordConfig};

static GIVEN: LazyLock<(RecordConfig, ArgMatches)> = LazyLock::new(|| {
    let command = RecordConfig::augment_args(Command::new("recorder"));
    let matches = command.get_matches_from(["recorder"]);
    let given = RecordConfig::from_arg_matches(&matches).expect("just parsed");
    (given, matches)
});

pub fn run(bytes: &[u8]) {
    let path = crate::scratch("recorder.toml");
    fs::write(&path, bytes).expect("there is memory");
    let (given, matches) = &*GIVEN;
    let file = ConfigFile { config: Some(path) };
    if let Err(error) = file.load(given, matches) {
        let said = error.to_string();
        assert!(!said.is_empty() && !said.contains('\x1b'), "{said:?}");
    }
}
