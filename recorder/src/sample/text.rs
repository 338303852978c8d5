//! Words and numbers in the text files of the kernel. Whatever the bytes are, nothing here fails or allocates.

/// Returns the lines of a text.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// Returns the words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty())
}

/// Returns a whole number: digits and nothing else, within 64 bits.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Returns a number with decimals: "0.53".
pub(super) fn decimal(word: &[u8]) -> Option<f64> {
    let plain = word
        .iter()
        .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let text = std::str::from_utf8(word).ok().filter(|_| plain)?;
    text.parse().ok()
}

/// Fills `numbers` with the words of a line from the first on; returns how many there were, up to the first that is none.
pub(super) fn numbers<'a>(words: impl Iterator<Item = &'a [u8]>, numbers: &mut [u64]) -> usize {
    let mut found = 0;
    for (slot, word) in numbers.iter_mut().zip(words) {
        let Some(number) = number(word) else { break };
        *slot = number;
        found += 1;
    }
    found
}

/// Puts bytes into a text that is already there, without allocating if it has the room. What is not UTF-8 is replaced.
pub(super) fn set(text: &mut Option<String>, bytes: &[u8]) {
    let text = text.get_or_insert_default();
    text.clear();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "18446744073709551616",
            "-1",
            "+1",
            "1a",
            "0x1",
            "\u{661}",
            "1 ",
        ] {
            assert_eq!(number(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn decimals_are_plain() {
        assert_eq!(decimal(b"0.53"), Some(0.53));
        assert_eq!(decimal(b"12"), Some(12.0));
        for bad in ["", ".", "1.2.3", "nan", "inf", "1e9", "-1", "\u{fffd}"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_end_at_what_is_none() {
        let mut found = [0; 4];
        assert_eq!(numbers(words(b" 1\t2  x 4"), &mut found), 2);
        assert_eq!(found, [1, 2, 0, 0]);
        assert_eq!(numbers(words(b"1 2 3 4 5"), &mut found), 4);
    }
}
