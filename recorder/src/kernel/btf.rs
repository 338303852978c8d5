//! The kernel's type information.
//!
//! A reader of what the probes need and nothing else: where a member lies, what an enumerator is worth, what arguments a
//! tracepoint has. One pass over the bytes; nothing is copied.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>

use std::collections::HashMap;
use std::{fs, io};

use thiserror::Error;

/// Where the kernel shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Anonymous members inside anonymous members, and names for names: far more than any kernel has.
const DEPTH_MAX: u32 = 32;

/// Why the type information cannot be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// It could not be read.
    #[error("cannot read the kernel's type information, {VMLINUX}")]
    Read(#[source] io::Error),
    /// It is not what it should be.
    #[error("the kernel's type information does not parse: {0}")]
    Malformed(&'static str),
}

/// Reads the bytes of the running kernel's type information.
pub fn read() -> Result<Vec<u8>, BtfError> {
    fs::read(VMLINUX).map_err(BtfError::Read)
}

/// Type information, indexed.
#[derive(Debug)]
pub struct Btf<'a> {
    types: Vec<Type<'a>>,
    strings: &'a [u8],
    named: HashMap<(Space, &'a [u8]), u32>,
}

/// Structures, enumerations and typedefs each have names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Space {
    Structure,
    Enumeration,
    Typedef,
}

#[derive(Clone, Copy, Debug)]
struct Type<'a> {
    kind: Kind,
    /// Member offsets hold the size of a bit field as well.
    has_bitfields: bool,
    name: u32,
    /// Size of a structure; the type referred to by a pointer, a typedef and their like.
    size_or_type: u32,
    /// What follows: members, enumerators, parameters.
    rest: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pointer,
    Structure,
    Enumeration,
    Enumeration64,
    /// Another name, or a qualifier, of a type.
    Alias,
    Prototype,
    Other,
}

