//! Texts with policy variables.

use super::context::{Context, Key, Kind};
use super::pattern::Token;

/// A version of the policy language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// `2008-10-17`: without variables.
    V2008,
    /// `2012-10-17`.
    V2012,
}

/// A text with wildcards and variables.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Token(Token),
    Variable { key: Key, default: Option<String> },
}

impl Template {
    /// Reads a text; `*` and `?` in it are wildcards.
    ///
    /// # Errors
    /// Says what is wrong with a variable.
    pub(super) fn parse(text: &str, version: Version) -> Result<Self, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            if version == Version::V2012
                && let Some(after) = rest.strip_prefix("${")
            {
                let (inner, beyond) = after.split_once('}').ok_or("a variable has no end")?;
                pieces.push(variable(inner)?);
                rest = beyond;
                continue;
            }
            pieces.push(Piece::Token(match letter {
                '*' => Token::Any,
                '?' => Token::One,
                _ => Token::Literal(letter),
            }));
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
        Ok(Self(pieces))
    }

    /// The pattern for a request: values of variables stand for themselves, even if they hold wildcards. `None` if the
    /// request has no value for one.
    pub(super) fn pattern(&self, context: &Context) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Token(token) => tokens.push(*token),
                Piece::Variable { key, default } => {
                    let value = key.text(context).or(default.as_deref())?;
                    tokens.extend(value.chars().map(Token::Literal));
                }
            }
        }
        Some(tokens)
    }

    /// The text for a request, in which wildcards are letters as others. `None` if the request has no value for a variable.
    pub(super) fn text(&self, context: &Context) -> Option<String> {
        let letter = |token: Token| match token {
            Token::Literal(letter) => letter,
            Token::Any => '*',
            Token::One => '?',
        };
        Some(self.pattern(context)?.into_iter().map(letter).collect())
    }
}

/// What stands between `${` and `}`: a letter that isn't a wildcard here, or a key and perhaps `, 'default'`.
fn variable(inner: &str) -> Result<Piece, &'static str> {
    let mut letters = inner.chars();
    if let (Some(letter @ ('*' | '?' | '$')), None) = (letters.next(), letters.next()) {
        return Ok(Piece::Token(Token::Literal(letter)));
    }
    let (name, default) = match inner.split_once(',') {
        None => (inner, None),
        Some((name, default)) => {
            let quoted = default.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            (name, Some(quoted.ok_or("the default of a variable isn't in single quotes")?))
        }
    };
    let key = Key::parse(name.trim()).filter(|key| matches!(key.kind(), Kind::Text | Kind::Arn));
    let key = key.ok_or("a variable isn't known")?;
    Ok(Piece::Variable { key, default: default.map(str::to_owned) })
}
