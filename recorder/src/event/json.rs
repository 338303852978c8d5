//! How the fields of messages look in JSON where it is not how serde has them: unknown fields are left out, addresses and
//! bytes are hex, registers are one object.

use std::fmt::{self, Display};

use serde::{Serializer, ser::SerializeMap};

use super::{proto::Register, text};

/// A field that may say nothing.
pub trait Absent {
    /// Returns whether it says nothing.
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Writes `0x…`.
struct Address(u64);

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Serialises an address as `"0x…"`.
///
/// # Errors
///
/// Those of the serializer.
pub fn address<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(&Address(*value)),
        None => serializer.serialize_none(),
    }
}

/// Serialises bytes as hex digits.
///
/// # Errors
///
/// Those of the serializer.
pub fn bytes<S: Serializer>(value: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_str(&text::hex(value)),
        None => serializer.serialize_none(),
    }
}

/// Serialises registers as one object, name to `"0x…"`.
///
/// # Errors
///
/// Those of the serializer.
pub fn registers<S: Serializer>(value: &[Register], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(value.len()))?;
    for register in value {
        map.serialize_key(register.name())?;
        map.serialize_value(&format_args!("{}", Address(register.value())))?;
    }
    map.end()
}
