//! What type a file declares: the prefix of its name and its first line, if they say the same.

use bytes::Bytes;

use super::files::{Entry, blocking};
use super::gunzip::{Gunzip, Step};
use crate::fhir::ResourceType;

/// How much of a file is looked at, in bytes, as stored and as decompressed.
const HEAD_BYTES: usize = 64 << 10;

/// How much is looked at first: most files name the type in their first few bytes.
const GLANCE_BYTES: usize = 4 << 10;

/// What the first line of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FirstLine {
    /// A resource of this type.
    Type(ResourceType),
    /// There is none.
    Missing,
    /// It can't be told cheaply.
    Unsure,
}

/// The type that a file's name begins with: its letters up to the first other character, if that is a type of R4.
pub(super) fn name_prefix(path: &str) -> Option<ResourceType> {
    let file_name = path.rsplit('/').next().unwrap_or(path);
    ResourceType::r4(file_name.split(|letter: char| !letter.is_ascii_alphabetic()).next()?)
}

/// The type that name and first line agree on; a file without lines is taken by its name.
pub(super) fn declared_type(prefix: Option<&ResourceType>, first_line: &FirstLine) -> Option<ResourceType> {
    let prefix = prefix?;
    let agree = match first_line {
        FirstLine::Type(found) => found == prefix,
        FirstLine::Missing => true,
        FirstLine::Unsure => false,
    };
    agree.then(|| prefix.clone())
}

/// Looks at a file's first line; a file that can't be read is one that it can't be told of.
pub(super) async fn look(entry: &Entry) -> FirstLine {
    if entry.size_bytes == 0 {
        return FirstLine::Missing;
    }
    for most_bytes in [GLANCE_BYTES, HEAD_BYTES] {
        let Ok(head) = entry.file.head(most_bytes).await else { return FirstLine::Unsure };
        let all_stored = head.len() as u64 >= entry.size_bytes;
        let found = if entry.compressed {
            blocking(move || of_compressed(&head, all_stored)).await.unwrap_or(FirstLine::Unsure)
        } else {
            of_head(&head, all_stored)
        };
        if found != FirstLine::Unsure || all_stored {
            return found;
        }
    }
    FirstLine::Unsure
}

fn of_compressed(head: &Bytes, all_stored: bool) -> FirstLine {
    let mut text = vec![0; HEAD_BYTES];
    let mut gunzip = Gunzip::new(u32::MAX);
    let mut step = Step::default();
    // A fault says nothing here: what came before it is looked at, and the read will report it.
    let answer = gunzip.advance(head, &mut text, &mut step).and_then(|()| gunzip.finish());
    let whole = all_stored && answer.is_ok() && step.made < HEAD_BYTES;
    of_head(text.get(..step.made).unwrap_or_default(), whole)
}

/// The type that the first line that isn't blank names at its top level.
fn of_head(head: &[u8], whole: bool) -> FirstLine {
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let Some(start) = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) else {
        return if whole { FirstLine::Missing } else { FirstLine::Unsure };
    };
    let text = text.get(start..).unwrap_or_default();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = Scanner(line).resource_type().and_then(|name| std::str::from_utf8(name).ok());
    match name.map(ResourceType::new) {
        Some(Ok(found)) => FirstLine::Type(found),
        Some(Err(_)) | None => FirstLine::Unsure,
    }
}

/// Goes over the top level of one object without checking it: the scan of the engine does that.
struct Scanner<'a>(&'a [u8]);

impl<'a> Scanner<'a> {
    fn resource_type(mut self) -> Option<&'a [u8]> {
        self.take(b'{')?;
        loop {
            let key = self.string()?;
            self.take(b':')?;
            if key == b"resourceType" {
                return self.string();
            }
            // An escaped key may spell the one that is looked for.
            if key.contains(&b'\\') {
                return None;
            }
            self.skip_value()?;
            self.take(b',')?;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        self.skip_blanks();
        (self.next()? == wanted).then_some(())
    }

    /// The text of a string as it is written.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let text = self.0;
        let mut length = 0;
        loop {
            match self.next()? {
                b'"' => return text.get(..length),
                b'\\' => {
                    self.next()?;
                    length += 2;
                }
                _ => length += 1,
            }
        }
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            self.skip_blanks();
            match *self.0.first()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.next()?;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.next()?;
                }
                b',' | b'}' | b']' if depth == 0 => return Some(()),
                _ => {
                    self.next()?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(name: &str) -> FirstLine {
        FirstLine::Type(ResourceType::new(name).unwrap())
    }

    #[test]
    fn the_letters_a_file_name_begins_with_are_its_prefix_if_r4_has_such_a_type() {
        for name in ["Patient.ndjson", "a/b/Patient.000.ndjson", "Patient-1-0-0.ndjson", "Patient_2.ndjson.gz"] {
            assert_eq!(name_prefix(name).unwrap().as_str(), "Patient", "{name}");
        }
        for name in ["patient.ndjson", "Patients.ndjson", "data.ndjson", "1Patient.ndjson", "Patient/data.ndjson", ""] {
            assert_eq!(name_prefix(name), None, "{name}");
        }
    }

    #[test]
    fn the_first_line_names_its_type_at_the_top_level_only() {
        for line in [
            r#"{"resourceType":"Patient"}"#,
            "\u{FEFF}\r\n \n{ \"id\" : \"1\" ,\t\"resourceType\" : \"Patient\"",
            r#"{"contained":[{"resourceType":"Group","a":["}",{}]}],"resourceType":"Patient"}"#,
            r#"{"n":-1.5e3,"b":true,"s":"a\"resourceType\":\\","o":{},"resourceType":"Patient"}"#,
            "{\"resourceType\":\"Patient\"}\n{\"resourceType\":\"Group\"}",
        ] {
            assert_eq!(of_head(line.as_bytes(), true), typed("Patient"), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        for line in [
            "{}",
            "{",
            "[]",
            "{\"contained\":[{\"resourceType\":\"Patient\"}]}",
            "{\"a\":1}\n{\"resourceType\":\"Patient\"}",
            "{\"\\u0072esourceType\":\"Group\",\"resourceType\":\"Patient\"}",
            "{\"resourceType\":\"Pat",
            "{\"resourceType\":1}",
            "{\"resourceType\":\"no type\"}",
            "\"resourceType\":\"Patient\"",
        ] {
            assert_eq!(of_head(line.as_bytes(), true), FirstLine::Unsure, "{line}");
        }
        assert_eq!(of_head(b" \r\n", true), FirstLine::Missing);
        assert_eq!(of_head(b" \r\n", false), FirstLine::Unsure);
    }

    #[test]
    fn a_type_is_declared_by_name_and_first_line_together() {
        let patient = ResourceType::r4("Patient").unwrap();
        assert_eq!(declared_type(Some(&patient), &typed("Patient")), Some(patient.clone()));
        assert_eq!(declared_type(Some(&patient), &FirstLine::Missing), Some(patient.clone()));
        assert_eq!(declared_type(Some(&patient), &typed("Group")), None);
        assert_eq!(declared_type(Some(&patient), &FirstLine::Unsure), None);
        assert_eq!(declared_type(None, &typed("Patient")), None);
    }
}
