//! Deaths, and what is behind them, in words.
//!
//! Names in them are as the kernel gave them: whoever shows the words escapes them.

use super::{Asked, Certificate, Child, Death, Deceased, Fatal, Party, SHELL_SIGNAL, Verdict};
use crate::event::{names, proto};
use crate::units::{bytes, duration};

/// Bits of the page-fault error code of x86-64.
const PAGE_FAULT_WRITE: u64 = 1 << 1;
const PAGE_FAULT_FETCH: u64 = 1 << 4;
/// Number of the page-fault trap of x86-64.
const PAGE_FAULT: u64 = 14;
/// Classes of aarch64's syndrome, which are its bits from here on: no instruction, or no data, could be had there.
const CLASS_SHIFT: u32 = 26;
const INSTRUCTION_ABORT: u64 = 0x20;
const DATA_ABORT: u64 = 0x24;
/// Bits of the syndrome of a data abort: it was to write; it was but for the cache.
const ABORT_WRITE: u64 = 1 << 6;
const ABORT_CACHE: u64 = 1 << 8;

const SIGHUP: u32 = 1;
const SIGINT: u32 = 2;
const SIGQUIT: u32 = 3;
const SIGABRT: u32 = 6;
const SIGKILL: u32 = 9;
const SIGPIPE: u32 = 13;
const SIGALRM: u32 = 14;
const SIGXCPU: u32 = 24;
const SIGXFSZ: u32 = 25;
const SIGVTALRM: u32 = 26;
const SIGPROF: u32 = 27;

/// Says which access failed: "write to 0x10", "read of 0x10", "jump to 0x10".
pub fn access(fatal: &proto::SignalFatal) -> Option<String> {
    let address = fatal.fault_address?;
    let how = match (fatal.trap_number, fatal.error_code) {
        (Some(PAGE_FAULT), Some(code)) if code & PAGE_FAULT_FETCH != 0 => "jump to",
        (Some(PAGE_FAULT), Some(code)) if code & PAGE_FAULT_WRITE != 0 => "write to",
        (Some(PAGE_FAULT), Some(_)) => "read of",
        (None, Some(syndrome)) => abort(syndrome),
        _ => "address",
    };
    Some(format!("{how} {address:#x}"))
}

/// Says the same of the syndrome of aarch64, which has no trap numbers.
fn abort(syndrome: u64) -> &'static str {
    match syndrome >> CLASS_SHIFT {
        INSTRUCTION_ABORT => "jump to",
        DATA_ABORT if syndrome & (ABORT_WRITE | ABORT_CACHE) == ABORT_WRITE => "write to",
        DATA_ABORT => "read of",
        _ => "address",
    }
}

/// Says in a sentence what a code means, where its name does not.
pub fn meaning(fatal: &proto::SignalFatal) -> Option<&'static str> {
    let code = fatal.code.as_ref()?;
    Some(match code.name.as_deref()? {
        "SEGV_MAPERR" => "nothing is mapped at that address",
        "SEGV_ACCERR" => "the mapping at that address does not allow it",
        "SEGV_PKUERR" => "a protection key forbids it",
        "SEGV_CPERR" => "the return address is not the one that was called from",
        "SEGV_MTEAERR" | "SEGV_MTESERR" => "the memory tag does not match",
        "BUS_ADRERR" => "the mapping has no memory behind that address (a file cut short?)",
        "BUS_ADRALN" => "the address is not aligned",
        "BUS_MCEERR_AR" | "BUS_MCEERR_AO" => "the memory itself is broken",
        "FPE_INTDIV" => "an integer was divided by zero",
        "FPE_INTOVF" => "an integer overflowed",
        "FPE_FLTDIV" => "a floating-point number was divided by zero",
        "ILL_ILLOPC" | "ILL_ILLOPN" => "the processor does not know the instruction",
        "ILL_PRVOPC" => "the instruction is for the kernel only",
        "SYS_SECCOMP" => "a seccomp filter forbids the system call",
        "TRAP_BRKPT" => "a breakpoint without a debugger",
        "SI_KERNEL" if is_sent_by_kernel(fatal) => return None,
        "SI_KERNEL" => "the processor reported no address (one that cannot exist?)",
        "SI_USER" | "SI_QUEUE" if is_own(fatal) => "the process sent it to itself",
        "SI_USER" | "SI_QUEUE" => "a process sent it",
        "SI_TKILL" if is_own(fatal) => "the process raised it itself: abort, or a failed assertion",
        "SI_TKILL" => "a process sent it to this thread",
        _ => return None,
    })
}

