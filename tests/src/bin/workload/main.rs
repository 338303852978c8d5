//! Fails on purpose, in one exactly known way.
//!
//! Every subcommand prints one line of JSON before it fails: who it is, and what it knows about what is about to happen
//! (the address it will touch, the instruction that will do it). Some print a second line with what came of it. The tests
//! compare these facts with what the recorder says.

mod facts;
mod fault;
mod memory;
mod micro;
mod process;
mod signal;
mod storage;

use std::process::ExitCode;

const USAGE: &str = "\
usage: workload WHAT...
  segv-write ADDRESS|read-only      segv-read ADDRESS|no-access     segv-exec ADDRESS|no-exec
  segv-thread ADDRESS               segv-deep ADDRESS               stack-overflow
  bus DIRECTORY                     abort                           fpe
  poisoned-page
  ill                               forbidden-call                  handled-segv COUNT
  reraise ADDRESS                   reexecute ADDRESS               core DIRECTORY
  assert                            sleep                           sleep-in-threads COUNT
  kill SIGNAL PID                   stubborn handle|ignore|block    stop MILLISECONDS PID
  orphan                            obey CODE                       crowd COUNT
  hog CGROUP.PROCS SCORE_ADJ anonymous|shared [BYTES]
  exit CODE                         exit-in-threads CODE COUNT      exec-from-thread CODE
  leader-exits-first CODE together|alone
  args ANY...                       flood COUNT                     burn MILLISECONDS
  fork-bomb CGROUP.PROCS MILLISECONDS                               exec-storm COUNT ADDRESS
  pace RATE MILLISECONDS            micro exec|fork|thread|fault|signal|read COUNT
  io read|write DEVICE SECTOR BYTES
  writeback FILE OFFSET BYTES";

fn main() -> ExitCode {
    // The Rust runtime has a handler for stack overflows, which takes every SIGSEGV and SIGBUS first.
    signal::restore_default(libc::SIGSEGV);
    signal::restore_default(libc::SIGBUS);

    // `args` may be given anything, also what is not UTF-8.
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["segv-write", target] => signal::segv_write(target),
        ["segv-read", target] => signal::segv_read(target),
        ["segv-exec", target] => signal::segv_exec(target),
        ["segv-thread", address] => signal::segv_thread(facts::address(address)),
        ["segv-deep", address] => signal::segv_deep(facts::address(address)),
        ["stack-overflow"] => signal::stack_overflow(),
        ["bus", directory] => signal::bus(directory),
        ["poisoned-page"] => signal::poisoned_page(),
        ["abort"] => signal::abort(),
        ["fpe"] => signal::fpe(),
        ["ill"] => signal::ill(),
        ["forbidden-call"] => signal::forbidden_system_call(),
        ["handled-segv", count] => signal::handled(facts::number(count)),
        ["reraise", address] => signal::raise_again(facts::address(address)),
        ["reexecute", address] => signal::execute_again(facts::address(address)),
        ["core", directory] => signal::with_core(directory),
        ["hog", cgroup, score_adj, kind] => {
            memory::hog(cgroup, score_adj, memory::Kind::from_name(kind), None);
        }
        ["hog", cgroup, score_adj, kind, bytes] => {
            let bytes = facts::number(bytes);
            memory::hog(
                cgroup,
                score_adj,
                memory::Kind::from_name(kind),
                Some(bytes),
            );
        }
        ["assert"] => signal::failed_assertion(),
        ["stubborn", how] => signal::stubborn(how),
        ["obey", code] => signal::obey(facts::number(code)),
        ["stop", milliseconds, pid] => {
            process::stop(facts::number(milliseconds), facts::number(pid));
        }
        ["orphan"] => process::orphan(),
        ["sleep"] => process::sleep(),
        ["kill", signal, pid] => process::kill(facts::number(signal), facts::number(pid)),
        ["sleep-in-threads", count] => process::sleep_in_threads(facts::number(count)),
        ["exit-in-threads", code, count] => {
            process::exit_in_threads(facts::number(code), facts::number(count));
        }
        ["exec-from-thread", code] => process::exec_from_thread(code),
        ["exit", code] => process::exit(facts::number(code)),
        ["leader-exits-first", code, "together"] => {
            process::leader_first(facts::number(code), true)
        }
        ["leader-exits-first", code, "alone"] => process::leader_first(facts::number(code), false),
        ["args", ..] => facts::print(&serde_json::json!({ "arguments": arguments.len() })),
        ["crowd", count] => process::crowd(facts::number(count)),
        ["flood", count] => process::flood(facts::number(count)),
        ["fork-bomb", cgroup, milliseconds] => {
            process::fork_bomb(cgroup, facts::number(milliseconds));
        }
        ["exec-storm", count, address] => process::exec_storm(facts::number(count), address),
        ["exec-again", count, address] => process::exec_again(facts::number(count), address),
        ["pace", rate, milliseconds] => {
            process::pace(facts::number(rate), facts::number(milliseconds));
        }
        ["micro", what, count] => micro::run(what, facts::number(count)),
        ["burn", milliseconds] => process::burn(facts::number(milliseconds)),
        ["io", operation, device, sector, bytes] => storage::direct(
            *operation == "write",
            device,
            facts::number(sector),
            facts::number(bytes),
        ),
        ["writeback", file, offset, bytes] => {
            storage::write_back(file, facts::number(offset), facts::number(bytes));
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
