//! Which word was meant.

/// Returns the candidate nearest to a word, if one is near enough to be a slip.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, candidate) = candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.chars().count() / 3).max(1)).then_some(candidate)
}

/// Returns a sentence that there is no such thing, and which may be meant.
pub fn no_such(what: &str, name: &str, known: &[&str]) -> String {
    match (nearest(name, known.iter().copied()), known) {
        (Some(meant), _) => format!("no {what} {name:?}: did you mean {meant:?}?"),
        (None, []) => format!("no {what} {name:?}: there is none"),
        (None, known) => format!("no {what} {name:?}: there are {}", known.join(", ")),
    }
}

/// Counts the letters to put in, take out, change or swap with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = usize::from(one[i - 1] != other[j - 1]);
                let mut best = rows[i - 1][j - 1] + changed;
                best = best.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped =
                    i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                match swapped {
                    true => best.min(rows[i - 2][j - 2] + 1),
                    false => best,
                }
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let words = ["before", "after", "cooldown"];
        let meant = |word| nearest(word, words.into_iter());
        assert_eq!(meant("befor"), Some("before"));
        assert_eq!(meant("ebfore"), Some("before"));
        assert_eq!(meant("cool_down"), Some("cooldown"));
        assert_eq!(meant("retention"), None);
        assert_eq!(meant(""), None);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
