use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::CUT_STEP;

fn hide(rules: &Rules, arguments: &str) -> String {
    let mut block: Vec<u8> = arguments.replace('|', "\0").into_bytes();
    block.push(0);
    rules.hide(&mut block);
    let text = String::from_utf8(block).expect("what is hidden is so whole");
    text.trim_end_matches('\0').replace('\0', "|")
}

/// Arguments, and what is recorded of them; `|` between arguments.
const CASES: &[(&str, &str)] = &[
    ("x|--password=hunter2", "x|--password=*******"),
    (
        "x|--password|hunter2|--port|80",
        "x|--password|*******|--port|80",
    ),
    ("x|-password|hunter2", "x|-password|*******"),
    ("x|--db_Password|-x-", "x|--db_Password|***"),
    ("x|--password=a,b c&d", "x|--password=*******"),
    ("x|--password=", "x|--password="),
    ("x|--password|--verbose", "x|--password|--verbose"),
    ("x|PASSWORD=x|run", "x|PASSWORD=*|run"),
    (
        "env|AWS_SECRET_ACCESS_KEY=abc|MYSQL_PWD=z",
        "env|AWS_SECRET_ACCESS_KEY=***|MYSQL_PWD=*",
    ),
    (
        "x|--api-key=k|--key|k|--apikey|k",
        "x|--api-key=*|--key|*|--apikey|*",
    ),
    (
        "x|--token-file=/a|--password-stdin|y",
        "x|--token-file=/a|--password-stdin|y",
    ),
    (
        "x|--monkey=1|--keyboard=2|--author=me|compass=3",
        "x|--monkey=1|--keyboard=2|--author=me|compass=3",
    ),
    (
        "psql|host=h password=p user=u",
        "psql|host=h password=* user=u",
    ),
    (
        "x|{\"password\": \"pw\", \"a\": 1}",
        "x|{\"password\": \"**\", \"a\": 1}",
    ),
    (
        "x|http://h/?a=1&token=ttt&b=2",
        "x|http://h/?a=1&token=***&b=2",
    ),
    (
        "git|clone|https://me:pw@host/x",
        "git|clone|https://me:**@host/x",
    ),
    (
        "x|https://me@host/x|a://:p@h",
        "x|https://me@host/x|a://:*@h",
    ),
    ("x|https://me:p/w@host/x", "x|https://me:***@host/x"),
    // It may be a port and a path, or a password with a slash.
    ("x|https://host:80/a@b", "x|https://host:****@b"),
    (
        "curl|-H|Authorization: Bearer abc",
        "curl|-H|Authorization: Bearer ***",
    ),
    ("curl|-H|authorization: abc", "curl|-H|authorization: ***"),
    (
        "curl|-u|me:pw|-ume:pw|--user=me:pw",
        "curl|-u|me:**|-ume:**|--user=me:**",
    ),
    (
        "/usr/bin/mysql|-psecret|-h|db",
        "/usr/bin/mysql|-p******|-h|db",
    ),
    ("sshpass|-p|pw|ssh|h", "sshpass|-p|**|ssh|h"),
    ("tar|-pxf|a", "tar|-pxf|a"),
    (
        "sh|-c|mysql --password=x -e y",
        "sh|-c|mysql --password=* -e y",
    ),
    ("echo|hello world", "echo|hello world"),
];

#[test]
fn secrets_are_hidden_and_nothing_else() {
    let rules = Rules::new(true, &[]);
    for (arguments, expected) in CASES {
        assert_eq!(hide(&rules, arguments), *expected);
    }
}

#[test]
fn own_words_are_added_and_the_defaults_can_be_left_out() {
    let words = ["Ticket-No".to_owned(), "-".to_owned()];
    let added = Rules::new(true, &words);
    assert_eq!(
        hide(&added, "x|--ticket_no=77|--token=a"),
        "x|--ticket_no=**|--token=*"
    );
    let alone = Rules::new(false, &words);
    assert_eq!(
        hide(&alone, "x|--ticketno|77|--token=a"),
        "x|--ticketno|**|--token=a"
    );
    assert!(Rules::new(false, &[]).is_empty());
}

fn record(argv: &[u8]) -> Vec<u8> {
    let mut exec = Exec::new_zeroed();
    exec.header.kind = EventKind::ProcessExec as u8;
    exec.filename_len = 4;
    exec.argv_len = argv.len() as u16;
    [exec.as_bytes(), b"/bin", argv].concat()
}

