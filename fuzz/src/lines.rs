//! Splitting a block into lines, against a split at line feeds.

use fhir_export::resource::{Line, Lines};

pub fn lines(block: &[u8]) {
    let found: Vec<Line> = Lines::new(block).collect();
    let expected: Vec<&[u8]> = block.split(|byte| *byte == b'\n').map(bare).filter(|line| !line.is_empty()).collect();
    let resources: Vec<&[u8]> = found.iter().map(|line| line.resource_of(block)).collect();
    assert_eq!(resources, expected);

    let mut position = 0;
    for line in &found {
        let (span, resource) = (line.span(), line.resource());
        assert!(position <= span.start && span.start <= resource.start && resource.end <= span.end);
        assert!(block[position..span.start].split(|byte| *byte == b'\n').all(|blank| bare(blank).is_empty()));
        let whole = &block[span.clone()];
        assert!(whole.ends_with(b"\n") || span.end == block.len());
        assert_eq!(line.is_canonical(), whole == [line.resource_of(block), b"\n"].concat());
        position = span.end;
    }
}

/// A line without byte order mark and blanks around it.
pub fn bare(line: &[u8]) -> &[u8] {
    let mut line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    while let [b' ' | b'\t' | b'\r', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r'] = line {
        line = rest;
    }
    line
}
