//! The catalog over directories of made-up dumps: what the files hold does not matter, what is beside them does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::store::annotations::{AnnotationError, Annotations, Note};

/// Noon of a day, in nanoseconds since 1970.
const NOON_NS: i64 = 1_795_435_200_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// Makes a state directory.
pub(super) fn state() -> TempDir {
    let state = tempfile::tempdir().expect("there is room for tests");
    fs::create_dir(state.path().join("dumps")).expect("ours");
    state
}

/// Adds a dump, `number` seconds after noon.
pub(super) fn add(state: &Path, number: u64, incident: Value) -> PathBuf {
    let mut whole = json!({
        "id": id(number),
        "rule": "fatal-signal",
        "summary": format!("x[{number}] died"),
        "trigger": {"type": "signal.fatal", "boot_ns": 1, "cpu": 0, "sequence": 0},
        "subject": {"comm": "x", "pid": number},
        "fingerprint": format!("{number:016x}"),
        "followers": 0,
        "suppressed_before": 0,
    });
    let fields = incident.as_object().expect("an object").clone();
    whole.as_object_mut().expect("an object").extend(fields);
    let sidecar = json!({
        "time": record::time(NOON_NS + number as i64 * SECOND_NS),
        "events": number,
        "verdict": "complete",
        "incident": whole,
        "host": {"hostname": "web-3", "environment": "paris-1"},
    });
    let path = state.join("dumps").join(format!("{number:06}.mcap"));
    fs::write(&path, b"a dump").expect("ours");
    fs::write(path.with_extension("json"), sidecar.to_string()).expect("ours");
    path
}

pub(super) fn id(number: u64) -> Uuid {
    Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

fn open(state: &Path, access: Access) -> Catalog {
    Catalog::open(state, access).expect("the directory is ours")
}

fn numbers(catalog: &mut Catalog, filter: &Filter) -> Vec<u64> {
    let records = catalog.list(filter).expect("it is ours");
    records
        .iter()
        .map(|record| record.events.unwrap_or(u64::MAX))
        .collect()
}

fn all(catalog: &mut Catalog) -> Vec<u64> {
    numbers(catalog, &Filter::default())
}

#[test]
fn readers_make_nothing_and_writers_make_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let state = state();
    add(state.path(), 1, json!({}));
    assert_eq!(all(&mut open(state.path(), Access::Read)), [1]);
    let file = state.path().join(FILE);
    assert!(!file.exists());
    let mut catalog = open(state.path(), Access::Write);
    assert!(catalog.is_durable() && catalog.said().is_empty());
    assert_eq!(all(&mut catalog), [1]);
    let mode = fs::metadata(&file).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let nowhere = state.path().join("nowhere");
    assert!(all(&mut open(&nowhere, Access::Read)).is_empty());
    assert!(!nowhere.exists());
}

#[test]
fn the_rows_follow_the_files() {
    let state = state();
    let one = add(state.path(), 1, json!({}));
    let two = add(state.path(), 2, json!({}));
    assert_eq!(all(&mut open(state.path(), Access::Write)), [1, 2]);
    // Removed by somebody: known, and no longer kept.
    fs::remove_file(&one).expect("ours");
    let mut catalog = open(state.path(), Access::Read);
    let record = catalog.find(&id(1).to_string()).expect("it is known");
    assert_eq!(record.state, State::Deleted);
    let error = catalog.find_dump("latest").expect("the other");
    assert_eq!(error, two);
    assert!(matches!(
        catalog.find_dump(&id(1).to_string()),
        Err(FindError::NoDump { .. })
    ));
    // Restored.
    fs::write(&one, b"a dump").expect("ours");
    let record = open(state.path(), Access::Read).find(&id(1).to_string());
    assert_eq!(record.expect("it is known").state, State::Kept);
    // Renamed, and written again.
    let renamed = state.path().join("dumps/renamed.mcap");
    fs::rename(&two, &renamed).expect("ours");
    fs::rename(two.with_extension("json"), renamed.with_extension("json")).expect("ours");
    add(state.path(), 1, json!({"rule": "other"}));
    let mut catalog = open(state.path(), Access::Read);
    let records = catalog.list(&Filter::default()).expect("it is ours");
    let shown: Vec<_> = records
        .iter()
        .map(|record| (record.rule.as_deref(), record.path.clone(), record.state))
        .collect();
    assert_eq!(
        shown,
        [
            (Some("other"), Some(one), State::Kept),
            (Some("fatal-signal"), Some(renamed), State::Kept)
        ]
    );
}

