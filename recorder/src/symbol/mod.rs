//! Names for the addresses of a crash: which file, which function, which line; and the stack of programs without frame
//! pointers.
//!
//! A frame is a build ID and an offset, which mean the same on every machine. A file is believed only if it has that build
//! ID, however it was found: a path that leads to another version, or to another container's file, leads to nothing.
//!
//! | | the agent, as it writes a dump | `show`, `symbolize` |
//! |---|---|---|
//! | files | on this host, by device and path | also directories of debug data |
//! | stack | by unwind tables | the same, if the agent had none |
//! | functions | symbol tables | symbol tables, debug data |
//! | lines, inlined calls | | debug data |

mod elf;
mod files;
mod host;
mod lines;
mod names;
mod unwind;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use crate::event::proto;

pub use elf::{Elf, build_id_of};
pub use files::{Files, Found};
pub use lines::Lines;

use host::Mounts;
pub use host::open_namespaces;
use unwind::Tables;

/// Finds the names for crashes.
pub struct Resolver {
    files: Files,
    mounts: Option<Mounts>,
    lines: Option<Lines>,
}

impl Resolver {
    /// Resolves as the agent does: by the files of this host, without debug data.
    pub fn of_host() -> Self {
        Self {
            files: Files::default(),
            mounts: Some(Mounts::default()),
            lines: None,
        }
    }

    /// Resolves with debug data, from `directories` and, with `on_host`, from the files of this host.
    pub fn with_debug_data(directories: &[PathBuf], on_host: bool) -> Self {
        Self {
            files: Files::new(directories),
            mounts: on_host.then(Mounts::default),
            lines: Some(Lines::new(directories)),
        }
    }

    /// Fills in what can be found about a crash; what it already says stays unless more is known.
    pub fn resolve(&mut self, fatal: &mut proto::SignalFatal) {
        self.identify_mappings(fatal);
        if fatal.unwound_stack.len() < 2 && !fatal.stack_memory().is_empty() {
            self.unwind(fatal);
        }
        let proto::SignalFatal {
            stack,
            unwound_stack,
            mappings,
            reraised,
            ..
        } = fatal;
        // Of a fault that was raised again, the kernel walked the stack of the system call that raised it.
        let kernel_is_exact = reraised != &Some(true);
        self.name(stack, mappings, kernel_is_exact);
        self.name(unwound_stack, mappings, true);
    }

    /// Gives mappings without a frame of their own the build ID of the very file that was mapped.
    fn identify_mappings(&mut self, fatal: &mut proto::SignalFatal) {
        let Some(mounts) = &mut self.mounts else {
            return;
        };
        for mapping in &mut fatal.mappings {
            let is_code = mapping.permissions().contains('x');
            if mapping.build_id.is_some() || mapping.inode.is_none() || !is_code {
                continue;
            }
            let inode = mapping.inode();
            mapping.build_id = mounts.find(mapping, |path| {
                let is_same = path.metadata().is_ok_and(|found| found.ino() == inode);
                let elf = is_same.then(|| Elf::open(path).ok()?)?;
                elf?.build_id()
            });
        }
    }

    /// Returns the files of a build ID.
    fn find(&mut self, build_id: &str, mapping: Option<&proto::Mapping>) -> Found {
        if let Some(found) = self.files.known(build_id) {
            return found.clone();
        }
        let here = self
            .mounts
            .as_mut()
            .zip(mapping)
            .and_then(|(mounts, mapping)| {
                mounts.find(mapping, |path| {
                    files::verified(path, build_id).map(|elf| elf.path().to_owned())
                })
            });
        self.files.find(build_id, here)
    }

