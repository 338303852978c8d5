//! Rules as people write them, on events as they happen.

use std::path::Path;

use proptest::prelude::*;
use recorder_ebpf::abi::{COMM_LEN, EventKind, Exit, HEADER_OWN, Lane};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::CUT_STEP;
use crate::event::{self, Body, proto};
use crate::incident::Span;
use crate::ring::allocations_of_this_thread;

const SECOND: u64 = 1_000_000_000;

fn settings() -> Settings {
    Settings {
        span: Span {
            before_ns: 60 * SECOND,
            after_ns: 5 * SECOND,
        },
        cooldown_ns: 60 * SECOND,
        watch: vec!["postgres".into()],
        ..Settings::default()
    }
}

fn try_set(toml: &str) -> Result<RuleSet, Vec<Fault>> {
    let specs = read_text(Some(Path::new("r.toml")), toml).map_err(|fault| vec![fault])?;
    RuleSet::compile(&specs, &settings())
}

#[track_caller]
fn set(toml: &str) -> RuleSet {
    try_set(toml).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

/// Returns a set with one rule about a type of event, with this condition.
#[track_caller]
fn when(event: &str, condition: &str) -> RuleSet {
    set(&format!(
        "[[rule]]\nname = \"r\"\nevent = \"{event}\"\nwhen = '''{condition}'''\n"
    ))
}

fn fault(toml: &str) -> String {
    match try_set(toml) {
        Ok(_) => panic!("it makes sense: {toml}"),
        Err(faults) => faults[0].to_string(),
    }
}

fn process(comm: &str, unit: &str) -> Option<proto::Process> {
    Some(proto::Process {
        pid: Some(7),
        comm: Some(comm.into()),
        unit: Some(unit.into()).filter(|unit: &String| !unit.is_empty()),
        ..proto::Process::default()
    })
}

fn exit(comm: &str, unit: &str, code: Option<u32>, signal: Option<u32>) -> Body {
    Body::ProcessExit(proto::ProcessExit {
        process: process(comm, unit),
        exit_code: code,
        signal: signal.map(|number| proto::Signal {
            number: Some(number),
            name: event::names::signal_name(number),
        }),
        ..proto::ProcessExit::default()
    })
}

fn exit_record(comm: &str, status: u32) -> Vec<u8> {
    let mut exit = Exit::new_zeroed();
    exit.header.kind = EventKind::ProcessExit as u8;
    exit.header.len = size_of::<Exit>() as u32;
    exit.header.tgid = 7;
    exit.header.pid = 7;
    let mut name = [0; COMM_LEN];
    name[..comm.len()].copy_from_slice(comm.as_bytes());
    exit.header.comm = name;
    exit.status = status;
    exit.as_bytes().to_vec()
}

fn sample(memory_percent: f64, swap_free: u64) -> Body {
    Body::SampleSystem(proto::SampleSystem {
        memory: Some(proto::Memory {
            swap_total_bytes: Some(1000),
            swap_free_bytes: Some(swap_free),
            ..proto::Memory::default()
        }),
        pressure: vec![proto::Pressure {
            resource: Some("memory".into()),
            some: Some(proto::Stall {
                avg10_percent: Some(memory_percent),
                ..proto::Stall::default()
            }),
            full: None,
        }],
        ..proto::SampleSystem::default()
    })
}

/// Returns when a rule fires of events one second apart.
fn fires(set: &mut RuleSet, kind: EventKind, events: &[Body]) -> Vec<u64> {
    let times = (0..).zip(events);
    times
        .filter(|(at, body)| set.look(kind, body, at * SECOND).is_some())
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn the_built_in_rules_are_rules() {
    let set = RuleSet::compile(&builtin(), &settings()).expect("they are tested");
    assert_eq!(set.len(), 8);
    let without_watch = Settings {
        watch: Vec::new(),
        ..settings()
    };
    let set = RuleSet::compile(&builtin(), &without_watch).expect("they are tested");
    assert_eq!(set.len(), 7, "one that cannot match is not in force");
    assert_eq!(set.wants(&exit_record("postgres", 9)), None);
}

#[test]
fn the_rules_in_the_documentation_are_rules() {
    let text = include_str!("../../../docs/rules.md");
    let blocks = text.split("```toml\n").skip(1);
    let mut rules = 0;
    for block in blocks {
        let toml = block.split("```").next().expect("it ends");
        let specs = read_text(None, toml).unwrap_or_else(|fault| panic!("{fault}"));
        let all = specs.iter().filter(|spec| spec.event.is_some()).cloned();
        let all: Vec<RuleSpec> = all.collect();
        rules += all.len();
        if let Err(faults) = RuleSet::compile(&all, &settings()) {
            panic!("{}", faults[0]);
        }
    }
    assert_eq!(rules, 9);
}

#[test]
fn a_rule_of_the_same_name_changes_only_what_it_says() {
    let mut rules = builtin();
    let change = "[[rule]]\nname = \"io-error\"\nseverity = \"low\"\n[[rule]]\nname = \"task-hung\"\nenabled = false\n";
    for rule in read_text(None, change).expect("valid") {
        add(&mut rules, rule);
    }
    assert_eq!(rules.len(), 8);
    let mut set = RuleSet::compile(&rules, &settings()).expect("valid");
    assert_eq!(set.len(), 7);
    let fired = set.look(
        EventKind::IoError,
        &Body::IoError(proto::IoError::default()),
        1,
    );
    let fired = fired.expect("it still fires");
    assert_eq!((fired.severity.name(), fired.tags.len()), ("low", 1));
}

#[test]
fn mistakes_name_the_line_the_rule_the_key_and_what_is_meant() {
    let rule = |more: &str| format!("[[rule]]\nname = \"r\"\nevent = \"process.exit\"\n{more}\n");
    for (more, says) in [
        (
            "when = 'exit_cod != 0'",
            "r.toml:4: rule \"r\": when: process.exit has no field \"exit_cod\": did you mean \"exit_code\"?",
        ),
        (
            "when = 'process.unti == \"a\"'",
            "r.toml:4: rule \"r\": when: Process has no field \"unti\": did you mean \"unit\"?",
        ),
        (
            "when = 'process.unit == 7'",
            "r.toml:4: rule \"r\": when: text cannot be compared with a whole number",
        ),
        (
            "when = 'exit_code'",
            "r.toml:4: rule \"r\": when: it must be true or false, and is a whole number",
        ),
        (
            "when = 'process.unit && true'",
            "r.toml:4: rule \"r\": when: it must be true or false, and is text",
        ),
        (
            "when = '''\nexit_code != 0 &&\nprocess.com == \"x\"'''",
            "r.toml:5: rule \"r\": when: Process has no field \"com\": did you mean \"comm\"?",
        ),
        (
            "when = 'process.user == \"root\"'",
            "r.toml:4: rule \"r\": when: user is found only when a dump is written or read: use process.uid",
        ),
        (
            "when = 'process.comm.startswith(\"a\")'",
            "r.toml:4: rule \"r\": when: there is no startswith(): did you mean startsWith()?",
        ),
        (
            "when = 'process.comm.matches(\"(\")'",
            "r.toml:4: rule \"r\": when: the pattern makes no sense: ",
        ),
        (
            "when = 'exit_code == null'",
            "r.toml:4: rule \"r\": when: null is nothing here: ",
        ),
        (
            "when = 'previous.exit_code == 1'",
            "r.toml:4: rule \"r\": when: only samples have a previous one",
        ),
        (
            "when = 'exit_code =='",
            "r.toml:4: rule \"r\": when: it is no CEL: ",
        ),
        ("when = ''", "r.toml:4: rule \"r\": when: it is empty"),
        (
            "wehn = 'true'",
            "r.toml:4: unknown key \"rule.wehn\": did you mean \"rule.when\"?",
        ),
        (
            "count = 3",
            "r.toml:4: rule \"r\": count: say in what time: within = \"60s\"",
        ),
        (
            "within = \"60s\"",
            "r.toml:4: rule \"r\": within: say how many: count = 3",
        ),
        (
            "count = 0\nwithin = \"1s\"",
            "r.toml:4: rule \"r\": count: must be between 1 and 1000",
        ),
        (
            "for = \"1s\"\nwhen = 'true'",
            "r.toml:4: rule \"r\": for: only samples last: write count and within",
        ),
        (
            "distinct = [\"process.exe\"]",
            "r.toml:4: rule \"r\": distinct: say how many, and in what time: ",
        ),
        (
            "by = [\"process\"]",
            "r.toml:4: rule \"r\": by: \"process\" is Process with fields of its own: ",
        ),
        (
            "by = [\"proces.unit\"]",
            "r.toml:4: rule \"r\": by: process.exit has no field \"proces\": did you mean \"process\"?",
        ),
        (
            "before = \"48h\"",
            "r.toml:4: rule \"r\": before: at most one day",
        ),
        ("before = 5", "r.toml:4: rule: "),
        ("severity = \"hihg\"", "r.toml:4: rule: "),
    ] {
        let told = fault(&rule(more));
        assert!(told.starts_with(says), "{more}\n{told}\n{says}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    assert_eq!(
        fault("[[rule]]\nname = \"r\"\nevent = \"proces.exit\"\n"),
        "r.toml:3: rule \"r\": event: no type of event \"proces.exit\": did you mean \"process.exit\"?"
    );
    assert_eq!(
        fault("[[rule]]\nname = \"A b\"\n"),
        "r.toml:2: rule \"A b\": name: write 1 to 64 of a-z, 0-9 and -"
    );
    assert!(fault("[[rule]]\nname = \"r\"\n").contains("event: it must say"));
    assert!(fault("[[rule]\nname=").starts_with("r.toml:1: "));
    assert!(fault("[rule]\nname = \"r\"\n").contains("write [[rule]]"));
}

#[test]
fn what_is_too_long_too_deep_or_too_much_is_refused() {
    let long = format!("exit_code in [{}]", "1, ".repeat(3000) + "1");
    assert!(fault_of(&long).contains("longer than 4096 bytes"));
    let parts = "1 == 1 || ".repeat(300) + "exit_code == 1";
    assert!(fault_of(&parts).contains("more than 1000 parts"));
    let deep = "!".repeat(2000) + "(exit_code == 1)";
    assert!(deep.len() < TEXT_MAX);
    // Two of them are none.
    let _ = try_set(&rule_of(&deep));
    let sum = "1 + ".repeat(900) + "1 == exit_code";
    assert!(fault_of(&sum).contains("nested"), "{}", fault_of(&sum));
    let choice = "true ? true : ".repeat(250) + "true";
    assert!(
        fault_of(&choice).contains("nested"),
        "{}",
        fault_of(&choice)
    );
    let nested = "(".repeat(500) + "true" + &")".repeat(500);
    assert!(!fault_of(&nested).is_empty());
}

fn rule_of(condition: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nevent = \"process.exit\"\nwhen = '''{condition}'''\n")
}

fn fault_of(condition: &str) -> String {
    fault(&rule_of(condition))
}

#[test]
fn conditions_are_true_of_what_they_say() {
    let nginx = exit("nginx", "nginx.service", Some(3), None);
    let killed = exit("nginx", "", None, Some(9));
    for (condition, of_nginx, of_killed) in [
        ("exit_code != 0", true, false),
        ("has(event.exit_code)", true, false),
        ("has(event.exit_code) && exit_code == 0", false, false),
        ("has(process.unit)", true, false),
        ("has(signal.number)", false, true),
        ("signal.name == \"SIGKILL\"", false, true),
        ("signal.number > 8 && signal.number <= 9u", false, true),
        (
            "process.unit == \"nginx.service\" && exit_code != 0",
            true,
            false,
        ),
        ("process.comm in [\"nginx\", \"php\"]", true, true),
        ("process.comm in watch", false, false),
        ("exit_code in [1, 2, 3]", true, false),
        (
            "process.unit.endsWith(\".service\") || process.comm.contains(\"x\")",
            true,
            true,
        ),
        ("process.unit.matches(\"^ng.*e$\")", true, false),
        (
            "exit_code * 2 + 1 == 7 && exit_code % 2 == 1 && -exit_code < 0",
            true,
            false,
        ),
        ("exit_code / 2.0 > 1.4", true, false),
        ("double(exit_code) / 2 == 1.5", true, false),
        (
            "size(process.comm) == 5 && process.comm.size() == 5",
            true,
            true,
        ),
        (
            "exit_code == 3 ? process.comm == \"nginx\" : false",
            true,
            false,
        ),
        ("!(exit_code == 3)", false, true),
        // An error on one side does not matter if the other decides.
        ("1 / exit_code == 7 || signal.number == 9", false, true),
        ("1 / exit_code == 0", true, false),
    ] {
        let mut set = when("process.exit", condition);
        let mut holds = |body| set.look(EventKind::ProcessExit, body, 1).is_some();
        assert_eq!(holds(&nginx), of_nginx, "{condition}");
        assert_eq!(holds(&killed), of_killed, "{condition}");
    }
}

#[test]
fn a_condition_that_errs_does_not_match_and_is_counted_and_told_once() {
    let mut set = when("process.exit", "1 / exit_code == 7");
    let body = exit("a", "", Some(0), None);
    for at in 0..5 {
        assert_eq!(set.look(EventKind::ProcessExit, &body, at), None);
    }
    let stats = set.stats();
    assert_eq!((stats[0].errors, stats[0].matched), (5, 0));
    assert_eq!(stats[0].last_error.as_deref(), Some("it divides by zero"));
    let told = set.take_fault().expect("it erred");
    assert!(
        told.starts_with("rule \"r\" errs on a process.exit: it divides by zero"),
        "{told}"
    );
    assert_eq!(set.take_fault(), None);
}

#[test]
fn a_condition_ends_whatever_it_is_shown() {
    let mut set = when(
        "sample.system",
        "disks.all(a, disks.all(b, a.name == b.name && a.device == b.device))",
    );
    let disks = vec![proto::DiskUsage::default(); 500];
    let body = Body::SampleSystem(proto::SampleSystem {
        disks,
        ..proto::SampleSystem::default()
    });
    assert_eq!(set.look(EventKind::SampleSystem, &body, 1), None);
    assert_eq!(
        set.stats()[0].last_error.as_deref(),
        Some("it takes too many steps")
    );
}

#[test]
fn three_in_a_minute_by_unit() {
    let mut set = set(
        "[[rule]]\nname = \"nginx-crash-loop\"\nevent = \"process.exit\"\n\
         when = 'process.unit == \"nginx.service\" && exit_code != 0'\ncount = 3\nwithin = \"60s\"\n\
         by = [\"process.unit\"]\nbefore = \"2m\"\nafter = \"5s\"\ncooldown = \"10m\"\nseverity = \"high\"\n\
         tags = [\"crash-loop\"]\n",
    );
    let bad = exit("nginx", "nginx.service", Some(1), None);
    let good = exit("nginx", "nginx.service", Some(0), None);
    let other = exit("nginx", "php.service", Some(1), None);
    let events = [bad.clone(), good, bad.clone(), other, bad.clone(), bad];
    assert_eq!(fires(&mut set, EventKind::ProcessExit, &events), [4]);
}

#[test]
fn different_programs_on_one_core() {
    let mut set = set(
        "[[rule]]\nname = \"failing-core\"\nevent = \"signal.fatal\"\n\
         when = 'signal.name == \"SIGSEGV\"'\ncount = 3\nwithin = \"10m\"\nby = [\"cpu\"]\ndistinct = [\"process.comm\"]\n",
    );
    let crash = |comm: &str, cpu| {
        Body::SignalFatal(proto::SignalFatal {
            process: process(comm, ""),
            cpu: Some(cpu),
            signal: Some(proto::Signal {
                number: Some(11),
                name: Some("SIGSEGV".into()),
            }),
            ..proto::SignalFatal::default()
        })
    };
    let events = [
        crash("a", 1),
        crash("a", 1),
        crash("a", 1),
        crash("b", 1),
        crash("c", 0),
        crash("c", 1),
    ];
    assert_eq!(fires(&mut set, EventKind::SignalFatal, &events), [5]);
}

#[test]
fn pressure_that_lasts_and_swap_that_grows() {
    let mut set = set(
        "[[rule]]\nname = \"memory-pressure\"\nevent = \"sample.system\"\n\
         when = 'pressure.exists(p, p.resource == \"memory\" && p.some.avg10_percent > 40)'\nfor = \"30s\"\n",
    );
    let mut events = vec![sample(50.0, 1000); 20];
    events.push(sample(39.0, 1000));
    events.extend(vec![sample(41.0, 1000); 40]);
    assert_eq!(fires(&mut set, EventKind::SampleSystem, &events), [51]);

    let mut set = when(
        "sample.system",
        "(previous.memory.swap_free_bytes - memory.swap_free_bytes) * 100.0 / memory.swap_total_bytes > 4",
    );
    let events = [
        sample(0.0, 900),
        sample(0.0, 860),
        sample(0.0, 819),
        sample(0.0, 900),
    ];
    assert_eq!(fires(&mut set, EventKind::SampleSystem, &events), [2]);
    assert_eq!(set.stats()[0].errors, 0, "the first has none before it");
}

#[test]
fn what_a_record_says_itself_saves_decoding_it() {
    let set = when(
        "process.exit",
        "process.unit == \"nginx.service\" && exit_code != 0",
    );
    assert_eq!(set.wants(&exit_record("nginx", 0)), None);
    assert_eq!(set.wants(&exit_record("nginx", 9)), None);
    assert_eq!(
        set.wants(&exit_record("nginx", 256)),
        Some(EventKind::ProcessExit)
    );
    assert!(set.wants_names(EventKind::ProcessExit));
    let mut own = exit_record("nginx", 256);
    own[std::mem::offset_of!(recorder_ebpf::abi::Header, flags)] |= HEADER_OWN;
    assert_eq!(set.wants(&own), None, "the recorder's own");
    for length in (0..own.len()).step_by(CUT_STEP) {
        set.wants(&own[..length]);
    }
}

#[test]
fn a_look_at_a_record_that_is_no_incident_allocates_nothing() {
    let set = when(
        "process.exit",
        "process.comm in [\"a\", \"b\"] && exit_code != 0 && process.unit != \"\"",
    );
    let records = [exit_record("nginx", 256), exit_record("a", 0)];
    let before = allocations_of_this_thread();
    for _ in 0..if cfg!(miri) { 10 } else { 1000 } {
        assert!(records.iter().all(|record| set.wants(record).is_none()));
    }
    assert_eq!(allocations_of_this_thread(), before);
}

#[test]
fn rules_that_stay_the_same_go_on_counting_through_a_reload() {
    let text = "[[rule]]\nname = \"r\"\nevent = \"process.exit\"\ncount = 3\nwithin = \"60s\"\n";
    let mut old = set(text);
    let body = exit("a", "", Some(1), None);
    assert_eq!(old.look(EventKind::ProcessExit, &body, 1), None);
    assert_eq!(old.look(EventKind::ProcessExit, &body, 2), None);
    let mut new = set(&format!(
        "\n\n{text}[[rule]]\nname = \"s\"\nevent = \"oom.kill\"\n"
    ));
    new.adopt(old);
    assert_eq!(new.stats()[0].matched, 2);
    assert!(new.look(EventKind::ProcessExit, &body, 3).is_some());
    let mut other = set(&text.replace("60s", "61s"));
    other.adopt(new);
    assert_eq!(other.stats()[0].matched, 0, "another rule");
}

#[test]
fn the_first_rule_that_fires_decides_and_the_others_are_named() {
    let mut rules = builtin();
    let own = "[[rule]]\nname = \"mine\"\nevent = \"io.error\"\ntags = [\"x\"]\n";
    for rule in read_text(None, own).expect("valid") {
        add(&mut rules, rule);
    }
    let mut set = RuleSet::compile(&rules, &settings()).expect("valid");
    let fired = set.look(
        EventKind::IoError,
        &Body::IoError(proto::IoError::default()),
        1,
    );
    let fired = fired.expect("two do");
    assert_eq!(
        (fired.name.as_str(), fired.also),
        ("mine", vec!["io-error".to_owned()])
    );
}

proptest! {
    /// What the record alone says never contradicts what the event says.
    #[test]
    fn a_record_is_wanted_whenever_its_event_matches(
        comm in "[a-c]{0,2}", status in prop_oneof![Just(0_u32), 0..128_u32, (0..256_u32).prop_map(|code| code << 8)],
        condition in prop::sample::select(vec![
            "exit_code != 0", "signal.number == 9 || exit_code == 2", "process.comm == \"a\" && exit_code > 1",
            "!(process.comm in [\"a\", \"b\"])", "signal.name == \"SIGKILL\"", "signal.name != \"\" && process.unit == \"\"",
            "process.pid == 7 ? exit_code == 0 : false", "has(event.exit_code) && exit_code < 3",
            "process.lifetime == 0 || true", "core_dumped || exit_code == 3",
        ]),
    ) {
        let Ok(mut set) = try_set(&rule_of(condition)) else {
            return Ok(());
        };
        let record = exit_record(&comm, status);
        let body = event::decode(Lane::Lifecycle, &record).body;
        let wanted = set.wants(&record).is_some();
        let matches = set.look(EventKind::ProcessExit, &body, 1).is_some();
        prop_assert!(wanted || !matches, "{} of {:?}", condition, body);
    }

    /// As the parser's own interpreter has it, where both know the language.
    #[test]
    fn arithmetic_and_logic_are_those_of_cel(a in -5_i64..5, b in -5_i64..5, c in any::<bool>(), shape in 0..8_usize) {
        let shapes = [
            "(A + B) * 2 - A == B", "A / B > 0", "A % B == 1 || C", "A > B ? C : !C", "A < B && C",
            "C || A / B == 1", "A in [1, 2, B]", "A != B && (C || A >= B)",
        ];
        let text = shapes[shape]
            .replace('A', &format!("({a})"))
            .replace('B', &format!("({b})"))
            .replace('C', &c.to_string());
        // Lists hold constants only here, and a negative number in brackets is one.
        let env = cel::Env::stdlib();
        let program = env.compile(&text).expect("it is CEL");
        let context = cel::Context::with_env(std::sync::Arc::new(env));
        let theirs = matches!(program.execute(&context), Ok(cel::Value::Bool(true)));
        let condition = format!("({text}) && exit_code == 1");
        let Ok(mut set) = try_set(&rule_of(&condition)) else {
            return Ok(());
        };
        let ours = set.look(EventKind::ProcessExit, &exit("a", "", Some(1), None), 1).is_some();
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}