#[test]
fn a_dump_that_says_nothing_is_listed_all_the_same() {
    let state = state();
    fs::write(state.path().join("dumps/x.mcap"), b"garbage").expect("ours");
    fs::write(state.path().join("dumps/x.json"), b"garbage").expect("ours");
    let records = open(state.path(), Access::Write).list(&Filter::default());
    let records = records.expect("it is ours");
    assert_eq!(records.len(), 1);
    assert!(records[0].id.is_none() && records[0].path.is_some());
}

#[test]
fn filters_choose() {
    let state = state();
    let path = state.path();
    add(
        path,
        1,
        json!({"rule": "oom-kill", "severity": "high", "tags": ["memory"]}),
    );
    add(
        path,
        2,
        json!({"subject": {"unit": "nginx.service", "comm": "nginx"}}),
    );
    add(
        path,
        3,
        json!({"subject": {"device": "7:0"}, "fingerprint": "abcdef"}),
    );
    add(
        path,
        4,
        json!({"severity": "critical", "tags": ["memory", "disk"]}),
    );
    let mut catalog = open(path, Access::Read);
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let none = Filter::default;
    for (filter, expected) in [
        (
            Filter {
                rules: texts(&["oom-kill"]),
                ..none()
            },
            &[1][..],
        ),
        (
            Filter {
                severities: texts(&["high", "critical"]),
                ..none()
            },
            &[1, 4],
        ),
        (
            Filter {
                severities: texts(&["medium"]),
                ..none()
            },
            &[2, 3],
        ),
        (
            Filter {
                tags: texts(&["memory"]),
                ..none()
            },
            &[1, 4],
        ),
        (
            Filter {
                tags: texts(&["disk", "memory"]),
                ..none()
            },
            &[1, 4],
        ),
        (
            Filter {
                units: texts(&["nginx.service"]),
                ..none()
            },
            &[2],
        ),
        (
            Filter {
                comms: texts(&["x"]),
                ..none()
            },
            &[1, 4],
        ),
        (
            Filter {
                subjects: texts(&["7:0", "nginx"]),
                ..none()
            },
            &[2, 3],
        ),
        (
            Filter {
                fingerprints: texts(&["abc"]),
                ..none()
            },
            &[3],
        ),
        (
            Filter {
                fingerprints: texts(&["%"]),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                since_unix_ns: Some(NOON_NS + 3 * SECOND_NS),
                ..none()
            },
            &[3, 4],
        ),
        (
            Filter {
                until_unix_ns: Some(NOON_NS + SECOND_NS),
                ..none()
            },
            &[1],
        ),
        (
            Filter {
                limit: Some(2),
                ..none()
            },
            &[3, 4],
        ),
        (
            Filter {
                limit: Some(0),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                pinned: true,
                ..none()
            },
            &[],
        ),
        (
            Filter {
                states: vec![State::Evicted],
                ..none()
            },
            &[],
        ),
        (
            Filter {
                tags: texts(&["memory"]),
                rules: texts(&["fatal-signal"]),
                ..none()
            },
            &[4],
        ),
    ] {
        assert_eq!(numbers(&mut catalog, &filter), expected, "{filter:?}");
    }
}

