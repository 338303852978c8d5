//! Checks a condition against the fields of an event, and makes it ready to be evaluated.
//!
//! The language is CEL, parsed by the `cel` crate. What is left of it here has a type before it is ever evaluated, reads
//! fields in place and ends within a bound; conversions of text, maps, and the comprehensions that make lists are left out.
//! Two things are easier than in CEL: whole numbers have no sign to mind, and mix with fractions.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, SourceInfo, operators,
};
use cel::parser::{Expression, Parser};
use regex_lite::Regex;

use super::eval::DEPTH_MAX;
use super::node::{Comparison, Constant, Node, Operation, Quantifier, TextTest};
use crate::config::nearest;
use crate::event::reflect::{Kind, MESSAGES, MessageType};

/// Longest condition, in bytes.
pub const TEXT_MAX: usize = 4096;
/// Most parts of one.
const PARTS_MAX: usize = 1000;
/// Deepest nesting of one.
const NESTING_MAX: u16 = 64;
/// Stack for the parser, and more of it for each byte of text. What it does not touch takes no memory, but a small host gives no
/// address space beyond what memory it has.
const STACK_BYTES: usize = 2 << 20;
const STACK_BYTES_PER_BYTE: usize = 64 << 10;

/// Fields that only the writer of dumps or a reader fills, and what to use instead.
const LATE: &[(&str, &str, &str)] = &[
    ("Process", "user", "use process.uid"),
    ("Process", "parents", "use process.ppid"),
    ("Frame", "symbol", "use build_id and offset"),
    ("Frame", "symbol_offset", "use offset"),
    ("Frame", "file", "use build_id and offset"),
    ("Frame", "line", "use build_id and offset"),
    ("Frame", "inlined", "use build_id and offset"),
    ("SignalFatal", "unwound_stack", "use stack"),
];
/// Fields of a process that its record has itself.
const OWN: &[&str] = &[
    "pid",
    "tid",
    "start_boot_ns",
    "comm",
    "uid",
    "gid",
    "cgroup_id",
];

/// Returns whether only the writer of dumps or a reader fills a field: rules cannot ask for it.
pub fn is_late(message: &str, field: &str) -> bool {
    LATE.iter()
        .any(|(of, late, _)| *of == message && *late == field)
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Integer,
    Fraction,
    Text,
    Bytes,
    Message(usize),
    Texts,
    Integers,
    Messages(usize),
    /// The empty list.
    Empty,
}

impl Type {
    fn of(kind: Kind, is_list: bool) -> Self {
        match (kind, is_list) {
            (Kind::Bool, _) => Self::Bool,
            (Kind::Integer, false) => Self::Integer,
            (Kind::Integer, true) => Self::Integers,
            (Kind::Fraction, _) => Self::Fraction,
            (Kind::Text, false) => Self::Text,
            (Kind::Text, true) => Self::Texts,
            (Kind::Bytes, _) => Self::Bytes,
            (Kind::Message(at), false) => Self::Message(at),
            (Kind::Message(at), true) => Self::Messages(at),
        }
    }

    /// Returns what it is in words.
    pub(super) fn words(self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Integer => "a whole number".into(),
            Self::Fraction => "a number".into(),
            Self::Text => "text".into(),
            Self::Bytes => "bytes".into(),
            Self::Message(at) => format!("{} with fields of its own", MESSAGES[at].name),
            Self::Texts => "a list of texts".into(),
            Self::Integers => "a list of numbers".into(),
            Self::Messages(at) => format!("a list of {}", MESSAGES[at].name),
            Self::Empty => "an empty list".into(),
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Fraction)
    }

    fn is_list(self) -> bool {
        matches!(
            self,
            Self::Texts | Self::Integers | Self::Messages(_) | Self::Empty
        )
    }
}

/// What a condition may refer to.
pub(super) struct Scope<'a> {
    /// Name of the events' type.
    pub(super) topic: &'a str,
    /// Their message.
    pub(super) message: &'static MessageType,
    /// Whether it may look at the event before.
    pub(super) has_previous: bool,
    /// Names that `incident.watch` has, cut as the kernel cuts them.
    pub(super) watch: &'a [String],
}

