//! A machine whose kernel dies under the agent, and that boots again with the same disk: `cargo xtask vm` lets it.
//!
//! Each of these tests runs once for each boot, and finds on the disk how far it has come. What it says on stdout is read by
//! who runs the machine: until when it lived, and what was there afterwards.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use recorder_tests::host::guest;
use recorder_tests::{Agent, Dump, Json, Need, Options, Program, output, ready};
use rustix::time::{ClockId, clock_gettime};

/// Where the disk is mounted that outlives the machine.
const DISK: &str = "/mnt/power";
/// How often the ring is copied to it.
const SYNC: &str = "250ms";
/// How long the machine lives on after what is to be found again.
const LIFE: Duration = Duration::from_secs(3);
/// How long it says so when nobody ends it.
const LIFE_MAX: Duration = Duration::from_secs(120);
/// How the kernel keeps its messages in the memory that outlives a reset, which the machine's words name and reserve.
const RAMOOPS: [&str; 3] = ["mem_size=0x100000", "record_size=0x20000", "console_size=0"];

/// Says something to who runs the machine, past the test runner, which would keep it to itself.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "power: {text}");
}

fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The disk that outlives the machine, mounted.
struct Disk;

impl Disk {
    /// Mounts it, with a file system if it has none, and over the run directory what does not outlive the machine.
    fn mount() -> Self {
        let disk = format!("/dev/{}", guest::disk("vd", None));
        fs::create_dir_all(DISK).expect("ours");
        let mount =
            |arguments: &[&str]| output(std::process::Command::new("mount").args(arguments));
        if mount(&["-t", "ext4", &disk, DISK]).code != Some(0) {
            let mut make = recorder_tests::system("mkfs.ext4");
            output(make.args(["-q", "-F", &disk])).expect_code(0);
            mount(&["-t", "ext4", &disk, DISK]).expect_code(0);
        }
        let disk = Self;
        fs::create_dir_all(disk.path("run")).expect("there is room");
        disk.forget_run_directory();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(DISK).join(name)
    }

    /// Makes the run directory an empty one.
    fn forget_run_directory(&self) {
        let run = self.path("run");
        let mut umount = std::process::Command::new("umount");
        // Nothing may be mounted there.
        output(umount.arg(&run));
        let mut mount = std::process::Command::new("mount");
        output(
            mount
                .args(["-t", "tmpfs", "-o", "mode=0700", "run"])
                .arg(run),
        )
        .expect_code(0);
    }