/// Tells whether the process was its own sender, as with abort().
fn is_own(fatal: &proto::SignalFatal) -> bool {
    let pid = fatal.process.as_ref().and_then(|process| process.pid);
    let sender = fatal.sender.as_ref().and_then(|sender| sender.pid);
    sender.is_none_or(|sender| Some(sender) == pid)
}

/// Tells whether the kernel sent the signal as a process would, and not for a fault.
fn is_sent_by_kernel(fatal: &proto::SignalFatal) -> bool {
    fatal.sender.as_ref().is_some_and(proto::Sender::kernel)
}

/// Writes "nginx\[812\]" of what is known of both.
pub fn named(comm: Option<&str>, pid: Option<u32>) -> String {
    let comm = comm.unwrap_or("process");
    match pid {
        Some(pid) => format!("{comm}[{pid}]"),
        None => comm.to_owned(),
    }
}

/// Writes who asked a process to end, and what came of it: "SIGTERM from systemd\[1\] 12 ms before (ignored)".
pub fn asked(asked: &Asked) -> String {
    let mut text = format!("{} from {}", asked.signal, party(&asked.by));
    if let Some(before) = asked.before_ns {
        text += &format!(" {} before", duration(before));
    }
    text + reception(asked)
}

fn reception(asked: &Asked) -> &'static str {
    match asked.reception.as_deref() {
        Some("handled") => " (handled)",
        Some("ignored") => " (ignored)",
        Some("blocked") => " (blocked)",
        _ => "",
    }
}

fn party(party: &Party) -> String {
    let name = named(party.comm.as_deref(), party.pid);
    match party.kernel {
        true => format!("the kernel, in {name}"),
        false => name,
    }
}

fn signal_name(signal: &proto::Signal) -> String {
    let name = signal.name.clone();
    name.unwrap_or_else(|| format!("signal {}", signal.number()))
}

impl Death {
    /// Certifies the death; `exit` is the event it was made from.
    pub fn certify(&self, exit: &proto::ProcessExit) -> Certificate {
        let process = exit.process.clone().unwrap_or_default();
        let number = exit.signal.as_ref().map(proto::Signal::number);
        let fatal = number.and_then(|number| self.joined.fatal_by(number));
        let status = number.map_or(exit.exit_code(), |number| SHELL_SIGNAL + number);
        let asked = self.asked(fatal, exit);
        let (verdict, words) = match (number, &exit.signal) {
            (Some(number), Some(signal)) => {
                let found = self.verdict(number, fatal, process.pid);
                let telling = Telling {
                    death: self,
                    exit,
                    number,
                    signal: signal_name(signal),
                    fatal,
                    asked: asked.as_ref(),
                };
                (found, telling.words(found))
            }
            _ if status == 0 => (Verdict::Exit, self.own_exit(status, asked.as_ref())),
            _ => (Verdict::ExitFailure, self.own_exit(status, asked.as_ref())),
        };
        let sender = fatal
            .and_then(|fatal| fatal.signal.sender.as_ref())
            .filter(|sender| sender.pid != process.pid || sender.kernel());
        Certificate {
            process: Deceased::from(&process),
            unix_ns: self.unix_ns,
            verdict,
            text: words,
            status,
            signal: exit.signal.as_ref().map(signal_name),
            sender: sender.map(Party::from),
            asked,
            lifetime_ns: exit.lifetime_ns,
            order: self.order,
            cause: self.cause,
        }
    }

    fn verdict(&self, number: u32, fatal: Option<&Fatal>, pid: Option<u32>) -> Verdict {
        if number == SIGKILL && self.joined.oom.is_some() {
            return Verdict::OomKill;
        }
        let Some(fatal) = fatal.map(|fatal| &fatal.signal) else {
            return Verdict::Signal;
        };
        let code = fatal.code.as_ref().and_then(|code| code.name.as_deref());
        match &fatal.sender {
            _ if code == Some("SYS_SECCOMP") => Verdict::Seccomp,
            _ if fatal.reraised() => Verdict::Fault,
            Some(sender) if sender.kernel() => {
                match sender.exiting() && sender.init() && number == SIGKILL {
                    true => Verdict::NamespaceEnded,
                    false => Verdict::Kernel,
                }
            }
            Some(sender) if sender.pid == pid => match number {
                SIGABRT => Verdict::Abort,
                _ => Verdict::OwnSignal,
            },
            Some(sender) if sender.exiting() => Verdict::ParentDied,
            Some(_) => Verdict::Killed,
            None if fatal.code.as_ref().is_some_and(|code| code.number() > 0) => Verdict::Fault,
            None => Verdict::Signal,
        }
    }