/// A condition that has been checked.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) node: Node,
    pub(super) kind: Type,
    /// Whether it asks who a process is, which its record does not say itself.
    pub(super) needs_names: bool,
    pub(super) needs_previous: bool,
}

/// What is wrong, and on which line of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) text: String,
}

struct Checker<'a> {
    scope: &'a Scope<'a>,
    source: SourceInfo,
    variables: Vec<(String, usize)>,
    parts: usize,
    depth: u16,
    needs_names: bool,
    needs_previous: bool,
}

type Typed = (Node, Type);

/// Checks a text that is to be a condition.
pub(super) fn condition(text: &str, scope: &Scope<'_>) -> Result<Checked, Wrong> {
    let checked = expression(text, scope)?;
    match checked.kind {
        Type::Bool => Ok(checked),
        other => Err(Wrong {
            line: 1,
            text: format!("it must be true or false, and is {}", other.words()),
        }),
    }
}

/// Checks a text that is to be a value.
///
/// The parser goes as deep as its text: it gets a stack for the deepest that a text of this length can be.
pub(super) fn expression(text: &str, scope: &Scope<'_>) -> Result<Checked, Wrong> {
    std::thread::scope(|threads| {
        let stack = STACK_BYTES + STACK_BYTES_PER_BYTE * text.len().min(TEXT_MAX);
        let parser = std::thread::Builder::new().stack_size(stack);
        let wrong = |text: &str| Wrong {
            line: 1,
            text: text.to_owned(),
        };
        let thread = parser
            .spawn_scoped(threads, || parse_and_check(text, scope))
            .map_err(|error| wrong(&format!("there is no room to check it: {error}")))?;
        // Not this program's parser: what it cannot bear is no condition.
        let checked = thread.join();
        checked.unwrap_or_else(|_| Err(wrong("it is no CEL: the parser gave up")))
    })
}

fn parse_and_check(text: &str, scope: &Scope<'_>) -> Result<Checked, Wrong> {
    let wrong = |text: String| Wrong { line: 1, text };
    if text.len() > TEXT_MAX {
        return Err(wrong(format!("it is longer than {TEXT_MAX} bytes")));
    }
    if text.trim().is_empty() {
        return Err(wrong("it is empty".into()));
    }
    if is_nested_deeply(text) {
        return Err(wrong(format!(
            "its brackets are nested more than {NESTING_MAX} deep"
        )));
    }
    let parser = Parser::new().max_recursion_depth(NESTING_MAX);
    let (parsed, source) =
        parser
            .parse_with_source_info(text)
            .map_err(|errors| match errors.errors.first() {
                Some(error) if error.msg.contains("Recursion limit") => {
                    wrong(format!("it is nested more than {NESTING_MAX} deep"))
                }
                Some(error) => Wrong {
                    line: usize::try_from(error.pos.0).unwrap_or(1).max(1),
                    text: format!(
                        "it is no CEL: {} (column {})",
                        plain(&error.msg),
                        error.pos.1
                    ),
                },
                None => wrong("it is no CEL".into()),
            })?;
    let mut checker = Checker {
        scope,
        source,
        variables: Vec::new(),
        parts: 0,
        depth: 0,
        needs_names: false,
        needs_previous: false,
    };
    let (node, kind) = checker.check(&parsed)?;
    Ok(Checked {
        node,
        kind,
        needs_names: checker.needs_names,
        needs_previous: checker.needs_previous,
    })
}

/// Returns whether brackets are in more brackets than there may be; those in texts count too.
fn is_nested_deeply(text: &str) -> bool {
    let mut depth = 0_u16;
    text.bytes().any(|byte| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > NESTING_MAX
    })
}

/// Returns a message of the parser on one line, and no longer than one.
fn plain(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.floor_char_boundary(160);
    match end < line.len() {
        true => format!("{}...", &line[..end]),
        false => line,
    }
}

