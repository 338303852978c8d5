//! How much slower ordinary work is while the agent runs, and while it writes dumps all the time.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::agent::{Agent, Tools};
use super::table::Table;
use super::turns;
use crate::exec::find;

/// What the workload calls it, how often it is done, and what the table calls it.
const MICRO: [(&str, u64, &str); 6] = [
    ("exec", 300, "spawn of /bin/true"),
    ("fork", 2_000, "fork + exit"),
    ("thread", 5_000, "thread"),
    ("fault", 300_000, "page fault"),
    ("signal", 300_000, "handled signal"),
    ("read", 300_000, "pread of 4 KiB in memory"),
];
const BUILD: &str = "build of a C project";
/// Files of the C project, and functions in each.
const SOURCES: usize = 24;
const FUNCTIONS: usize = 6;

#[derive(Clone, Copy)]
enum Variant {
    Recording,
    Dumping,
}

/// Does all of it in turns: without the agent, with it, without, with a dump in flight.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let project = match Project::new(tools) {
        Ok(project) => Some(project),
        Err(error) => {
            table.add_missing("micro", BUILD, format!("{error:#}"));
            None
        }
    };
    let all = || -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for (what, count, _) in MICRO {
            times.push(tools.micro(what, count)? / count as f64 / 1e3);
        }
        if let Some(project) = &project {
            times.push(project.build()?);
        }
        Ok(times)
    };
    let variants = [Variant::Recording, Variant::Dumping];
    let turns = turns::take(rounds, &variants, |variant| {
        let options = ["--before", "1h", "--after", "100ms"];
        match variant {
            None => all(),
            Some(Variant::Recording) => {
                let _agent = Agent::start(tools, &options)?;
                all()
            }
            Some(Variant::Dumping) => {
                let agent = Agent::start(tools, &options)?;
                agent.dumping(all)
            }
        }
    })?;
    let mut names: Vec<_> = MICRO.iter().map(|(_, _, name)| (*name, "us")).collect();
    names.extend(project.is_some().then_some((BUILD, "ms")));
    let variants = ["recorder", "recorder with dumps in flight"];
    turns.add(table, "micro", &names, &variants);
    Ok(())
}

/// A C project of our own.
struct Project {
    directory: PathBuf,
    compiler: PathBuf,
}

impl Project {
    fn new(tools: &Tools) -> Result<Self> {
        let compiler = find("cc").context("there is no C compiler")?;
        let directory = tools.scratch.join("project");
        fs::create_dir_all(&directory).context("make a directory")?;
        let project = Self {
            directory,
            compiler,
        };
        for number in 0..SOURCES {
            fs::write(project.source(number), source(number)).context("write a source")?;
        }
        fs::write(project.source(SOURCES), main_source()).context("write a source")?;
        Ok(project)
    }

    /// Compiles every file in a process of its own and links; returns the time in milliseconds.
    fn build(&self) -> Result<f64> {
        let start = Instant::now();
        for number in 0..=SOURCES {
            let mut compile = Command::new(&self.compiler);
            compile.args(["-O1", "-c", "-o"]);
            compile.arg(self.object(number)).arg(self.source(number));
            succeed(&mut compile)?;
        }
        let mut link = Command::new(&self.compiler);
        link.arg("-o").arg(self.directory.join("program"));
        link.args((0..=SOURCES).map(|number| self.object(number)));
        succeed(&mut link)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn source(&self, number: usize) -> PathBuf {
        self.directory.join(format!("part{number}.c"))
    }

    fn object(&self, number: usize) -> PathBuf {
        self.directory.join(format!("part{number}.o"))
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Returns a file of functions that a compiler has to think about a little.
fn source(number: usize) -> String {
    let mut text = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n".to_owned();
    for function in 0..FUNCTIONS {
        let _ = write!(
            text,
            "
struct item{function} {{ int key; char name[{size}]; struct item{function} *next; }};
static int order{function}(const void *a, const void *b) {{
    const struct item{function} *one = a, *other = b;
    return one->key < other->key ? -1 : one->key > other->key;
}}
int part{number}_{function}(int count) {{
    struct item{function} *items = calloc(count + 1, sizeof *items);
    int sum = 0;
    for (int i = 0; i < count; i++) {{
        items[i].key = (i * {multiplier}) ^ (count >> {shift});
        snprintf(items[i].name, sizeof items[i].name, \"%d-%d\", i, items[i].key);
        items[i].next = i ? &items[i - 1] : NULL;
    }}
    qsort(items, count, sizeof *items, order{function});
    for (struct item{function} *item = items; item < items + count; item++)
        sum += item->key % {modulus} + (int)strlen(item->name);
    free(items);
    return sum;
}}
",
            size = 16 + function,
            multiplier = 7919 + function,
            shift = function % 5,
            modulus = 3 + function,
        );
    }
    text
}

fn main_source() -> String {
    let mut text = String::new();
    let mut calls = String::new();
    for number in 0..SOURCES {
        let _ = writeln!(text, "int part{number}_0(int);");
        let _ = write!(calls, " + part{number}_0(9)");
    }
    let _ = writeln!(text, "int main(void) {{ return (0{calls}) & 1; }}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_there_once() {
        let text = source(3);
        for function in 0..FUNCTIONS {
            let head = format!("int part3_{function}(int count)");
            assert_eq!(text.matches(&head).count(), 1, "{head}");
        }
        assert!(main_source().contains("part23_0(9)"));
    }
}