    /// Walks the stack by unwind tables.
    fn unwind(&mut self, fatal: &mut proto::SignalFatal) {
        let mappings = fatal.mappings.clone();
        let found: Vec<Option<Rc<Elf>>> = mappings
            .iter()
            .map(|mapping| {
                self.find(mapping.build_id.as_deref()?, Some(mapping))
                    .program
            })
            .collect();
        let tables: Vec<_> = found
            .iter()
            .map(|elf| Tables::of(elf.as_deref()?))
            .collect();
        let addresses = unwind::walk(fatal, |address| {
            let index = mappings
                .iter()
                .position(|mapping| (mapping.start()..mapping.end()).contains(&address))?;
            let (mapping, elf) = (&mappings[index], found[index].as_deref()?);
            let offset = offset_in(mapping, address)?;
            let in_file = elf.address_of(address, offset, Some(mapping))?;
            Some((tables[index].as_ref()?, in_file))
        });
        // A single address is the instruction pointer, which needs no walk.
        if addresses.len() > 1 {
            let frame = |&address: &u64| frame_at(address, &mappings);
            fatal.unwound_stack = addresses.iter().map(frame).collect();
        }
    }

    /// Names the frames of a stack; unless `is_exact`, the first one has made a call as well.
    fn name(&mut self, stack: &mut [proto::Frame], mappings: &[proto::Mapping], is_exact: bool) {
        let mut by_symbols: Vec<Place> = Vec::new();
        for (index, frame) in stack.iter_mut().enumerate() {
            let (Some(build_id), Some(offset)) = (frame.build_id.clone(), frame.offset) else {
                continue;
            };
            if frame.file.is_some() || self.lines.is_none() && frame.symbol.is_some() {
                continue;
            }
            let address = frame.address();
            let mapping = mappings
                .iter()
                .find(|mapping| (mapping.start()..mapping.end()).contains(&address));
            let Found { program, names, .. } = self.find(&build_id, mapping);
            // A return address may lie behind the function, if that ends with the call.
            let is_exact = is_exact && index == 0;
            for elf in [names, program].into_iter().flatten() {
                let Some(address) = elf.address_of(address, offset, mapping) else {
                    continue;
                };
                match &self.lines {
                    Some(lines) if lines.fill(frame, &elf, address, is_exact) => break,
                    Some(_) => {}
                    None => by_symbols.push(Place {
                        index,
                        elf,
                        address: address.wrapping_sub(u64::from(!is_exact)),
                        before: u64::from(!is_exact),
                    }),
                }
            }
        }
        name_by_symbols(stack, by_symbols);
    }
}

/// Where to look a frame's function up.
struct Place {
    index: usize,
    elf: Rc<Elf>,
    address: u64,
    /// How far before the frame's own address.
    before: u64,
}

/// Names frames by the symbol table of each file, which is read once.
fn name_by_symbols(stack: &mut [proto::Frame], mut places: Vec<Place>) {
    while let Some(first) = places.first() {
        let elf = Rc::clone(&first.elf);
        let (same, others): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|place| Rc::ptr_eq(&place.elf, &elf));
        places = others;
        let addresses: Vec<u64> = same.iter().map(|place| place.address).collect();
        for (place, function) in same.iter().zip(names::functions(&elf, &addresses)) {
            let frame = &mut stack[place.index];
            if let (Some(function), None) = (function, &frame.symbol) {
                frame.symbol = Some(function.name);
                frame.symbol_offset = Some(function.offset + place.before);
            }
        }
    }
}

/// Returns the frame of an address by what is mapped there.
fn frame_at(address: u64, mappings: &[proto::Mapping]) -> proto::Frame {
    let mut frame = proto::Frame {
        address: Some(address),
        ..proto::Frame::default()
    };
    let mapping = mappings
        .iter()
        .find(|mapping| (mapping.start()..mapping.end()).contains(&address));
    if let Some(mapping) = mapping.filter(|mapping| mapping.offset.is_some()) {
        frame.build_id.clone_from(&mapping.build_id);
        frame.offset = offset_in(mapping, address);
        if !mapping.path_truncated() {
            frame.module.clone_from(&mapping.path);
        }
    }
    frame
}

/// Returns where in its file an address lies.
fn offset_in(mapping: &proto::Mapping, address: u64) -> Option<u64> {
    let into = address.checked_sub(mapping.start())?;
    mapping.offset?.checked_add(into)
}
