//! Names by pattern: `*` stands for any characters, or for none.

/// A pattern made ready. Matching takes time in proportion to the pattern and the text together,
/// however many stars there are: names are chosen by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// Before the first star; the whole when there is none.
    first: String,
    /// Between stars, and then what is behind the last; `None` without a star.
    rest: Option<(Vec<String>, String)>,
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        let Some((first, rest)) = pattern.split_once('*') else {
            return Glob { first: pattern.to_owned(), rest: None };
        };
        let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let between = between.split('*').filter(|part| !part.is_empty()).map(str::to_owned);
        Glob { first: first.to_owned(), rest: Some((between.collect(), last.to_owned())) }
    }

    /// Case counts, as it does in a certificate's common name.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((between, last)) = &self.rest else { return text == self.first };
        // Both ends are taken off first, so that no character serves twice.
        let Some(middle) = text.strip_prefix(&self.first) else { return false };
        let Some(mut middle) = middle.strip_suffix(last.as_str()) else { return false };
        // The earliest place is as good as any: it leaves the most for those behind.
        between.iter().all(|part| match middle.split_once(part.as_str()) {
            Some((_, behind)) => {
                middle = behind;
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, in time without measure.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| defined(rest, &text[skip..])),
            ([one, rest @ ..], [other, more @ ..]) => one == other && defined(rest, more),
            _ => false,
        }
    }

    #[test]
    fn a_star_stands_for_anything_and_nothing() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "spiffe://a/b.c"),
            ("a*", "a"),
            ("*.a", "b.c.a"),
            ("spiffe://x/*/db", "spiffe://x/ns/web/db"),
            ("a*b*c", "abxbc"),
            ("**", "x"),
            ("a", "a"),
        ] {
            assert!(Glob::new(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn everything_else_stands_for_itself() {
        for (pattern, text) in
            [("a", "A"), ("a", "ab"), ("a.b", "axb"), ("ab*ba", "aba"), ("a*b*a", "aa"), ("", "a")]
        {
            assert!(!Glob::new(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_few() {
        // A star that is tried at every place would be at it for ages.
        let pattern = "*a".repeat(50_000) + "*b*";
        assert!(!Glob::new(&pattern).matches(&"a".repeat(200_000)));
    }

    proptest! {
        #[test]
        fn it_matches_by_its_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let matches = Glob::new(&pattern).matches(&text);
            prop_assert_eq!(matches, defined(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