#[test]
fn ids_may_be_abbreviated_and_what_is_ambiguous_is_said() {
    let state = state();
    add(state.path(), 0x1234_abcd, json!({}));
    add(state.path(), 0x1234_abce, json!({}));
    add(state.path(), 0x5678_0000, json!({}));
    let mut catalog = open(state.path(), Access::Write);
    let whole = id(0x1234_abcd);
    for name in [
        whole.to_string(),
        whole.simple().to_string(),
        "1234ABCD".to_owned(),
    ] {
        let record = catalog.find(&name).expect("it is known");
        assert_eq!(record.events, Some(0x1234_abcd), "{name}");
    }
    assert_eq!(
        catalog.find("5").expect("the only").events,
        Some(0x5678_0000)
    );
    assert_eq!(
        catalog.find("latest").expect("one").events,
        Some(0x5678_0000)
    );
    let error = catalog.find("1234").expect_err("two").to_string();
    assert!(error.contains("1234abcd, 1234abce"), "{error}");
    for name in ["", "-", "9", "%", "'; DROP TABLE incident; --", "latest "] {
        let error = catalog.find(name).expect_err("nothing");
        assert!(matches!(error, FindError::None { .. }), "{name}: {error}");
    }
    // Copies of one dump are told apart by their files.
    let dumps = state.path().join("dumps");
    let name = format!("{:06}", 0x5678_0000);
    for extension in ["mcap", "json"] {
        let from = dumps.join(&name).with_extension(extension);
        fs::copy(from, dumps.join(format!("copy.{extension}"))).expect("ours");
    }
    let error = open(state.path(), Access::Read).find("5").expect_err("two");
    assert!(error.to_string().contains("copy.mcap"), "{error}");
}

#[test]
fn a_corrupt_catalog_is_kept_aside_and_made_again() {
    for damage in [
        &b"this is no database, whatever its name may say"[..],
        b"SQLite format 3\0",
    ] {
        let state = state();
        add(state.path(), 1, json!({}));
        open(state.path(), Access::Write);
        let file = state.path().join(FILE);
        let mut bytes = fs::read(&file).expect("ours");
        let start = bytes.len() - damage.len();
        bytes[start..].copy_from_slice(damage);
        bytes[..damage.len()].copy_from_slice(damage);
        bytes[100..4096].fill(0xa5);
        fs::write(&file, &bytes).expect("ours");
        let mut catalog = open(state.path(), Access::Read);
        assert_eq!(all(&mut catalog), [1]);
        assert_eq!(catalog.said().len(), 1, "{:?}", catalog.said());
        assert!(
            catalog.said()[0].contains("corrupt"),
            "{:?}",
            catalog.said()
        );
        assert!(catalog.is_durable());
        drop(catalog);
        let aside = fs::read_dir(state.path()).expect("ours").filter(|file| {
            let name = file.as_ref().expect("ours").file_name();
            name.to_string_lossy().contains(".corrupt-")
        });
        assert!(aside.count() >= 1);
        let mut again = open(state.path(), Access::Read);
        assert_eq!(all(&mut again), [1]);
        assert!(again.said().is_empty(), "said once: {:?}", again.said());
    }
}

#[test]
fn a_catalog_of_a_newer_version_is_left_alone() {
    let state = state();
    add(state.path(), 1, json!({}));
    open(state.path(), Access::Write);
    let file = state.path().join(FILE);
    let newer = Connection::open(&file).expect("ours");
    newer
        .execute_batch("ALTER TABLE incident RENAME TO other; PRAGMA user_version = 99")
        .expect("ours");
    drop(newer);
    add(state.path(), 2, json!({}));
    let before = fs::read(&file).expect("ours");
    for access in [Access::Read, Access::Write] {
        let mut catalog = open(state.path(), access);
        assert_eq!(all(&mut catalog), [1, 2]);
        assert!(catalog.said()[0].contains("newer"), "{:?}", catalog.said());
    }
    assert!(before == fs::read(&file).expect("ours"));
}

