//! What a secret looks like.

/// Words that make a name one of a secret, in lower case; `_` and `-` in a name count as nothing.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
];
/// What a name may be or end with, after a separator: "MYSQL_PWD", "--key".
const ENDS: &[&str] = &["pwd", "key", "pass", "auth"];
/// Ends of names that say where a secret is, and are none.
const PLACES: &[&str] = &["file", "path", "dir", "stdin", "fd", "env"];
/// Longest name that is looked at.
const NAME_MAX: usize = 64;
/// Most words of the configuration's own, and their length.
pub const OWN_WORDS_MAX: usize = 64;

/// What to hide.
#[derive(Clone, Debug)]
pub struct Rules {
    defaults: bool,
    /// In lower case, without `_` and `-`.
    own: Vec<Vec<u8>>,
}

impl Rules {
    /// Makes rules of the built-in ones, if `defaults`, and words of one's own.
    pub fn new(defaults: bool, words: &[String]) -> Self {
        let own = words
            .iter()
            .map(|word| folded(word.as_bytes()).collect::<Vec<u8>>())
            .filter(|word| !word.is_empty())
            .take(OWN_WORDS_MAX)
            .collect();
        Self { defaults, own }
    }

    /// Whether nothing is to be hidden.
    pub fn is_empty(&self) -> bool {
        !self.defaults && self.own.is_empty()
    }

