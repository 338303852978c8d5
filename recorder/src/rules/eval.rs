//! Evaluates a condition on an event.
//!
//! Nothing is allocated, and it always ends: every part that is evaluated takes a step, and there are [`STEPS_MAX`].
//! As in CEL, `false && x` is false and `true || x` is true whatever `x` fails with, and in whatever order they stand.

use std::cmp::Ordering;

use super::node::{Comparison, Constant, Node, Operation, Quantifier, TextTest};
use super::raw::Raw;
use crate::event::reflect::{Field, Kind, MESSAGES, MessageType, Messages, Reflect};

/// Most steps of one evaluation.
pub(super) const STEPS_MAX: u32 = 10_000;
/// Most comprehensions within each other.
pub(super) const DEPTH_MAX: usize = 2;

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It cannot be told without decoding the event.
    Unknown,
    /// There is no event before this one.
    NoPrevious,
    /// It would take more than [`STEPS_MAX`] steps.
    Steps,
    /// Something is divided by zero.
    DivisionByZero,
    /// A number is too large.
    Overflow,
    /// A list has no such place.
    NoSuchPlace,
    /// The types do not fit: the check should have said so.
    Type,
}

impl Failed {
    /// Returns the reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unknown => "it is not known yet",
            Self::NoPrevious => "there is no event before this one",
            Self::Steps => "it takes too many steps",
            Self::DivisionByZero => "it divides by zero",
            Self::Overflow => "a number in it is too large",
            Self::NoSuchPlace => "a list in it has no such place",
            Self::Type => "its types do not fit",
        }
    }
}

/// What an evaluation looks at.
pub(super) struct Subject<'a> {
    pub(super) event: Value<'a>,
    pub(super) previous: Option<&'a dyn Reflect>,
}