    /// Returns what an earlier boot has written down.
    fn told(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    /// Writes something down for the next boot.
    fn tell(&self, name: &str, text: &str) {
        let mut file = File::create(self.path(name)).expect("there is room");
        file.write_all(text.as_bytes()).expect("there is room");
        file.sync_all().expect("the disk is well");
        let directory = File::open(DISK).expect("it is mounted");
        directory.sync_all().expect("the disk is well");
    }

    fn agent(&self) -> Agent {
        Agent::start_in(Path::new(DISK), &Options::with(["--ring-sync", SYNC]))
    }
}

fn has_pstore() -> bool {
    if !Path::new("/modules/ramoops.ko").exists() {
        return false;
    }
    if Path::new("/modules/reed_solomon.ko").exists() {
        guest::load("reed_solomon", &[]);
    }
    let address = std::env::var("RECORDER_RESERVED").expect("it is on the kernel's command line");
    let address = format!("mem_address={address}");
    guest::load("ramoops", &[&[address.as_str()], &RAMOOPS[..]].concat());
    let mut mount = std::process::Command::new("mount");
    output(mount.args(["-t", "pstore", "pstore", "/sys/fs/pstore"])).expect_code(0);
    true
}

/// Records until the machine dies: by `die`, or by who runs it.
fn live(disk: &Disk, die: impl Fn()) -> ! {
    let agent = disk.agent();
    let _flood = Program::workload().start(["pace", "200", "600000"]);
    let exit = Program::workload().run(["exit", "41"]);
    // Whatever has been frozen is in the ring.
    agent.trigger("the exit is in the ring");
    let flushes = agent.status().number("twin.flushes");
    agent.wait_for_status("the exit is on the disk", |status| {
        status.number("twin.flushes") > flushes + 1
    });
    disk.tell("exit", &exit.pid().to_string());
    let begun = Instant::now();
    while begun.elapsed() < LIFE_MAX {
        say(&format!("alive {}", boot_ns()));
        if begun.elapsed() > LIFE {
            die();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("the machine was to die");
}

fn is_unclean(incident: &Json) -> bool {
    incident.get("rule") == Some(&"unclean-boot".into())
}

/// Checks what is there of the boot before this, and says it.
fn look_back(disk: &Disk, exit: &str) -> (Agent, Dump) {
    let agent = disk.agent();
    let dump = agent.dump_where("the unclean end", is_unclean);
    output(agent.recorder(["verify"]).arg(dump.path())).expect_code(0);
    let pid = exit.parse().expect("it was written down");
    dump.only("process.exit", pid).expect("body.exit_code", 41);
    let incident = dump.incident();
    assert!(
        incident
            .str("summary")
            .starts_with("unclean end of the previous boot"),
        "{incident}"
    );
    incident.expect("severity", "critical");
    let recovery = dump.metadata("recorder.recovery");
    assert!(recovery.str("ring").ends_with("state/ring"), "{recovery}");
    assert_ne!(
        recovery.str("boot_id"),
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .expect("procfs is mounted")
            .trim()
    );
    let flaws = recovery
        .get("flaws")
        .map_or(0, |flaws| flaws.as_array().map_or(0, Vec::len));
    say(&format!(
        "found {} {} {flaws}",
        incident.number("window_end_boot_ns"),
        dump.events().len()
    ));
    (agent, dump)
}

#[test]
fn the_last_window_outlives_a_panic() {
    if !ready(&[
        Need::Guest,
        Need::Power("panic"),
        Need::Root,
        Need::Btf,
        Need::Agent,
    ]) {
        return;
    }
    let disk = Disk::mount();
    let has_pstore = has_pstore();
    let Some(exit) = disk.told("exit") else {
        live(&disk, || {
            let _ = fs::write("/proc/sysrq-trigger", "c");
        });
    };
    if disk.told("ended").is_none() {
        let (mut agent, dump) = look_back(&disk, &exit);
        let evidence = dump.metadata("recorder.evidence");
        let collectors = evidence.get("collectors").and_then(|all| all.as_array());
        let names: Vec<&str> = collectors
            .expect("what was looked for is told")
            .iter()
            .filter(|one| one["state"] == "done")
            .filter_map(|one| one["attachment"].as_str())
            .collect();
        say(&format!("kept {}", names.join(" ")));
        if has_pstore {
            let record = names.iter().find(|name| name.starts_with("pstore-dmesg"));
            let record = record.unwrap_or_else(|| panic!("no record of the kernel in {evidence}"));
            let mut extract = agent.recorder(["extract", "-o", "-"]);
            let text = output(extract.arg(dump.path()).arg(record)).expect_code(0);
            assert!(text.text().contains("sysrq: Trigger a crash"), "{text}");
            let left = fs::read_dir("/sys/fs/pstore")
                .expect("it is mounted")
                .count();
            assert!(left > 0, "the kernel's records stay where they are");
        }
        // A proper end of this boot: what is on the disk then is not to be missed.
        agent.stop();
        disk.tell("ended", "");
        output(std::process::Command::new("reboot").arg("-f")).expect_code(0);
        std::thread::sleep(LIFE_MAX);
        panic!("the machine was to boot again");
    }
    let agent = disk.agent();
    agent.trigger("whatever was found is written");
    let incidents = agent.run(["list", "--all", "--json"]).json_lines();
    let rules: Vec<String> = incidents
        .iter()
        .map(|incident| incident.str("incident.rule").to_owned())
        .collect();
    let unclean = rules.iter().filter(|rule| *rule == "unclean-boot").count();
    assert_eq!(unclean, 1, "that of the panic alone: {rules:?}");
    assert!(
        rules.iter().all(|rule| !rule.starts_with("recorder-")),
        "{rules:?}"
    );
    say(&format!("clean {}", rules.len()));
}

#[test]
fn the_last_window_outlives_a_power_cut() {
    if !ready(&[
        Need::Guest,
        Need::Power("cut"),
        Need::Root,
        Need::Btf,
        Need::Agent,
    ]) {
        return;
    }
    let disk = Disk::mount();
    match disk.told("exit") {
        // Who runs the machine takes its power.
        None => live(&disk, || {}),
        Some(exit) => drop(look_back(&disk, &exit)),
    }
}
