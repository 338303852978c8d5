//! Rules that are ready: by the type of the events that they are about.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem::offset_of;

use recorder_ebpf::abi::{COMM_LEN, EventKind, HEADER_OWN, Header, KIND_SLOTS};

use super::check::{self, Checked, Scope, Type, Wrong};
use super::count::{Counter, Threshold};
use super::eval::{self, Failed, Subject, Value};
use super::node::{Constant, Node};
use super::raw::Raw;
use super::spec::{Fault, RuleSpec, Time};
use crate::config::{nearest, no_such, saturating_ns};
use crate::event::Body;
use crate::event::reflect::{self, Reflect};
use crate::incident::{Severity, Span};

/// Types of events that a rule may be about.
pub const TOPICS_MAX: usize = EventKind::ALL.len() - 1;
/// Most that one rule counts to.
const COUNT_MAX: u64 = 1000;
/// Longest that a rule counts for, and longest window.
const TIME_MAX_NS: u64 = 24 * 60 * 60 * 1_000_000_000;
/// Most values in `by` and `distinct`.
const KEYS_MAX: usize = 4;

/// What holds for every rule that does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How far a window reaches.
    pub span: Span,
    /// Windows of single rules, by name; these go before what the rule says.
    pub spans: BTreeMap<String, Span>,
    /// How long the same failure makes no further dump, in nanoseconds.
    pub cooldown_ns: u64,
    /// `incident.watch`.
    pub watch: Vec<String>,
}

/// Rules that are ready, and what they have counted.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Positions of the rules about each kind.
    by_kind: [Vec<usize>; KIND_SLOTS],
    /// The last event of each kind, if a rule asks for it.
    previous: HashMap<EventKind, Body>,
    settings: Settings,
    /// Rules that have erred for the first time, and why.
    faults: Vec<String>,
}

#[derive(Debug)]
struct Rule {
    spec: RuleSpec,
    kind: EventKind,
    when: Option<Checked>,
    by: Vec<Checked>,
    distinct: Vec<Checked>,
    span: Span,
    cooldown_ns: u64,
    needs_names: bool,
    needs_previous: bool,
    counter: Counter,
    stats: RuleStats,
}

/// What a rule has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RuleStats {
    /// Its name.
    pub name: String,
    /// Type of the events that it is about.
    pub event: String,
    /// Events that it matched.
    pub matched: u64,
    /// Times it fired.
    pub fired: u64,
    /// Events on which its condition erred: none of them matched.
    pub errors: u64,
    /// Why it did on the last of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
    /// Groups that it has forgotten because there were too many.
    pub groups_forgotten: u64,
}

/// A rule that has fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Fired {
    /// Its name.
    pub name: String,
    /// How grave it is.
    pub severity: Severity,
    /// What it is about.
    pub tags: Vec<String>,
    /// Which collectors run.
    pub collectors: Option<Vec<String>>,
    /// Who is told.
    pub notify: Option<Vec<String>>,
    /// Its window.
    pub span: Span,
    /// Its cooldown.
    pub cooldown_ns: u64,
    /// The values that it groups by, as text; `None` if it does not.
    pub group: Option<Vec<String>>,
    /// What it counted, in words: "3 within 60s".
    pub counted: Option<String>,
    /// Other rules that fired on the same event.
    pub also: Vec<String>,
}

impl RuleSet {
    /// Makes rules ready.
    ///
    /// # Errors
    ///
    /// All that is wrong.
    pub fn compile(specs: &[RuleSpec], settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut set = Self {
            settings: Settings {
                watch: settings.watch.iter().map(|name| as_comm(name)).collect(),
                ..settings.clone()
            },
            ..Self::default()
        };
        let mut faults = Vec::new();
        let is_builtin =
            |spec: &&RuleSpec| super::builtin().iter().any(|one| one.name == spec.name);
        let (builtin, own): (Vec<_>, Vec<_>) = specs.iter().partition(is_builtin);
        for spec in own.into_iter().chain(builtin) {
            match set.rule(spec) {
                Ok(rule) => {
                    // One that can never match costs nothing.
                    let never = matches!(&rule.when, Some(when) if matches!(when.node, Node::Constant(Constant::Bool(false))));
                    if spec.enabled != Some(false) && !never {
                        set.by_kind[rule.kind as usize].push(set.rules.len());
                        set.rules.push(rule);
                    }
                }
                Err(fault) => faults.extend(fault),
            }
        }
        let names = specs.iter().map(|spec| spec.name.as_str());
        let names: Vec<&str> = names.chain(["manual"]).collect();
        for name in settings.spans.keys() {
            if !names.contains(&name.as_str()) {
                faults.push(Fault {
                    path: None,
                    line: 0,
                    text: format!("--rule-window: {}", no_such("rule", name, &names)),
                });
            }
        }
        match faults.is_empty() {
            true => Ok(set),
            false => Err(faults),
        }
    }

