//! The kernel: its types, its programs, its settings.

use super::{Check, State, line};
use crate::dump::{Probe, ProbeState};
use crate::kernel::{self, Kernel, Rates};
use crate::sample;
use crate::sandbox::{self, Enforced, SandboxError};
use crate::units::bytes;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check::judge(
            "kernel",
            kernel::kernel().map(|release| format!("Linux {release}")),
        ),
        Check::judge(
            "type information",
            kernel::type_information().map(|()| "the kernel shows its types".to_owned()),
        ),
        Check::judge(
            "BPF object",
            kernel::embedded().map(|object| format!("built in, {}", bytes(object.len() as u64))),
        ),
    ];
    let privileges = kernel::privileges();
    let privileged = privileges.is_ok();
    checks.push(Check::judge(
        "privileges",
        privileges.map(|()| "this user may load BPF programs".to_owned()),
    ));
    let first = checks.iter().take(3);
    if first.clone().all(|check| check.state == State::Pass) {
        checks.extend(probes(privileged));
    }
    checks.extend(sample::plan().iter().map(|probe| of_probe(probe, true)));
    checks.push(readers(sandbox::probe()));
    checks.extend(lockdown(line("/sys/kernel/security/lockdown").as_deref()));
    checks.extend(compiler(
        line("/proc/sys/net/core/bpf_jit_enable").as_deref(),
    ));
    checks.extend(hung_tasks(
        line("/proc/sys/kernel/hung_task_timeout_secs").as_deref(),
    ));
    checks.extend(panics(line("/proc/sys/vm/panic_on_oom").as_deref()));
    checks.extend(kernel_log(
        line("/proc/sys/kernel/printk_devkmsg").as_deref(),
    ));
    checks
}

/// Attaches every probe for a moment, or, without privileges, says what the kernel's types promise.
fn probes(privileged: bool) -> Vec<Check> {
    let found = if privileged {
        Kernel::load(Rates::ANY)
            .map(|kernel| kernel.probes)
            .map_err(anyhow::Error::from)
    } else {
        kernel::plan().map_err(anyhow::Error::from)
    };
    match found {
        Ok(probes) => probes
            .iter()
            .map(|probe| of_probe(probe, privileged))
            .collect(),
        Err(error) => vec![Check::fail(
            "probes",
            format!("{error:#}"),
            "report this with the kernel's release: the programs were refused",
        )],
    }
}

fn of_probe(probe: &Probe, attached: bool) -> Check {
    let event = probe.event.as_str();
    let detail = probe.detail.clone().unwrap_or_default();
    let hook = &probe.hook;
    match probe.state {
        ProbeState::Attached if attached => Check::pass(event, format!("{hook} attaches")),
        ProbeState::Attached => Check::pass(
            event,
            format!("{hook} exists; not tried without privileges"),
        ),
        ProbeState::Fallback => Check::warn(
            event,
            format!("{hook} instead: {detail}"),
            "nothing to do: it is recorded; a newer kernel says more",
        ),
        ProbeState::Unavailable => {
            let remedy = match detail.contains("CAP_") {
                true => "give the recorder that capability; everything else is recorded",
                false => "a newer kernel may have it; everything else is recorded",
            };
            Check::warn(event, format!("not recorded: {detail}"), remedy)
        }
    }
}

/// What readers of dumps give up before they open one.
fn readers(enforced: Result<Enforced, SandboxError>) -> Check {
    let remedy = "a dump from a stranger is better read on a machine that can";
    match enforced {
        Ok(Enforced::Wholly) => Check::pass("readers", "they write to their output alone"),
        Ok(Enforced::InPart) => Check::pass(
            "readers",
            "they write to their output alone, as far as this kernel has rules for it",
        ),
        Ok(Enforced::CallsOnly) => Check::warn(
            "readers",
            "this kernel has no Landlock: they give up system calls, and may write to files",
            remedy,
        ),
        Err(error) => Check::warn("readers", format!("they do not read: {error}"), remedy),
    }
}

/// The lockdown of the kernel: "none [integrity] confidentiality".
fn lockdown(text: Option<&str>) -> Option<Check> {
    let mode = text?.split(['[', ']']).nth(1)?;
    Some(match mode {
        "confidentiality" => Check::fail(
            "lockdown",
            "the kernel is locked down for confidentiality: BPF programs may not read its memory",
            "boot with lockdown=integrity, or without lockdown",
        ),
        _ => Check::pass("lockdown", format!("{mode}: BPF programs may read")),
    })
}

fn compiler(text: Option<&str>) -> Option<Check> {
    let is_off = text? == "0";
    is_off.then(|| {
        Check::warn(
            "BPF compiler",
            "programs are interpreted: each event costs several times what it should",
            "sysctl net.core.bpf_jit_enable=1",
        )
    })
}

fn hung_tasks(text: Option<&str>) -> Option<Check> {
    Some(match text? {
        "0" => Check::warn(
            "hung tasks",
            "the kernel does not look for them: task.hung is never recorded",
            "sysctl kernel.hung_task_timeout_secs=120",
        ),
        seconds => Check::pass("hung tasks", format!("reported after {seconds} s")),
    })
}

fn panics(text: Option<&str>) -> Option<Check> {
    (text? != "0").then(|| {
        Check::warn(
            "memory",
            "the kernel panics when memory runs out: the window in memory is lost with it",
            "sysctl vm.panic_on_oom=0, so that a process is killed and the window is kept",
        )
    })
}

fn kernel_log(text: Option<&str>) -> Option<Check> {
    (text? == "off").then(|| {
        Check::warn(
            "kernel log",
            "programs may not write to /dev/kmsg: only the kernel's own lines are there",
            "sysctl kernel.printk_devkmsg=ratelimit, if theirs are wanted",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_hides_its_memory_cannot_be_recorded() {
        let state = |text| lockdown(Some(text)).map(|check| check.state);
        assert_eq!(state("none integrity [confidentiality]"), Some(State::Fail));
        assert_eq!(state("none [integrity] confidentiality"), Some(State::Pass));
        assert_eq!(state("nonsense"), None);
        assert!(lockdown(None).is_none());
    }

    #[test]
    fn settings_that_blind_are_told_with_their_remedy() {
        for check in [
            compiler(Some("0")),
            hung_tasks(Some("0")),
            panics(Some("2")),
        ] {
            let check = check.expect("it is worth a word");
            assert_eq!(check.state, State::Warn);
            let remedy = check.remedy.expect("there is one");
            assert!(remedy.contains("sysctl"), "{remedy}");
        }
        assert!(compiler(Some("1")).is_none());
        assert!(panics(Some("0")).is_none());
    }
}
