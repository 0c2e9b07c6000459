//! Reads Rust source as text, as far as the rules need it: no comments, no strings, no tests, and which paths it names.

/// A path that a source file names, such as `destination::local::Local`, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) path: String,
}

/// The source with blanks in place of comments and of what is in strings; line ends stay.
pub(super) fn bare(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut bare = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest {
            [b'/', b'/', ..] => rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment_length(rest),
            [b'"', ..] => string_length(rest),
            [b'r', b'"' | b'#', ..] if !is_in_word(bytes, at) => raw_string_length(rest).unwrap_or(0),
            // A character, not a lifetime.
            [b'\'', b'\\', ..] => 2 + rest[2..].iter().skip(1).position(|&byte| byte == b'\'').unwrap_or(0) + 2,
            [b'\'', _, b'\'', ..] => 3,
            _ => 0,
        };
        let end = (at + length).min(bytes.len());
        bare[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&bare).into_owned()
}

fn is_in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn block_comment_length(rest: &[u8]) -> usize {
    rest.windows(2).skip(2).position(|pair| pair == b"*/").map_or(rest.len(), |at| at + 4)
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &rest[1..=hashes]].concat();
    let inside = &rest[hashes + 2..];
    let length = inside.windows(end.len()).position(|window| window == end)?;
    Some(hashes + 2 + length + end.len())
}

/// Bare source without its `#[cfg(test)]` modules, and the names of those that are files of their own.
pub(super) fn without_tests(bare: &str) -> (String, Vec<String>) {
    let (mut kept, mut files, mut rest) = (String::new(), Vec::new(), bare);
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        rest = after;
        let item = after.trim_start().trim_start_matches("pub(crate) ");
        let Some(module) = item.strip_prefix("mod ") else { continue };
        let end = module.find(['{', ';']).unwrap_or(module.len());
        let body = &module[end..];
        if body.starts_with(';') {
            files.push(module[..end].trim().to_owned());
        }
        rest = if body.starts_with('{') { &body[block_length(body)..] } else { body };
    }
    kept.push_str(rest);
    (kept, files)
}

/// Length of a block that begins with an opening brace.
fn block_length(block: &str) -> usize {
    let mut depth = 0usize;
    for (at, byte) in block.bytes().enumerate() {
        depth += usize::from(byte == b'{');
        depth -= usize::from(byte == b'}');
        if depth == 0 {
            return at + 1;
        }
    }
    block.len()
}

/// All paths from the crate's root that bare source names after `root`, such as `crate`; groups are taken apart.
///
/// `module` is the source's own path, so that a chain of `super` that reaches the root is seen through.
pub(super) fn named(bare: &str, root: &str, module: &[&str]) -> Vec<Named> {
    let climb = "super::".repeat(module.len());
    let mut named = Vec::new();
    for start in [format!("{root}::"), climb] {
        for (at, _) in bare.match_indices(&start) {
            let before = &bare.as_bytes()[..at];
            // Part of a longer word or path.
            if start == "super::" && before.ends_with(b"super::")
                || is_in_word(bare.as_bytes(), at)
                || before.ends_with(b":")
            {
                continue;
            }
            let line = 1 + bare[..at].matches('\n').count();
            let paths = paths(&bare[at + start.len()..]);
            named.extend(paths.into_iter().filter(|path| !path.starts_with("super")).map(|path| Named { line, path }));
        }
    }
    named
}

/// The paths of a use tree, or of the one path that begins here.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        return items(group).into_iter().flat_map(paths).collect();
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(tree.len());
    let (path, rest) = tree.split_at(end);
    if path.ends_with("::") && rest.starts_with('{') {
        return paths(rest).into_iter().map(|inner| format!("{path}{inner}")).collect();
    }
    if path.is_empty() { Vec::new() } else { vec![path.trim_end_matches(':').to_owned()] }
}

/// The items of a group, up to its closing brace.
fn items(group: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(source: &str, module: &[&str]) -> Vec<(usize, String)> {
        let (kept, _) = without_tests(&bare(source));
        named(&kept, "crate", module).into_iter().map(|named| (named.line, named.path)).collect()
    }

    #[test]
    fn paths_are_found_in_imports_groups_and_code() {
        let source = "use crate::error::Result;\nuse crate::{\n    fhir::{Instant, ResourceType as Type},\n    clock,\n};\nfn f() { crate::job::run::<crate::engine::Engine>() }\n";
        let paths: Vec<String> = all(source, &["source"]).into_iter().map(|(_, path)| path).collect();
        assert_eq!(
            paths,
            ["error::Result", "fhir::Instant", "fhir::ResourceType", "clock", "job::run", "engine::Engine"]
        );
        assert_eq!(all("\nuse super::writer::Part;", &["source"]), [(2, "writer::Part".to_owned())]);
        assert_eq!(all("use super::super::job;", &["source", "ndjson"]), [(1, "job".to_owned())]);
        assert_eq!(all("use super::Cursor; use super::super::super::job;", &["source", "ndjson"]), []);
    }

    #[test]
    fn comments_strings_and_tests_name_nothing() {
        let source = r##"
            //! [`crate::job`]
            /* crate::job */ const A: &str = "crate::job"; const B: &str = r#"crate::job "#;
            const C: char = '"'; const D: &'static str = "\"crate::job"; const E: char = '\''; use mycrate::job;
            #[cfg(test)]
            mod tests { use crate::job; fn f() { { } } }
            use crate::error;
            #[cfg(test)]
            mod more;
        "##;
        assert_eq!(all(source, &["source"]), [(6, "error".to_owned())]);
        assert_eq!(without_tests(&bare(source)).1, ["more"]);
    }
}
