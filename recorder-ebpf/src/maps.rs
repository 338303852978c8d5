//! Every map of the object.

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use recorder_ebpf::abi::{
    ARGV_BYTES_MAX, EXE_BYTES_MAX, Exec, FAULTS_MAX, FILENAME_BYTES_MAX, LaneStats, MAPPINGS_MAX,
    Mapping, REGISTERS_MAX, SENDERS_MAX, STACK_MEMORY_BYTES_MAX, SWITCHES_MAX, Sender, SignalFatal,
    Switch, THROTTLES_MAX, TURNS_MAX, Throttle, ThrottleKey,
};
use recorder_ebpf::fields::DISPLACEMENT_MARK;

use crate::turn::SEEN_MAX;

/// Default size of the failure lane's ring, for some 200 crashes with all of their stack before the reader's first look;
/// the agent may set another before it loads.
const FAILURE_RING_BYTES: usize = 4 << 20;
/// Default size of the lifecycle lane's ring.
const LIFECYCLE_RING_BYTES: usize = 4 << 20;

/// Records of the failure lane.
#[btf_map]
pub static FAILURE_RING: RingBuf<u8, FAILURE_RING_BYTES> = RingBuf::new();

/// Records of the lifecycle lane.
#[btf_map]
pub static LIFECYCLE_RING: RingBuf<u8, LIFECYCLE_RING_BYTES> = RingBuf::new();

/// What this CPU attempted and lost, by lane.
#[btf_map]
pub static LANE_STATS: PerCpuArray<LaneStats, 2> = PerCpuArray::new();

/// Who last sent a deadly signal to a process, by the target's tgid.
#[btf_map]
pub static SENDERS: LruHashMap<u32, Sender, { SENDERS_MAX as usize }> = LruHashMap::new();

/// Who last asked a process to end by a signal that it may decline, by the target's tgid.
#[btf_map]
pub static ASKED: LruHashMap<u32, Sender, { SENDERS_MAX as usize }> = LruHashMap::new();

/// The last fault that a handler took, by the thread.
#[btf_map]
pub static FAULTS: LruHashMap<u32, Fault, { FAULTS_MAX as usize }> = LruHashMap::new();

/// Where a fault is put together: too large for the stack.
#[btf_map]
pub static FAULT_SCRATCH: PerCpuArray<Fault, 1> = PerCpuArray::new();

/// Where the mappings of a crash are put together.
#[btf_map]
pub static MAPPINGS: PerCpuArray<Mappings, 1> = PerCpuArray::new();

/// Processes whose fatal signal is recorded: the rest of their threads have nothing to add.
#[btf_map]
pub static DYING: LruHashMap<Process, u8, 1024> = LruHashMap::new();

/// Processes of several threads whose end is recorded: the last of their threads may leave together.
#[btf_map]
pub static ENDED: LruHashMap<Process, u8, 1024> = LruHashMap::new();

/// What the first of two programs at a tracepoint has looked at: see [`crate::turn`].
#[btf_map]
pub static SEEN: Array<u64, SEEN_MAX> = Array::new();

/// How much the second of two programs has taken, by [`Turns`](recorder_ebpf::abi::Turns).
#[btf_map]
pub static TAKEN: Array<u64, TURNS_MAX> = Array::new();

/// Where a death is put together.
#[btf_map]
pub static DEATH: PerCpuArray<Death, 1> = PerCpuArray::new();

/// Where an exec is put together, by whose turn it is.
#[btf_map]
pub static EXECUTED: PerCpuArray<Executed, 2> = PerCpuArray::new();

/// What threads used, by who adds it up.
#[btf_map]
pub static THREADS: PerCpuArray<Threads, 3> = PerCpuArray::new();

/// What cgroups wrote of late, where they are held to a rate.
#[btf_map]
pub static THROTTLES: HashMap<ThrottleKey, Throttle, THROTTLES_MAX> = HashMap::new();

/// What the agent tells the probes while they run, by [`Switch`](recorder_ebpf::abi::Switch).
#[btf_map]
pub static SWITCHES: Array<u32, SWITCHES_MAX> = Array::new();