impl<'a> Btf<'a> {
    /// Indexes `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let malformed = BtfError::Malformed;
        if half(bytes, 0) != Some(MAGIC) {
            return Err(malformed("no BTF of this byte order"));
        }
        let section = |at: usize| {
            let start = (word(bytes, 4)? as usize).checked_add(word(bytes, at)? as usize)?;
            bytes
                .get(start..)?
                .get(..word(bytes, at.checked_add(4)?)? as usize)
        };
        let types = section(8).ok_or(malformed("its types are cut"))?;
        let strings = section(16).ok_or(malformed("its strings are cut"))?;
        let mut btf = Self {
            // Ids count from 1; 0 is void.
            types: vec![Type {
                kind: Kind::Other,
                has_bitfields: false,
                name: 0,
                size_or_type: 0,
                rest: &[],
            }],
            strings,
            named: HashMap::new(),
        };
        let mut at = types;
        while !at.is_empty() {
            let len = btf.index(at).ok_or(malformed("a type is cut"))?;
            at = at.get(len..).ok_or(malformed("a type is cut"))?;
        }
        Ok(btf)
    }

    /// Takes in the type at the start of `bytes` and returns its length.
    fn index(&mut self, bytes: &'a [u8]) -> Option<usize> {
        const FIXED: usize = 12;
        let (name, info) = (word(bytes, 0)?, word(bytes, 4)?);
        let count = (info & 0xffff) as usize;
        let (kind, rest, space) = match (info >> 24) & 0x1f {
            2 => (Kind::Pointer, 0, None),
            4 | 5 => (Kind::Structure, 12 * count, Some(Space::Structure)),
            6 => (Kind::Enumeration, 8 * count, Some(Space::Enumeration)),
            19 => (Kind::Enumeration64, 12 * count, Some(Space::Enumeration)),
            8 => (Kind::Alias, 0, Some(Space::Typedef)),
            9..=11 | 18 => (Kind::Alias, 0, None),
            13 => (Kind::Prototype, 8 * count, None),
            // An integer or a variable, an array, a section.
            1 | 14 | 17 => (Kind::Other, 4, None),
            3 => (Kind::Other, 12, None),
            15 => (Kind::Other, 12 * count, None),
            // A forward declaration, a function, a floating-point number.
            7 | 12 | 16 => (Kind::Other, 0, None),
            _ => return None,
        };
        let id = u32::try_from(self.types.len()).ok()?;
        self.types.push(Type {
            kind,
            has_bitfields: info >> 31 != 0,
            name,
            size_or_type: word(bytes, 8)?,
            rest: bytes.get(FIXED..)?.get(..rest)?,
        });
        if let Some(space) = space
            && let Some(name) = self.string(name).filter(|name| !name.is_empty())
        {
            self.named.entry((space, name)).or_insert(id);
        }
        Some(FIXED + rest)
    }

    /// Returns the offset in bytes of a member of a structure; `path` names members inside members, separated by dots.
    ///
    /// `None` if there is no such member, or if it is a bit field.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let (bits, is_bitfield) = self.place(structure, path)?;
        (!is_bitfield && bits.is_multiple_of(8)).then_some(bits / 8)
    }

    /// Returns the offset in bits of a member of a structure, as [`Btf::offset`], which may be a bit field.
    pub fn bit(&self, structure: &str, path: &str) -> Option<u32> {
        self.place(structure, path).map(|(bits, _)| bits)
    }

    /// Returns the offset in bits of a member, and whether it is a bit field.
    fn place(&self, structure: &str, path: &str) -> Option<(u32, bool)> {
        let mut within = self.find(Space::Structure, structure)?;
        let mut bits = 0_u32;
        let mut is_bitfield = false;
        for name in path.split('.') {
            let member = self.member(self.resolve(within)?, name.as_bytes(), 0)?;
            bits = bits.checked_add(member.bits)?;
            is_bitfield |= member.is_bitfield;
            within = member.id;
        }
        Some((bits, is_bitfield))
    }

    /// Returns the size of a structure in bytes.
    pub fn size(&self, structure: &str) -> Option<u32> {
        let id = self.find(Space::Structure, structure)?;
        Some(self.types.get(id as usize)?.size_or_type)
    }

    /// Returns the value of an enumerator.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        let id = self.find(Space::Enumeration, enumeration)?;
        let found = self.types.get(id as usize)?;
        let entry = if found.kind == Kind::Enumeration64 {
            12
        } else {
            8
        };
        found
            .rest
            .chunks_exact(entry)
            .find(|entry| {
                word(entry, 0).and_then(|name| self.string(name)) == Some(name.as_bytes())
            })
            .and_then(|entry| word(entry, 4))
    }

    /// Returns the arguments of a tracepoint: the structure behind each that is a pointer to one.
    ///
    /// `None` if the kernel has no such tracepoint.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<Option<&'a str>>> {
        let alias = self.find(Space::Typedef, &format!("btf_trace_{name}"))?;
        let pointer = self.resolve(alias)?;
        let prototype = self.resolve(pointer.size_or_type)?;
        if pointer.kind != Kind::Pointer || prototype.kind != Kind::Prototype {
            return None;
        }
        // The first parameter is the tracepoint's own.
        let parameters = prototype.rest.chunks_exact(8).skip(1);
        Some(
            parameters
                .map(|parameter| self.pointee(word(parameter, 4)?))
                .collect(),
        )
    }

    fn pointee(&self, id: u32) -> Option<&'a str> {
        let pointer = self.resolve(id)?;
        if pointer.kind != Kind::Pointer {
            return None;
        }
        let target = self.resolve(pointer.size_or_type)?;
        if target.kind != Kind::Structure {
            return None;
        }
        str::from_utf8(self.string(target.name)?).ok()
    }

    /// Finds a member by name, inside anonymous members too.
    fn member(&self, structure: &Type<'a>, name: &[u8], depth: u32) -> Option<Member> {
        if structure.kind != Kind::Structure || depth > DEPTH_MAX {
            return None;
        }
        for entry in structure.rest.chunks_exact(12) {
            let (called, id, offset) = (word(entry, 0)?, word(entry, 4)?, word(entry, 8)?);
            let (bits, is_bitfield) = if structure.has_bitfields {
                (offset & 0x00ff_ffff, offset >> 24 != 0)
            } else {
                (offset, false)
            };
            let called = self.string(called)?;
            if called == name {
                return Some(Member {
                    id,
                    bits,
                    is_bitfield,
                });
            }
            if called.is_empty()
                && let Some(inner) = self.member(self.resolve(id)?, name, depth + 1)
            {
                return Some(Member {
                    bits: bits.checked_add(inner.bits)?,
                    ..inner
                });
            }
        }
        None
    }

    /// Returns the type behind other names and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<&Type<'a>> {
        for _ in 0..DEPTH_MAX {
            let found = self.types.get(id as usize)?;
            if found.kind != Kind::Alias {
                return Some(found);
            }
            id = found.size_or_type;
        }
        None
    }

    fn find(&self, space: Space, name: &str) -> Option<u32> {
        self.named.get(&(space, name.as_bytes())).copied()
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

struct Member {
    id: u32,
    bits: u32,
    is_bitfield: bool,
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Builds type information by hand.
    #[derive(Default)]
    struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Builder {
        fn name(&mut self, name: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if name.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend(name.as_bytes());
            self.strings.push(0);
            at
        }

        fn add(
            &mut self,
            kind: u32,
            name: &str,
            flag: bool,
            size_or_type: u32,
            rest: &[(&str, u32, u32)],
        ) {
            let name = self.name(name);
            let info = kind << 24 | rest.len() as u32 | u32::from(flag) << 31;
            let names: Vec<u32> = rest.iter().map(|(name, _, _)| self.name(name)).collect();
            let mut words = vec![name, info, size_or_type];
            for (name, (_, second, third)) in names.into_iter().zip(rest) {
                words.extend([name, *second]);
                if kind == 4 {
                    words.push(*third);
                }
            }
            for word in words {
                self.types.extend(word.to_ne_bytes());
            }
        }

        fn build(self) -> Vec<u8> {
            let mut bytes = Vec::new();
            bytes.extend(MAGIC.to_ne_bytes());
            bytes.extend([1, 0]);
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            for word in [24, 0, types, types, strings] {
                bytes.extend(u32::to_ne_bytes(word));
            }
            bytes.extend(self.types);
            bytes.extend(self.strings);
            bytes
        }
    }

    fn sample() -> Vec<u8> {
        let mut builder = Builder::default();
        // 1: struct inner { a: bits 0; union {} b: bits 64 }
        builder.add(4, "inner", false, 16, &[("a", 0, 0), ("b", 0, 64)]);
        // 2: typedef inner alias
        builder.add(8, "alias", false, 1, &[]);
        // 3: an anonymous structure
        builder.add(4, "", false, 24, &[("deep", 2, 64)]);
        // 4: struct outer with an anonymous member at 32 bytes, a bit field, and one after it
        builder.add(
            4,
            "outer",
            true,
            64,
            &[("", 3, 256), ("flag", 0, 1 << 24 | 3), ("last", 0, 448)],
        );
        // 5: an enumeration; 6: a pointer to outer; 7: a prototype; 8: a pointer to it; 9: a tracepoint
        builder.add(6, "choice", false, 4, &[("one", 1, 0), ("seven", 7, 0)]);
        builder.add(2, "", false, 4, &[]);
        builder.add(13, "", false, 0, &[("", 0, 0), ("", 6, 0), ("", 0, 0)]);
        builder.add(2, "", false, 7, &[]);
        builder.add(8, "btf_trace_happened", false, 8, &[]);
        builder.build()
    }

    #[test]
    fn finds_members_through_names_and_anonymous_members() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).expect("well-formed");
        assert_eq!(btf.offset("inner", "b"), Some(8));
        assert_eq!(btf.offset("outer", "deep.b"), Some(32 + 8 + 8));
        assert_eq!(btf.offset("outer", "last"), Some(56));
        assert_eq!(btf.offset("outer", "flag"), None, "a bit field");
        assert_eq!(btf.offset("outer", "none"), None);
        assert_eq!(btf.offset("none", "a"), None);
        assert_eq!(btf.size("outer"), Some(64));
        assert_eq!(btf.enumerator("choice", "seven"), Some(7));
        assert_eq!(btf.enumerator("choice", "none"), None);
        assert_eq!(btf.tracepoint("happened"), Some(vec![Some("outer"), None]));
        assert_eq!(btf.tracepoint("none"), None);
    }

    #[test]
    fn every_cut_is_an_error_or_less_to_find() {
        let bytes = sample();
        for len in 0..bytes.len() {
            if let Ok(btf) = Btf::parse(&bytes[..len]) {
                btf.offset("outer", "deep.b");
            }
        }
    }

    proptest! {
        #[test]
        fn any_damage_is_survived(at in 0..sample().len(), byte: u8) {
            let mut bytes = sample();
            bytes[at] = byte;
            if let Ok(btf) = Btf::parse(&bytes) {
                btf.offset("outer", "deep.b");
                btf.offset("outer", "last");
                btf.enumerator("choice", "seven");
                btf.tracepoint("happened");
            }
        }
    }
}
