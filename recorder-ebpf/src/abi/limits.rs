//! Bounds of every array and map, and how they relate.

/// Longest captured path of an executed file, in bytes, its terminating NUL included.
pub const FILENAME_BYTES_MAX: usize = 256;
/// Longest captured path of an executable, as a list of names, in bytes, NULs included.
pub const EXE_BYTES_MAX: usize = 256;
/// Most names in the path of an executable, mount points crossed included.
pub const EXE_NAMES_MAX: u32 = 24;
/// Longest captured path of a cgroup, in bytes, its terminating NUL included.
pub const CGROUP_PATH_BYTES_MAX: usize = 512;
/// Longest captured argument block of an exec, in bytes, NULs included.
pub const ARGV_BYTES_MAX: usize = 1024;
/// Most user stack frames in one record.
pub const STACK_FRAMES_MAX: usize = 64;
/// General registers a record has room for: 21 are used on x86-64, 34 on aarch64.
pub const REGISTERS_MAX: usize = 34;
/// Words captured of the auxiliary vector: of no supported kernel is it shorter.
pub const AUXILIARY_WORDS: usize = 46;
/// Bytes of code captured at the instruction pointer: the longest x86 instruction has 15.
pub const INSTRUCTION_BYTES: usize = 16;
/// Most bytes of stack memory in one record.
pub const STACK_MEMORY_BYTES_MAX: usize = 16 << 10;
/// Most mappings in one record.
pub const MAPPINGS_MAX: usize = 8;
/// Longest captured path of a mapped file, in bytes, one NUL for each of its names included.
pub const MAPPING_PATH_BYTES_MAX: usize = 192;
/// Signals whose senders are remembered until the target dies; the least recently used is forgotten first.
pub const SENDERS_MAX: u32 = 4096;
/// Faults taken by a handler that are remembered, for a handler that raises the signal again.
pub const FAULTS_MAX: u32 = 1024;
/// Most CPUs for which the agent keeps per-CPU statistics.
pub const CPUS_MAX: usize = 4096;

const _: () = {
    assert!(
        FILENAME_BYTES_MAX.is_power_of_two(),
        "a mask bounds it for the verifier"
    );
    assert!(
        EXE_BYTES_MAX.is_power_of_two() && CGROUP_PATH_BYTES_MAX.is_power_of_two(),
        "a mask bounds them for the verifier"
    );
    assert!(
        ARGV_BYTES_MAX.is_power_of_two(),
        "a mask bounds it for the verifier"
    );
    assert!(INSTRUCTION_BYTES.is_multiple_of(8));
    assert!(STACK_MEMORY_BYTES_MAX.is_multiple_of(4096));
    assert!(MAPPING_PATH_BYTES_MAX.is_multiple_of(8));
};