/// Returns what the agent says of this now.
#[inline(always)]
pub fn switch(which: Switch) -> u32 {
    match SWITCHES.get_ptr(which as u32) {
        // SAFETY: a value of the map, readable while the program runs. The agent changes it at any time: it is read once.
        Some(value) => unsafe { value.read_volatile() },
        None => 0,
    }
}

const _: () = {
    // No load from these has a displacement that would be taken for the number of a field.
    let mark = DISPLACEMENT_MARK as usize;
    assert!(
        size_of::<Death>() < mark && size_of::<Mappings>() < mark && size_of::<Executed>() < mark
    );
    assert!(
        size_of::<LaneStats>() < mark && size_of::<Fault>() < mark && size_of::<Threads>() < mark
    );
};

/// A process, uniquely.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Process {
    /// When it started, in nanoseconds since boot.
    pub start_boot_ns: u64,
    /// Its tgid.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// A fault as the thread met it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Fault {
    /// When the process started, in nanoseconds since boot.
    pub start_boot_ns: u64,
    /// `si_addr`.
    pub address: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// The hardware's error code.
    pub error_code: u64,
    /// The hardware's trap number.
    pub trap_number: u64,
    /// `si_signo`.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// User registers, in the kernel's order.
    pub registers: [u64; REGISTERS_MAX],
}

/// The record of a death, and what is known of it before: too large for the stack, and one path for the verifier, whatever
/// the record's length.
#[repr(C)]
pub struct Death {
    /// The signal's information, if it is what ends the process.
    pub info: SigInfo,
    /// Signal that is delivered.
    pub delivered: u32,
    /// Signal that ends the process.
    pub signal: u32,
    /// The record.
    pub record: SignalFatal,
    /// The stack that follows it, and the mappings behind that.
    pub stack: [u64; STACK_MEMORY_BYTES_MAX / 8],
    /// Room for the mappings behind the longest stack.
    pub mappings: [Mapping; MAPPINGS_MAX],
}

/// The beginning of a `siginfo_t`, the same on all 64-bit kernels.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct SigInfo {
    /// `si_signo`.
    pub signo: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// Nothing.
    pub padding: i32,
    /// `si_addr` of a fault; `si_pid` and `si_uid` of a signal that was sent.
    pub first: u64,
}

/// Room for both paths and the arguments of an exec: a power of two, so that a mask bounds what is in it.
pub const EXEC_STRINGS_BYTES: usize =
    (EXE_BYTES_MAX + FILENAME_BYTES_MAX + ARGV_BYTES_MAX).next_power_of_two();

/// The record of an exec, and what its path is found by.
#[repr(C)]
pub struct Executed {
    /// Address of the executable's dentry.
    pub dentry: u64,
    /// Address of the mount that it lies in, as its users see it.
    pub mount: u64,
    /// The record.
    pub record: Exec,
    /// The paths and arguments that follow it.
    pub strings: [u8; EXEC_STRINGS_BYTES],
}

/// A walk over the threads of a process, and what they used so far.
#[derive(Default)]
#[repr(C)]
pub struct Threads {
    /// Address of the list.
    pub head: u64,
    /// Address of the next thread's place in it.
    pub next: u64,
    /// CPU time in user mode, in nanoseconds, by ticks.
    pub user_ns: u64,
    /// CPU time in kernel mode, in nanoseconds, by ticks.
    pub system_ns: u64,
    /// CPU time in nanoseconds, exactly.
    pub runtime_ns: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
    /// Page faults served without I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Times a thread gave up the CPU.
    pub voluntary_switches: u64,
    /// Times a thread was taken off the CPU.
    pub involuntary_switches: u64,
}

/// Words of a node of the kernel's tree of mappings.
pub const NODE_WORDS: usize = 32;
/// Room for a path, and for as much again as the verifier believes could be written behind it.
pub const PATH_BYTES: usize = 512;

/// The mappings found so far, and what finding them needs: too large for the stack.
#[repr(C)]
pub struct Mappings {
    /// How many were found.
    pub len: u64,
    /// How often the tree was searched.
    pub searches: u64,
    /// The last mapping that was found and not wanted.
    pub unwanted_start: u64,
    /// Its end.
    pub unwanted_end: u64,
    /// A node of the tree.
    pub node: [u64; NODE_WORDS],
    /// A path.
    pub path: [u8; PATH_BYTES],
    /// What was found.
    pub list: [Mapping; MAPPINGS_MAX],
}