/// A value.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Bool(bool),
    Integer(i128),
    Fraction(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Message(&'a dyn Reflect),
    /// A message of which nothing is known.
    Nothing(&'static MessageType),
    /// A record that has not been decoded, or its process or signal.
    Raw(Raw<'a>),
    Texts(&'a [String]),
    Messages(&'a dyn Messages),
    Constants(&'a [Constant]),
}

pub(super) type Evaluated<'a> = Result<Value<'a>, Failed>;

struct Evaluation<'a> {
    subject: &'a Subject<'a>,
    variables: [Option<&'a dyn Reflect>; DEPTH_MAX],
    steps: u32,
}

/// Returns whether a condition is true.
pub(super) fn holds<'a>(node: &'a Node, subject: &'a Subject<'a>) -> Result<bool, Failed> {
    Evaluation::of(subject).bool(node)
}

/// Returns a value of an event.
pub(super) fn value<'a>(node: &'a Node, subject: &'a Subject<'a>) -> Evaluated<'a> {
    Evaluation::of(subject).value(node)
}

impl<'a> Evaluation<'a> {
    fn of(subject: &'a Subject<'a>) -> Self {
        Self {
            subject,
            variables: [None; DEPTH_MAX],
            steps: 0,
        }
    }

    fn bool(&mut self, node: &'a Node) -> Result<bool, Failed> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            _ => Err(Failed::Type),
        }
    }

    fn value(&mut self, node: &'a Node) -> Evaluated<'a> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Failed::Steps);
        }
        Ok(match node {
            Node::Constant(constant) => constant_value(constant),
            Node::Event => self.subject.event,
            Node::Previous => Value::Message(self.subject.previous.ok_or(Failed::NoPrevious)?),
            Node::Variable(depth) => {
                let variable = self.variables.get(*depth).copied().flatten();
                Value::Message(variable.ok_or(Failed::Type)?)
            }
            Node::Field(of, message, index) => match self.value(of)? {
                Value::Message(message) => {
                    field_value(message.message_type(), *index, message.field(*index))
                }
                Value::Nothing(message) => field_value(message, *index, Field::Absent),
                Value::Raw(raw) => {
                    let name = message.fields.get(*index).map_or("", |field| field.name);
                    return raw.field(name).ok_or(Failed::Unknown);
                }
                _ => return Err(Failed::Type),
            },
            Node::Has(of, index) => Value::Bool(match self.value(of)? {
                Value::Message(message) => match message.field(*index) {
                    Field::Absent => false,
                    Field::Texts(texts) => !texts.is_empty(),
                    Field::Messages(messages) => !messages.is_empty(),
                    _ => true,
                },
                Value::Nothing(_) => false,
                Value::Raw(_) => return Err(Failed::Unknown),
                _ => return Err(Failed::Type),
            }),
            Node::Index(list, index) => {
                let Value::Integer(index) = self.value(index)? else {
                    return Err(Failed::Type);
                };
                let index = usize::try_from(index).map_err(|_| Failed::NoSuchPlace)?;
                let found = match self.value(list)? {
                    Value::Texts(texts) => texts.get(index).map(|text| Value::Text(text)),
                    Value::Messages(messages) => messages.get(index).map(Value::Message),
                    Value::Constants(constants) => constants.get(index).map(constant_value),
                    _ => return Err(Failed::Type),
                };
                found.ok_or(Failed::NoSuchPlace)?
            }
            Node::Not(of) => Value::Bool(!self.bool(of)?),
            Node::Negate(of) => match self.value(of)? {
                Value::Integer(number) => Value::Integer(-number),
                Value::Fraction(number) => Value::Fraction(-number),
                _ => return Err(Failed::Type),
            },
            Node::And(one, other) => Value::Bool(self.either(one, other, false)?),
            Node::Or(one, other) => Value::Bool(self.either(one, other, true)?),
            Node::If(parts) => {
                let [condition, one, other] = &**parts;
                let chosen = if self.bool(condition)? { one } else { other };
                return self.value(chosen);
            }
            Node::Compare(comparison, one, other) => {
                let (one, other) = (self.value(one)?, self.value(other)?);
                Value::Bool(compare(*comparison, one, other)?)
            }
            Node::In(one, list) => {
                let (one, list) = (self.value(one)?, self.value(list)?);
                Value::Bool(self.is_in(one, list)?)
            }
            Node::Calculate(operation, one, other) => {
                calculate(*operation, self.value(one)?, self.value(other)?)?
            }
            Node::Size(of) => {
                let size = match self.value(of)? {
                    Value::Text(text) => text.chars().count(),
                    Value::Bytes(bytes) => bytes.len(),
                    Value::Texts(texts) => texts.len(),
                    Value::Messages(messages) => messages.len(),
                    Value::Constants(constants) => constants.len(),
                    _ => return Err(Failed::Type),
                };
                Value::Integer(size as i128)
            }
            Node::Text(test, one, other) => {
                let (Value::Text(one), Value::Text(other)) = (self.value(one)?, self.value(other)?)
                else {
                    return Err(Failed::Type);
                };
                Value::Bool(match test {
                    TextTest::Contains => one.contains(other),
                    TextTest::StartsWith => one.starts_with(other),
                    TextTest::EndsWith => one.ends_with(other),
                })
            }
            Node::Matches(text, pattern) => match self.value(text)? {
                Value::Text(text) => Value::Bool(pattern.is_match(text)),
                _ => return Err(Failed::Type),
            },
            Node::ToFraction(of) => match self.value(of)? {
                Value::Integer(number) => Value::Fraction(number as f64),
                value @ Value::Fraction(_) => value,
                _ => return Err(Failed::Type),
            },
            Node::ToInteger(of) => match self.value(of)? {
                value @ Value::Integer(_) => value,
                Value::Fraction(number) => Value::Integer(number as i128),
                _ => return Err(Failed::Type),
            },
            Node::Quantify(quantifier, list, depth, condition) => {
                let Value::Messages(messages) = self.value(list)? else {
                    return Err(Failed::Type);
                };
                Value::Bool(self.quantify(*quantifier, messages, *depth, condition)?)
            }
        })
    }

    /// Returns the deciding value if either side has it; a failure of the other side does not matter then.
    fn either(&mut self, one: &'a Node, other: &'a Node, deciding: bool) -> Result<bool, Failed> {
        let first = self.bool(one);
        if first == Ok(deciding) || first == Err(Failed::Steps) {
            return first;
        }
        let second = self.bool(other);
        if second == Ok(deciding) {
            return second;
        }
        first.and(second)
    }

    fn is_in(&mut self, one: Value<'a>, list: Value<'a>) -> Result<bool, Failed> {
        let mut is_equal = |other: Value<'a>| {
            self.steps += 1;
            match self.steps > STEPS_MAX {
                true => Err(Failed::Steps),
                false => compare(Comparison::Equal, one, other),
            }
        };
        match list {
            Value::Texts(texts) => {
                for text in texts {
                    if is_equal(Value::Text(text))? {
                        return Ok(true);
                    }
                }
            }
            Value::Constants(constants) => {
                for constant in constants {
                    if is_equal(constant_value(constant))? {
                        return Ok(true);
                    }
                }
            }
            _ => return Err(Failed::Type),
        }
        Ok(false)
    }

    fn quantify(
        &mut self,
        quantifier: Quantifier,
        messages: &'a dyn Messages,
        depth: usize,
        condition: &'a Node,
    ) -> Result<bool, Failed> {
        let mut found = 0;
        let mut failed = None;
        for index in 0..messages.len() {
            *self.variables.get_mut(depth).ok_or(Failed::Type)? = messages.get(index);
            match (quantifier, self.bool(condition)) {
                (_, Err(Failed::Steps)) => return Err(Failed::Steps),
                (Quantifier::All, Ok(false)) => return Ok(false),
                (Quantifier::Exists, Ok(true)) => return Ok(true),
                (Quantifier::ExistsOne, Ok(true)) => found += 1,
                (Quantifier::ExistsOne, Err(error)) => return Err(error),
                (_, Err(error)) => failed = Some(error),
                (_, Ok(_)) => {}
            }
        }
        match (quantifier, failed) {
            (_, Some(error)) => Err(error),
            (Quantifier::All, None) => Ok(true),
            (Quantifier::Exists, None) => Ok(false),
            (Quantifier::ExistsOne, None) => Ok(found == 1),
        }
    }
}