#[test]
fn a_catalog_that_is_locked_for_long_is_done_without() {
    let state = state();
    add(state.path(), 1, json!({}));
    open(state.path(), Access::Write);
    let holder = Connection::open(state.path().join(FILE)).expect("ours");
    holder
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE incident SET rule = 'x'",
        )
        .expect("ours");
    add(state.path(), 2, json!({}));
    let mut catalog = open(state.path(), Access::Read);
    assert_eq!(all(&mut catalog), [1, 2]);
    assert!(catalog.said()[0].contains("locked"), "{:?}", catalog.said());
    holder.execute_batch("ROLLBACK").expect("ours");
    drop(holder);
    let mut catalog = open(state.path(), Access::Read);
    assert_eq!(all(&mut catalog), [1, 2]);
    assert!(catalog.said().is_empty() && catalog.is_durable());
}

#[test]
fn a_link_in_place_of_the_catalog_is_not_followed() {
    let state = state();
    add(state.path(), 1, json!({}));
    let victim = state.path().join("victim");
    fs::write(&victim, b"").expect("ours");
    std::os::unix::fs::symlink(&victim, state.path().join(FILE)).expect("ours");
    let mut catalog = open(state.path(), Access::Write);
    assert_eq!(all(&mut catalog), [1]);
    assert!(!catalog.is_durable() && !catalog.said().is_empty());
    assert_eq!(fs::metadata(&victim).expect("ours").len(), 0);
}

#[test]
fn many_at_once_agree() {
    const AT_ONCE: u64 = 8;
    const EACH: u64 = 12;
    let state = state();
    open(state.path(), Access::Write);
    let barrier = Barrier::new(AT_ONCE as usize);
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (path, barrier) = (state.path(), &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..EACH {
                    let number = worker * EACH + number;
                    let path_of = add(path, number, json!({}));
                    let access = [Access::Read, Access::Write][(number % 2) as usize];
                    let mut catalog = open(path, access);
                    assert!(catalog.said().is_empty(), "{:?}", catalog.said());
                    let mine = catalog.find(&id(number).to_string()).expect("it is there");
                    assert_eq!(mine.path, Some(path_of));
                    if number.is_multiple_of(3) {
                        fs::remove_file(mine.path.expect("kept")).expect("ours");
                    }
                }
            });
        }
    });
    let mut catalog = open(state.path(), Access::Write);
    let total = AT_ONCE * EACH;
    assert_eq!(all(&mut catalog), (0..total).collect::<Vec<_>>());
    let kept = Filter {
        states: vec![State::Kept],
        ..Filter::default()
    };
    let expected: Vec<u64> = (0..total)
        .filter(|number| !number.is_multiple_of(3))
        .collect();
    assert_eq!(numbers(&mut catalog, &kept), expected);
}

#[test]
fn what_made_no_dump_is_known_and_counted() {
    let state = state();
    add(
        state.path(),
        1,
        json!({"followers": 2, "suppressed_before": 3}),
    );
    let mut catalog = open(state.path(), Access::Write);
    let unwritten = Unwritten {
        incident: &json!({"id": id(2), "rule": "oom-kill", "summary": "y died", "fingerprint": "f"}),
        unix_ns: NOON_NS + SECOND_NS,
        host: "web-3",
        environment: None,
        why: "limits.dumps_per_hour is reached",
    };
    catalog.add_unwritten(&unwritten).expect("it is ours");
    catalog
        .add_unwritten(&unwritten)
        .expect("told twice, known once");
    let (one, two) = (id(1).to_string(), id(2).to_string());
    let counted = |incident, count| Counted {
        rule: "fatal-signal",
        fingerprint: "0000000000000001",
        incident,
        summary: "x died",
        first_unix_ns: NOON_NS,
        last_unix_ns: NOON_NS + 10 * SECOND_NS,
        count,
    };
    for one in [counted(&one, 40), counted(&one, 2), counted(&two, 7)] {
        catalog.add_counted(&one).expect("it is ours");
    }
    drop(catalog);
    let records = open(state.path(), Access::Read).list(&Filter::default());
    let records = records.expect("it is ours");
    let shown: Vec<_> = records
        .iter()
        .map(|record| (record.state, record.repeats, record.why.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            // Those before it are the ones that were told of its predecessor.
            (State::Kept, 2 + 42, None),
            (
                State::Unwritten,
                7,
                Some("limits.dumps_per_hour is reached")
            ),
        ]
    );
}

