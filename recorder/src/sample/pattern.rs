//! Patterns of lines: `*` stands for any text, everything else for itself.

/// A pattern for a whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        Self(pattern.as_bytes().to_vec())
    }

    /// Tells whether the line is one of these.
    pub(super) fn matches(&self, line: &[u8]) -> bool {
        let pattern = &self.0;
        let (mut at, mut in_line) = (0, 0);
        // Where the last star was, and how much of the line it has taken.
        let mut star: Option<(usize, usize)> = None;
        while in_line < line.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, in_line));
                    at += 1;
                }
                Some(byte) if *byte == line[in_line] => {
                    at += 1;
                    in_line += 1;
                }
                Some(_) | None => {
                    let Some((place, taken)) = star else {
                        return false;
                    };
                    star = Some((place, taken + 1));
                    at = place + 1;
                    in_line = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, line, matches) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*ab*ab", "aabab", true),
            ("*ab*ab", "aab", false),
            ("a.c", "abc", false),
            (
                "* entered * state",
                "br0: port 1(veth1) entered blocking state",
                true,
            ),
            ("**", "x", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(line.as_bytes()),
                matches,
                "{pattern} {line}"
            );
        }
        assert!(Pattern::new("\u{e9}*").matches(b"\xc3\xa9\xff"));
    }

    #[test]
    fn many_stars_on_a_long_line_end_soon() {
        let pattern = Pattern::new(&("*a".repeat(500) + "b"));
        assert!(!pattern.matches(&[b'a'; 4096]));
    }
}
