//! Messages by the names of their fields: what the schema says of them, and their values.
//!
//! Made from the schema when this is built, so that it cannot say anything else.

use super::{TOPICS, proto};

/// A type of messages.
#[derive(Debug)]
pub struct MessageType {
    /// Its name: "ProcessExit".
    pub name: &'static str,
    /// What it stands for.
    pub documentation: &'static str,
    /// Its fields.
    pub fields: &'static [FieldType],
}

/// A field of a message.
#[derive(Debug)]
pub struct FieldType {
    /// Its name: "exit_code".
    pub name: &'static str,
    /// What its value is; of a list, what each is.
    pub kind: Kind,
    /// Whether it holds any number of values.
    pub is_list: bool,
    /// Whether it is an integer that stands for an address or the content of a register.
    pub is_address: bool,
    /// What it says.
    pub documentation: &'static str,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Yes or no.
    Bool,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Fraction,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A message: its position in [`MESSAGES`].
    Message(usize),
}

/// The value of a field.
#[derive(Clone, Copy)]
pub enum Field<'a> {
    /// Nothing is known.
    Absent,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction.
    Fraction(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A message.
    Message(&'a dyn Reflect),
    /// Texts.
    Texts(&'a [String]),
    /// Messages.
    Messages(&'a dyn Messages),
}

/// A message that is read by its fields.
pub trait Reflect {
    /// Returns its type.
    fn message_type(&self) -> &'static MessageType;
    /// Returns the value of the field at this position of its type's.
    fn field(&self, index: usize) -> Field<'_>;
}

impl<T: Reflect> Reflect for Box<T> {
    fn message_type(&self) -> &'static MessageType {
        T::message_type(self)
    }

    fn field(&self, index: usize) -> Field<'_> {
        T::field(self, index)
    }
}

/// Messages of one type.
pub trait Messages {
    /// Returns how many there are.
    fn len(&self) -> usize;
    /// Returns whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Returns one of them.
    fn get(&self, index: usize) -> Option<&dyn Reflect>;
}

impl<T: Reflect> Messages for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn get(&self, index: usize) -> Option<&dyn Reflect> {
        self.as_slice().get(index).map(|one| one as &dyn Reflect)
    }
}

/// Returns the type of the messages of a topic.
pub fn of_topic(name: &str) -> Option<&'static MessageType> {
    let topic = TOPICS.iter().find(|topic| topic.name == name)?;
    let message = topic.message.rsplit('.').next();
    MESSAGES.iter().find(|one| Some(one.name) == message)
}

include!(concat!(env!("OUT_DIR"), "/reflect.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_names_types_documentation_and_values() {
        let exit = of_topic("process.exit").expect("it is a topic");
        let index = exit.fields.iter().position(|one| one.name == "exit_code");
        let index = index.expect("it has one");
        assert_eq!(exit.fields[index].kind, Kind::Integer);
        assert!(
            exit.fields[index]
                .documentation
                .starts_with("Argument of exit()")
        );
        let message = proto::ProcessExit {
            exit_code: Some(7),
            ..proto::ProcessExit::default()
        };
        assert!(matches!(message.field(index), Field::Integer(7)));
        assert!(matches!(message.field(0), Field::Absent));
        assert_eq!(message.message_type().name, "ProcessExit");
        assert!(TOPICS.iter().all(|topic| of_topic(topic.name).is_some()));
    }
}