    /// Returns the words of a command without their secrets.
    pub fn hidden(&self, command: &[String]) -> Vec<String> {
        let mut block = Vec::new();
        for word in command {
            block.extend_from_slice(word.as_bytes());
            block.push(0);
        }
        self.hide(&mut block);
        block
            .strip_suffix(&[0])
            .unwrap_or_default()
            .split(|&byte| byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    /// Replaces secrets in an argument block, in which each argument ends with a NUL but perhaps the last; true if there
    /// were any.
    pub fn hide(&self, block: &mut [u8]) -> bool {
        let mut hidden = false;
        let mut program = Program::Other;
        let mut next = Next::Plain;
        for (number, argument) in block.split_mut(|&byte| byte == 0).enumerate() {
            if number == 0 {
                program = Program::of(argument);
            }
            match std::mem::replace(&mut next, Next::Plain) {
                Next::Secret if !argument.starts_with(b"--") => {
                    hidden |= cover(argument);
                    continue;
                }
                Next::User => hidden |= cover_after(argument, b':'),
                Next::Secret | Next::Plain => {}
            }
            hidden |= self.names(argument);
            if self.defaults {
                hidden |= urls(argument);
                hidden |= schemes(argument);
                hidden |= program.own(argument, &mut next);
            }
            if argument.starts_with(b"-") && self.is_name(argument) {
                next = Next::Secret;
            }
        }
        hidden
    }

    /// Hides the values of names in an argument: the rest of it, if the name begins it, else up to the value's end.
    fn names(&self, argument: &mut [u8]) -> bool {
        let mut hidden = false;
        let mut from = 0;
        while let Some(at) = find(&argument[from..], |byte| byte == b'=' || byte == b':') {
            let mut end = from + at;
            from = end + 1;
            while end > 0 && matches!(argument[end - 1], b' ' | b'"' | b'\'') {
                end -= 1;
            }
            let begin = argument[..end]
                .iter()
                .rposition(|&byte| !is_name_byte(byte))
                .map_or(0, |before| before + 1);
            if !self.is_name(&argument[begin..end]) {
                continue;
            }
            let mut value = from;
            while value < argument.len() && matches!(argument[value], b' ' | b'"' | b'\'') {
                value += 1;
            }
            let len = if begin == 0 {
                None
            } else {
                find(&argument[value..], |byte| {
                    matches!(byte, b'&' | b';' | b' ' | b'"' | b'\'' | b'\n' | b'\t')
                })
            };
            let end = len.map_or(argument.len(), |len| value + len);
            hidden |= cover(&mut argument[value..end]);
            from = end;
        }
        hidden
    }

    /// Whether a name is one of a secret.
    fn is_name(&self, name: &[u8]) -> bool {
        let name = &name[name.len().saturating_sub(NAME_MAX)..];
        if !name.iter().all(|&byte| is_name_byte(byte)) {
            return false;
        }
        let mut buffer = [0; NAME_MAX];
        let mut len = 0;
        for byte in folded(name) {
            buffer[len] = byte;
            len += 1;
        }
        let plain = &buffer[..len];
        if self.own.iter().any(|word| contains(plain, word)) {
            return true;
        }
        if !self.defaults || PLACES.iter().any(|end| ends_apart(name, end)) {
            return false;
        }
        WORDS.iter().any(|word| contains(plain, word.as_bytes()))
            || ENDS.iter().any(|end| ends_apart(name, end))
    }
}

/// What the next argument is.
enum Next {
    Plain,
    Secret,
    /// A user, and after a colon a password.
    User,
}

/// Programs whose short options are known.
#[derive(Clone, Copy)]
enum Program {
    Mysql,
    Sshpass,
    Curl,
    Other,
}

impl Program {
    fn of(path: &[u8]) -> Self {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        match name {
            b"sshpass" => Self::Sshpass,
            b"curl" => Self::Curl,
            _ if name.starts_with(b"mysql") || name.starts_with(b"mariadb") => Self::Mysql,
            _ => Self::Other,
        }
    }

    fn own(self, argument: &mut [u8], next: &mut Next) -> bool {
        match (self, &*argument) {
            (Self::Sshpass, b"-p") => *next = Next::Secret,
            (Self::Curl, b"-u" | b"--user" | b"-U" | b"--proxy-user") => *next = Next::User,
            (Self::Mysql | Self::Sshpass, [b'-', b'p', _, ..]) => return cover(&mut argument[2..]),
            (Self::Curl, [b'-', b'u' | b'U', _, ..]) => return cover_after(argument, b':'),
            (Self::Curl, _) if argument.starts_with(b"--user=") => {
                return cover_after(argument, b':');
            }
            _ => {}
        }
        false
    }
}

/// Hides the passwords of URLs: `scheme://user:password@host`.
fn urls(argument: &mut [u8]) -> bool {
    let mut hidden = false;
    let mut from = 0;
    while let Some(at) = position(&argument[from..], b"://") {
        let begin = from + at + 3;
        let len = find(&argument[begin..], |byte| {
            matches!(byte, b'/' | b'?' | b'#' | b' ' | b'"' | b'\'')
        });
        let end = len.map_or(argument.len(), |len| begin + len);
        // A password may hold what should have been escaped: a slash, or another sign.
        let end = match argument[begin..end].contains(&b'@') {
            true => end,
            false => find(&argument[begin..], |byte| {
                matches!(byte, b' ' | b'"' | b'\'')
            })
            .map_or(argument.len(), |len| begin + len),
        };
        let authority = &mut argument[begin..end];
        if let Some(host) = authority.iter().rposition(|&byte| byte == b'@')
            && let Some(colon) = find(&authority[..host], |byte| byte == b':')
            && find(&authority[..colon], |byte| byte == b'/').is_none()
        {
            hidden |= cover(&mut authority[colon + 1..host]);
        }
        from = begin;
    }
    hidden
}

/// Hides what follows `Authorization:`, `Bearer` and `Basic`; the name of the scheme stays.
fn schemes(argument: &mut [u8]) -> bool {
    let mut hidden = false;
    for scheme in [&b"authorization:"[..], b"bearer ", b"basic "] {
        let Some(at) = position(argument, scheme) else {
            continue;
        };
        let mut begin = at + scheme.len();
        while begin < argument.len() && argument[begin] == b' ' {
            begin += 1;
        }
        let rest = &argument[begin..];
        let known = [&b"bearer "[..], b"basic ", b"digest ", b"token "];
        let named = known.iter().find(|word| starts(rest, word));
        begin += named.map_or(0, |word| word.len());
        hidden |= cover(&mut argument[begin..]);
    }
    hidden
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The letters and digits of a name, in lower case.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter()
        .filter(|byte| !matches!(byte, b'_' | b'-'))
        .map(u8::to_ascii_lowercase)
}

/// Whether a name is `end`, or ends with it after a separator.
fn ends_apart(name: &[u8], end: &str) -> bool {
    let Some(start) = name.len().checked_sub(end.len()) else {
        return false;
    };
    name[start..].eq_ignore_ascii_case(end.as_bytes())
        && (start == 0 || !name[start - 1].is_ascii_alphanumeric())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn starts(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Finds a word, whose letters are small ones, in a text in which they may not be.
fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len())
        .position(|window| window.eq_ignore_ascii_case(word))
}

fn find(text: &[u8], is: impl Fn(u8) -> bool) -> Option<usize> {
    text.iter().position(|&byte| is(byte))
}

/// Replaces what is there; false if there is nothing.
fn cover(secret: &mut [u8]) -> bool {
    secret.fill(b'*');
    !secret.is_empty()
}

fn cover_after(argument: &mut [u8], separator: u8) -> bool {
    match find(argument, |byte| byte == separator) {
        Some(at) => cover(&mut argument[at + 1..]),
        None => false,
    }
}