fn tag(tag: &str) -> impl Fn(&mut Annotations, &[String]) -> Result<(), AnnotationError> {
    let tag = tag.to_owned();
    move |said, _| said.tag(&tag)
}

#[test]
fn what_people_say_outlives_the_catalog() {
    let state = state();
    let path = add(state.path(), 1, json!({"tags": ["crash"]}));
    let mut catalog = open(state.path(), Access::Write);
    let record = catalog.annotate("latest", &tag("disk")).expect("ours");
    assert_eq!(record.tags, ["crash", "disk"]);
    let record = catalog.annotate("00000001", &|said, tags| {
        said.untag("crash", tags.contains(&"crash".to_owned()));
        said.pinned = true;
        said.note(Note {
            time: "2026-11-23T09:00:00Z".to_owned(),
            uid: None,
            text: "the cable".to_owned(),
        })
    });
    assert!(record.expect("ours").pinned);
    drop(catalog);
    for name in [FILE, "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(state.path().join(name));
    }
    for access in [Access::Read, Access::Write] {
        let record = open(state.path(), access)
            .find("00000001")
            .expect("it is there");
        assert!(record.pinned);
        assert_eq!(record.tags, ["disk"]);
        assert_eq!(record.notes[0].text, "the cable");
    }
    // A file that cannot be understood is not overwritten, and its dump is not given up.
    let beside = path.with_extension("notes.json");
    fs::write(&beside, b"{").expect("ours");
    let mut catalog = open(state.path(), Access::Write);
    let error = catalog
        .annotate("00000001", &tag("x"))
        .expect_err("unreadable");
    assert!(matches!(error, ChangeError::Unreadable(..)), "{error}");
    assert!(catalog.find("00000001").expect("there").pinned);
    assert_eq!(fs::read(&beside).expect("ours"), b"{");
    // Nothing said is no file.
    fs::remove_file(&beside).expect("ours");
    catalog.annotate("00000001", &tag("x")).expect("ours");
    assert!(beside.exists());
    let untag = |said: &mut Annotations, _: &[String]| {
        said.untag("x", false);
        Ok(())
    };
    catalog.annotate("00000001", &untag).expect("ours");
    assert!(!beside.exists());
}

#[test]
fn what_has_no_dump_is_annotated_in_the_catalog_and_not_pinned() {
    let state = state();
    let path = add(state.path(), 1, json!({"tags": ["crash"]}));
    open(state.path(), Access::Write);
    fs::remove_file(path).expect("ours");
    let mut catalog = open(state.path(), Access::Write);
    catalog.annotate("00000001", &tag("disk")).expect("ours");
    let untag = |said: &mut Annotations, _: &[String]| {
        said.untag("crash", true);
        Ok(())
    };
    catalog.annotate("00000001", &untag).expect("ours");
    let record = open(state.path(), Access::Read)
        .find("00000001")
        .expect("known");
    assert_eq!(
        (record.tags, record.state),
        (vec!["disk".to_owned()], State::Deleted)
    );
    let pin = |said: &mut Annotations, _: &[String]| {
        said.pinned = true;
        Ok(())
    };
    let error = catalog.annotate("00000001", &pin).expect_err("gone");
    assert!(matches!(error, ChangeError::NothingToPin(_)), "{error}");
}

#[test]
fn what_is_removed_is_forgotten_and_what_is_pinned_stays() {
    let state = state();
    let path = add(state.path(), 1, json!({}));
    let mut catalog = open(state.path(), Access::Write);
    let pin = |said: &mut Annotations, _: &[String]| {
        said.pinned = true;
        Ok(())
    };
    catalog.annotate("00000001", &pin).expect("ours");
    let error = catalog.remove("00000001", false).expect_err("pinned");
    assert!(error.to_string().contains("pinned"), "{error}");
    assert!(path.exists());
    catalog.remove("00000001", true).expect("ours");
    let left = fs::read_dir(state.path().join("dumps"))
        .expect("ours")
        .count();
    assert_eq!(left, 0);
    assert!(all(&mut open(state.path(), Access::Read)).is_empty());
}

