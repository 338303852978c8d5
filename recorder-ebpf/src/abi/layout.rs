//! A hash over the layout of every record.

use core::mem::offset_of;

use super::{
    CgroupChange, Exec, Exit, Frame, Header, IoError, LaneStats, Lineage, LiveProcess,
    MachineCheck, Mapping, MemoryFailure, Note, OomKill, Sample, Sender, SignalFatal, SignalSent,
    TaskHung, Throttle, ThrottleKey, WritebackError,
};

/// Name of the object's symbol that holds [`LAYOUT_HASH`].
pub const LAYOUT_HASH_SYMBOL: &str = "RECORDER_LAYOUT_HASH";

/// Hash of every record's name, size, field names and field offsets.
///
/// Two builds with the same hash agree about every byte between them.
pub const LAYOUT_HASH: u64 = layout_hash();

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

const fn hash_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(FNV_PRIME);
        index += 1;
    }
    hash
}

macro_rules! hash_records {
    ($($record:ident { $($field:ident),+ $(,)? })+) => {{
        let mut hash = FNV_OFFSET;
        $(
            // Destructuring without `..` makes a field that is missing here a compile error.
            const _: fn(&$record) = |record| { let $record { $($field: _),+ } = record; };
            hash = hash_bytes(hash, stringify!($record).as_bytes());
            hash = hash_bytes(hash, &size_of::<$record>().to_le_bytes());
            $(
                hash = hash_bytes(hash, stringify!($field).as_bytes());
                hash = hash_bytes(hash, &offset_of!($record, $field).to_le_bytes());
            )+
        )+
        hash
    }};
}

const fn layout_hash() -> u64 {
    hash_records! {
        Header { boot_ns, seq, start_boot_ns, cgroup_id, pid, tgid, uid, gid, len, cpu, kind, flags, comm }
        Lineage { parent_tgid, ns_tgid, session, login_uid }
        Exec { header, memory_cgroup_id, inode, changed_s, changed_ns, device, lineage, euid, egid, exe_len, filename_len, argv_len, reserved }
        CgroupChange { header, id, hierarchy, path_len }
        Exit {
            header, user_ns, system_ns, read_bytes, write_bytes, max_rss_kib, status, parent_tgid, minor_faults, major_faults,
            voluntary_switches, involuntary_switches, session,
        }
        TaskHung { header }
        Sender { boot_ns, cgroup_id, tgid, uid, signal, code, flags, reserved, comm }
        Frame { status, build_id, offset_or_ip }
        SignalFatal {
            header, signal, code, fault_address, ip, sp, error_code, trap_number, arch, stack_len, instruction_len,
            mappings_len, stack_memory_len, reserved, stack_memory_address, fs_base, gs_base, lineage, sender, asked, registers, auxiliary, instruction,
            addresses, frames,
        }
        Mapping { start, end, file_offset, inode, device, flags, path_len, reserved, path }
        SignalSent { header, sender }
        OomKill {
            header, total_vm_pages, anon_rss_pages, file_rss_pages, shmem_rss_pages, pgtables_bytes, trigger_cgroup_id,
            memory_cgroup_id, lineage, trigger_pid, trigger_tgid, oom_score_adj, trigger_uid, trigger_comm,
        }
        IoError { header, sector, bytes, major, minor, partition, status, errno, cmd_flags, disk }
        WritebackError { header, inode, device, errno, name }
        MemoryFailure { header, address, page_type, result }
        MachineCheck { header, status, address, misc, global_status, ip, cpu, socket, apic_id, signature, microcode, bank }
        Note { header, kind, text_len }
        Sample { header, message_len, reserved }
        LaneStats { attempted, short, lost, throttled, filtered }
        ThrottleKey { cgroup_id, hierarchy, lane }
        Throttle { due_boot_ns, records, since_boot_ns, until_boot_ns }
        LiveProcess {
            start_boot_ns, user_ns, system_ns, read_bytes, write_bytes, rss_pages, cgroup_id, memory_cgroup_id, exe_inode,
            exe_device, tgid, parent_tgid, ns_tgid, uid, gid, session, login_uid, threads, flags, comm,
        }
    }
}
