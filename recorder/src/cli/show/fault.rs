//! A fatal signal in words.

use crate::cli::text::{duration, escape, plural};
use crate::event::proto;

pub use crate::death::words::{access, meaning};

use super::line::{named, signal};

/// Digits of a build id that tell files apart for people.
const BUILD_ID_SHORT: usize = 12;

/// Writes "SIGSEGV (SEGV_MAPERR)".
pub fn signal_and_code(fatal: &proto::SignalFatal) -> String {
    let mut text = match &fatal.signal {
        Some(number) => signal(number),
        None => "unknown signal".to_owned(),
    };
    if let Some(code) = &fatal.code {
        match &code.name {
            Some(name) => text.push_str(&format!(" ({})", escape(name))),
            None => text.push_str(&format!(" (code {})", code.number())),
        }
    }
    text
}

/// Writes where a frame is: "symbol+0x12 at file.c:18 (module+0x1139)", "build id 5f1ab2c3d4e5+0x1139", or its address.
pub fn place(frame: &proto::Frame) -> String {
    let file = match (&frame.module, &frame.build_id) {
        (Some(module), _) => Some(escape(module).into_owned()),
        (None, Some(build_id)) => {
            let short: String = build_id.chars().take(BUILD_ID_SHORT).collect();
            Some(format!("build id {}", escape(&short)))
        }
        (None, None) => None,
    };
    let offset = file.map(|file| format!("{file}+{:#x}", frame.offset()));
    let symbol = frame.symbol.as_ref().map(|symbol| {
        let mut text = escape(symbol).into_owned();
        if let Some(offset) = frame.symbol_offset {
            text.push_str(&format!("+{offset:#x}"));
        }
        text.push_str(&line(frame.file.as_deref(), frame.line));
        text
    });
    match (symbol, offset) {
        (Some(symbol), Some(offset)) => format!("{symbol} ({offset})"),
        (Some(symbol), None) => symbol,
        (None, Some(offset)) => offset,
        (None, None) => format!("{:#x}", frame.address()),
    }
}

/// Writes " at file.c:18".
fn line(file: Option<&str>, line: Option<u32>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!(" at {}:{line}", escape(file)),
        (Some(file), None) => format!(" at {}", escape(file)),
        (None, _) => String::new(),
    }
}

/// Returns the stack that tells more: by unwind tables if there is one, else as the kernel walked it.
pub fn best_stack(fatal: &proto::SignalFatal) -> &[proto::Frame] {
    match fatal.unwound_stack.is_empty() {
        true => &fatal.stack,
        false => &fatal.unwound_stack,
    }
}

/// Writes the stack, a line for each of the first `frames_max` frames and one for each call that was inlined into it.
pub fn stack(fatal: &proto::SignalFatal, frames_max: usize) -> Vec<String> {
    let stack = best_stack(fatal);
    let mut lines = Vec::new();
    for (number, frame) in stack.iter().take(frames_max).enumerate() {
        for inlined in &frame.inlined {
            lines.push(format!(
                "#{number:<2} {:18}  {}{} (inlined)",
                "",
                escape(inlined.symbol()),
                line(inlined.file.as_deref(), inlined.line)
            ));
        }
        lines.push(format!(
            "#{number:<2} {:#018x}  {}",
            frame.address(),
            place(frame)
        ));
    }
    if stack.len() > frames_max {
        let more = (stack.len() - frames_max) as u64;
        lines.push(format!("… {} in --json", plural(more, "more frame")));
    }
    lines
}

/// Writes who sent a signal: "sent by bash\[77\] (uid 0)".
pub fn sender(sender: &proto::Sender) -> String {
    let name = named(sender.comm.as_deref(), sender.pid);
    match (sender.kernel(), sender.uid) {
        (true, _) => format!("sent by the kernel, in {name}"),
        (false, Some(uid)) => format!("sent by {name} (uid {uid})"),
        (false, None) => format!("sent by {name}"),
    }
}

/// Writes who sent a signal and how long before its effect.
pub fn sender_and_when(fatal: &proto::SignalFatal, boot_ns: Option<u64>) -> Option<String> {
    let from = fatal.sender.as_ref()?;
    let before = boot_ns
        .zip(from.boot_ns)
        .map(|(died, sent)| format!(", {} before", duration(died.saturating_sub(sent))));
    let pid = fatal.process.as_ref().and_then(|process| process.pid);
    let who = match from.kernel() {
        false if from.pid.is_some() && from.pid == pid => "sent by itself".to_owned(),
        _ => sender(from),
    };
    Some(format!("{who}{}", before.unwrap_or_default()))
}

/// Returns the registers a reader wants first: those near the fault address, then those of calls, stack and result.
pub fn registers(fatal: &proto::SignalFatal) -> Vec<String> {
    const FIRST: [&str; 17] = [
        "rip", "rsp", "rbp", "rax", "rdi", "rsi", "rdx", "rcx", "pc", "sp", "x29", "x30", "x0",
        "x1", "x2", "x3", "pstate",
    ];
    const NEAR: u64 = 4096;

    let near = |value: u64| {
        fatal
            .fault_address
            .is_some_and(|address| address.abs_diff(value) < NEAR)
    };
    let place = |name: &str| FIRST.iter().position(|first| *first == name);
    let mut chosen: Vec<_> = fatal
        .registers
        .iter()
        .filter(|register| near(register.value()) || place(register.name()).is_some())
        .collect();
    chosen.sort_by_key(|register| (!near(register.value()), place(register.name())));
    chosen
        .iter()
        .map(|register| format!("{} {:#x}", escape(register.name()), register.value()))
        .collect()
}

/// Writes the bytes of the instruction in pairs of digits.
pub fn code(fatal: &proto::SignalFatal) -> Option<String> {
    let digits: Vec<char> = fatal.instruction_bytes.as_ref()?.chars().collect();
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    Some(escape(&pairs.join(" ")).into_owned())
}
