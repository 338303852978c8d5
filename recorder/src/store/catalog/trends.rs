//! What happens how often: incidents by what they have in common.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::Connection;
use serde::Serialize;

use super::query::{Filter, keys};
use super::record::time;

const NS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

/// What incidents have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The rule
    #[default]
    Rule,
    /// What it happened to: a unit, a command, a device
    Subject,
    /// The failure: the same crash, the same disk
    Fingerprint,
    /// Each of their tags
    Tag,
    /// The day, UTC
    Day,
}

/// Incidents that have something in common.
#[derive(Clone, Debug, Serialize)]
pub struct Trend {
    /// What they have in common; empty for those that lack it.
    pub key: String,
    /// How many incidents.
    pub incidents: u64,
    /// Further triggers that these stand for.
    pub repeats: u64,
    /// The first that is known, whatever the time asked for: RFC 3339, UTC.
    pub first_seen: String,
    /// The last that is known.
    pub last_seen: String,
    /// The same two in nanoseconds since 1970.
    #[serde(skip)]
    pub seen_unix_ns: (i64, i64),
    /// Rule of the last one.
    pub rule: String,
    /// The last one in one sentence.
    pub summary: String,
}

#[derive(Default)]
struct Group {
    incidents: u64,
    repeats: u64,
    seen: Option<(i64, i64)>,
    rule: String,
    summary: String,
}

/// Something that happened, perhaps many times.
struct Happened<'a> {
    span: (i64, i64),
    incidents: u64,
    repeats: u64,
    is_in_time: bool,
    rule: &'a str,
    summary: &'a str,
}

impl Group {
    fn take(&mut self, happened: &Happened<'_>) {
        let (first, last) = happened.span;
        let (earliest, latest) = self.seen.unwrap_or((first, i64::MIN));
        if last >= latest {
            happened.rule.clone_into(&mut self.rule);
            happened.summary.clone_into(&mut self.summary);
        }
        self.seen = Some((earliest.min(first), latest.max(last)));
        if happened.is_in_time {
            self.incidents += happened.incidents;
            self.repeats = self.repeats.saturating_add(happened.repeats);
        }
    }
}

struct Row {
    id: String,
    rule: String,
    subject: String,
    fingerprint: String,
    summary: String,
    tags: String,
    time_ns: i64,
    followers: u64,
    suppressed: u64,
}