impl Checker<'_> {
    fn wrong<T>(&self, at: &Expression, text: impl Into<String>) -> Result<T, Wrong> {
        let start = self.source.offset_for(at.id).map_or(0, |(start, _)| start);
        let before = self.source.source.get(..start as usize).unwrap_or_default();
        Err(Wrong {
            line: 1 + before.matches('\n').count(),
            text: text.into(),
        })
    }

    fn check(&mut self, at: &Expression) -> Result<Typed, Wrong> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return self.wrong(at, format!("it has more than {PARTS_MAX} parts"));
        }
        if self.depth == NESTING_MAX {
            return self.wrong(at, format!("it is nested more than {NESTING_MAX} deep"));
        }
        self.depth += 1;
        let checked = self.part(at);
        self.depth -= 1;
        checked
    }

    fn part(&mut self, at: &Expression) -> Result<Typed, Wrong> {
        match &at.expr {
            Expr::Literal(literal) => self.literal(at, literal),
            Expr::Ident(name) => self.name(at, name),
            Expr::Select(select) => self.select(at, select),
            Expr::Call(call) => self.call(at, call),
            Expr::Comprehension(comprehension) => self.comprehension(at, comprehension),
            Expr::List(list) => {
                let mut constants = Vec::new();
                let mut kind = Type::Empty;
                for element in &list.elements {
                    let (Node::Constant(constant), one) = self.check(element)? else {
                        return self.wrong(
                            element,
                            "a list may hold only texts and numbers as they are",
                        );
                    };
                    let of = match one {
                        Type::Text => Type::Texts,
                        Type::Integer | Type::Fraction => Type::Integers,
                        _ => return self.wrong(element, "a list may hold only texts and numbers"),
                    };
                    if kind != Type::Empty && kind != of {
                        return self.wrong(element, "a list may not mix texts and numbers");
                    }
                    kind = of;
                    constants.push(constant);
                }
                Ok((Node::Constant(Constant::List(constants)), kind))
            }
            Expr::Map(_) | Expr::Struct(_) => {
                self.wrong(at, "maps and messages cannot be made here")
            }
            Expr::Unspecified => self.wrong(at, "it is no CEL"),
        }
    }

    fn literal(&self, at: &Expression, literal: &LiteralValue) -> Result<Typed, Wrong> {
        let (constant, kind) = match literal {
            LiteralValue::Boolean(value) => (Constant::Bool(*value.inner()), Type::Bool),
            LiteralValue::Int(number) => {
                (Constant::Integer((*number.inner()).into()), Type::Integer)
            }
            LiteralValue::UInt(number) => {
                (Constant::Integer((*number.inner()).into()), Type::Integer)
            }
            LiteralValue::Double(number) => (Constant::Fraction(*number.inner()), Type::Fraction),
            LiteralValue::String(text) => (Constant::Text(text.inner().into()), Type::Text),
            LiteralValue::Bytes(_) => return self.wrong(at, "bytes cannot be written here"),
            LiteralValue::Null => {
                return self.wrong(
                    at,
                    "null is nothing here: write has(event.FIELD) to ask whether a field is known",
                );
            }
        };
        Ok((Node::Constant(constant), kind))
    }

    fn name(&mut self, at: &Expression, name: &str) -> Result<Typed, Wrong> {
        let variables = self.variables.iter().enumerate().rev();
        for (depth, (variable, message)) in variables {
            if variable == name {
                return Ok((Node::Variable(depth), Type::Message(*message)));
            }
        }
        let whole = MESSAGES
            .iter()
            .position(|one| one.name == self.scope.message.name);
        let whole = Type::Message(whole.unwrap_or_default());
        match name {
            "event" => Ok((Node::Event, whole)),
            "previous" if self.scope.has_previous => {
                self.needs_previous = true;
                Ok((Node::Previous, whole))
            }
            "previous" => self.wrong(at, "only samples have a previous one"),
            "watch" => {
                let names = self.scope.watch.iter();
                let names = names.map(|name| Constant::Text(name.as_str().into()));
                Ok((Node::Constant(Constant::List(names.collect())), Type::Texts))
            }
            _ => self.field(at, Node::Event, self.scope.message, name),
        }
    }

    fn select(&mut self, at: &Expression, select: &SelectExpr) -> Result<Typed, Wrong> {
        let (of, kind) = self.check(&select.operand)?;
        let Type::Message(position) = kind else {
            let list = if kind.is_list() {
                ": write exists(x, ...), all(x, ...) or [0]"
            } else {
                ""
            };
            return self.wrong(
                at,
                format!("{} has no field {:?}{list}", kind.words(), select.field),
            );
        };
        let (node, kind) = self.field(at, of, &MESSAGES[position], &select.field)?;
        match (select.test, node) {
            (true, Node::Field(of, _, index)) => Ok((Node::Has(of, index), Type::Bool)),
            (_, node) => Ok((node, kind)),
        }
    }

    fn field(
        &mut self,
        at: &Expression,
        of: Node,
        message: &'static MessageType,
        name: &str,
    ) -> Result<Typed, Wrong> {
        let index = message.fields.iter().position(|field| field.name == name);
        let Some(index) = index else {
            let is_event = matches!(of, Node::Event);
            let owner = if is_event {
                self.scope.topic
            } else {
                message.name
            };
            let fields = message.fields.iter().map(|field| field.name);
            let also = ["event", "previous", "watch"]
                .into_iter()
                .filter(|_| is_event);
            let candidate = nearest(name, fields.chain(also));
            return self.wrong(
                at,
                match candidate {
                    Some(meant) => {
                        format!("{owner} has no field {name:?}: did you mean {meant:?}?")
                    }
                    None => format!(
                        "{owner} has no field {name:?}: `recorder rules fields {}` lists them",
                        self.scope.topic
                    ),
                },
            );
        };
        let late = LATE
            .iter()
            .find(|(of, field, _)| *of == message.name && *field == name);
        if let Some((_, _, instead)) = late {
            return self.wrong(
                at,
                format!("{name} is found only when a dump is written or read: {instead}"),
            );
        }
        let field = &message.fields[index];
        self.needs_names |= match message.name {
            "Process" => !OWN.contains(&name),
            "OomKill" => name == "memory_cgroup",
            "Cgroup" => name != "path",
            _ => false,
        };
        let kind = Type::of(field.kind, field.is_list);
        Ok((Node::Field(Box::new(of), message, index), kind))
    }

    fn call(&mut self, at: &Expression, call: &CallExpr) -> Result<Typed, Wrong> {
        let target = call.target.as_deref();
        let operands: Vec<&Expression> = target.into_iter().chain(&call.args).collect();
        match (call.func_name.as_str(), operands.as_slice()) {
            (operators::LOGICAL_AND, [one, other]) => {
                let (one, other) = (self.bool(one)?, self.bool(other)?);
                Ok((and(one, other), Type::Bool))
            }
            (operators::LOGICAL_OR, [one, other]) => {
                let (one, other) = (self.bool(one)?, self.bool(other)?);
                Ok((or(one, other), Type::Bool))
            }
            (operators::LOGICAL_NOT, [one]) => {
                let one = self.bool(one)?;
                Ok((Node::Not(Box::new(one)), Type::Bool))
            }
            (operators::NEGATE, [one]) => match self.check(one)? {
                (Node::Constant(Constant::Integer(number)), kind) => {
                    Ok((Node::Constant(Constant::Integer(-number)), kind))
                }
                (node, kind) if kind.is_number() => Ok((Node::Negate(Box::new(node)), kind)),
                (_, kind) => self.wrong(at, format!("- wants a number, not {}", kind.words())),
            },
            (operators::CONDITIONAL, [condition, one, other]) => {
                let condition = self.bool(condition)?;
                let ((one, first), (other, second)) = (self.check(one)?, self.check(other)?);
                let kind = match (first, second) {
                    (first, second) if first == second => first,
                    (first, second) if first.is_number() && second.is_number() => Type::Fraction,
                    _ => return self.wrong(at, "both sides of : must be of one type"),
                };
                Ok((Node::If(Box::new([condition, one, other])), kind))
            }
            (operators::IN, [one, list]) => self.is_in(at, one, list),
            (operators::INDEX, [list, index]) => {
                let ((list, kind), (index, of)) = (self.check(list)?, self.check(index)?);
                let kind = match kind {
                    Type::Texts => Type::Text,
                    Type::Integers => Type::Integer,
                    Type::Messages(message) => Type::Message(message),
                    other => return self.wrong(at, format!("{} has no places", other.words())),
                };
                if of != Type::Integer {
                    return self.wrong(at, "a place in a list is a whole number");
                }
                Ok((Node::Index(Box::new(list), Box::new(index)), kind))
            }
            ("size", [of]) => {
                let (of, kind) = self.check(of)?;
                if !kind.is_list() && !matches!(kind, Type::Text | Type::Bytes) {
                    return self.wrong(at, format!("{} has no size", kind.words()));
                }
                Ok((Node::Size(Box::new(of)), Type::Integer))
            }
            ("contains", [one, other]) => self.text(at, TextTest::Contains, one, other),
            ("startsWith", [one, other]) => self.text(at, TextTest::StartsWith, one, other),
            ("endsWith", [one, other]) => self.text(at, TextTest::EndsWith, one, other),
            ("matches", [one, pattern]) => self.matches(at, one, pattern),
            ("double" | "int" | "uint", [one]) => {
                let (node, kind) = self.check(one)?;
                if !kind.is_number() {
                    return self.wrong(
                        at,
                        format!("only numbers can be converted, not {}", kind.words()),
                    );
                }
                Ok(match call.func_name.as_str() {
                    "double" => (Node::ToFraction(Box::new(node)), Type::Fraction),
                    _ => (Node::ToInteger(Box::new(node)), Type::Integer),
                })
            }
            (name, [one, other]) if let Some(comparison) = comparison(name) => {
                let ((one, first), (other, second)) = (self.check(one)?, self.check(other)?);
                let fit = (first.is_number() && second.is_number())
                    || (first == second && matches!(first, Type::Text | Type::Bool));
                if !fit {
                    return self.wrong(
                        at,
                        format!(
                            "{} cannot be compared with {}",
                            first.words(),
                            second.words()
                        ),
                    );
                }
                let (one, other) = (Box::new(one), Box::new(other));
                Ok((Node::Compare(comparison, one, other), Type::Bool))
            }
            (name, [one, other]) if let Some(operation) = operation(name) => {
                let ((one, first), (other, second)) = (self.check(one)?, self.check(other)?);
                if !first.is_number() || !second.is_number() {
                    let not = if first.is_number() { second } else { first };
                    return self.wrong(
                        at,
                        format!("only numbers can be calculated with, not {}", not.words()),
                    );
                }
                let kind = if first == second {
                    first
                } else {
                    Type::Fraction
                };
                Ok((
                    Node::Calculate(operation, Box::new(one), Box::new(other)),
                    kind,
                ))
            }
            (name, _) => {
                const FUNCTIONS: [&str; 11] = [
                    "contains",
                    "startsWith",
                    "endsWith",
                    "matches",
                    "size",
                    "double",
                    "int",
                    "has",
                    "exists",
                    "all",
                    "exists_one",
                ];
                self.wrong(
                    at,
                    match nearest(name, FUNCTIONS.into_iter()) {
                        Some(meant) if meant != name => {
                            format!("there is no {name}(): did you mean {meant}()?")
                        }
                        Some(_) => format!("{name}() has other arguments"),
                        None => format!("there is no {name}(): there are {}", FUNCTIONS.join(", ")),
                    },
                )
            }
        }
    }

    fn bool(&mut self, at: &Expression) -> Result<Node, Wrong> {
        match self.check(at)? {
            (node, Type::Bool) => Ok(node),
            (_, other) => self.wrong(
                at,
                format!("it must be true or false, and is {}", other.words()),
            ),
        }
    }

    fn is_in(
        &mut self,
        at: &Expression,
        one: &Expression,
        list: &Expression,
    ) -> Result<Typed, Wrong> {
        let ((one, first), (list, kind)) = (self.check(one)?, self.check(list)?);
        let fit = match kind {
            Type::Texts => first == Type::Text,
            Type::Integers => first.is_number(),
            Type::Empty => true,
            _ => false,
        };
        if !fit {
            return self.wrong(
                at,
                format!("{} cannot be in {}", first.words(), kind.words()),
            );
        }
        if matches!(&list, Node::Constant(Constant::List(list)) if list.is_empty()) {
            return Ok((Node::Constant(Constant::Bool(false)), Type::Bool));
        }
        Ok((Node::In(Box::new(one), Box::new(list)), Type::Bool))
    }

    fn text(
        &mut self,
        at: &Expression,
        test: TextTest,
        one: &Expression,
        other: &Expression,
    ) -> Result<Typed, Wrong> {
        let ((one, first), (other, second)) = (self.check(one)?, self.check(other)?);
        if first != Type::Text || second != Type::Text {
            let not = if first == Type::Text { second } else { first };
            return self.wrong(at, format!("it wants text, not {}", not.words()));
        }
        Ok((Node::Text(test, Box::new(one), Box::new(other)), Type::Bool))
    }

    fn matches(
        &mut self,
        at: &Expression,
        one: &Expression,
        pattern: &Expression,
    ) -> Result<Typed, Wrong> {
        let (one, kind) = self.check(one)?;
        let (Node::Constant(Constant::Text(pattern)), Type::Text) = (self.check(pattern)?.0, kind)
        else {
            return self.wrong(at, "matches() wants text and a pattern as it is");
        };
        match Regex::new(&pattern) {
            Ok(pattern) => Ok((Node::Matches(Box::new(one), pattern), Type::Bool)),
            Err(error) => self.wrong(
                at,
                format!("the pattern makes no sense: {}", plain(&error.to_string())),
            ),
        }
    }

    fn comprehension(&mut self, at: &Expression, of: &ComprehensionExpr) -> Result<Typed, Wrong> {
        let (list, kind) = self.check(&of.iter_range)?;
        let step = match &of.loop_step.expr {
            Expr::Call(step) => step,
            _ => {
                return self.wrong(
                    at,
                    "map and filter make lists: use exists, all or exists_one",
                );
            }
        };
        let (quantifier, condition) = match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_AND, [_, condition]) => (Quantifier::All, condition),
            (operators::LOGICAL_OR, [_, condition]) => (Quantifier::Exists, condition),
            (operators::CONDITIONAL, [condition, _, _])
                if matches!(of.accu_init.expr, Expr::Literal(_)) =>
            {
                (Quantifier::ExistsOne, condition)
            }
            _ => {
                return self.wrong(
                    at,
                    "map and filter make lists: use exists, all or exists_one",
                );
            }
        };
        let Type::Messages(message) = kind else {
            return self.wrong(
                at,
                match kind {
                    Type::Texts => "of a list of texts, ask \"a\" in LIST".to_owned(),
                    other => format!("{} is no list of messages", other.words()),
                },
            );
        };
        let depth = self.variables.len();
        if depth == DEPTH_MAX {
            return self.wrong(
                at,
                format!("more than {DEPTH_MAX} comprehensions within each other"),
            );
        }
        self.variables.push((of.iter_var.clone(), message));
        let condition = self.bool(condition);
        self.variables.pop();
        let condition = Box::new(condition?);
        Ok((
            Node::Quantify(quantifier, Box::new(list), depth, condition),
            Type::Bool,
        ))
    }
}

fn and(one: Node, other: Node) -> Node {
    match (one, other) {
        (Node::Constant(Constant::Bool(false)), _) | (_, Node::Constant(Constant::Bool(false))) => {
            Node::Constant(Constant::Bool(false))
        }
        (Node::Constant(Constant::Bool(true)), node)
        | (node, Node::Constant(Constant::Bool(true))) => node,
        (one, other) => Node::And(Box::new(one), Box::new(other)),
    }
}

fn or(one: Node, other: Node) -> Node {
    match (one, other) {
        (Node::Constant(Constant::Bool(true)), _) | (_, Node::Constant(Constant::Bool(true))) => {
            Node::Constant(Constant::Bool(true))
        }
        (Node::Constant(Constant::Bool(false)), node)
        | (node, Node::Constant(Constant::Bool(false))) => node,
        (one, other) => Node::Or(Box::new(one), Box::new(other)),
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::NotEqual,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        operators::ADD => Operation::Add,
        operators::SUBSTRACT => Operation::Subtract,
        operators::MULTIPLY => Operation::Multiply,
        operators::DIVIDE => Operation::Divide,
        operators::MODULO => Operation::Remainder,
        _ => return None,
    })
}
