//! Functions, source lines and inlined calls by debug data. It is mapped and may be large: for the commands that people run,
//! not for the agent.

use std::path::PathBuf;

use blazesym::symbolize::source::{Elf as ElfSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer};

use super::{
    Elf,
    names::{demangled, functions},
};
use crate::event::proto;

/// Reads debug data; what it has read stays in memory while it lives.
pub struct Lines {
    symbolizer: Symbolizer,
}

impl Lines {
    /// Looks for separate debug data in `directories` as well.
    pub fn new(directories: &[PathBuf]) -> Self {
        let builder = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(true);
        let builder = match directories.is_empty() {
            true => builder,
            false => builder.set_debug_dirs(Some(directories)),
        };
        Self {
            symbolizer: builder.build(),
        }
    }

    /// Fills in what `elf` says of the code at `address`, as the file counts; false if that is nothing.
    pub fn fill(&self, frame: &mut proto::Frame, elf: &Elf, address: u64, is_exact: bool) -> bool {
        let source = Source::Elf(ElfSource::new(elf.path()));
        let at = address.wrapping_sub(u64::from(!is_exact));
        let symbols = self.symbolizer.symbolize(&source, Input::VirtOffset(&[at]));
        let Ok(mut symbols) = symbols else {
            return false;
        };
        let Some(symbol) = symbols.pop().and_then(|symbol| symbol.into_sym()) else {
            return false;
        };
        take(frame, &symbol);
        // Debug data has no one start for a function in several parts; the symbol table has.
        let function = functions(elf, &[at]).pop().flatten();
        frame.symbol_offset = function.map(|function| function.offset + (address - at));
        true
    }
}

fn take(frame: &mut proto::Frame, symbol: &Sym<'_>) {
    let place = |info: &CodeInfo<'_>| (info.to_path().to_string_lossy().into_owned(), info.line);
    let (file, line) = symbol.code_info.as_deref().map(place).unzip();
    frame.symbol = Some(demangled(&symbol.name));
    frame.file = file;
    frame.line = line.flatten();
    let inlined = symbol.inlined.iter().map(|function| {
        let (file, line) = function.code_info.as_ref().map(place).unzip();
        proto::Inlined {
            symbol: Some(demangled(&function.name)),
            file,
            line: line.flatten(),
        }
    });
    frame.inlined = inlined.rev().collect();
}
