//! A condition, checked and ready to be evaluated.

use regex_lite::Regex;

use crate::event::reflect::MessageType;

/// A part of a condition.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A value that is written.
    Constant(Constant),
    /// The event.
    Event,
    /// The event of the same type before this one.
    Previous,
    /// The message that a comprehension is at, by its depth.
    Variable(usize),
    /// A field of a message.
    Field(Box<Node>, &'static MessageType, usize),
    /// Whether a field of a message is known.
    Has(Box<Node>, usize),
    /// One of a list.
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<[Node; 3]>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// Whether a list has a value.
    In(Box<Node>, Box<Node>),
    Calculate(Operation, Box<Node>, Box<Node>),
    Size(Box<Node>),
    Text(TextTest, Box<Node>, Box<Node>),
    Matches(Box<Node>, Regex),
    ToFraction(Box<Node>),
    ToInteger(Box<Node>),
    /// A list, the depth of its variable, and what is to be true of its messages.
    Quantify(Quantifier, Box<Node>, usize, Box<Node>),
}

/// A value that is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Bool(bool),
    Integer(i128),
    Fraction(f64),
    Text(Box<str>),
    List(Vec<Constant>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    All,
    Exists,
    ExistsOne,
}
