//! Names and values inside SQL, where no parameters can be used: `COPY` takes none.

/// A name as it is, whatever it holds.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// A text, whatever it holds and however the server reads backslashes.
pub(crate) fn literal(text: &str) -> String {
    let text = text.replace('\0', "").replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_text_can_not_end_its_quotes() {
        assert_eq!(identifier(r#"Pat"; DROP"#), r#""Pat""; DROP""#);
        assert_eq!(literal("a'; DROP TABLE x; --"), "'a''; DROP TABLE x; --'");
        assert_eq!(literal(r"\'; --"), r" E'\\''; --'");
        assert_eq!(literal("a\0b"), "'ab'");
    }
}