    /// Returns who asked the process to end before it did.
    fn asked(&self, fatal: Option<&Fatal>, exit: &proto::ProcessExit) -> Option<Asked> {
        let asked = |request: &proto::Request, before_ns: Option<u64>| {
            Some(Asked {
                signal: request.signal.as_ref().map(signal_name)?,
                by: request.sender.as_ref().map(Party::from)?,
                before_ns,
                reception: request.reception.clone(),
            })
        };
        if let Some(fatal) = fatal {
            let request = fatal.signal.asked.as_ref()?;
            let died = fatal.signal.sender.as_ref()?.boot_ns?;
            let before = died.saturating_sub(request.sender.as_ref()?.boot_ns?);
            // A daemon that is told to read its configuration anew is not asked to end.
            let is_hangup = request.signal.as_ref()?.number == Some(SIGHUP);
            return asked(request, Some(before)).filter(|_| !is_hangup);
        }
        let (_, sent) = &**self.joined.asked.as_ref()?;
        let request = proto::Request {
            signal: sent.signal.clone(),
            sender: sent.sender.clone(),
            reception: sent.reception.clone(),
        };
        super::is_to_end(sent)
            .then(|| asked(&request, since(sent, exit)))
            .flatten()
    }

    fn own_exit(&self, status: u32, asked: Option<&Asked>) -> String {
        let mut text = format!("Exit {status}");
        let number = status.checked_sub(SHELL_SIGNAL);
        let as_signal = number
            .filter(|number| *number > 0)
            .and_then(names::signal_name);
        match (&as_signal, status) {
            (Some(_), _) => text += " by its own exit(), not a signal",
            (None, 0) => {}
            (None, _) => text += " by its own exit()",
        }
        if let (Some(Child { comm, pid, .. }), Some(signal)) = (&self.child, &as_signal) {
            let child = named(comm.as_deref(), *pid);
            text += &format!(": it passes on the {signal} of its child {child}");
        }
        if let Some(asked) = asked {
            let before = duration(asked.before_ns.unwrap_or(0));
            text += &format!(
                ", {before} after {} from {}",
                asked.signal,
                party(&asked.by)
            );
        }
        text
    }
}

/// Returns the time from a request to an exit.
fn since(sent: &proto::SignalSent, exit: &proto::ProcessExit) -> Option<u64> {
    let asked = sent.sender.as_ref()?.boot_ns?;
    let ended = exit.process.as_ref()?.start_boot_ns? + exit.lifetime_ns?;
    Some(ended.saturating_sub(asked))
}

/// What a death by signal is told from.
struct Telling<'a> {
    death: &'a Death,
    exit: &'a proto::ProcessExit,
    number: u32,
    signal: String,
    fatal: Option<&'a Fatal>,
    asked: Option<&'a Asked>,
}

