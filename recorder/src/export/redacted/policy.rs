//! What goes, and what it becomes.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::event::{Body, proto};
use crate::export::Origin;

/// What stands for a text that is gone.
const GONE: &str = "redacted";

/// What is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Arguments of programs.
    pub arguments: bool,
    /// Names and paths.
    pub names: bool,
    /// Addresses.
    pub addresses: bool,
}

/// Removes it.
#[derive(Debug)]
pub struct Redactor {
    policy: Policy,
    /// Makes pseudonyms that nobody can look up.
    salt: [u8; 32],
}

impl Redactor {
    /// Makes one whose pseudonyms are its own.
    pub fn new(policy: Policy) -> Self {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(Uuid::now_v7().as_bytes());
        salt[16..].copy_from_slice(Uuid::now_v7().as_bytes());
        Self { policy, salt }
    }

    /// Removes it from what all events have in common.
    pub fn origin(&self, origin: &mut Origin) {
        if let Some(host) = origin.host.as_mut().filter(|_| self.policy.names) {
            host.hostname = self.pseudonym("host", &host.hostname);
            host.environment = host
                .environment
                .as_ref()
                .map(|name| self.pseudonym("environment", name));
            host.machine_id = None;
            host.boot_id = self.id(&host.boot_id);
        }
        if let Some(incident) = &mut origin.incident {
            incident.summary = format!("{}, {GONE}", incident.rule);
            incident.reason = incident.reason.as_ref().map(|_| GONE.to_owned());
            // It is of a path or an address, and equal for equal failures all the same.
            incident.fingerprint = self.pseudonym("fingerprint", &incident.fingerprint);
            self.name("comm", &mut incident.subject.comm);
        }
    }

    /// Removes it from an event.
    pub fn body(&self, body: &mut Body) {
        if let Some(process) = body.process_mut() {
            self.process(process);
        }
        match body {
            Body::ProcessExec(exec) => {
                self.name("path", &mut exec.filename);
                if self.policy.arguments && !exec.argv.is_empty() {
                    for argument in &mut exec.argv {
                        *argument = "*".to_owned();
                    }
                    exec.redacted = Some(true);
                }
            }
            Body::SignalFatal(fatal) => self.fatal(fatal),
            Body::SignalSent(sent) => self.sender(&mut sent.sender),
            Body::OomKill(kill) => {
                self.processes(kill.trigger.as_mut());
                self.name("cgroup", &mut kill.memory_cgroup);
            }
            Body::CgroupMkdir(cgroup) | Body::CgroupRmdir(cgroup) => {
                self.name("cgroup", &mut cgroup.path);
                self.name("unit", &mut cgroup.unit);
                self.name("container", &mut cgroup.container_id);
                self.name("pod", &mut cgroup.pod_uid);
            }
            Body::SampleProcess(sample) => {
                for usage in &mut sample.top {
                    self.processes(usage.process.as_mut());
                }
            }
            Body::SampleCgroup(sample) => {
                for cgroup in &mut sample.top {
                    self.name("cgroup", &mut cgroup.path);
                }
            }
            Body::KernelLog(log) => {
                log.text = log.text.as_ref().map(|_| GONE.to_owned());
                log.raw = None;
            }
            Body::Note(note) => note.text = note.text.as_ref().map(|_| GONE.to_owned()),
            Body::Unknown(unknown) => unknown.record = None,
            Body::SampleSystem(sample) => {
                for interface in &mut sample.interfaces {
                    self.name("interface", &mut interface.name);
                }
            }
            Body::MachineCheck(check) => {
                if self.policy.addresses {
                    check.ip = None;
                }
            }
            Body::ProcessExit(_)
            | Body::IoError(_)
            | Body::WritebackError(_)
            | Body::TaskHung(_)
            | Body::MemoryFailure(_)
            | Body::Loss(_) => {}
        }
    }

    fn fatal(&self, fatal: &mut proto::SignalFatal) {
        self.sender(&mut fatal.sender);
        if let Some(asked) = &mut fatal.asked {
            self.sender(&mut asked.sender);
        }
        // Memory may hold any of it.
        fatal.stack_memory = None;
        if self.policy.addresses {
            fatal.fault_address = None;
            fatal.ip = None;
            fatal.sp = None;
            fatal.registers.clear();
            fatal.stack_memory_address = None;
            fatal.fs_base = None;
            fatal.gs_base = None;
        }
        for frame in fatal.stack.iter_mut().chain(&mut fatal.unwound_stack) {
            if self.policy.addresses {
                frame.address = None;
            }
            self.name("path", &mut frame.module);
            self.name("path", &mut frame.file);
            for inlined in &mut frame.inlined {
                self.name("path", &mut inlined.file);
            }
        }
        for mapping in &mut fatal.mappings {
            if self.policy.addresses {
                mapping.start = None;
                mapping.end = None;
            }
            self.name("path", &mut mapping.path);
        }
    }