    fn rule(&self, spec: &RuleSpec) -> Result<Rule, Vec<Fault>> {
        let mut faults = Vec::new();
        let Some(topic) = spec.event.as_deref() else {
            return Err(vec![
                spec.fault("event", "it must say which type of event it is about"),
            ]);
        };
        let kinds = || {
            EventKind::ALL
                .into_iter()
                .filter(|kind| *kind != EventKind::Note)
        };
        let kind = kinds().find(|kind| kind.name() == topic);
        let (Some(kind), Some(message)) = (kind, reflect::of_topic(topic)) else {
            let text = match nearest(topic, kinds().map(EventKind::name)) {
                Some(meant) => format!("no type of event {topic:?}: did you mean {meant:?}?"),
                None => {
                    let all = kinds().map(EventKind::name).collect::<Vec<_>>().join(", ");
                    format!("no type of event {topic:?}: there are {all}")
                }
            };
            return Err(vec![spec.fault("event", text)]);
        };
        let is_sample = topic.starts_with("sample.");
        let scope = Scope {
            topic,
            message,
            has_previous: is_sample,
            watch: &self.settings.watch,
        };
        let located = |key: &str, Wrong { line, text }: Wrong| {
            let mut fault = spec.fault(key, text);
            // A text of several lines begins behind its quotes.
            fault.line += line.saturating_sub(1);
            fault
        };
        let mut when = None;
        if let Some(text) = &spec.when {
            match check::condition(text, &scope) {
                Ok(checked) => when = Some(checked),
                Err(wrong) => faults.push(located("when", wrong)),
            }
        }
        let mut keys = |key: &str, texts: &Option<Vec<String>>| {
            let mut values = Vec::new();
            for text in texts.iter().flatten() {
                match check::expression(text, &scope) {
                    Ok(value) if matches!(value.kind, Type::Text | Type::Integer | Type::Bool) => {
                        values.push(value)
                    }
                    Ok(value) => {
                        let words = value.kind.words();
                        faults.push(spec.fault(
                            key,
                            format!("{text:?} is {words}: name a text or a whole number"),
                        ));
                    }
                    Err(wrong) => faults.push(located(key, wrong)),
                }
            }
            if values.len() > KEYS_MAX {
                faults.push(spec.fault(key, format!("at most {KEYS_MAX}")));
            }
            values
        };
        let by = keys("by", &spec.by);
        let distinct = keys("distinct", &spec.distinct);
        let threshold = threshold(spec, is_sample, &mut faults);
        for (key, time) in [
            ("before", spec.before),
            ("after", spec.after),
            ("cooldown", spec.cooldown),
        ] {
            if time.is_some_and(|Time(time)| saturating_ns(time) > TIME_MAX_NS) {
                faults.push(spec.fault(key, "at most one day"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let ns = |time: Option<Time>, default: u64| {
            time.map_or(default, |Time(time)| saturating_ns(time))
        };
        let default = self.settings.span;
        let span = self
            .settings
            .spans
            .get(&spec.name)
            .copied()
            .unwrap_or(Span {
                before_ns: ns(spec.before, default.before_ns),
                after_ns: ns(spec.after, default.after_ns),
            });
        let all = || when.iter().chain(&by).chain(&distinct);
        Ok(Rule {
            kind,
            span,
            cooldown_ns: ns(spec.cooldown, self.settings.cooldown_ns),
            needs_names: all().any(|checked| checked.needs_names),
            needs_previous: all().any(|checked| checked.needs_previous),
            counter: Counter::new(threshold),
            stats: RuleStats {
                name: spec.name.clone(),
                event: topic.to_owned(),
                ..RuleStats::default()
            },
            when,
            by,
            distinct,
            spec: spec.clone(),
        })
    }

    /// Takes over what another set has counted, of every rule that is the same.
    pub fn adopt(&mut self, old: Self) {
        let Self {
            rules,
            previous,
            settings,
            ..
        } = old;
        let same_watch = settings.watch == self.settings.watch;
        for one in rules {
            let same = |rule: &&mut Rule| {
                let place = one.spec.place.clone();
                RuleSpec {
                    place,
                    ..rule.spec.clone()
                } == one.spec
                    && same_watch
            };
            if let Some(rule) = self.rules.iter_mut().find(same) {
                rule.counter = one.counter;
                rule.stats = one.stats;
            }
        }
        self.previous = previous;
    }

    /// Returns the window that nobody's rule is.
    pub fn manual_span(&self) -> Span {
        self.settings
            .spans
            .get("manual")
            .copied()
            .unwrap_or(self.settings.span)
    }

    /// Returns how far back the window of any rule reaches, in nanoseconds.
    pub fn longest_before_ns(&self) -> u64 {
        let spans = self.rules.iter().map(|rule| rule.span.before_ns);
        spans.fold(
            self.manual_span()
                .before_ns
                .max(self.settings.span.before_ns),
            u64::max,
        )
    }

    /// Returns how many rules are in force.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Returns whether a rule is in force.
    pub fn has(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.spec.name == name)
    }

    /// Returns whether no rule is in force.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns which condition has erred for the first time. Call until `None`.
    pub fn take_fault(&mut self) -> Option<String> {
        self.faults.pop()
    }

    /// Returns what the rules have seen.
    pub fn stats(&self) -> Vec<RuleStats> {
        let of = |rule: &Rule| RuleStats {
            groups_forgotten: rule.counter.forgotten,
            ..rule.stats.clone()
        };
        self.rules.iter().map(of).collect()
    }

    /// Returns whether a record has to be decoded: whether any rule may match it. See [`RuleSet::wants_names`].
    ///
    /// None does match what happens to the recorder's own descendants, but an OOM kill of one: a collector that crashes is
    /// reported in the evidence that it was to give, and must not be the reason to run it again.
    pub fn wants(&self, record: &[u8]) -> Option<EventKind> {
        let number = *record.get(offset_of!(Header, kind))?;
        let rules = self.by_kind.get(usize::from(number))?;
        if rules.is_empty() || *record.get(offset_of!(Header, flags))? & HEADER_OWN != 0 {
            return None;
        }
        let kind = EventKind::from_number(number)?;
        let Some(raw) = Raw::of(kind, record) else {
            return Some(kind);
        };
        let subject = Subject {
            event: Value::Raw(raw),
            previous: None,
        };
        let may_match = |position: &usize| match self
            .rules
            .get(*position)
            .and_then(|rule| rule.when.as_ref())
        {
            Some(when) => eval::holds(&when.node, &subject) != Ok(false),
            None => true,
        };
        rules.iter().any(may_match).then_some(kind)
    }

    /// Returns whether a rule about a kind asks who processes are.
    pub fn wants_names(&self, kind: EventKind) -> bool {
        let mut rules = self.by_kind[kind as usize].iter();
        rules.any(|position| self.rules[*position].needs_names)
    }

    /// Looks at an event; returns the rule that fires on it, if one does.
    pub fn look(&mut self, kind: EventKind, body: &Body, boot_ns: u64) -> Option<Fired> {
        let slot = kind as usize;
        let mut fired: Option<Fired> = None;
        let previous = self.previous.remove(&kind);
        let subject = Subject {
            event: Value::Message(body.message()),
            previous: previous.as_ref().map(|body| body.message() as &dyn Reflect),
        };
        let mut keep = false;
        for position in &self.by_kind[slot] {
            let rule = &mut self.rules[*position];
            keep |= rule.needs_previous;
            let had_erred = rule.stats.errors > 0;
            let fires = rule.take(&subject, boot_ns);
            if !had_erred && let Some(why) = &rule.stats.last_error {
                let (name, topic) = (&rule.spec.name, &rule.stats.event);
                self.faults.push(format!(
                    "rule {name:?} errs on a {topic}: {why}; it does not match where it does, and status counts how often"
                ));
            }
            if !fires {
                continue;
            }
            rule.stats.fired += 1;
            match &mut fired {
                Some(first) => first.also.push(rule.spec.name.clone()),
                None => fired = Some(rule.fire(&subject)),
            }
        }
        if keep {
            self.previous.insert(kind, body.clone());
        }
        fired
    }
}

fn threshold(spec: &RuleSpec, is_sample: bool, faults: &mut Vec<Fault>) -> Threshold {
    if let Some(count) = spec.count
        && !(1..=COUNT_MAX).contains(&count)
    {
        faults.push(spec.fault("count", format!("must be between 1 and {COUNT_MAX}")));
    }
    let within_ns = spec.within.map(|Time(time)| saturating_ns(time));
    if let Some(ns) = within_ns
        && !(1..=TIME_MAX_NS).contains(&ns)
    {
        faults.push(spec.fault("within", "must be more than nothing, and at most one day"));
    }
    let count = spec.count.unwrap_or(1);
    if count > 1 && within_ns.is_none() {
        faults.push(spec.fault("count", "say in what time: within = \"60s\""));
    }
    if count <= 1 && spec.within.is_some() {
        faults.push(spec.fault("within", "say how many: count = 3"));
    }
    if count <= 1 && spec.distinct.is_some() {
        faults.push(spec.fault(
            "distinct",
            "say how many, and in what time: count = 3, within = \"10m\"",
        ));
    }
    if let Some(Time(time)) = spec.lasting {
        if !is_sample {
            faults.push(spec.fault("for", "only samples last: write count and within"));
        }
        if spec.count.is_some() {
            faults.push(spec.fault("for", "a rule has either for or count"));
        }
        if spec.when.is_none() {
            faults.push(spec.fault("for", "say what is to last: when"));
        }
        let ns = saturating_ns(time);
        if !(1..=TIME_MAX_NS).contains(&ns) {
            faults.push(spec.fault("for", "must be more than nothing, and at most one day"));
        }
        return Threshold::Lasting { ns };
    }
    match (count, within_ns) {
        (2.., Some(within_ns)) => Threshold::Count {
            count: usize::try_from(count).unwrap_or(usize::MAX),
            within_ns,
        },
        _ => Threshold::Once,
    }
}

impl Rule {
    /// Takes an event; returns whether the rule fires.
    fn take(&mut self, subject: &Subject<'_>, boot_ns: u64) -> bool {
        let Self {
            when,
            by,
            distinct,
            counter,
            stats,
            ..
        } = self;
        let matches = match when {
            Some(when) => eval::holds(&when.node, subject),
            None => Ok(true),
        };
        let evaluated =
            matches.and_then(|matches| Ok((matches, hash(by, subject)?, hash(distinct, subject)?)));
        match evaluated {
            Ok((true, group, what)) => {
                stats.matched += 1;
                let what = (!distinct.is_empty()).then_some(what);
                counter.matched(group, what, boot_ns)
            }
            Ok((false, group, _)) => {
                if counter.wants_misses() {
                    counter.missed(group);
                }
                false
            }
            // The first sample has none before it.
            Err(Failed::NoPrevious) => false,
            Err(error) => {
                stats.errors += 1;
                if stats.last_error.as_deref() != Some(error.words()) {
                    stats.last_error = Some(error.words().to_owned());
                }
                false
            }
        }
    }

    fn fire(&self, subject: &Subject<'_>) -> Fired {
        let values = self
            .by
            .iter()
            .map(|by| match eval::value(&by.node, subject) {
                Ok(Value::Text(text)) => text.to_owned(),
                Ok(Value::Integer(number)) => number.to_string(),
                Ok(Value::Bool(value)) => value.to_string(),
                _ => String::new(),
            });
        let spec = &self.spec;
        let time = |time: Time| crate::config::text_of_duration(time.0);
        let counted = match (spec.count, spec.within, spec.lasting) {
            (Some(count @ 2..), Some(within), _) => {
                Some(format!("{count} within {}", time(within)))
            }
            (_, _, Some(lasting)) => Some(format!("for {}", time(lasting))),
            _ => None,
        };
        Fired {
            name: spec.name.clone(),
            severity: spec.severity.unwrap_or_default(),
            tags: spec.tags.clone().unwrap_or_default(),
            collectors: spec.collectors.clone(),
            notify: spec.notify.clone(),
            span: self.span,
            cooldown_ns: self.cooldown_ns,
            group: (!self.by.is_empty()).then(|| values.collect()),
            counted,
            also: Vec::new(),
        }
    }
}

/// Returns a number for the values of an event that these are; equal for equal ones.
fn hash(values: &[Checked], subject: &Subject<'_>) -> Result<u64, Failed> {
    if values.is_empty() {
        return Ok(0);
    }
    let mut hasher = DefaultHasher::new();
    for checked in values {
        match eval::value(&checked.node, subject)? {
            Value::Text(text) => text.hash(&mut hasher),
            Value::Integer(number) => number.hash(&mut hasher),
            Value::Bool(value) => value.hash(&mut hasher),
            _ => return Err(Failed::Type),
        }
    }
    Ok(hasher.finish())
}

/// Cuts a name as the kernel cuts those of threads.
fn as_comm(name: &str) -> String {
    name[..name.floor_char_boundary(COMM_LEN - 1)].to_owned()
}
