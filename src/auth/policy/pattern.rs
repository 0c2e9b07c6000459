//! Texts with wildcards.

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Literal(char),
    /// `?`: one character.
    One,
    /// `*`: any number of characters.
    Any,
}

/// How far wildcards reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Over the whole text.
    Text,
    /// Over a part of an ARN; a `*` that is a part's last character over those that follow as well.
    ArnParts,
}

/// Whether a pattern matches a whole text.
///
/// All places of the pattern where the text so far may have led are followed at once: the time is the product of both
/// lengths at most, whatever the pattern.
pub(super) fn matches(pattern: &[Token], text: &str, reach: Reach) -> bool {
    let mut here = vec![false; pattern.len() + 1];
    if let Some(start) = here.first_mut() {
        *start = true;
    }
    skip_any(pattern, &mut here);
    let mut next = here.clone();
    for letter in text.chars() {
        next.fill(false);
        let is_within = reach == Reach::Text || letter != ':';
        for (place, token) in pattern.iter().enumerate().filter(|(place, _)| here.get(*place) == Some(&true)) {
            let (stays, goes_on) = match token {
                Token::Literal(own) => (false, *own == letter),
                Token::One => (false, is_within),
                Token::Any => (is_within || ends_part(pattern, place), false),
            };
            for (reached, at) in [(stays, place), (goes_on, place + 1)] {
                if let Some(at) = next.get_mut(at) {
                    *at |= reached;
                }
            }
        }
        skip_any(pattern, &mut next);
        std::mem::swap(&mut here, &mut next);
    }
    here.last() == Some(&true)
}

/// A `*` matches nothing as well.
fn skip_any(pattern: &[Token], places: &mut [bool]) {
    for (place, _) in pattern.iter().enumerate().filter(|(_, token)| **token == Token::Any) {
        if places.get(place) == Some(&true)
            && let Some(after) = places.get_mut(place + 1)
        {
            *after = true;
        }
    }
}

/// Whether a token is the last of its part of an ARN.
fn ends_part(pattern: &[Token], place: usize) -> bool {
    matches!(pattern.get(place + 1), None | Some(Token::Literal(':')))
}

/// A text with wildcards as a pattern.
pub(super) fn parse(text: &str) -> Vec<Token> {
    let token = |letter| match letter {
        '*' => Token::Any,
        '?' => Token::One,
        _ => Token::Literal(letter),
    };
    text.chars().map(token).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the book, and in exponential time.
    fn naive(pattern: &[Token], text: &[char], reach: Reach) -> bool {
        let Some((token, rest)) = pattern.split_first() else { return text.is_empty() };
        let within = |letter: &char| reach == Reach::Text || *letter != ':';
        match (token, text.split_first()) {
            (Token::Literal(own), Some((letter, after))) => own == letter && naive(rest, after, reach),
            (Token::One, Some((letter, after))) => within(letter) && naive(rest, after, reach),
            (Token::Literal(_) | Token::One, None) => false,
            (Token::Any, _) => {
                let is_last = matches!(rest.first(), None | Some(Token::Literal(':')));
                let longest = text.iter().take_while(|letter| is_last || within(letter)).count();
                (0..=longest).any(|length| naive(rest, &text[length..], reach))
            }
        }
    }

    #[test]
    fn wildcards_stay_within_a_part_of_an_arn_unless_they_end_it() {
        for (pattern, text, is_match) in [
            (
                "arn:aws:healthlake:*:*:datastore/fhir/*",
                "arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/1",
                true,
            ),
            ("arn:*", "arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/1", true),
            ("arn:aws:healthlake:*:datastore/*", "arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/1", true),
            ("arn:aws:health*e:datastore/*", "arn:aws:healthlake:eu-west-1:1:e:datastore/1", false),
            ("arn:aws:h*1", "arn:aws:healthlake:eu-west-1:1:datastore/fhir/1", false),
            ("arn?aws", "arn:aws", false),
            ("arn:a?s", "arn:aws", true),
            ("*", "arn:aws", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(&parse(pattern), text, Reach::ArnParts), is_match, "{pattern} {text}");
        }
    }

    #[test]
    fn many_wildcards_take_no_longer_than_their_number() {
        let pattern = parse(&"*a".repeat(2000));
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(2000)), Reach::Text));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_match_is_what_it_is_by_the_book(pattern in "[ab:*?]{0,7}", text in "[ab:é]{0,9}", arn in any::<bool>()) {
            let reach = if arn { Reach::ArnParts } else { Reach::Text };
            let letters: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches(&parse(&pattern), &text, reach), naive(&parse(&pattern), &letters, reach));
        }
    }
}
