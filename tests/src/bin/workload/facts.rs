//! What a workload knows of itself, as JSON on stdout.

use std::fmt::Debug;
use std::io::Write;
use std::str::FromStr;

use serde_json::{Value, json};

/// Prints who this thread is, and `extra` beside it, on one line.
pub(crate) fn print(extra: &Value) {
    let mut facts = identity();
    let known = facts.as_object_mut().expect("identity() builds an object");
    for (name, value) in extra.as_object().expect("facts are an object") {
        known.insert(name.clone(), value.clone());
    }
    print_line(&facts);
}

/// Prints one line and sees to it that it is out before what follows.
pub(crate) fn print_line(facts: &Value) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{facts}").expect("the test reads our stdout");
    stdout.flush().expect("the test reads our stdout");
}

/// Returns where in its file the code at `address` lies.
pub(crate) fn place(address: usize) -> Value {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs is mounted");
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(range), Some(offset)) = (fields.first(), fields.get(2)) else {
            continue;
        };
        let (start, end) = range.split_once('-').expect("maps has START-END");
        let start = hex(start);
        if (start..hex(end)).contains(&address) {
            return json!({
                "ip": format!("{address:#x}"),
                "offset": hex(offset) + address - start,
                "module": fields.get(5),
            });
        }
    }
    panic!("{address:#x} is not mapped");
}

/// Returns the 16 bytes of code at `address`, in hex.
pub(crate) fn code(address: usize) -> String {
    let bytes = memory(address, 16);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn memory(address: usize, len: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open("/proc/self/mem").expect("procfs is mounted");
    let mut bytes = vec![0; len];
    memory
        .read_exact_at(&mut bytes, address as u64)
        .expect("the code is mapped");
    bytes
}

/// Parses a hexadecimal address.
pub(crate) fn address(text: &str) -> usize {
    hex(text.trim_start_matches("0x"))
}

/// Parses a decimal number.
pub(crate) fn number<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("an argument is a number")
}

fn hex(text: &str) -> usize {
    usize::from_str_radix(text, 16).expect("a hexadecimal number")
}

fn identity() -> Value {
    let thread = std::fs::read_link("/proc/thread-self").expect("procfs is mounted");
    let tid = thread.file_name().map(|name| name.to_string_lossy());
    let comm = std::fs::read_to_string("/proc/thread-self/comm").expect("procfs is mounted");
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs is mounted");
    // The name of the program stands in parentheses and may hold anything; field 3 follows the last one.
    let (_, fields) = stat.rsplit_once(')').expect("stat has (comm)");
    let start_ticks = fields.split_whitespace().nth(19).map(number::<u64>);
    json!({
        "pid": std::process::id(),
        "tid": tid.map(|tid| number::<u32>(&tid)),
        "ppid": std::os::unix::process::parent_id(),
        "comm": comm.trim_end_matches('\n'),
        "uid": rustix::process::getuid().as_raw(),
        "gid": rustix::process::getgid().as_raw(),
        "euid": rustix::process::geteuid().as_raw(),
        "egid": rustix::process::getegid().as_raw(),
        "start_ticks": start_ticks,
    })
}