#[test]
fn tags_of_many_at_once_all_hold() {
    let state = state();
    add(state.path(), 1, json!({}));
    thread::scope(|scope| {
        for worker in 0..8 {
            let path = state.path();
            scope.spawn(move || {
                for number in 0..4 {
                    let mut catalog = open(path, Access::Write);
                    let name = format!("tag-{worker}-{number}");
                    catalog
                        .annotate("00000001", &tag(&name))
                        .expect("all get a turn");
                }
            });
        }
    });
    let record = open(state.path(), Access::Read)
        .find("00000001")
        .expect("there");
    assert_eq!(record.tags.len(), 32);
}

fn trends(
    catalog: &mut Catalog,
    filter: &Filter,
    by: By,
) -> Vec<(String, u64, u64, String, String)> {
    let trends = catalog.trends(filter, by).expect("it is ours");
    trends
        .into_iter()
        .map(|trend| {
            let time = |time: &str| time.get(11..19).unwrap_or_default().to_owned();
            (
                trend.key,
                trend.incidents,
                trend.repeats,
                time(&trend.first_seen),
                time(&trend.last_seen),
            )
        })
        .collect()
}

#[test]
fn trends_count_what_is_kept_what_is_gone_and_what_was_only_counted() {
    let state = state();
    let path = state.path();
    add(
        path,
        1,
        json!({"fingerprint": "a", "tags": ["t"], "followers": 2}),
    );
    let gone = add(path, 2, json!({"fingerprint": "b", "tags": ["t", "u"]}));
    // Its storm was told: what was suppressed before it is that. Of the third nobody told.
    add(
        path,
        10,
        json!({"fingerprint": "a", "suppressed_before": 5}),
    );
    add(
        path,
        20,
        json!({"fingerprint": "a", "suppressed_before": 7, "rule": "other"}),
    );
    let mut catalog = open(path, Access::Write);
    catalog
        .add_counted(&Counted {
            rule: "fatal-signal",
            fingerprint: "a",
            incident: &id(1).to_string(),
            summary: "x died",
            first_unix_ns: NOON_NS + 3 * SECOND_NS,
            last_unix_ns: NOON_NS + 9 * SECOND_NS,
            count: 5,
        })
        .expect("it is ours");
    fs::remove_file(gone).expect("ours");
    let mut catalog = open(path, Access::Write);
    let row = |key: &str, incidents, repeats, first: &str, last: &str| {
        (
            key.to_owned(),
            incidents,
            repeats,
            first.to_owned(),
            last.to_owned(),
        )
    };
    let all = Filter::default();
    assert_eq!(
        trends(&mut catalog, &all, By::Fingerprint),
        [
            row("a", 3, 2 + 5 + 7, "12:00:01", "12:00:20"),
            row("b", 1, 0, "12:00:02", "12:00:02"),
        ]
    );
    assert_eq!(
        trends(&mut catalog, &all, By::Tag),
        [
            row("", 2, 7, "12:00:10", "12:00:20"),
            row("t", 2, 7, "12:00:01", "12:00:09"),
            row("u", 1, 0, "12:00:02", "12:00:02"),
        ]
    );
    let later = Filter {
        since_unix_ns: Some(NOON_NS + 10 * SECOND_NS),
        ..Filter::default()
    };
    assert_eq!(
        trends(&mut catalog, &later, By::Fingerprint),
        [row("a", 2, 7, "12:00:01", "12:00:20")],
        "first seen long before what is counted"
    );
    let other = Filter {
        rules: vec!["other".to_owned()],
        ..Filter::default()
    };
    assert_eq!(
        trends(&mut catalog, &other, By::Subject),
        [row("x", 1, 7, "12:00:20", "12:00:20")]
    );
    let days = catalog.trends(&all, By::Day).expect("it is ours");
    assert_eq!(days.len(), 1);
    assert_eq!(days[0].key, &days[0].first_seen[..10]);
}