impl Telling<'_> {
    fn words(&self, verdict: Verdict) -> String {
        let status = SHELL_SIGNAL + self.number;
        let mut text = format!("Exit {status}");
        let is_kill = self.number == SIGKILL;
        if is_kill && !matches!(verdict, Verdict::OomKill | Verdict::Signal) {
            text += ", not OOM";
        }
        text += &match verdict {
            Verdict::OomKill => self.oom(),
            Verdict::Fault => self.fault(),
            Verdict::Abort => format!(": {} by its own abort() or failed assertion", self.signal),
            Verdict::Seccomp => self.seccomp(),
            Verdict::Killed => self.killed(),
            Verdict::ParentDied => self.parent_died(),
            Verdict::NamespaceEnded => format!(
                ": its pid namespace ended with its init {}",
                self.sender_name()
            ),
            Verdict::Kernel => self.kernel(),
            Verdict::OwnSignal => self.own(),
            Verdict::Signal | Verdict::Exit | Verdict::ExitFailure => {
                format!(": {}, sent by whom is not in the dump", self.signal)
            }
        };
        if self.exit.core_dumped() {
            text += ", core dumped";
        }
        text
    }

    fn oom(&self) -> String {
        let Some(oom) = &self.death.joined.oom else {
            return String::new();
        };
        let kill = &oom.1;
        let resident = [
            kill.anon_rss_bytes(),
            kill.file_rss_bytes(),
            kill.shmem_rss_bytes(),
        ];
        let resident = resident.into_iter().fold(0, u64::saturating_add);
        let mut text = format!(
            ", OOM: the kernel killed it for memory, {} resident",
            bytes(resident)
        );
        match (&kill.memory_cgroup, kill.memory_cgroup_id) {
            (Some(path), _) => text += &format!(", in memory cgroup {path}"),
            (None, Some(id)) => text += &format!(", in memory cgroup {id}"),
            (None, None) => {}
        }
        let own = self.exit.process.as_ref().and_then(|process| process.pid);
        if let Some(trigger) = kill.trigger.as_ref().filter(|other| other.pid != own) {
            let trigger = named(trigger.comm.as_deref(), trigger.pid);
            text += &format!(", when {trigger} asked for more");
        }
        text
    }

    fn fault(&self) -> String {
        let mut text = format!(": {}", self.signal);
        let Some(fatal) = self.fatal else { return text };
        let code = fatal.signal.code.as_ref();
        if let Some(code) = code.and_then(|code| code.name.as_deref()) {
            text += &format!(" ({code})");
        }
        if let Some(access) = access(&fatal.signal) {
            text += &format!(", {access}");
        }
        if let Some(meaning) = meaning(&fatal.signal) {
            text += &format!(": {meaning}");
        }
        if let Some(symbol) = fatal.place.as_ref().and_then(|frame| frame.symbol.as_ref()) {
            text += &format!("; in {symbol}");
        }
        if fatal.signal.reraised() {
            text += "; its own handler took it and raised it again";
        }
        text
    }

    fn seccomp(&self) -> String {
        let call = match self.fatal.and_then(|fatal| fatal.system_call) {
            Some(number) => format!("system call {number}"),
            None => "a system call".to_owned(),
        };
        format!(": {}: a seccomp filter forbids {call}", self.signal)
    }

    fn killed(&self) -> String {
        let Some(sender) = self.sender() else {
            return format!(": {}", self.signal);
        };
        let parent = self.exit.process.as_ref().and_then(|process| process.ppid);
        let role = match sender.pid.is_some() && sender.pid == parent {
            true => "its parent ",
            false => "",
        };
        let mut text = format!(": {} from {role}{}", self.signal, self.sender_name());
        let uid = self.exit.process.as_ref().and_then(|process| process.uid);
        if let Some(other) = sender
            .uid
            .filter(|other| *other != 0 && Some(*other) != uid)
        {
            text += &format!(" (uid {other})");
        }
        if let Some(asked) = self.asked {
            let before = duration(asked.before_ns.unwrap_or(0));
            text += &match asked.by.pid == sender.pid && !asked.by.kernel {
                true => format!(" {before} after its {}", asked.signal),
                false => format!(" {before} after {} from {}", asked.signal, party(&asked.by)),
            };
            text += reception(asked);
        }
        text
    }

    fn parent_died(&self) -> String {
        let parent = self.sender_name();
        let ended = match self.fatal.is_some_and(|fatal| fatal.sender_ended) {
            true => format!("its parent {parent} ended"),
            false => format!("the thread of {parent} that had started it ended"),
        };
        let signal = &self.signal;
        format!(": {ended}, and it had asked for {signal} then (PR_SET_PDEATHSIG)")
    }

    /// Says why the kernel sends a signal as a process would.
    fn kernel(&self) -> String {
        let signal = &self.signal;
        let exiting = self.sender().is_some_and(proto::Sender::exiting);
        match self.number {
            SIGHUP if exiting => format!(
                ": {signal}: {}, which led its session or held its process group, ended",
                self.sender_name()
            ),
            SIGHUP => format!(": {signal}: its terminal went away"),
            SIGINT => format!(": {signal} from its terminal: Ctrl-C"),
            SIGQUIT => format!(": {signal} from its terminal: Ctrl-\\"),
            SIGXCPU => format!(": {signal}: it used more CPU time than its limit (RLIMIT_CPU)"),
            SIGALRM | SIGVTALRM | SIGPROF => {
                format!(": {signal}: a timer of its own ran out (alarm, setitimer)")
            }
            SIGKILL => {
                ": SIGKILL from the kernel itself; no OOM kill of it is in the dump".to_owned()
            }
            _ => format!(": {signal} from the kernel itself"),
        }
    }

    fn own(&self) -> String {
        let signal = &self.signal;
        match self.number {
            SIGPIPE => {
                format!(": {signal}: it wrote to a pipe or socket that nobody reads any more")
            }
            SIGXFSZ => format!(": {signal}: it wrote beyond its file-size limit (RLIMIT_FSIZE)"),
            _ => format!(": {signal}, which it sent to itself"),
        }
    }

    fn sender(&self) -> Option<&proto::Sender> {
        self.fatal?.signal.sender.as_ref()
    }

    fn sender_name(&self) -> String {
        let sender = self.sender();
        named(
            sender.and_then(|sender| sender.comm.as_deref()),
            sender.and_then(|sender| sender.pid),
        )
    }
}