/// Returns a constant as a value.
fn constant_value(constant: &Constant) -> Value<'_> {
    match constant {
        Constant::Bool(value) => Value::Bool(*value),
        Constant::Integer(number) => Value::Integer(*number),
        Constant::Fraction(number) => Value::Fraction(*number),
        Constant::Text(text) => Value::Text(text),
        Constant::List(list) => Value::Constants(list),
    }
}

/// Returns the value of a field; what is absent is zero, empty, false, as in CEL.
fn field_value<'a>(message: &'static MessageType, index: usize, field: Field<'a>) -> Value<'a> {
    match field {
        Field::Bool(value) => Value::Bool(value),
        Field::Integer(number) => Value::Integer(number),
        Field::Fraction(number) => Value::Fraction(number),
        Field::Text(text) => Value::Text(text),
        Field::Bytes(bytes) => Value::Bytes(bytes),
        Field::Message(message) => Value::Message(message),
        Field::Texts(texts) => Value::Texts(texts),
        Field::Messages(messages) => Value::Messages(messages),
        Field::Absent => match message.fields.get(index) {
            Some(field) if field.is_list => Value::Texts(&[]),
            Some(field) => match field.kind {
                Kind::Bool => Value::Bool(false),
                Kind::Integer => Value::Integer(0),
                Kind::Fraction => Value::Fraction(0.0),
                Kind::Text => Value::Text(""),
                Kind::Bytes => Value::Bytes(&[]),
                Kind::Message(position) => Value::Nothing(&MESSAGES[position]),
            },
            None => Value::Bool(false),
        },
    }
}

fn compare(comparison: Comparison, one: Value<'_>, other: Value<'_>) -> Result<bool, Failed> {
    let ordering = match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => Some(one.cmp(&other)),
        (Value::Fraction(one), Value::Fraction(other)) => one.partial_cmp(&other),
        (Value::Integer(one), Value::Fraction(other)) => (one as f64).partial_cmp(&other),
        (Value::Fraction(one), Value::Integer(other)) => one.partial_cmp(&(other as f64)),
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(&other)),
        _ => return Err(Failed::Type),
    };
    // A number that is none is not equal to, not less and not greater than any.
    let Some(ordering) = ordering else {
        return Ok(comparison == Comparison::NotEqual);
    };
    Ok(match comparison {
        Comparison::Equal => ordering == Ordering::Equal,
        Comparison::NotEqual => ordering != Ordering::Equal,
        Comparison::Less => ordering == Ordering::Less,
        Comparison::LessOrEqual => ordering != Ordering::Greater,
        Comparison::Greater => ordering == Ordering::Greater,
        Comparison::GreaterOrEqual => ordering != Ordering::Less,
    })
}

fn calculate<'a>(operation: Operation, one: Value<'a>, other: Value<'a>) -> Evaluated<'a> {
    let (one, other) = match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => {
            let result = match operation {
                Operation::Add => one.checked_add(other),
                Operation::Subtract => one.checked_sub(other),
                Operation::Multiply => one.checked_mul(other),
                Operation::Divide | Operation::Remainder if other == 0 => {
                    return Err(Failed::DivisionByZero);
                }
                Operation::Divide => one.checked_div(other),
                Operation::Remainder => one.checked_rem(other),
            };
            return result.map(Value::Integer).ok_or(Failed::Overflow);
        }
        (Value::Integer(one), Value::Fraction(other)) => (one as f64, other),
        (Value::Fraction(one), Value::Integer(other)) => (one, other as f64),
        (Value::Fraction(one), Value::Fraction(other)) => (one, other),
        _ => return Err(Failed::Type),
    };
    Ok(Value::Fraction(match operation {
        Operation::Add => one + other,
        Operation::Subtract => one - other,
        Operation::Multiply => one * other,
        Operation::Divide => one / other,
        Operation::Remainder => one % other,
    }))
}