#[test]
fn a_record_keeps_its_length_and_says_that_something_is_hidden() {
    let mut redactor = Redactor::new(Rules::new(true, &[]));
    for (argv, expected) in [
        (&b"x\0--token=abc\0"[..], &b"x\0--token=***\0"[..]),
        (b"x\0y\0", b"x\0y\0"),
    ] {
        let before = record(argv);
        let header = abi::decode::<Header>(&before).expect("a header");
        let after = redactor.apply(&header, &before).to_vec();
        assert_eq!(after.len(), before.len());
        assert!(after.ends_with(expected));
        let flags = abi::decode::<Header>(&after).expect("a header").flags;
        assert_eq!(flags & EXEC_REDACTED != 0, argv != expected);
    }
    assert_eq!(redactor.redacted(), 1);
}

/// How many bytes of anything; an interpreter takes its time.
const BYTES_MAX: usize = if cfg!(miri) { 20 } else { 200 };

proptest! {
    #[test]
    fn any_bytes_are_survived_and_only_ever_covered(block in prop::collection::vec(
        prop_oneof![Just(0_u8), Just(b'='), Just(b':'), Just(b'@'), Just(b'/'), Just(b'-'), any::<u8>()], 0..BYTES_MAX))
    {
        let mut after = block.clone();
        let hidden = Rules::new(true, &["a".to_owned()]).hide(&mut after);
        prop_assert_eq!(after.len(), block.len());
        prop_assert!(hidden || after == block);
        for (new, old) in after.iter().zip(&block) {
            prop_assert!(new == old || *new == b'*' && *old != 0);
        }
        let mut redactor = Redactor::new(Rules::new(true, &[]));
        let whole = record(&block);
        for len in [whole.len(), whole.len() / 2, 80] {
            let cut = &whole[..len.min(whole.len())];
            if let Some(header) = abi::decode::<Header>(cut) {
                prop_assert_eq!(redactor.apply(&header, cut).len(), cut.len());
            }
        }
    }
}

#[test]
fn the_memory_of_a_stack_is_left_out_and_all_else_stays() {
    let secret = b"hunter2!hunter2!";
    let mut mapping = abi::Mapping::new_zeroed();
    mapping.start = 0x1000;
    let mut fatal = SignalFatal::new_zeroed();
    fatal.header.kind = EventKind::SignalFatal as u8;
    fatal.signal = 11;
    fatal.stack_memory_len = secret.len() as u32;
    fatal.mappings_len = 1;
    fatal.header.len = (fatal.as_bytes().len() + secret.len() + mapping.as_bytes().len()) as u32;
    let record = [fatal.as_bytes(), secret, mapping.as_bytes()].concat();
    let whole = Redactor::new(Rules::new(true, &[]))
        .apply(&fatal.header, &record)
        .to_vec();
    assert_eq!(whole, record);
    let mut redactor = Redactor::new(Rules::new(true, &[])).without_stacks(true);
    let left = redactor.apply(&fatal.header, &record).to_vec();
    assert_eq!(left.len(), record.len() - secret.len());
    assert!(!left.windows(7).any(|bytes| bytes == b"hunter2"));
    let kept = abi::decode::<SignalFatal>(&left).expect("it is one");
    assert_eq!(kept.header.len as usize, left.len());
    assert_eq!(
        (kept.signal, kept.stack_memory_len, kept.mappings_len),
        (11, 0, 1)
    );
    assert!(left.ends_with(mapping.as_bytes()));
    // What is not whole is not shown at all.
    let cuts = 0..record.len() - mapping.as_bytes().len() - 1;
    for len in cuts.step_by(CUT_STEP) {
        let left = redactor.apply(&fatal.header, &record[..len]);
        assert!(left.is_empty(), "{len}");
    }
    // The longest that there is fits.
    fatal.stack_memory_len = abi::STACK_MEMORY_BYTES_MAX as u32;
    fatal.mappings_len = abi::MAPPINGS_MAX as u32;
    let behind =
        vec![7; abi::STACK_MEMORY_BYTES_MAX + abi::MAPPINGS_MAX * mapping.as_bytes().len()];
    let record = [fatal.as_bytes(), &behind].concat();
    assert_eq!(
        redactor.apply(&fatal.header, &record).len(),
        record.len() - abi::STACK_MEMORY_BYTES_MAX
    );
}

#[test]
fn the_words_of_a_command_stay_words() {
    let rules = Rules::new(true, &[]);
    let command = ["mysql", "-phunter2", "", "--token", "abc"].map(str::to_owned);
    let hidden = rules.hidden(&command);
    assert_eq!(hidden, ["mysql", "-p*******", "", "--token", "***"]);
}
