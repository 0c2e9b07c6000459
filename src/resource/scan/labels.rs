//! The codings of `meta`, gone through only if labels are asked for.

use std::collections::BTreeSet;

use super::grammar::{Broken, Cursor};
use crate::fhir::{Labels, Token};

/// Whether a `meta`, at the beginning of `rest`, has a coding for each of the labels.
///
/// The line is known to be text, and usually to be JSON: where only its structure was checked, what isn't JSON bears
/// nothing.
pub(in crate::resource) fn bears(rest: &str, labels: &Labels) -> bool {
    bears_all(rest, labels).unwrap_or(false)
}

fn bears_all(rest: &str, labels: &Labels) -> Result<bool, Broken> {
    let mut cursor = Cursor::new(rest.as_bytes());
    let [security, tags] = members(&mut cursor, rest, ["security", "tag"])?;
    Ok(has_all(&mut cursor, rest, security, &labels.security)? && has_all(&mut cursor, rest, tags, &labels.tags)?)
}

/// Whether the list that begins at a place has a coding for each of the tokens.
fn has_all(cursor: &mut Cursor<'_>, rest: &str, at: Option<usize>, tokens: &BTreeSet<Token>) -> Result<bool, Broken> {
    if tokens.is_empty() {
        return Ok(true);
    }
    let Some(at) = at else { return Ok(false) };
    cursor.return_to(at);
    let is_list = cursor.peek() == Some(b'[');
    if is_list {
        cursor.advance(1);
        cursor.skip_blanks();
        if cursor.peek() == Some(b']') {
            return Ok(false);
        }
    }
    let mut missing: Vec<&Token> = tokens.iter().collect();
    loop {
        let [system, code] = members(cursor, rest, ["system", "code"])?;
        let behind = cursor.position();
        let (system, code) = (text(cursor, rest, system)?, text(cursor, rest, code)?);
        missing.retain(|token| !token.matches(system.as_deref(), code.as_deref()));
        cursor.return_to(behind);
        cursor.skip_blanks();
        if missing.is_empty() || !is_list || cursor.peek() != Some(b',') {
            return Ok(missing.is_empty());
        }
        cursor.advance(1);
        cursor.skip_blanks();
    }
}

/// Passes over a value and tells where the values of these members begin, if it is an object: of duplicates the last.
fn members<const N: usize>(
    cursor: &mut Cursor<'_>,
    rest: &str,
    names: [&str; N],
) -> Result<[Option<usize>; N], Broken> {
    let mut found = [None; N];
    if cursor.peek() != Some(b'{') {
        cursor.skip_value(0)?;
        return Ok(found);
    }
    cursor.advance(1);
    cursor.skip_blanks();
    while cursor.peek() == Some(b'"') {
        let name = cursor.string_span()?.text(rest);
        cursor.skip_colon()?;
        if let Some(place) = names.iter().position(|wanted| *wanted == name).and_then(|index| found.get_mut(index)) {
            *place = Some(cursor.position());
        }
        cursor.skip_value(0)?;
        cursor.skip_blanks();
        if cursor.peek() == Some(b',') {
            cursor.advance(1);
            cursor.skip_blanks();
        }
    }
    if cursor.peek() != Some(b'}') {
        return Err(cursor.unexpected("missing comma or brace"));
    }
    cursor.advance(1);
    Ok(found)
}

fn text<'r>(
    cursor: &mut Cursor<'_>,
    rest: &'r str,
    at: Option<usize>,
) -> Result<Option<std::borrow::Cow<'r, str>>, Broken> {
    let Some(at) = at else { return Ok(None) };
    cursor.return_to(at);
    if cursor.peek() != Some(b'"') {
        return Ok(None);
    }
    Ok(Some(cursor.string_span()?.text(rest)))
}
