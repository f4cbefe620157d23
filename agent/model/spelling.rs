//! Suggestions for a misspelt word.

/// The known word that is most similar to `word`, if any is similar enough to suggest.
///
/// Similar means that at most a third of the letters differ; capitals do not count.
#[must_use]
pub fn nearest_word<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (spelling_distance(word, candidate), *candidate))
        .filter(|(changes, candidate)| *changes <= candidate.chars().count().div_ceil(3))
        .min_by_key(|(changes, _)| *changes)
        .map(|(_, candidate)| candidate)
}

/// How many letters are inserted, deleted or replaced between two words; capitals do not count.
#[must_use]
pub fn spelling_distance(one: &str, other: &str) -> usize {
    strsim::levenshtein(&one.to_lowercase(), &other.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let known = ["binDir", "confDir", "stateDir"];
        assert_eq!(nearest_word("bindir", &known), Some("binDir"));
        assert_eq!(nearest_word("cnfDir", &known), Some("confDir"));
        assert_eq!(nearest_word("stateDirectory", &known), None);
        assert_eq!(nearest_word("", &known), None);
        assert_eq!(nearest_word("x", &[]), None);
    }
}