/// Returns what the incidents that are wanted have in common; the times of the filter say what is counted, not what is known.
pub(super) fn trends(
    connection: &Connection,
    filter: &Filter,
    by: By,
) -> rusqlite::Result<Vec<Trend>> {
    let is_in_time = |first: i64, last: i64| {
        filter.since_unix_ns.is_none_or(|since| last >= since)
            && filter.until_unix_ns.is_none_or(|until| first <= until)
    };
    let wanted = keys(connection, filter)?;
    let told = incidents_with_counts(connection)?;
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    // The incident before, of each failure.
    let mut before: HashMap<String, String> = HashMap::new();
    let mut tags_of: HashMap<String, Vec<String>> = HashMap::new();
    let mut statement = connection.prepare(
        "SELECT ifnull(id, ''), ifnull(rule, ''), ifnull(subject, ''), ifnull(fingerprint, ''), ifnull(summary, ''), tags, \
         time_ns, followers, suppressed, key FROM incident ORDER BY time_ns, key",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key: i64 = row.get(9)?;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let row = Row {
            id: row.get(0)?,
            rule: row.get(1)?,
            subject: row.get(2)?,
            fingerprint: row.get(3)?,
            summary: row.get(4)?,
            tags: row.get(5)?,
            time_ns: row.get(6)?,
            followers: unsigned(row.get(7)?),
            suppressed: unsigned(row.get(8)?),
        };
        // What was suppressed before it is what was counted for the one before, if that is known.
        let previous = before.insert(row.fingerprint.clone(), row.id.clone());
        let is_told = previous.is_some_and(|previous| told.contains(&previous));
        let suppressed = if is_told { 0 } else { row.suppressed };
        if !wanted.contains(&key) {
            continue;
        }
        let tags: Vec<String> = match by {
            By::Tag => serde_json::from_str(&row.tags).unwrap_or_default(),
            By::Rule | By::Subject | By::Fingerprint | By::Day => Vec::new(),
        };
        let happened = Happened {
            span: (row.time_ns, row.time_ns),
            incidents: 1,
            repeats: row.followers.saturating_add(suppressed),
            is_in_time: is_in_time(row.time_ns, row.time_ns),
            rule: &row.rule,
            summary: &row.summary,
        };
        for name in names(
            by,
            &row.rule,
            &row.subject,
            &row.fingerprint,
            row.time_ns,
            &tags,
        ) {
            groups.entry(name).or_default().take(&happened);
        }
        tags_of.insert(row.id, tags);
    }
    let mut statement = connection.prepare(
        "SELECT kind, rule, fingerprint, incident, subject, summary, first_ns, last_ns, count FROM counted",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(0)?;
        let (rule, fingerprint): (String, String) = (row.get(1)?, row.get(2)?);
        let (incident, subject): (String, String) = (row.get(3)?, row.get(4)?);
        let summary: String = row.get(5)?;
        let (first, last, count): (i64, i64, i64) = (row.get(6)?, row.get(7)?, row.get(8)?);
        // Those of an incident that is known go with it.
        let tags = match tags_of.get(&incident) {
            Some(tags) => tags.as_slice(),
            None if filter.is_about_time_alone() => &[],
            None => continue,
        };
        let count = u64::try_from(count).unwrap_or(0);
        let is_forgotten = kind == "forgotten";
        let happened = Happened {
            span: (first, last),
            incidents: if is_forgotten { count } else { 0 },
            repeats: if is_forgotten { 0 } else { count },
            is_in_time: is_in_time(first, last),
            rule: &rule,
            summary: &summary,
        };
        for name in names(by, &rule, &subject, &fingerprint, first, tags) {
            groups.entry(name).or_default().take(&happened);
        }
    }
    let mut trends: Vec<Trend> = groups
        .into_iter()
        .filter(|(_, group)| group.incidents + group.repeats > 0)
        .filter_map(|(key, group)| trend(key, group))
        .collect();
    if by != By::Day {
        trends.sort_by_key(|trend| {
            (
                std::cmp::Reverse((
                    trend.incidents.saturating_add(trend.repeats),
                    trend.incidents,
                )),
                std::cmp::Reverse(trend.seen_unix_ns.1),
            )
        });
    }
    Ok(trends)
}

fn trend(key: String, group: Group) -> Option<Trend> {
    let seen_unix_ns = group.seen?;
    Some(Trend {
        key,
        incidents: group.incidents,
        repeats: group.repeats,
        first_seen: time(seen_unix_ns.0),
        last_seen: time(seen_unix_ns.1),
        seen_unix_ns,
        rule: group.rule,
        summary: group.summary,
    })
}

/// Returns the groups that something belongs to.
fn names(
    by: By,
    rule: &str,
    subject: &str,
    fingerprint: &str,
    time_ns: i64,
    tags: &[String],
) -> Vec<String> {
    match by {
        By::Rule => vec![rule.to_owned()],
        By::Subject => vec![subject.to_owned()],
        By::Fingerprint => vec![fingerprint.to_owned()],
        By::Tag if tags.is_empty() => vec![String::new()],
        By::Tag => tags.to_vec(),
        By::Day => {
            let midnight = time(time_ns.div_euclid(NS_PER_DAY) * NS_PER_DAY);
            vec![midnight.get(..10).unwrap_or(&midnight).to_owned()]
        }
    }
}

/// Returns the incidents that suppressed triggers were counted for.
fn incidents_with_counts(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut statement = connection
        .prepare("SELECT incident FROM counted WHERE kind = 'storm' AND incident != ''")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    ids.collect()
}
