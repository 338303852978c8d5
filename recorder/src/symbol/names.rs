//! Names of functions by the symbol table alone: no debug data, one pass, nothing mapped.

use object::{Object as _, ObjectSymbol as _, SymbolIndex, SymbolKind};

use super::Elf;

/// Symbols that are looked at in one file.
const SYMBOLS_MAX: usize = 8 << 20;
/// Longest name that is kept, in characters.
const NAME_CHARACTERS_MAX: usize = 512;

/// A function, and where in it an address lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// Distance from its start, in bytes.
    pub offset: u64,
}

/// Returns the function of each address, as the file counts them; `None` where no symbol with a size covers it.
pub fn functions(elf: &Elf, addresses: &[u64]) -> Vec<Option<Function>> {
    let mut best: Vec<Option<Candidate>> = vec![None; addresses.len()];
    let Some(file) = elf.file() else {
        return addresses.iter().map(|_| None).collect();
    };
    let symbols = file.symbols().map(|symbol| (false, symbol));
    let dynamic = file.dynamic_symbols().map(|symbol| (true, symbol));
    for (is_dynamic, symbol) in symbols.chain(dynamic).take(SYMBOLS_MAX) {
        if symbol.kind() != SymbolKind::Text || symbol.size() == 0 {
            continue;
        }
        let start = symbol.address();
        for (best, address) in best.iter_mut().zip(addresses) {
            let inside = address.checked_sub(start).filter(|at| *at < symbol.size());
            if let Some(offset) = inside
                && best.as_ref().is_none_or(|best| offset < best.offset)
            {
                *best = Some(Candidate {
                    is_dynamic,
                    index: symbol.index(),
                    offset,
                });
            }
        }
    }
    let name = |candidate: &Candidate| {
        let index = candidate.index;
        let symbol = match candidate.is_dynamic {
            true => file
                .dynamic_symbol_table()
                .map(|table| object::ObjectSymbolTable::symbol_by_index(&table, index)),
            false => Some(file.symbol_by_index(index)),
        };
        let bytes = symbol?.ok()?.name_bytes().ok()?;
        Some(demangled(&String::from_utf8_lossy(bytes)))
    };
    best.iter()
        .map(|candidate| {
            let candidate = candidate.as_ref()?;
            Some(Function {
                name: name(candidate).filter(|name| !name.is_empty())?,
                offset: candidate.offset,
            })
        })
        .collect()
}

#[derive(Clone, Debug)]
struct Candidate {
    is_dynamic: bool,
    index: SymbolIndex,
    offset: u64,
}

/// Returns a Rust or C++ name as people write it; any other as it is.
pub fn demangled(name: &str) -> String {
    let text = if let Ok(rust) = rustc_demangle::try_demangle(name) {
        format!("{rust:#}")
    } else {
        let cpp = name
            .starts_with("_Z")
            .then(|| cpp_demangle::Symbol::new(name).ok());
        cpp.flatten()
            .and_then(|symbol| symbol.demangle().ok())
            .unwrap_or_else(|| name.to_owned())
    };
    text.chars().take(NAME_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        assert_eq!(
            demangled("_ZN4core3fmt5write17h0123456789abcdefE"),
            "core::fmt::write"
        );
        assert_eq!(demangled("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(
            demangled("_ZN5shape6circle4areaEd"),
            "shape::circle::area(double)"
        );
        assert_eq!(demangled("main"), "main");
        assert_eq!(demangled("_Zgarbage"), "_Zgarbage");
        assert_eq!(demangled(&"x".repeat(9999)).len(), NAME_CHARACTERS_MAX);
    }
}