    fn processes(&self, process: Option<&mut proto::Process>) {
        if let Some(process) = process {
            self.process(process);
        }
    }

    fn process(&self, process: &mut proto::Process) {
        self.name("comm", &mut process.comm);
        self.name("path", &mut process.exe);
        self.name("cgroup", &mut process.cgroup);
        self.name("unit", &mut process.unit);
        self.name("container", &mut process.container_id);
        self.name("pod", &mut process.pod_uid);
        self.name("user", &mut process.user);
        for parent in &mut process.parents {
            self.name("comm", &mut parent.comm);
            self.name("path", &mut parent.exe);
        }
    }

    fn sender(&self, sender: &mut Option<proto::Sender>) {
        if let Some(sender) = sender {
            self.name("comm", &mut sender.comm);
        }
    }

    fn name(&self, kind: &str, name: &mut Option<String>) {
        if let Some(name) = name.as_mut().filter(|_| self.policy.names) {
            *name = self.pseudonym(kind, name);
        }
    }

    /// Returns what stands for a name: the same for the same one.
    fn pseudonym(&self, kind: &str, name: &str) -> String {
        let digest = self.digest(name);
        let digits: String = digest[..5]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{kind}-{digits}")
    }

    /// Returns what stands for a UUID.
    fn id(&self, id: &str) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.digest(id)[..16]);
        Uuid::from_bytes(bytes).hyphenated().to_string()
    }

    fn digest(&self, text: &str) -> [u8; 32] {
        let digest = Sha256::new().chain_update(self.salt).chain_update(text);
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Policy = Policy {
        arguments: true,
        names: true,
        addresses: true,
    };

    fn crash() -> Body {
        Body::SignalFatal(proto::SignalFatal {
            process: Some(proto::Process {
                pid: Some(7),
                comm: Some("secret-comm".into()),
                exe: Some("/secret/exe".into()),
                parents: vec![proto::Ancestor {
                    comm: Some("secret-parent".into()),
                    ..proto::Ancestor::default()
                }],
                ..proto::Process::default()
            }),
            ip: Some(0xdead_beef),
            registers: vec![proto::Register {
                name: Some("rip".into()),
                value: Some(0xdead_beef),
            }],
            stack: vec![proto::Frame {
                address: Some(0xdead_beef),
                build_id: Some("abcd".into()),
                offset: Some(0x10),
                module: Some("/secret/exe".into()),
                ..proto::Frame::default()
            }],
            stack_memory: Some(b"secret".to_vec()),
            ..proto::SignalFatal::default()
        })
    }

    #[test]
    fn what_is_named_by_the_policy_goes_and_what_it_is_made_of_stays() {
        let mut body = crash();
        Redactor::new(ALL).body(&mut body);
        let text = format!("{body:?}");
        for secret in ["secret", &0xdead_beef_u64.to_string()] {
            assert!(!text.contains(secret), "{text}");
        }
        let Body::SignalFatal(fatal) = body else {
            panic!("it is what it was");
        };
        assert_eq!(fatal.stack[0].build_id(), "abcd");
        assert_eq!(fatal.stack[0].offset(), 0x10);
        // One name is one pseudonym.
        let exe = fatal.process.expect("there").exe;
        assert_eq!(exe, fatal.stack[0].module);
    }

    #[test]
    fn memory_goes_whatever_the_policy() {
        let mut body = crash();
        let none = Policy {
            arguments: true,
            names: false,
            addresses: false,
        };
        Redactor::new(none).body(&mut body);
        let Body::SignalFatal(fatal) = body else {
            panic!("it is what it was");
        };
        assert_eq!(fatal.stack_memory, None);
        assert_eq!(fatal.ip, Some(0xdead_beef));
    }

    #[test]
    fn another_copy_has_other_pseudonyms() {
        let name = |redactor: &Redactor| redactor.pseudonym("comm", "nginx");
        let (one, other) = (Redactor::new(ALL), Redactor::new(ALL));
        assert_eq!(name(&one), name(&one));
        assert_ne!(name(&one), name(&other));
    }
}
