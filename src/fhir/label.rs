//! Labels of resources: the codings of `meta.security` and `meta.tag`, and the tokens that ask for them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// What a token says of a coding's system.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum System {
    /// Nothing.
    Any,
    /// There is none.
    Absent,
    /// It is this one.
    Is(Box<str>),
}

/// Codings that are asked for, as FHIR's search writes them: <https://hl7.org/fhir/R4/search.html#token>.
///
/// | token | codings |
/// | --- | --- |
/// | `system\|code` | of this system and code |
/// | `system\|` | of this system, with any code |
/// | `\|code` | of this code, without a system |
/// | `code` | of this code, with any system or none |
///
/// Systems and codes compare exactly, with case. A backslash before `|`, `,`, `$` or a backslash takes its meaning from
/// it, as in every search.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    system: System,
    code: Option<Box<str>>,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It names neither a system nor a code.
    Empty,
    /// It has more than one `|`.
    Bars,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "names neither a system nor a code",
            Self::Bars => "has more than one |",
        })
    }
}

impl std::error::Error for TokenError {}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// When it asks for nothing, or its parts can't be told.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut parts = split(text, '|');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(TokenError::Bars);
        }
        let code = |text: &str| (!text.is_empty()).then(|| unescaped(text).into());
        let (system, code) = match (first, second) {
            (code_only, None) => (System::Any, code(code_only)),
            ("", Some(bare)) => (System::Absent, code(bare)),
            (system, Some(text)) => return Ok(Self { system: System::Is(unescaped(system).into()), code: code(text) }),
        };
        if code.is_some() { Ok(Self { system, code }) } else { Err(TokenError::Empty) }
    }

    /// Splits a list at its commas, but for those behind a backslash.
    pub fn split_list(list: &str) -> impl Iterator<Item = &str> {
        split(list, ',')
    }

    /// Whether a coding is one of those that are asked for.
    #[must_use]
    pub fn matches(&self, system: Option<&str>, code: Option<&str>) -> bool {
        let is_system = match &self.system {
            System::Any => true,
            System::Absent => system.is_none(),
            System::Is(wanted) => system == Some(&**wanted),
        };
        is_system && self.code.as_deref().is_none_or(|wanted| code == Some(wanted))
    }
}

impl fmt::Display for Token {
    /// Writes what [`Token::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.system {
            System::Any => {}
            System::Absent => f.write_str("|")?,
            System::Is(system) => write!(f, "{}|", escaped(system))?,
        }
        f.write_str(&escaped(self.code.as_deref().unwrap_or_default()))
    }
}

/// Splits at a character, but where a backslash is before it.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    text.split(move |c: char| {
        let ends = c == at && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = characters.next_if(|next| character == '\\' && matches!(next, '|' | ',' | '$' | '\\'));
        plain.push(escaped.unwrap_or(character));
    }
    Cow::Owned(plain)
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['|', ',', '$', '\\']) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 4);
    for character in text.chars() {
        if matches!(character, '|' | ',' | '$' | '\\') {
            written.push('\\');
        }
        written.push(character);
    }
    Cow::Owned(written)
}

/// The labels that a resource must bear: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Of `meta.security`.
    pub security: BTreeSet<Token>,
    /// Of `meta.tag`.
    pub tags: BTreeSet<Token>,
}

impl Labels {
    /// Whether none is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.security.is_empty() && self.tags.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_matches_the_codings_that_fhirs_search_says() {
        let codings =
            [(None, None), (None, Some("R")), (Some("s"), None), (Some("s"), Some("R")), (Some("t"), Some("R"))];
        for (token, matched) in [
            ("s|R", &[3][..]),
            ("s|", &[2, 3]),
            ("|R", &[1]),
            ("R", &[1, 3, 4]),
            ("r", &[]),
            ("S|R", &[]),
            ("s|R ", &[]),
        ] {
            let read = Token::parse(token).unwrap();
            let found: Vec<usize> =
                (0..codings.len()).filter(|index| read.matches(codings[*index].0, codings[*index].1)).collect();
            assert_eq!(found, matched, "{token}");
        }
    }

    #[test]
    fn a_backslash_takes_the_meaning_of_what_follows() {
        let token = Token::parse(r"http://x/a\|b|c\,d\\\$\e").unwrap();
        assert!(token.matches(Some("http://x/a|b"), Some(r"c,d\$\e")));
        assert_eq!(Token::split_list(r"a|b,c\,d\\,e").collect::<Vec<_>>(), ["a|b", r"c\,d\\", "e"]);
    }

    #[test]
    fn what_asks_for_nothing_or_cannot_be_told_is_no_token() {
        for (text, error) in [("", TokenError::Empty), ("|", TokenError::Empty), ("a|b|c", TokenError::Bars)] {
            assert_eq!(Token::parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_written_as_it_is_read(text in "[ab|,$\\\\é ]{0,12}") {
            if let Ok(token) = Token::parse(&text) {
                let written = token.to_string();
                prop_assert_eq!(Token::split_list(&written).count(), 1);
                prop_assert_eq!(Token::parse(&written), Ok(token));
            }
        }
    }
}
