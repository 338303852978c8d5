//! Text that shows on a terminal and does not act on it.

mod json;

use std::borrow::Cow;

pub use json::json;

/// Tells whether a character would act on a terminal, or on the reading of the text around it, instead of showing.
///
/// Controls of C0 and C1, separators of lines, and the invisible format characters: direction overrides and isolates,
/// joiners, tags.
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Replaces hostile characters by escapes as Rust writes them: `\u{1b}`, `\n`.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if is_plain || !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_hostile(character) {
            true => safe.extend(character.escape_default()),
            false => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

/// Escapes a text and cuts it to `max` characters, the last one "…" if something was cut.
pub fn escape_short(text: &str, max: usize) -> String {
    let mut short = String::new();
    let mut left = max;
    for character in text.chars() {
        let shown = match is_hostile(character) {
            true => character.escape_default().to_string(),
            false => character.to_string(),
        };
        let len = shown.chars().count();
        if len > left {
            // Room for the mark: what was written last gives way.
            while short.chars().count() >= max {
                short.pop();
            }
            short.push('…');
            break;
        }
        left -= len;
        short.push_str(&shown);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_are_escaped_and_others_are_not() {
        assert_eq!(
            escape("\x1b[31mred\x07\n\u{9b}2J"),
            "\\u{1b}[31mred\\u{7}\\n\\u{9b}2J"
        );
        assert_eq!(escape("evil\u{202e}txt.exe"), "evil\\u{202e}txt.exe");
        assert_eq!(escape("a\u{200b}b\u{feff}"), "a\\u{200b}b\\u{feff}");
        assert_eq!(escape("naïve 文字 😀 \u{fffd}"), "naïve 文字 😀 \u{fffd}");
    }

    #[test]
    fn no_character_gets_through_that_acts_on_a_terminal() {
        // An interpreter takes its time; most of them are among the first.
        let last = if cfg!(miri) { '\u{2fff}' } else { char::MAX };
        for character in ('\0'..=last).filter(|character| is_hostile(*character)) {
            assert!(
                escape(&character.to_string())
                    .chars()
                    .all(|shown| shown.is_ascii_graphic()),
                "{:x}",
                u32::from(character)
            );
        }
    }

    #[test]
    fn a_short_text_is_never_longer_than_said() {
        for text in ["abcdef", "abc\x1b\x1b", "\n\n\n", "äöü€"] {
            for max in 1..12 {
                let short = escape_short(text, max);
                assert!(short.chars().count() <= max, "{text:?} {max} {short:?}");
                assert_eq!(short.ends_with('…'), short != escape(text));
            }
        }
    }
}
