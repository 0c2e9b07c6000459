//! What each level of validation takes and refuses.

use crate::resource::testing::scanned;
use crate::resource::{DefectKind, ScanPlan, Validation};

const LEVELS: [Validation; 2] = [Validation::Full, Validation::Structure];

/// What a level says of an object with these members, besides its type.
fn said(members: &str, validation: Validation) -> Result<Option<String>, DefectKind> {
    said_of(format!(r#"{{"resourceType":"Basic",{members}}}"#).as_bytes(), validation)
}

fn said_of(line: &[u8], validation: Validation) -> Result<Option<String>, DefectKind> {
    let plan = ScanPlan { validation, ..ScanPlan::default() };
    scanned(line, &plan).map(|learned| learned.id).map_err(|defect| defect.kind)
}

#[test]
fn both_levels_find_the_resources_own_id_however_it_is_written() {
    let members = [
        ("one of a contained resource comes first", r#""contained":[{"resourceType":"Patient","id":"x"}],"id":"A""#),
        ("one is part of a string", r#""text":"\"id\":\"x\"","id":"A""#),
        ("it comes twice", r#""id":"x","id":"A""#),
        ("its name is escaped", r#""\u0069d":"A""#),
        ("there are blanks around it", "\t\"id\" \r: \"A\" "),
        ("a lone surrogate stands before it", r#""x":"\ud83d","id":"A""#),
        ("it comes behind 200 levels", &format!(r#""x":{}{},"id":"A""#, "[".repeat(200), "]".repeat(200))),
    ];
    for (case, members) in members {
        for level in LEVELS {
            assert_eq!(said(members, level), Ok(Some("A".to_owned())), "{case}, {level:?}");
        }
    }
    for level in LEVELS {
        assert_eq!(said(r#""id":"A\/1""#, level), Ok(Some("A/1".to_owned())), "{level:?}");
    }
}

#[test]
fn both_levels_refuse_what_is_not_one_object_of_text_in_closed_strings_and_matching_brackets() {
    let lines: [(&str, &[u8]); 11] = [
        ("a line that ends early", br#"{"resourceType":"Basic","x":[1"#),
        ("a string that doesn't end", br#"{"resourceType":"Basic","x":"a}"#),
        ("a string that ends with an escaped quote", br#"{"resourceType":"Basic","x":"a\"}"#),
        ("bytes behind the object", br#"{"resourceType":"Basic"}x"#),
        ("two objects", br#"{"resourceType":"Basic"}{"resourceType":"Basic"}"#),
        ("brackets that don't match", br#"{"resourceType":"Basic","x":[1}"#),
        ("brackets that don't match, far inside", br#"{"resourceType":"Basic","x":[[[{"a":[{]}]]]}"#),
        ("an escaped quote outside of strings", br#"{"resourceType":"Basic","x":""\"}"#),
        ("a control character", b"{\"resourceType\":\"Basic\",\"x\":\"a\tb\"}"),
        ("what isn't UTF-8, in a string that nobody asks for", b"{\"resourceType\":\"Basic\",\"x\":\"\xFF\"}"),
        ("a byte order mark", b"\xEF\xBB\xBF{\"resourceType\":\"Basic\"}"),
    ];
    for (case, line) in lines {
        for level in LEVELS {
            assert!(said_of(line, level).is_err(), "{case}, {level:?}");
        }
    }
}

#[test]
fn only_the_full_level_refuses_what_stands_wrongly_between_strings_and_brackets() {
    let members = [
        ("a missing comma", r#""x":1 "y":2"#),
        ("a comma too many", r#""x":[1,]"#),
        ("a literal that is none", r#""x":nul"#),
        ("a number with a zero in front", r#""x":01"#),
        ("a number that is none", r#""x":1.e5"#),
        ("an escape that is none", r#""x":"\q""#),
        ("an escape without its digits", r#""x":"\u12g4""#),
        ("a missing colon", r#""x" 1"#),
        ("a colon in an array", r#""x":[1:2]"#),
        ("a value without a name", r#""x""#),
        ("a name that is no string", r#"x:1"#),
        ("a control character between values", "\"x\":1,\u{1}\"y\":2"),
    ];
    for (case, members) in members {
        assert!(said(members, Validation::Full).is_err(), "{case}");
        assert_eq!(said(members, Validation::Structure), Ok(None), "{case}");
    }
}

#[test]
fn a_line_is_whole_or_refused_wherever_its_blocks_begin() {
    for before in 0..200 {
        let valid = format!(r#""x":"{}\"\\","y":[-1.5e3,null,{{}},"é\u00e9"],"id":"A""#, "a".repeat(before));
        for level in LEVELS {
            assert_eq!(said(&valid, level), Ok(Some("A".to_owned())), "{before}, {level:?}");
            for cut in 0..70 {
                let whole = format!(r#"{{"resourceType":"Basic",{valid}}}"#);
                let line = whole.as_bytes().get(..whole.len() - 1 - cut).unwrap();
                assert!(said_of(line, level).is_err(), "{before} - {cut}, {level:?}");
            }
        }
    }
}
