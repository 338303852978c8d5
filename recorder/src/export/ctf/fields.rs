//! The fields of a message as fields of an event: those of messages in it behind their own names, `signal_number`.
//!
//! The format has no field that may be absent. What is unknown is the value that has all bits set, which is -1 where the
//! field has a sign; a text is empty, a fraction no number. Lists and bytes are in the event's `body` alone, where what is
//! unknown is absent.

use std::fmt::Write as _;

use crate::event::reflect::{Field, FieldType, Kind, MESSAGES, MessageType, Reflect};

/// Messages inside of messages that are followed; what lies deeper is in the `body` alone.
const DEPTH_MAX: usize = 3;

/// Appends the declarations of the fields of a type of messages.
pub(super) fn declare(out: &mut String, message: &MessageType) {
    declare_below(out, message, "_", DEPTH_MAX);
}

fn declare_below(out: &mut String, message: &MessageType, prefix: &str, depth: usize) {
    for field in scalars(message) {
        let name = field.name;
        let kind = match field.kind {
            Kind::Message(index) if depth > 0 => {
                declare_below(
                    out,
                    &MESSAGES[index],
                    &format!("{prefix}{name}_"),
                    depth - 1,
                );
                continue;
            }
            Kind::Message(_) | Kind::Bytes => continue,
            Kind::Bool => "int8_t",
            Kind::Integer if field.is_address => "address_t",
            Kind::Integer => "int64_t",
            Kind::Fraction => "double_t",
            Kind::Text => "string { encoding = UTF8; }",
        };
        // Readers take the first underscore away: without it a name could be a word of the language.
        let _ = writeln!(out, "        {kind} {prefix}{name};");
    }
}

/// Appends the values of the fields that [`declare`] declares.
pub(super) fn write(out: &mut Vec<u8>, message: &dyn Reflect) {
    write_below(out, message.message_type(), Some(message), DEPTH_MAX);
}

fn write_below(
    out: &mut Vec<u8>,
    message_type: &MessageType,
    message: Option<&dyn Reflect>,
    depth: usize,
) {
    for (index, field) in (0..).zip(message_type.fields) {
        if field.is_list {
            continue;
        }
        let value = message.map_or(Field::Absent, |message| message.field(index));
        match (field.kind, value) {
            (Kind::Message(index), value) if depth > 0 => {
                let message = match value {
                    Field::Message(message) => Some(message),
                    _ => None,
                };
                write_below(out, &MESSAGES[index], message, depth - 1);
            }
            (Kind::Message(_) | Kind::Bytes, _) => {}
            (Kind::Bool, Field::Bool(value)) => out.push(value.into()),
            (Kind::Bool, _) => out.push(u8::MAX),
            (Kind::Integer, Field::Integer(value)) if field.is_address => {
                out.extend_from_slice(&u64::try_from(value).unwrap_or(u64::MAX).to_le_bytes());
            }
            (Kind::Integer, Field::Integer(value)) => {
                out.extend_from_slice(&i64::try_from(value).unwrap_or(i64::MAX).to_le_bytes());
            }
            (Kind::Integer, _) => out.extend_from_slice(&u64::MAX.to_le_bytes()),
            (Kind::Fraction, Field::Fraction(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (Kind::Fraction, _) => out.extend_from_slice(&f64::NAN.to_le_bytes()),
            (Kind::Text, Field::Text(value)) => super::text(out, value),
            (Kind::Text, _) => out.push(0),
        }
    }
}

fn scalars(message: &MessageType) -> impl Iterator<Item = &FieldType> {
    message.fields.iter().filter(|field| !field.is_list)
}
